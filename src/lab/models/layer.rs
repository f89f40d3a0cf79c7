//! The steps that networks are made of, and how each computes.

use tch::{Kind, Tensor};

/// Share of a batch's statistics in the running ones, and what keeps a variance from zero: PyTorch's defaults.
const MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPS: f64 = 1e-5;
/// That of the reference implementations of vision transformers.
const LAYER_NORM_EPS: f64 = 1e-6;

/// What batch normalisation goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The running statistics: an image's logits do not depend on its company.
    Evaluation,
    /// The batch's own statistics, which also move the running ones.
    Training,
}

/// The tensors of a network, by position.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub parameters: &'a [Tensor],
    pub buffers: &'a [Tensor],
    /// Convolutions and affine maps compute with these; all else stays as it comes.
    pub kind: Kind,
}

/// One step of a forward pass. `weight`, `bias`, `token` and `positions` are positions in the list of
/// parameters; `mean` and `variance` in that of buffers.
#[derive(Debug, Clone)]
#[allow(clippy::enum_variant_names, reason = "layer normalisation is what the field calls it")]
pub enum Layer {
    /// `(x - mean) / std`, one number per channel: the network takes pixels in `[0,1]` whatever it was trained on.
    Normalize {
        mean: Vec<f32>,
        std: Vec<f32>,
    },
    /// Relabels the memory of NCHW images as channels-last, which convolutions then keep.
    ///
    /// In PyTorch's default layout, pooling is scalar code on CPU and takes longer than convolving.
    ChannelsLast,
    Flatten,
    Affine {
        weight: usize,
        bias: usize,
    },
    Convolution {
        weight: usize,
        bias: Option<usize>,
        stride: i64,
        padding: i64,
    },
    /// Maximum over 2x2 windows, a last odd row or column dropped.
    MaxPool,
    Relu,
    BatchNorm {
        weight: usize,
        bias: usize,
        mean: usize,
        variance: usize,
    },
    /// The mean over each channel: `[n, c, h, w]` to `[n, c]`.
    GlobalAverage,
    /// The sum of what several lists of layers make of the same input; an empty list is the input itself.
    Sum(Vec<Vec<Layer>>),
    /// `[n, c, h, w]` to a sequence `[n, h * w, c]`.
    Sequence,
    /// Puts a learnt token in front of a sequence and adds learnt positions.
    Tokens {
        token: usize,
        positions: usize,
    },
    LayerNorm {
        weight: usize,
        bias: usize,
    },
    /// The exact one, with the error function.
    Gelu,
    /// Queries, keys and values, one after the other, of a sequence `[n, t, 3 * d]` to `[n, t, d]`.
    Attention {
        heads: i64,
    },
    /// The first element of a sequence.
    First,
}

/// What `layers` make of `input`, one after the other.
pub(super) fn run(layers: &[Layer], state: State, input: &Tensor, mode: Mode) -> Tensor {
    layers.iter().fold(input.shallow_clone(), |value, layer| layer.forward(state, &value, mode))
}

impl Layer {
    fn forward(&self, state: State, input: &Tensor, mode: Mode) -> Tensor {
        let parameter = |position: usize| &state.parameters[position];
        // In 32 bits these are other handles on the same memory.
        let cast = |tensor: &Tensor| tensor.to_kind(state.kind);
        match self {
            Layer::Normalize { mean, std } => normalize(input, mean, std),
            // `contiguous` makes the strides explicit; with one channel it copies nothing.
            Layer::ChannelsLast => channels_last(input),
            // Reads channels-first whatever the memory layout, as PyTorch does.
            Layer::Flatten => input.flatten(1, -1),
            Layer::Affine { weight, bias } => {
                cast(input).linear(&cast(parameter(*weight)), Some(cast(parameter(*bias))))
            }
            Layer::Convolution { weight, bias, stride, padding } => {
                let bias = bias.map(|bias| cast(parameter(bias)));
                cast(input).conv2d(&cast(parameter(*weight)), bias, [*stride; 2], [*padding; 2], [1, 1], 1)
            }
            Layer::MaxPool => input.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
            Layer::Relu => input.relu(),
            Layer::BatchNorm { weight, bias, mean, variance } => input.batch_norm(
                Some(parameter(*weight)),
                Some(parameter(*bias)),
                Some(&state.buffers[*mean]),
                Some(&state.buffers[*variance]),
                mode == Mode::Training,
                MOMENTUM,
                BATCH_NORM_EPS,
                true,
            ),
            Layer::GlobalAverage => input.mean_dim([2i64, 3].as_slice(), false, Kind::Float),
            Layer::Sum(branches) => {
                let sum = branches.iter().map(|branch| run(branch, state, input, mode)).reduce(|sum, next| sum + next);
                sum.expect("a sum has branches")
            }
            Layer::Sequence => input.flatten(2, -1).transpose(1, 2),
            Layer::Tokens { token, positions } => {
                let token = parameter(*token).expand([input.size()[0], -1, -1], false);
                Tensor::cat(&[&token, input], 1) + parameter(*positions)
            }
            Layer::LayerNorm { weight, bias } => {
                let width = *input.size().last().expect("a sequence has a width");
                input.to_kind(Kind::Float).layer_norm(
                    [width],
                    Some(parameter(*weight)),
                    Some(parameter(*bias)),
                    LAYER_NORM_EPS,
                    true,
                )
            }
            Layer::Gelu => input.gelu("none"),
            Layer::Attention { heads } => attention(&input.to_kind(Kind::Float), *heads),
            Layer::First => input.select(1, 0),
        }
    }
}

fn normalize(images: &Tensor, mean: &[f32], std: &[f32]) -> Tensor {
    let per_channel = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).to_device(images.device());
    (images - per_channel(mean)) / per_channel(std)
}

/// Written out, because the fused kernels choose their order of summation themselves.
fn attention(input: &Tensor, heads: i64) -> Tensor {
    let size = input.size();
    let (count, length, width) = (size[0], size[1], size[2] / 3);
    let parts = input.view([count, length, 3, heads, width / heads]).permute([2, 0, 3, 1, 4]);
    let (queries, keys, values) = (parts.get(0), parts.get(1), parts.get(2));
    let scale = ((width / heads) as f64).sqrt().recip();
    let weights = (queries * scale).matmul(&keys.transpose(-2, -1)).softmax(-1, Kind::Float);
    weights.matmul(&values).transpose(1, 2).reshape([count, length, width])
}

fn channels_last(images: &Tensor) -> Tensor {
    let size = images.size();
    if size[1] == 1 {
        // One channel: the same memory; only the strides must say it, or libtorch assumes NCHW.
        return images.contiguous().view([size[0], size[2], size[3], 1]).permute([0, 3, 1, 2]);
    }
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
