//! Figure: what networks name on a plane of images, epoch by epoch.

use super::clean;
use super::scale::Px;
use crate::measure::regions::{Map, Mark};
use crate::report::format::short_epsilon;
use crate::report::regions::{Chosen, Row};
use crate::spec::{Plane, Regions};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use maud::{Markup, html};

/// Class colours: told apart by lightness too, and none so light that a pale shade of it is white.
const COLOURS: [[u8; 3]; 10] = [
    [0x1f, 0x77, 0xb4],
    [0xff, 0x7f, 0x0e],
    [0x2c, 0xa0, 0x2c],
    [0xd6, 0x27, 0x28],
    [0x94, 0x67, 0xbd],
    [0x8c, 0x56, 0x4b],
    [0xe3, 0x77, 0xc2],
    [0x5a, 0x5a, 0x5a],
    [0xbc, 0xbd, 0x22],
    [0x17, 0xbe, 0xcf],
];
/// Steps of shade from unsure to sure: enough for the eye, few enough to compress.
const SHADES: u8 = 16;
const SIZE: f64 = 132.0;
const GAP: f64 = 10.0;
const LEFT: f64 = 24.0;
const NAMES: f64 = 124.0;

/// The maps of a measure: a row per configuration and state, a column per epoch. Its width and height.
pub fn maps(chosen: &Chosen, top: f64) -> (Markup, f64, f64) {
    let at = |row: usize, column: usize| {
        (LEFT + NAMES + (SIZE + GAP) * column as f64, top + 24.0 + (SIZE + GAP) * row as f64)
    };
    let (rows, columns) = (chosen.rows.len(), chosen.epochs.len());
    let (width, below) = (at(0, columns).0 + LEFT - GAP, at(rows, 0).1);
    let markup = html! {
        @for (column, epoch) in chosen.epochs.iter().enumerate() {
            text.tick x=(Px(at(0, column).0)) y=(Px(top + 14.0)) { "epoch " (epoch) }
        }
        @for (r, row) in chosen.rows.iter().enumerate() {
            (name(row, chosen.asked, LEFT, at(r, 0).1 + 18.0))
            @for (c, map) in row.maps.iter().enumerate() {
                @if let Some(map) = map {
                    @let (x, y) = at(r, c);
                    (square(map, x, y))
                }
            }
        }
        (legend(&chosen.classes, LEFT + NAMES, below + 12.0))
    };
    (markup, width.max(LEFT * 2.0 + NAMES + 44.0 * chosen.classes.len() as f64), below + 30.0)
}

fn name(row: &Row, asked: &Regions, x: f64, y: f64) -> Markup {
    let state = match (asked.plane, row.attacked) {
        (Plane::Components, _) => "two components".to_string(),
        (_, false) => "clean images".to_string(),
        (_, true) => format!("attacked, ε = {}", short_epsilon(asked.epsilon)),
    };
    // As many characters as fit before the first map, over three lines at most.
    let lines = wrapped(&row.name, 17, 3);
    html! {
        @for (k, line) in lines.iter().enumerate() {
            text.label x=(Px(x)) y=(Px(y + 15.0 * k as f64)) { (clean(line)) }
        }
        text.tick x=(Px(x)) y=(Px(y + 15.0 * lines.len() as f64)) { (state) }
    }
}

fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = letters.chunks(width).take(most).map(|line| line.iter().collect()).collect();
    if letters.len() > width * most
        && let Some(last) = lines.last_mut()
    {
        last.pop();
        last.push('…');
    }
    lines
}

/// A map with its marks.
fn square(map: &Map, x: f64, y: f64) -> Markup {
    html! {
        image x=(Px(x)) y=(Px(y)) width=(Px(SIZE)) height=(Px(SIZE)) style="image-rendering:pixelated"
            preserveAspectRatio="none" href=(picture(map)) {}
        @for mark in &map.marks { (marked(mark, x, y)) }
    }
}

/// A ring around a digit: the true class; dashed where another is named.
fn marked(mark: &Mark, x: f64, y: f64) -> Markup {
    let (cx, cy) = (x + SIZE * mark.at[0], y + SIZE * mark.at[1]);
    let dashes = if mark.label == mark.predicted { "none" } else { "3 2" };
    html! {
        g {
            title { "test image " (mark.example) ": class " (mark.label) ", named " (mark.predicted) }
            circle cx=(Px(cx)) cy=(Px(cy)) r="8" fill="#ffffff" fill-opacity="0.9" stroke="#1d1d1f"
                stroke-width="1.5" stroke-dasharray=(dashes) {}
            text x=(Px(cx)) y=(Px(cy + 4.0)) text-anchor="middle" font-size="11" fill="#1d1d1f" { (mark.label) }
        }
    }
}

fn legend(classes: &[u8], x: f64, y: f64) -> Markup {
    html! {
        @for (k, &class) in classes.iter().enumerate() {
            @let left = x + 44.0 * k as f64;
            @let [r, g, b] = colour(class);
            rect x=(Px(left)) y=(Px(y - 10.0)) width="12" height="12" fill=(format!("#{r:02x}{g:02x}{b:02x}")) {}
            text.tick x=(Px(left + 17.0)) y=(Px(y)) { (class) }
        }
    }
}

/// More classes than colours share them.
fn colour(class: u8) -> [u8; 3] {
    COLOURS[usize::from(class) % COLOURS.len()]
}

/// The colour of a class, the paler the less sure.
fn shade(class: u8, confidence: u8) -> [u8; 3] {
    let step = u16::from(confidence) * u16::from(SHADES - 1) / 255;
    // From a fifth of the colour, for a guess, to all of it.
    let share = 0.2 + 0.8 * f64::from(step) / f64::from(SHADES - 1);
    colour(class).map(|part| (255.0 - (255.0 - f64::from(part)) * share).round() as u8)
}

/// A map as a picture in a link.
fn picture(map: &Map) -> String {
    let pixels: Vec<u8> =
        map.classes.iter().zip(&map.confidence).flat_map(|(&class, &confidence)| shade(class, confidence)).collect();
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    encoder
        .write_image(&pixels, map.points, map.points, ExtendedColorType::Rgb8)
        .expect("a map has as many points as it says: checked when it was committed");
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_pale_and_a_sure_answer_is_not() {
        assert_eq!(shade(3, 255), colour(3));
        let pale = shade(3, 25);
        assert!(pale.iter().zip(colour(3)).all(|(pale, full)| *pale >= full) && pale != colour(3));
        assert_ne!(pale, [255; 3]);
        assert_eq!(colour(13), colour(3));
    }

    #[test]
    fn a_map_becomes_a_picture_of_its_points() {
        let map = Map {
            attacked: false,
            points: 8,
            side: 1.0,
            classes: (0..64).map(|k| k / 32).collect(),
            confidence: vec![255; 64],
            marks: Vec::new(),
        };
        let link = picture(&map);
        let png = BASE64_STANDARD.decode(link.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let read = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!((read.width(), read.height()), (8, 8));
        assert_eq!(read.get_pixel(0, 0).0, colour(0));
        assert_eq!(read.get_pixel(7, 7).0, colour(1));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(wrapped("short", 15, 3), ["short"]);
        assert_eq!(wrapped(&"x".repeat(50), 15, 3).concat().chars().count(), 45);
    }
}
