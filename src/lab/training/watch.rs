//! A watch for the collapse of single-step training (catastrophic overfitting, arXiv 2001.03994): a
//! network learns to withstand the one step it is trained with, and nothing else.

use super::inner::InnerAttack;
use crate::lab::models::Network;
use crate::lab::streams::Key;
use crate::lab::{Images, Passes};
use epsweep::plan::facts::{Facts, has_collapsed};
use epsweep::spec::{Method, WATCH_STEPS, watched};
use tch::Tensor;

/// A few training examples, attacked after each epoch by one step and by many.
pub struct Sentinel {
    examples: Images,
    attacks: [InnerAttack; 2],
    start: Key,
}

impl Sentinel {
    /// `None` where the method cannot collapse. The examples depend on the seed alone.
    pub fn of(method: &Method, seed: u64, train: &Images) -> Option<Sentinel> {
        let (epsilon, norm) = method.ball().filter(|_| method.can_collapse())?;
        let mut order = Key::new("watched examples", seed).stream().permutation(train.count());
        order.truncate(watched(train.count() as u32) as usize);
        let index = Tensor::from_slice(&order).to_device(train.pixels.device());
        let examples =
            Images { pixels: train.pixels.index_select(0, &index), labels: train.labels.index_select(0, &index) };
        let once = InnerAttack { epsilon, steps: 1, step: Some(epsilon), norm };
        let attacks = [once, InnerAttack { steps: WATCH_STEPS, step: None, ..once }];
        Some(Sentinel { examples, attacks, start: Key::new("watch", seed) })
    }

    /// What is seen after `epoch`; `before` is the epoch of an earlier collapse.
    pub fn look(&self, network: &Network, epoch: u32, before: Option<u32>, passes: &mut Passes) -> Facts {
        let [once, often] = &self.attacks;
        let fgsm = once.accuracy(network, &self.examples, self.examples.pixels.shallow_clone(), passes);
        let start = often.random_start(&self.examples.pixels, &self.start);
        let pgd = often.accuracy(network, &self.examples, start, passes);
        let collapsed = has_collapsed(fgsm, pgd);
        if collapsed && before.is_none() {
            tracing::warn!(
                epoch,
                fgsm_accuracy = fgsm,
                pgd_accuracy = pgd,
                "training has collapsed: it withstands one step and not PGD; a smaller epsilon or step, or \
                 `method: pgd`, avoids it"
            );
        }
        let collapsed = before.or(collapsed.then_some(epoch));
        Facts { fgsm_accuracy: Some(fgsm), pgd_accuracy: Some(pgd), collapsed, ..Facts::default() }
    }
}
