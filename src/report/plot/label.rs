//! Labels beside their points: placed one by one where they cover nothing that matters.

use super::scale::Frame;

/// Where a text stands: its anchor point, and whether it starts, ends or is centred there.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub x: f64,
    pub y: f64,
    pub anchor: &'static str,
}

/// The width of `text` at the size of a label. Fonts differ; this errs on the wide side.
pub fn width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

const HEIGHT: f64 = 15.0;

/// A rectangle: left, top, right, bottom.
pub type Area = (f64, f64, f64, f64);

fn meet(a: Area, b: Area) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// What labels must keep clear of.
pub struct Obstacles {
    /// Never to be covered.
    pub points: Vec<(f64, f64)>,
    /// To be covered only where there is no other place.
    pub bars: Vec<Area>,
}

/// Where a label may stand, from its point: the upper right of a member of the frontier is empty by
/// definition, so start there.
const TRIES: [(f64, f64); 9] = [
    (9.0, -8.0),
    (10.0, 4.0),
    (9.0, 17.0),
    (-9.0, -9.0),
    (-10.0, 4.0),
    (-9.0, 17.0),
    (9.0, -24.0),
    (-9.0, -25.0),
    (9.0, 33.0),
];

/// Finds a place for each `(x, y, text)`, first come first served. `room` is how far a label may
/// reach beyond the frame to the right. `None` where nothing is free.
pub fn place(frame: &Frame, room: f64, keep: &Obstacles, texts: &[(f64, f64, String)]) -> Vec<Option<Label>> {
    let mut taken: Vec<Area> = keep.points.iter().map(|&(x, y)| (x - 6.0, y - 6.0, x + 6.0, y + 6.0)).collect();
    let bounds = (frame.left(), frame.top() - 12.0, frame.right() + room, frame.bottom());
    let mut places = Vec::new();
    for (x, y, text) in texts {
        let w = width(text);
        let spot = |&(dx, dy): &(f64, f64)| {
            let (left, anchor) = if dx > 0.0 { (x + dx, "start") } else { (x + dx - w, "end") };
            let area = (left, y + dy - HEIGHT + 3.0, left + w, y + dy + 3.0);
            (area, Label { x: x + dx, y: y + dy, anchor })
        };
        let inside = |a: Area| a.0 >= bounds.0 && a.1 >= bounds.1 && a.2 <= bounds.2 && a.3 <= bounds.3;
        let free = |a: Area| inside(a) && !taken.iter().any(|&t| meet(t, a));
        let clear = |a: Area| free(a) && !keep.bars.iter().any(|&b| meet(b, a));
        let spots = || TRIES.iter().map(spot);
        let found = spots().find(|(area, _)| clear(*area)).or_else(|| spots().find(|(area, _)| free(*area)));
        places.push(found.map(|(area, label)| {
            taken.push(area);
            label
        }));
    }
    places
}

/// Moves wishes (ascending) apart to a distance of `gap`, inside `low..high`, with small shifts.
pub fn spread(wishes: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let gap = gap.min((high - low) / wishes.len().max(1) as f64);
    let mut places = wishes.to_vec();
    let mut least = low;
    for place in &mut places {
        *place = place.max(least);
        least = *place + gap;
    }
    let mut most = high;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::scale::Scale;

    #[test]
    fn labels_do_not_cover_each_other() {
        let frame = Frame { x: Scale::new((0.0, 1.0), (0.0, 400.0)), y: Scale::new((0.0, 1.0), (300.0, 0.0)) };
        let texts: Vec<(f64, f64, String)> = (0..4).map(|i| (200.0 + f64::from(i), 150.0, "a label".into())).collect();
        let places: Vec<Label> = place(&frame, 0.0, &Obstacles { points: Vec::new(), bars: Vec::new() }, &texts)
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(places.len(), 4);
        for (i, a) in places.iter().enumerate() {
            assert!(places[..i].iter().all(|b| (a.y - b.y).abs() >= HEIGHT - 3.0 || a.anchor != b.anchor));
        }
    }

    #[test]
    fn spread_keeps_order_and_distance() {
        assert_eq!(spread(&[5.0, 5.0, 50.0], 10.0, 0.0, 100.0), [5.0, 15.0, 50.0]);
        assert_eq!(spread(&[99.0, 100.0], 10.0, 0.0, 100.0), [90.0, 100.0]);
        assert_eq!(spread(&[], 10.0, 0.0, 1.0), [0.0; 0]);
    }
}
