//! `vit`: a vision transformer (arXiv 2010.11929), with the names and definitions of the timm package.

use super::architecture::{Builder, Initial};
use super::layer::Layer;
use crate::lab::LabError;

/// Standard deviation of initial weights.
const DEVIATION: f64 = 0.02;
/// Width of the hidden layer of a block, in widths of the sequence.
const EXPANSION: i64 = 4;

/// Patches of `patch` x `patch` pixels as vectors of `width` numbers, `depth` blocks of attention and a
/// hidden layer, each after a normalisation and beside its input; the class is read off a token of its own.
pub(super) fn vit(
    builder: &mut Builder,
    shape: [i64; 3],
    [patch, width, depth, heads]: [i64; 4],
    classes: i64,
) -> Result<(), LabError> {
    let [channels, height, columns] = shape;
    if height % patch != 0 || columns % patch != 0 {
        let what = format!("vit: {height}x{columns} pixels cannot be cut into patches of {patch}x{patch}");
        return Err(LabError::bad_input(what));
    }
    if width % heads != 0 {
        return Err(LabError::bad_input(format!("vit: {heads} heads cannot share a width of {width}")));
    }
    let fan_in = channels * patch * patch;
    let kernel = vec![width, channels, patch, patch];
    let weight = builder.parameter("patch_embed.proj.weight".into(), kernel, Initial::Uniform { fan_in });
    let bias = builder.parameter("patch_embed.proj.bias".into(), vec![width], Initial::Uniform { fan_in });
    builder.push([Layer::Convolution { weight, bias: Some(bias), stride: patch, padding: 0 }, Layer::Sequence]);
    let length = (height / patch) * (columns / patch) + 1;
    let token = builder.parameter("cls_token".into(), vec![1, 1, width], Initial::Normal { deviation: 1e-6 });
    let learnt = Initial::Normal { deviation: DEVIATION };
    let positions = builder.parameter("pos_embed".into(), vec![1, length, width], learnt);
    builder.push([Layer::Tokens { token, positions }]);
    for position in 0..depth {
        block(builder, &format!("blocks.{position}"), width, heads);
    }
    builder.layer_norm("norm", width);
    builder.push([Layer::First]);
    affine(builder, "head", width, classes);
    Ok(())
}

fn block(builder: &mut Builder, name: &str, width: i64, heads: i64) {
    let attention = builder.branch(|builder| {
        builder.layer_norm(&format!("{name}.norm1"), width);
        affine(builder, &format!("{name}.attn.qkv"), width, 3 * width);
        builder.push([Layer::Attention { heads }]);
        affine(builder, &format!("{name}.attn.proj"), width, width);
    });
    builder.push([Layer::Sum(vec![Vec::new(), attention])]);
    let hidden = builder.branch(|builder| {
        builder.layer_norm(&format!("{name}.norm2"), width);
        affine(builder, &format!("{name}.mlp.fc1"), width, EXPANSION * width);
        builder.push([Layer::Gelu]);
        affine(builder, &format!("{name}.mlp.fc2"), EXPANSION * width, width);
    });
    builder.push([Layer::Sum(vec![Vec::new(), hidden])]);
}

fn affine(builder: &mut Builder, name: &str, inputs: i64, outputs: i64) {
    builder.affine_from(name, [inputs, outputs], Initial::Normal { deviation: DEVIATION }, Initial::Constant(0.0));
}
