//! `preactresnet18` and `wrn`: residual networks whose blocks normalise before they convolve.
//!
//! Names and definitions are those of the repositories that publish robust weights: of AWP (and of
//! "Overfitting in adversarially robust deep learning") for PreActResNet-18, of TRADES for WideResNet.
//! Both average over all positions at the end, which for 32x32 pixels is their 4x4 and 8x8 pooling.

use super::architecture::{Builder, Initial};
use super::layer::Layer;

/// PreActResNet-18 (arXiv 1603.05027) with `width` channels in its first stage; 64 is the usual one.
pub(super) fn preactresnet18(builder: &mut Builder, [channels, ..]: [i64; 3], width: i64, classes: i64) {
    let initial = |inputs: i64, kernel: i64| Initial::Uniform { fan_in: inputs * kernel * kernel };
    builder.push([Layer::ChannelsLast]);
    builder.bare_convolution("conv1", [channels, width], 3, 1, initial(channels, 3));
    let mut inputs = width;
    for (stage, stride) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        let outputs = width << (stage - 1);
        for (position, stride) in [stride, 1].into_iter().enumerate() {
            let name = format!("layer{stage}.{position}");
            let block = Block { shortcut: "shortcut.0", channels: [inputs, outputs], stride, initial };
            block.append(builder, &name);
            inputs = outputs;
        }
    }
    builder.batch_norm("bn", inputs);
    builder.push([Layer::Relu, Layer::GlobalAverage]);
    builder.affine("linear", inputs, classes);
}

/// WRN-`depth`-`width` (arXiv 1605.07146), `depth = 6n + 4`, without dropout.
pub(super) fn wrn(builder: &mut Builder, [channels, ..]: [i64; 3], [depth, width]: [i64; 2], classes: i64) {
    builder.push([Layer::ChannelsLast]);
    let blocks = (depth - 4) / 6;
    // The initial values of that repository go by the outputs, so each convolution has its own.
    let scale = |outputs: i64, kernel: i64| (2.0 / (kernel * kernel * outputs) as f64).sqrt();
    builder.bare_convolution("conv1", [channels, 16], 3, 1, Initial::Normal { deviation: scale(16, 3) });
    let mut inputs = 16;
    for (stage, stride) in [(1, 1), (2, 2), (3, 2)] {
        let outputs = (16 << (stage - 1)) * width;
        for position in 0..blocks {
            let name = format!("block{stage}.layer.{position}");
            let initial = |_, kernel| Initial::Normal { deviation: scale(outputs, kernel) };
            let stride = if position == 0 { stride } else { 1 };
            let block = Block { shortcut: "convShortcut", channels: [inputs, outputs], stride, initial };
            block.append(builder, &name);
            inputs = outputs;
        }
    }
    builder.batch_norm("bn1", inputs);
    builder.push([Layer::Relu, Layer::GlobalAverage]);
    builder.affine_from("fc", [inputs, classes], Initial::Uniform { fan_in: inputs }, Initial::Constant(0.0));
}

/// Two 3x3 convolutions, each after normalisation and ReLU, beside the input itself.
struct Block<F> {
    /// What the convolution is called that brings the input to the output's shape.
    shortcut: &'static str,
    channels: [i64; 2],
    stride: i64,
    /// Of a convolution, by its input channels and kernel.
    initial: F,
}

impl<F: Fn(i64, i64) -> Initial> Block<F> {
    fn append(&self, builder: &mut Builder, name: &str) {
        let Block { shortcut, channels: [inputs, outputs], stride, initial } = self;
        let activate = |builder: &mut Builder| {
            builder.batch_norm(&format!("{name}.bn1"), *inputs);
            builder.push([Layer::Relu]);
        };
        let convolve = |builder: &mut Builder| {
            builder.bare_convolution(&format!("{name}.conv1"), [*inputs, *outputs], 3, *stride, initial(*inputs, 3));
            builder.batch_norm(&format!("{name}.bn2"), *outputs);
            builder.push([Layer::Relu]);
            builder.bare_convolution(&format!("{name}.conv2"), [*outputs, *outputs], 3, 1, initial(*outputs, 3));
        };
        let branches = if *stride != 1 || inputs != outputs {
            // Both branches begin at the activated input.
            activate(builder);
            let project = |builder: &mut Builder| {
                let name = format!("{name}.{shortcut}");
                builder.bare_convolution(&name, [*inputs, *outputs], 1, *stride, initial(*inputs, 1));
            };
            vec![builder.branch(project), builder.branch(convolve)]
        } else {
            let body = builder.branch(|builder| {
                activate(builder);
                convolve(builder);
            });
            vec![Vec::new(), body]
        };
        builder.push([Layer::Sum(branches)]);
    }
}
