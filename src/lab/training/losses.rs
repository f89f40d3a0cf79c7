//! Losses on logits: what the methods descend, each a scalar, the mean over examples.

use tch::{Kind, Reduction, Tensor};

/// Cross-entropy with `smoothing` of the target spread evenly over all classes (arXiv 1512.00567).
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Tensor {
    if smoothing == 0.0 {
        return logits.cross_entropy_for_logits(labels);
    }
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, smoothing)
}

/// CE(clean) + beta KL(clean || adversarial), gradients through both (arXiv 1901.08573).
pub fn trades(clean: &Tensor, adversarial: &Tensor, labels: &Tensor, beta: f64, smoothing: f64) -> Tensor {
    let robust = divergence(adversarial, &clean.softmax(-1, Kind::Float));
    cross_entropy(clean, labels, smoothing) + robust.mean(Kind::Float) * beta
}

/// MART (Wang et al., ICLR 2020, eq. 10): CE(adversarial) - log(1 - p_adv of the likeliest wrong class),
/// and beta KL(clean || adversarial) (1 - p_clean of the true class), with the small constants of its
/// authors' code, which keep the logarithms finite.
pub fn mart(clean: &Tensor, adversarial: &Tensor, labels: &Tensor, beta: f64, smoothing: f64) -> Tensor {
    let column = labels.unsqueeze(1);
    let (clean, attacked) = (clean.softmax(-1, Kind::Float), adversarial.softmax(-1, Kind::Float));
    // Which class is the likeliest wrong one carries no gradient.
    let wrong = attacked.detach().scatter_value(1, &column, -1.0).argmax(1, true);
    let margin = (-attacked.gather(1, &wrong, false) + (1.0001 + 1e-12)).log().mean(Kind::Float);
    let boosted = cross_entropy(adversarial, labels, smoothing) - margin;
    let terms = (attacked + 1e-12).log().kl_div(&clean, Reduction::None, false);
    let divergence = terms.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let doubt = -clean.gather(1, &column, false).squeeze_dim(1) + 1.000_000_1;
    boosted + (divergence * doubt).mean(Kind::Float) * beta
}

/// KL(target || softmax(logits)) per example: `[n]`, in nats.
pub fn divergence(logits: &Tensor, target: &Tensor) -> Tensor {
    let terms = logits.log_softmax(-1, Kind::Float).kl_div(target, Reduction::None, false);
    terms.sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
}
