//! Square (Andriushchenko et al., arXiv 1912.00049; for L1 arXiv 2103.01208): random search that changes square windows, and
//! keeps what lowers the margin. It never sees a gradient, so masking them does not help against it.
//!
//! Everything but the forward pass happens here in plain numbers, one example at a time, each from
//! its own random stream: what one example tries does not depend on which others are left.

use super::flight::{Attack, Need, Tile};
use super::gradient::Slope;
use super::l1::{self, numbers};
use super::thrift::{AT_RANDOM, Check};
use crate::lab::data::upload;
use crate::lab::streams::{Key, Stream};
use epsweep::spec::Norm;
use tch::{Device, Tensor};

/// The share of an image that the first windows cover.
const FIRST_SHARE: f64 = 0.8;
/// After these queries the share halves.
const HALVINGS: [u32; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];
/// Keeps divisions by the length of an empty change defined.
const TINY: f32 = 1e-12;

/// `queries` windows, each kept if it lowers `z_y - max_{i != y} z_i`.
pub struct Square {
    queries: u32,
    /// Extended by example and epsilon.
    starts: Key,
    hunts: Vec<Hunt>,
}

/// The search of one example, by slot.
#[derive(Debug, Clone, Default)]
struct Hunt {
    origin: Vec<f32>,
    /// The best image so far, and the one being tried.
    best: Vec<f32>,
    tried: Vec<f32>,
    /// Margin of the best image.
    margin: f32,
    stream: Option<Stream>,
}

/// Channels, height and width of an image.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Square {
    pub fn new(queries: u32, starts: Key, slots: i64) -> Square {
        Square { queries, starts, hunts: vec![Hunt::default(); slots as usize] }
    }
}

impl Attack for Square {
    fn climbs(&self) -> u32 {
        1
    }

    fn steps(&self) -> u32 {
        self.queries
    }

    fn need(&self, step: u32) -> Need {
        if step < self.queries { Need::Logits } else { Need::Verdict }
    }

    fn patience(&self) -> &'static [Check] {
        &AT_RANDOM
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        let (shape, pixels) = (Shape::of(&tile.origins), tile.pixels());
        let origins = numbers(&tile.origins);
        let mut starts = Vec::with_capacity(origins.len());
        for (row, flight) in tile.rows.iter().enumerate() {
            let origin = origins[row * pixels..][..pixels].to_vec();
            let mut stream = self.starts.clone().number(flight.test_index).number(flight.epsilon.to_bits()).stream();
            let start = match tile.ball.norm {
                Norm::Linf => stripes(&origin, shape, flight.epsilon as f32, &mut stream),
                norm => tiles(&origin, shape, flight.epsilon as f32, norm, &mut stream),
            };
            starts.extend_from_slice(&start);
            self.hunts[flight.slot as usize] =
                Hunt { origin, best: start.clone(), tried: start, margin: f32::INFINITY, stream: Some(stream) };
        }
        upload(&Tensor::from_slice(&starts).view_as(&tile.origins), tile.origins.device())
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let classes = slope.logits.size()[1] as usize;
        let (logits, shape) = (numbers(&slope.logits), Shape::of(&tile.origins));
        let labels = Vec::<i64>::try_from(tile.labels.to_device(Device::Cpu)).expect("labels are integers");
        let mut next = Vec::with_capacity(rows.len() * tile.pixels());
        for &row in rows {
            let (flight, hunt) = (&tile.rows[row], &mut self.hunts[tile.slot(row)]);
            let margin = margin_of(&logits[row * classes..][..classes], labels[row] as usize);
            if margin < hunt.margin {
                hunt.margin = margin;
                hunt.best.clone_from(&hunt.tried);
            }
            let epsilon = flight.epsilon as f32;
            let stream = hunt.stream.as_mut().expect("a hunt begins with its stream");
            match tile.ball.norm {
                Norm::Linf => {
                    let side = side_linf(flight.step, shape);
                    hunt.tried = change_linf(&hunt.origin, &hunt.best, shape, side, epsilon, stream);
                }
                norm => {
                    let side = side_l2(flight.step, shape);
                    let change = Change::draw(shape, side, stream);
                    hunt.tried = move_mass(&hunt.origin, &hunt.best, shape, &change, epsilon, norm);
                }
            }
            next.extend_from_slice(&hunt.tried);
        }
        let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|n| n as i64);
        upload(&Tensor::from_slice(&next).view([-1, channels, height, width]), tile.origins.device())
    }
}

/// `z_y - max_{i != y} z_i`: not positive where misclassified.
fn margin_of(logits: &[f32], label: usize) -> f32 {
    let others = logits.iter().enumerate().filter(|&(class, _)| class != label);
    logits[label] - others.fold(f32::NEG_INFINITY, |largest, (_, &logit)| largest.max(logit))
}

/// The share of the image that a window covers at query `query`, from 0.
pub fn share(query: u32) -> f64 {
    let halvings = HALVINGS.iter().filter(|&&after| query > after).count();
    FIRST_SHARE / f64::from(1 << halvings)
}

/// Side of the square windows, pixels.
pub fn side_linf(query: u32, shape: Shape) -> usize {
    let side = (share(query) * shape.area()).sqrt().round_ties_even() as usize;
    side.clamp(1, shape.height.min(shape.width))
}

/// Side of the square windows under L2 and L1, pixels: odd, and at least 3 where the image allows it.
pub fn side_l2(query: u32, shape: Shape) -> usize {
    let side = ((share(query) * shape.area()).sqrt().round_ties_even() as usize).max(3);
    (side + (side + 1) % 2).min(shape.height.min(shape.width))
}

/// Every column of every channel moved up or down by epsilon.
fn stripes(origin: &[f32], shape: Shape, epsilon: f32, stream: &mut Stream) -> Vec<f32> {
    let signs: Vec<f32> = (0..shape.channels * shape.width).map(|_| stream.sign()).collect();
    let sign = |position: usize| signs[position / (shape.height * shape.width) * shape.width + position % shape.width];
    origin.iter().enumerate().map(|(p, &x)| (x + epsilon * sign(p)).clamp(0.0, 1.0)).collect()
}

/// Linf: one window moves by twice epsilon, up or down by channel, and is cut to the ball: it ends
/// on the ball's surface wherever the box lets it.
fn change_linf(origin: &[f32], best: &[f32], shape: Shape, side: usize, epsilon: f32, stream: &mut Stream) -> Vec<f32> {
    let (top, left) = shape.corner(side, stream);
    let mut tried = best.to_vec();
    for channel in 0..shape.channels {
        let step = 2.0 * epsilon * stream.sign();
        for position in shape.window(channel, top, left, side) {
            let moved = (tried[position] + step).clamp(origin[position] - epsilon, origin[position] + epsilon);
            tried[position] = moved.clamp(0.0, 1.0);
        }
    }
    tried
}

/// The random part of a change under L2 and L1: mass moves from the second window into the first.
#[derive(Debug, Clone)]
pub struct Change {
    pub side: usize,
    pub first: (usize, usize),
    pub second: (usize, usize),
    /// Whether the pattern lies on its side.
    pub turned: bool,
    /// One per channel.
    pub signs: Vec<f32>,
}

impl Change {
    fn draw(shape: Shape, side: usize, stream: &mut Stream) -> Change {
        let (first, second) = (shape.corner(side, stream), shape.corner(side, stream));
        let turned = stream.sign() < 0.0;
        Change { side, first, second, turned, signs: (0..shape.channels).map(|_| stream.sign()).collect() }
    }
}

/// L2 and L1: the first window takes a new pattern, mixed with its old content, and as much length as
/// both windows had, plus what the box had left unused of epsilon.
pub fn move_mass(origin: &[f32], best: &[f32], shape: Shape, change: &Change, epsilon: f32, norm: Norm) -> Vec<f32> {
    let mut offset: Vec<f32> = best.iter().zip(origin).map(|(b, o)| b - o).collect();
    let channels = shape.channels as f32;
    let unused = (raised(epsilon, norm) - mass(&offset, norm)).max(0.0) / channels;
    let pattern = pattern(change.side, change.turned, norm);
    for channel in 0..shape.channels {
        let first: Vec<usize> = shape.window(channel, change.first.0, change.first.1, change.side).collect();
        let second: Vec<usize> = shape.window(channel, change.second.0, change.second.1, change.side).collect();
        let old: Vec<f32> = first.iter().map(|&p| offset[p]).collect();
        let old_length = length(&old, norm);
        let outside = second.iter().filter(|p| !first.contains(p)).map(|&p| raised(offset[p], norm)).sum::<f32>();
        let total = unused + raised(old_length, norm) + outside;
        // In L1 what is too much is left to the projection.
        let wanted = if norm == Norm::L1 { total * channels } else { total.sqrt() };
        let sign = change.signs[channel];
        let mixed: Vec<f32> = pattern.iter().zip(&old).map(|(e, o)| e * sign + o / (TINY + old_length)).collect();
        let scale = wanted / (TINY + length(&mixed, norm));
        second.iter().for_each(|&p| offset[p] = 0.0);
        first.iter().zip(&mixed).for_each(|(&p, m)| offset[p] = m * scale);
    }
    at_length(origin, &offset, epsilon, norm)
}

/// L2 and L1: a grid of patterns over the whole image.
fn tiles(origin: &[f32], shape: Shape, epsilon: f32, norm: Norm, stream: &mut Stream) -> Vec<f32> {
    let side = (shape.height.min(shape.width) / 5).max(1);
    let edge = |length: usize| (length - length / side * side) / 2;
    let mut offset = vec![0.0; origin.len()];
    for row in 0..shape.height / side {
        for column in 0..shape.width / side {
            let pattern = pattern(side, stream.sign() < 0.0, norm);
            let (top, left) = (edge(shape.height) + row * side, edge(shape.width) + column * side);
            for channel in 0..shape.channels {
                let sign = stream.sign();
                let window = shape.window(channel, top, left, side);
                window.zip(&pattern).for_each(|(position, value)| offset[position] += value * sign);
            }
        }
    }
    at_length(origin, &offset, epsilon, norm)
}

/// `origin` plus `offset`, inside ball and box: scaled to length `epsilon` and cut to the box (L2), or
/// projected onto both (L1).
fn at_length(origin: &[f32], offset: &[f32], epsilon: f32, norm: Norm) -> Vec<f32> {
    if norm == Norm::L1 {
        let point: Vec<f32> = origin.iter().zip(offset).map(|(x, d)| x + d).collect();
        return l1::project(origin, &point, f64::from(epsilon));
    }
    let scale = epsilon / (TINY + length(offset, norm));
    origin.iter().zip(offset).map(|(x, d)| (x + d * scale).clamp(0.0, 1.0)).collect()
}

/// Two hills of opposite sign side by side, of length 1 in all: `side * side` values.
pub fn pattern(side: usize, turned: bool, norm: Norm) -> Vec<f32> {
    let mut values = hill(side / 2, side, norm);
    values.extend(hill(side - side / 2, side, norm).iter().map(|value| -value));
    let length = length(&values, norm).max(TINY);
    values.iter_mut().for_each(|value| *value /= length);
    if turned {
        values = (0..side * side).map(|p| values[p % side * side + p / side]).collect();
    }
    values
}

/// Nested rectangles around the middle, each adding less than the one inside, of length 1 in all.
fn hill(height: usize, width: usize, norm: Norm) -> Vec<f32> {
    let mut values = vec![0.0f32; height * width];
    let (middle_row, middle_column) = ((height / 2) as i64, (width / 2) as i64);
    let power = if norm == Norm::L1 { 4 } else { 2 };
    for ring in 0..(height / 2 + 1).max(width / 2 + 1) as i64 {
        let (top, left) = (middle_row - ring, middle_column - ring);
        for row in top.max(0)..(top + 2 * ring + 1).min(height as i64) {
            for column in left.max(0)..(left + 2 * ring + 1).min(width as i64) {
                values[row as usize * width + column as usize] += 1.0 / ((ring + 1) as f32).powi(power);
            }
        }
    }
    let length = length(&values, norm).max(TINY);
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// What adds up to a length: squares, or sizes in L1.
fn raised(value: f32, norm: Norm) -> f32 {
    if norm == Norm::L1 { value.abs() } else { value * value }
}

fn mass(values: &[f32], norm: Norm) -> f32 {
    values.iter().map(|&value| raised(value, norm)).sum()
}

fn length(values: &[f32], norm: Norm) -> f32 {
    let mass = mass(values, norm);
    if norm == Norm::L1 { mass } else { mass.sqrt() }
}

impl Shape {
    fn of(images: &Tensor) -> Shape {
        let size = images.size();
        let [channels, height, width] = [size[1], size[2], size[3]].map(|n| n as usize);
        Shape { channels, height, width }
    }

    fn area(self) -> f64 {
        (self.height * self.width) as f64
    }

    /// Where a window of `side` begins: any place that holds all of it.
    fn corner(self, side: usize, stream: &mut Stream) -> (usize, usize) {
        let mut at = |length: usize| stream.below((length - side) as u64 + 1) as usize;
        (at(self.height), at(self.width))
    }

    /// Positions of a window's pixels, row by row.
    fn window(self, channel: usize, top: usize, left: usize, side: usize) -> impl Iterator<Item = usize> {
        let start = (channel * self.height + top) * self.width + left;
        (0..side).flat_map(move |row| (0..side).map(move |column| start + row * self.width + column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { channels: 2, height: 9, width: 9 };

    #[test]
    fn windows_shrink_as_published() {
        let shape = Shape { channels: 1, height: 28, width: 28 };
        let sides = [0, 10, 11, 51, 201, 501, 1001, 2001, 4999].map(|query| side_linf(query, shape));
        assert_eq!(sides, [25, 25, 18, 13, 9, 6, 4, 3, 2]);
        let sides = [0, 11, 51, 201, 501, 1001, 4999].map(|query| side_l2(query, shape));
        assert_eq!(sides, [25, 19, 13, 9, 7, 5, 3]);
    }

    #[test]
    fn every_image_that_is_tried_lies_in_the_ball_and_the_box() {
        let mut stream = Key::new("square", 1).stream();
        let origin = stream.units(162);
        for (norm, epsilon) in [(Norm::Linf, 0.2f32), (Norm::L2, 1.5), (Norm::L1, 6.0)] {
            let mut image = match norm {
                Norm::Linf => stripes(&origin, SHAPE, epsilon, &mut stream),
                norm => tiles(&origin, SHAPE, epsilon, norm, &mut stream),
            };
            for query in [0u32, 30, 100, 400, 800, 3000] {
                image = match norm {
                    Norm::Linf => change_linf(&origin, &image, SHAPE, side_linf(query, SHAPE), epsilon, &mut stream),
                    norm => {
                        let change = Change::draw(SHAPE, side_l2(query, SHAPE), &mut stream);
                        move_mass(&origin, &image, SHAPE, &change, epsilon, norm)
                    }
                };
                let offset: Vec<f32> = image.iter().zip(&origin).map(|(a, b)| a - b).collect();
                let size = match norm {
                    Norm::Linf => offset.iter().fold(0.0f32, |largest, x| largest.max(x.abs())),
                    norm => length(&offset, norm),
                };
                assert!(size <= epsilon * 1.00001 && size > 0.5 * epsilon, "{norm:?} {query}: {size}");
                assert!(image.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
            }
        }
    }

    #[test]
    fn patterns_have_length_one_and_two_signs() {
        for (side, norm) in (1..30).flat_map(|side| [(side, Norm::L2), (side, Norm::L1)]) {
            let values = pattern(side, false, norm);
            assert!((length(&values, norm) - 1.0).abs() < 1e-4, "{side}");
            assert!(side < 2 || values.iter().any(|v| *v > 0.0) && values.iter().any(|v| *v < 0.0), "{side}");
            let turned = pattern(side, true, norm);
            assert!((0..side * side).all(|p| turned[p] == values[p % side * side + p / side]));
        }
    }
}
