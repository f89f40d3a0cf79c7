//! Rough costs, known before anything has run: they order and size tasks and give the first
//! estimate. The rates are those of one core of a small CPU machine; a run replaces them by what
//! it measures (see [`crate::engine`]), so being wrong by a factor changes no result.

use crate::data::DataInfo;
use crate::measure::uncertainty::MAX_FEATURES;
use crate::spec::{Attack, Certificate, Measure, Model, Recipe, Search};

/// Seconds per multiply-accumulate, forward.
const PER_MAC: f64 = 2e-11;
/// Seconds per example and pass that do not shrink with the model: element-wise work on the image ...
const PER_PIXEL: f64 = 5e-9;
/// ... and an example's share of what a batch costs whatever its size.
const PER_EXAMPLE: f64 = 4e-6;
/// A backward pass costs this many forward passes (input gradient; training adds the weights').
const BACKWARD: f64 = 2.0;
/// What is left of an attack's cost because broken examples leave the batch and stay broken.
const EARLY_EXIT: f64 = 0.5;
/// Whole attacks that closing in on the break costs, whatever the grid: one fails just below the
/// break, and the others mostly succeed early.
const CLOSING_IN: f64 = 1.5;
/// Of a network that is known by its size in bytes only: between a wide residual network's 140 and
/// a fully connected one's 1.
const MACS_PER_PARAMETER: f64 = 40.0;
/// A shard of certificates or measures should take about this long ...
const SHARD_SECONDS: f64 = 20.0;
/// ... and one of an evaluation this long, at [`NOMINAL_EPSILONS`] epsilons.
///
/// Climbs are long, and the last few of a shard run in small batches: on the digits, AutoAttack on one shard of 256 examples
/// took three fifths of what it took on two of 128. But a sweep of few models has few tasks then.
const EVALUATION_SECONDS: f64 = 30.0;
/// Shards must not depend on the epsilon grid: an edited grid must find the answers of the old one.
const NOMINAL_EPSILONS: f64 = 12.0;
/// Shards hold this many examples times a power of two, so that small changes of the rates move no boundary.
const SHARD_GRAIN: u32 = 128;
/// More than any test set.
const MOST_DOUBLINGS: f64 = 20.0;

/// Epsilons that a certificate looks at, of a grid of [`NOMINAL_EPSILONS`].
const BISECTION: f64 = 4.0;
/// 64-bit arithmetic in units of 32-bit arithmetic.
const DOUBLE: f64 = 2.0;
/// Certificates can be dear: their shards are multiples of this many examples.
const CERTIFY_GRAIN: u32 = 32;

/// Seconds per sample and feature that its moments cost.
const PER_MOMENTS: f64 = 8e-9;

/// Features of all classes that an answer may hold, with four figures each: 3 MB of JSON.
const MESSAGE_NUMBERS: f64 = 70_000.0;

/// Estimated seconds of one training run.
pub fn train(recipe: &Recipe, data: &DataInfo) -> f64 {
    let (forwards, backwards) = recipe.passes(data.train_count);
    forward(&recipe.model, data) * (forwards as f64 + BACKWARD * backwards as f64)
}

/// Estimated seconds that one robust example costs at one epsilon.
pub fn attack(model: &Model, attack: &Attack, data: &DataInfo) -> f64 {
    let (forwards, backwards) = attack.passes();
    forward(model, data) * (forwards as f64 + BACKWARD * backwards as f64)
}

/// How many times the cost of [`attack`] an example pays on a grid of `epsilons`.
pub fn rounds(search: Search, epsilons: f64) -> f64 {
    match search {
        Search::Ascending => epsilons * EARLY_EXIT,
        Search::Bisect => CLOSING_IN,
        Search::Exhaustive => epsilons,
    }
}

/// Examples per evaluation task, given the cost of one example at one epsilon.
pub fn shard_size(per_example: f64, search: Search) -> u32 {
    let examples = EVALUATION_SECONDS / (per_example * rounds(search, NOMINAL_EPSILONS));
    let doublings = (examples / f64::from(SHARD_GRAIN)).log2().floor().clamp(0.0, MOST_DOUBLINGS);
    SHARD_GRAIN << doublings as u32
}

/// Estimated seconds that one example costs to certify, whatever the grid.
pub fn certify(model: &Model, certificate: &Certificate, data: &DataInfo) -> f64 {
    let passes = match certificate {
        Certificate::Ibp {} => BISECTION * 3.0,
        // One backward pass for each class, and for both bounds of some hundred inner neurons.
        Certificate::Crown {} => BISECTION * BACKWARD * (f64::from(data.classes) + 300.0),
        Certificate::Smoothing { n0, n, .. } => f64::from(*n0) + f64::from(*n),
    };
    let wide = if certificate.is_deterministic() { DOUBLE } else { 1.0 };
    forward(model, data) * passes * wide
}

/// Examples per certification task, given the cost of one example.
pub fn certify_shard(per_example: f64) -> u32 {
    let grains = (SHARD_SECONDS / per_example / f64::from(CERTIFY_GRAIN)).floor().clamp(1.0, 1e6);
    grains as u32 * CERTIFY_GRAIN
}

/// Estimated seconds that one unit of a measure costs.
pub fn measure(model: &Model, measure: &Measure, data: &DataInfo) -> f64 {
    let features = f64::from(data.channels * data.height * data.width);
    match measure {
        Measure::Uncertainty(asked) => {
            f64::from(asked.samples) * (forward(model, data) * (1.0 + BACKWARD) + features * PER_MOMENTS)
        }
        Measure::Regions(asked) => {
            let maps = if asked.epsilon > 0.0 { 2.0 } else { 1.0 };
            maps * f64::from(asked.points).powi(2) * forward(model, data)
        }
    }
}

/// Units per measuring task, given the cost of one: a power of two, so that small changes of the rates
/// move no boundary; few enough that their features fit a message.
pub fn measure_shard(per_unit: f64, data: &DataInfo) -> u32 {
    let features = f64::from(data.channels * data.height * data.width).min(MAX_FEATURES as f64);
    let fitting = MESSAGE_NUMBERS / features;
    // Features are kept by class.
    let fitting = if fitting >= f64::from(data.classes) { f64::INFINITY } else { fitting };
    let units = (SHARD_SECONDS / per_unit).min(fitting).clamp(1.0, 1024.0);
    1 << (units.log2().floor() as u32)
}

/// Seconds of one forward pass of one example.
fn forward(model: &Model, data: &DataInfo) -> f64 {
    let pixels = f64::from(data.channels * data.height * data.width);
    macs(model, data) * PER_MAC + pixels * PER_PIXEL + PER_EXAMPLE
}

/// Multiply-accumulates of one forward pass of one example.
fn macs(model: &Model, data: &DataInfo) -> f64 {
    let [channels, height, width, classes] = [data.channels, data.height, data.width, data.classes].map(f64::from);
    let pixels = channels * height * width;
    let area = height * width;
    match model {
        Model::Linear {} => pixels * classes,
        Model::Mlp { hidden } => {
            let widths = hidden.iter().map(|&w| f64::from(w)).chain([classes]);
            widths.fold((pixels, 0.0), |(before, sum), width| (width, sum + before * width)).1
        }
        Model::Smallcnn { channels: out, hidden } => {
            let kernel = if data.height.min(data.width) < 16 { 9.0 } else { 25.0 };
            let [first, second] = out.map(f64::from);
            pooled_pair(area, [channels, first, second], kernel, f64::from(*hidden), classes)
        }
        Model::Madry {} => pooled_pair(area, [channels, 32.0, 64.0], 25.0, 1024.0, classes),
        // The second convolution is not padded, so this is a little too much.
        Model::Lenet5 {} => pooled_pair(area, [channels, 6.0, 16.0], 25.0, 120.0, 84.0) + 84.0 * classes,
        Model::Preactresnet18 { width } => {
            let first = f64::from(*width);
            area * channels * first * 9.0 + residual_stages(area, first, first, [4, 2])
        }
        Model::Wrn { depth, width } => {
            let first = 16.0 * f64::from(*width);
            area * channels * 16.0 * 9.0 + residual_stages(area, 16.0, first, [3, (depth - 4) / 6])
        }
        Model::Vit { patch, dim, depth, .. } => {
            let [patch, dim, depth] = [*patch, *dim, *depth].map(f64::from);
            let length = area / (patch * patch) + 1.0;
            let block = 12.0 * dim * dim * length + 2.0 * length * length * dim;
            pixels * dim + depth * block + dim * classes
        }
        Model::Torchscript(file) => {
            let size = data.given.values().find(|given| file.digest() == Some(&given.digest)).map_or(0, |g| g.bytes);
            size as f64 / 4.0 * MACS_PER_PARAMETER
        }
    }
}

/// Two convolutions with pooling to half a side after each, one hidden layer.
fn pooled_pair(area: f64, [channels, first, second]: [f64; 3], kernel: f64, hidden: f64, outputs: f64) -> f64 {
    let features = second * (area / 16.0);
    area * first * channels * kernel + area / 4.0 * second * first * kernel + features * hidden + hidden * outputs
}

/// Stages of `blocks` blocks of two 3x3 convolutions. The first stage has `width` channels at full
/// size, each further one twice the channels at half a side; 1x1 shortcuts where channels change.
fn residual_stages(area: f64, mut inputs: f64, width: f64, [stages, blocks]: [u32; 2]) -> f64 {
    let mut sum = 0.0;
    for stage in 0..stages as i32 {
        let (outputs, area) = (width * 2f64.powi(stage), area / 4f64.powi(stage));
        let rest = f64::from(2 * blocks - 1) * outputs * outputs * 9.0;
        let shortcut = if inputs == outputs { 0.0 } else { inputs * outputs };
        sum += area * (inputs * outputs * 9.0 + rest + shortcut);
        inputs = outputs;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_double_and_are_never_small_or_endless() {
        let sizes = [100.0, 0.2, 0.1, 0.03, 1e-3, 1e-12, 0.0].map(|seconds| shard_size(seconds, Search::Bisect));
        assert_eq!(sizes, [128, 128, 128, 512, 16_384, 128 << 20, 128 << 20]);
    }
}
