//! `smallcnn` and its kind: two convolutions with pooling, then fully connected layers.

use super::architecture::Builder;
use super::layer::Layer;
use crate::lab::LabError;

/// Two convolutions (5x5, or 3x3 where a side has fewer than 16 pixels) and one hidden layer.
pub(super) fn smallcnn(
    builder: &mut Builder,
    shape: [i64; 3],
    widths: [i64; 2],
    hidden: i64,
    classes: i64,
) -> Result<(), LabError> {
    let [_, height, width] = shape;
    if height.min(width) < 4 {
        return Err(LabError::bad_input(format!("smallcnn pools twice; {height}x{width} pixels are too few")));
    }
    let kernel = if height.min(width) < 16 { 3 } else { 5 };
    two_convolutions(builder, shape, widths, kernel);
    builder.affine("fc1", widths[1] * (height / 4) * (width / 4), hidden);
    builder.push([Layer::Relu]);
    builder.affine("fc2", hidden, classes);
    Ok(())
}

/// `conv1` and `conv2`, each padded to keep the size, then pooled to half of it; flat at the end.
fn two_convolutions(builder: &mut Builder, [channels, ..]: [i64; 3], widths: [i64; 2], kernel: i64) {
    builder.push([Layer::ChannelsLast]);
    builder.convolution("conv1", [channels, widths[0]], kernel, kernel / 2);
    // Pooling before ReLU gives the same numbers as after it, on a quarter of the values.
    builder.push([Layer::MaxPool, Layer::Relu]);
    builder.convolution("conv2", widths, kernel, kernel / 2);
    builder.push([Layer::MaxPool, Layer::Relu, Layer::Flatten]);
}

/// Madry et al.'s network for MNIST (arXiv 1706.06083): 5x5 convolutions to 32 and 64 channels, and
/// one hidden layer of 1024.
pub(super) fn madry(builder: &mut Builder, shape: [i64; 3], classes: i64) -> Result<(), LabError> {
    let [_, height, width] = shape;
    if height.min(width) < 4 {
        return Err(LabError::bad_input(format!("madry pools twice; {height}x{width} pixels are too few")));
    }
    two_convolutions(builder, shape, [32, 64], 5);
    builder.affine("fc1", 64 * (height / 4) * (width / 4), 1024);
    builder.push([Layer::Relu]);
    builder.affine("fc2", 1024, classes);
    Ok(())
}

/// LeNet-5 as it is built today, with ReLU and maximum pooling: 5x5 convolutions to 6 and 16 channels,
/// hidden layers of 120 and 84. Images of less than 32 pixels a side get two pixels of padding, which
/// makes MNIST's 28x28 the 32x32 of the paper.
pub(super) fn lenet5(builder: &mut Builder, [channels, height, width]: [i64; 3], classes: i64) -> Result<(), LabError> {
    let side = height.min(width);
    if side < 12 {
        let what = format!("lenet5 needs 12x12 pixels or more; these images have {height}x{width}");
        return Err(LabError::bad_input(what));
    }
    let padding = if side < 32 { 2 } else { 0 };
    let reduced = |side: i64| ((side + 2 * padding - 4) / 2 - 4) / 2;
    builder.push([Layer::ChannelsLast]);
    builder.convolution("conv1", [channels, 6], 5, padding);
    builder.push([Layer::MaxPool, Layer::Relu]);
    builder.convolution("conv2", [6, 16], 5, 0);
    builder.push([Layer::MaxPool, Layer::Relu, Layer::Flatten]);
    let features = 16 * reduced(height) * reduced(width);
    for (name, inputs, outputs) in [("fc1", features, 120), ("fc2", 120, 84)] {
        builder.affine(name, inputs, outputs);
        builder.push([Layer::Relu]);
    }
    builder.affine("fc3", 84, classes);
    Ok(())
}
