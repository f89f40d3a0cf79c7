//! `linear` and `mlp`: fully connected networks.

use super::architecture::Builder;
use super::layer::Layer;

/// One affine map, `fc`.
pub(super) fn linear(builder: &mut Builder, shape: [i64; 3], classes: i64) {
    builder.push([Layer::Flatten]);
    builder.affine("fc", shape.iter().product(), classes);
}

/// `fc1`, `fc2` and so on, with ReLU between them.
pub(super) fn mlp(builder: &mut Builder, shape: [i64; 3], hidden: &[u32], classes: i64) {
    builder.push([Layer::Flatten]);
    let mut width = shape.iter().product();
    for (position, &next) in hidden.iter().enumerate() {
        builder.affine(&format!("fc{}", position + 1), width, i64::from(next));
        builder.push([Layer::Relu]);
        width = i64::from(next);
    }
    builder.affine(&format!("fc{}", hidden.len() + 1), width, classes);
}
