//! Random shifts and mirrorings of the training images.
//!
//! What happens to an example depends on (seed, epoch, example) alone: not on its batch, and not on
//! how often the run was stopped.

use crate::lab::data::upload;
use crate::lab::streams::Key;
use epsweep::spec::Augment;
use tch::Tensor;

/// The changed `images`, `[n, channels, height, width]`; `examples` are their positions in the
/// training set, and `key` is extended by them.
pub fn augmented(augment: &Augment, images: &Tensor, examples: &[i64], key: &Key) -> Tensor {
    let size = images.size();
    let [count, channels, height, width] = [size[0], size[1], size[2], size[3]];
    let border = i64::from(augment.crop);
    let padded_width = width + 2 * border;
    // Which pixel of the padded image stands at each place of the new one.
    let mut source = Vec::with_capacity((count * height * width) as usize);
    for &example in examples {
        let mut stream = key.clone().number(example as u64).stream();
        let [down, right] = [0, 1].map(|_| stream.below(2 * border as u64 + 1) as i64);
        let mirrored = augment.flip && stream.sign() < 0.0;
        for row in down..down + height {
            let start = row * padded_width + right;
            let columns = start..start + width;
            if mirrored { source.extend(columns.rev()) } else { source.extend(columns) }
        }
    }
    let source = upload(&Tensor::from_slice(&source).view([count, 1, height * width]), images.device());
    let padded = images.constant_pad_nd([border; 4]).flatten(2, 3);
    padded.gather(2, &source.expand([count, channels, height * width], false), false).view_as(images)
}
