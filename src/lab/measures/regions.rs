//! Maps of class regions: a plane through images, the network's answers on a grid of it.

use super::domain::Region;
use crate::lab::attacks::CPU_ROWS;
use crate::lab::attacks::ball::Ball;
use crate::lab::attacks::gradient::{ascend, margin};
use crate::lab::attacks::pgd::step_sizes;
use crate::lab::models::Network;
use crate::lab::{LabData, LabError, Passes, Watch};
use epsweep::measure::regions::{Answer, Map, Mark};
use epsweep::spec::{Plane, Regions};
use tch::{Device, Kind, Tensor};

/// How much wider a map is than the triangle of its images.
const MARGIN: f64 = 1.5;

/// Draws the maps of one checkpoint.
pub struct Surveyor<'a> {
    pub asked: &'a Regions,
    pub data: &'a LabData,
    pub network: &'a Network,
    pub device: Device,
}

/// A square of a plane: images `origin + u first + v second`, with u and v from minus to plus `half`.
struct Square {
    origin: Vec<f64>,
    axes: [Vec<f64>; 2],
    half: f64,
}

impl Surveyor<'_> {
    /// # Errors
    /// [`LabError::BadInput`] when the images span no plane, [`LabError::Stopped`].
    pub fn run(&self, passes: &mut Passes, watch: &mut dyn Watch) -> Result<Answer, LabError> {
        if self.asked.plane == Plane::Components {
            let Region::Plane { origin, axes, half } = Region::plane(self.data) else {
                return Err(LabError::bad_input("principal components span a plane"));
            };
            let square = Square { origin, axes, half: half[0].max(half[1]) };
            let map = self.map(&square, Vec::new(), false, passes, watch)?;
            return Ok(Answer { maps: vec![map] });
        }
        let examples = self.examples()?;
        let index = Tensor::from_slice(&examples.map(i64::from));
        let clean = self.data.test.pixels.index_select(0, &index).to_device(self.device);
        let labels = self.data.test.labels.index_select(0, &index).to_device(self.device);
        let mut maps = vec![self.through(&clean, &labels, examples, false, passes, watch)?];
        if self.asked.epsilon > 0.0 {
            let moved = self.attack(&clean, &labels, passes);
            maps.push(self.through(&moved, &labels, examples, true, passes, watch)?);
        }
        Ok(Answer { maps })
    }

    /// Positions of the three images in the test set.
    fn examples(&self) -> Result<[u32; 3], LabError> {
        let labels = Vec::<i64>::try_from(&self.data.test.labels).expect("labels are one row of integers");
        if let Some(images) = self.asked.images {
            return match images.iter().find(|&&image| image as usize >= labels.len()) {
                Some(image) => Err(LabError::bad_input(format!("test image {image} of {}", labels.len()))),
                None => Ok(images),
            };
        }
        let mut chosen: Vec<u32> = Vec::new();
        for (at, label) in labels.iter().enumerate() {
            if chosen.len() < 3 && chosen.iter().all(|&other| labels[other as usize] != *label) {
                chosen.push(at as u32);
            }
        }
        // With two classes there are not three; any image will do as the third.
        chosen.extend(
            (0..labels.len() as u32).filter(|at| !chosen.contains(at)).take(3 - chosen.len()).collect::<Vec<_>>(),
        );
        chosen.try_into().map_err(|_| LabError::bad_input("a plane needs three test images"))
    }

    /// PGD from the clean images, without a random start: the last iterates.
    fn attack(&self, clean: &Tensor, labels: &Tensor, passes: &mut Passes) -> Tensor {
        let ball = Ball::new(self.asked.norm, &[self.asked.epsilon; 3], self.device);
        let step = step_sizes(None, self.asked.steps, &ball.radius);
        let mut points = clean.shallow_clone();
        for _ in 0..self.asked.steps {
            let slope = ascend(self.network, &points, |logits| margin(logits, labels));
            passes.gradient(3);
            points = ball.ascend(clean, &points, &slope.gradient, &step);
        }
        points
    }

    /// The map of the plane through three images, `[3, channels, height, width]`.
    fn through(
        &self,
        images: &Tensor,
        labels: &Tensor,
        examples: [u32; 3],
        attacked: bool,
        passes: &mut Passes,
        watch: &mut dyn Watch,
    ) -> Result<Map, LabError> {
        let rows = images.flatten(1, -1).to_kind(Kind::Double).to_device(Device::Cpu);
        let corners = [0, 1, 2].map(|row| Vec::<f64>::try_from(rows.get(row)).expect("numbers in 64 bits"));
        let (square, at) = square(&corners).ok_or_else(|| {
            LabError::bad_input(format!(
                "the test images {examples:?} lie on one line and span no plane; choose others"
            ))
        })?;
        passes.forward(3);
        let named = Vec::<i64>::try_from(self.network.forward(images).argmax(1, false)).expect("one class per row");
        let labels = Vec::<i64>::try_from(labels).expect("one label per row");
        let mark =
            |k: usize| Mark { example: examples[k], label: labels[k] as u8, predicted: named[k] as u8, at: at[k] };
        self.map(&square, [0, 1, 2].map(mark).to_vec(), attacked, passes, watch)
    }

    fn map(
        &self,
        square: &Square,
        marks: Vec<Mark>,
        attacked: bool,
        passes: &mut Passes,
        watch: &mut dyn Watch,
    ) -> Result<Map, LabError> {
        let [channels, height, width] = self.data.test.shape();
        let (points, rows) = (self.asked.points as usize, CPU_ROWS as usize);
        let (mut classes, mut confidence) = (Vec::new(), Vec::new());
        let all: Vec<usize> = (0..points * points).collect();
        for batch in all.chunks(rows) {
            if watch.stop() {
                return Err(LabError::Stopped);
            }
            // Batches have one shape, filled up with the last point: kernels may sum in an order that depends on it.
            let padded = batch.iter().chain(std::iter::repeat_n(&batch[batch.len() - 1], rows - batch.len()));
            let pixels: Vec<f32> = padded.flat_map(|&at| square.image(at % points, at / points, points)).collect();
            let images = Tensor::from_slice(&pixels).view([rows as i64, channels, height, width]);
            let answers = self.network.forward(&images.to_device(self.device)).softmax(1, Kind::Double);
            passes.forward(batch.len() as i64);
            let (top, named) = answers.max_dim(1, false);
            let named = Vec::<i64>::try_from(named).expect("one class per row");
            let top = Vec::<f64>::try_from(top).expect("one probability per row");
            classes.extend(named[..batch.len()].iter().map(|&class| class as u8));
            confidence.extend(top[..batch.len()].iter().map(|&p| (p * 255.0).round() as u8));
        }
        Ok(Map { attacked, points: self.asked.points, side: 2.0 * square.half, classes, confidence, marks })
    }
}

impl Square {
    /// The image at a cell of a grid of `points` by `points`, counted from the left and from the top. Its
    /// pixels may leave `[0,1]`: a plane through images does.
    fn image(&self, column: usize, row: usize, points: usize) -> Vec<f32> {
        let share = |k: usize| 2.0 * (k as f64 + 0.5) / points as f64 - 1.0;
        let (u, v) = (self.half * share(column), -self.half * share(row));
        let pixels = self.origin.iter().zip(self.axes[0].iter().zip(&self.axes[1]));
        pixels.map(|(x, (a, b))| (x + u * a + v * b) as f32).collect()
    }
}

/// The square around three points, and where they stand in it, from the left and the top as shares; the
/// first two on a horizontal line. `None` where they lie on one line.
fn square(corners: &[Vec<f64>; 3]) -> Option<(Square, [[f64; 2]; 3])> {
    let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [to_second, to_third] = [minus(&corners[1], &corners[0]), minus(&corners[2], &corners[0])];
    let unit = |v: &[f64]| {
        let length = dot(v, v).sqrt();
        (length > 1e-6).then(|| (v.iter().map(|x| x / length).collect::<Vec<f64>>(), length))
    };
    let (first, base) = unit(&to_second)?;
    let along = dot(&to_third, &first);
    let (second, height) = unit(&to_third.iter().zip(&first).map(|(x, e)| x - along * e).collect::<Vec<_>>())?;
    let places = [[0.0, 0.0], [base, 0.0], [along, height]];
    let extent = |axis: usize| {
        let values = places.map(|place| place[axis]);
        (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    };
    let [(left, right), (bottom, top)] = [extent(0), extent(1)];
    let half = MARGIN * (right - left).max(top - bottom) / 2.0;
    let middle = [(left + right) / 2.0, (bottom + top) / 2.0];
    let pixels = corners[0].iter().zip(first.iter().zip(&second));
    let origin = pixels.map(|(x, (a, b))| x + middle[0] * a + middle[1] * b).collect();
    let share =
        |place: [f64; 2]| [0.5 + (place[0] - middle[0]) / (2.0 * half), 0.5 - (place[1] - middle[1]) / (2.0 * half)];
    Some((Square { origin, axes: [first, second], half }, places.map(share)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_images_stand_where_their_marks_say() {
        let corners = [vec![0.1, 0.9, 0.4, 0.3], vec![0.8, 0.2, 0.5, 0.3], vec![0.3, 0.3, 0.9, 0.7]];
        let (square, at) = square(&corners).unwrap();
        for (corner, [x, y]) in corners.iter().zip(at) {
            assert!((0.1..0.9).contains(&x) && (0.1..0.9).contains(&y), "{x} {y}");
            let (u, v) = (square.half * (2.0 * x - 1.0), square.half * (1.0 - 2.0 * y));
            for (k, pixel) in corner.iter().enumerate() {
                let there = square.origin[k] + u * square.axes[0][k] + v * square.axes[1][k];
                assert!((there - pixel).abs() < 1e-9);
            }
        }
        let line = [vec![0.0, 0.0], vec![0.5, 0.5], vec![1.0, 1.0]];
        assert!(super::square(&line).is_none());
    }
}
