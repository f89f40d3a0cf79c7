//! Ranges of methods, and of the options that go with them.

use super::{MAX_EPOCHS, MAX_STEPS, Problem, Radii, Ranges, radius};
use crate::spec::method::{Augment, Awp, Method, StopEarly};
use crate::spec::recipe::Norm;
use crate::spec::section::Section;
use crate::spec::sweep::Recipe;

/// More updates per batch than this are no longer adversarial training but overfitting to a batch.
const MAX_REPLAYS: u32 = 1_000;
/// A larger shift moves every image of the data sets at hand out of sight.
const MAX_CROP: u32 = 1_000;

impl Ranges<'_> {
    pub(super) fn method(&mut self, method: &Method, radii: Radii) {
        if let Some((epsilon, norm)) = method.ball() {
            self.training_radius(epsilon, norm, radii);
        }
        match *method {
            Method::Natural {} | Method::Pretrained {} => {}
            Method::Pgd { steps, step, norm, .. } => self.climb(steps, step, norm, radii),
            Method::Trades { beta, steps, step, norm, .. } | Method::Mart { beta, steps, step, norm, .. } => {
                self.require(beta >= 0.0, "beta", "0 or larger", beta);
                self.climb(steps, step, norm, radii);
            }
            Method::FastAt { step, .. } => self.step(step, Norm::Linf, radii, "1.25 epsilon"),
            Method::FreeAt { replays, step, .. } => {
                self.whole("replays", replays, 1, MAX_REPLAYS);
                self.step(step, Norm::Linf, radii, "epsilon");
            }
            Method::Ibp { kappa, warmup, ramp, .. } => {
                self.require((0.0..=1.0).contains(&kappa), "kappa", "from 0 to 1", kappa);
                self.require((0.0..=1.0).contains(&warmup), "warmup", "from 0 to 1", warmup);
                let help = "`warmup` and `ramp` are fractions of the run; together they are at most 1";
                let expected = format!("from 0 to {}, what `warmup` leaves", 1.0 - warmup);
                self.require_or(ramp >= 0.0 && warmup + ramp <= 1.0, "ramp", &expected, ramp, help);
            }
        }
    }

    fn training_radius(&mut self, epsilon: f64, norm: Norm, radii: Radii) {
        let place = self.place("epsilon");
        if epsilon == 0.0 {
            let problem =
                Problem::new(place, "`epsilon` of a training attack must be above 0").label("no attack at all");
            self.problems.push(problem.help("`method: natural` trains without an attack"));
        }
        self.problems.extend(radius(epsilon, "epsilon", place, norm, radii));
    }

    fn climb(&mut self, steps: u32, step: Option<f64>, norm: Norm, radii: Radii) {
        self.whole("steps", steps, 1, MAX_STEPS);
        self.step(step, norm, radii, "2.5 epsilon / steps");
    }

    pub(super) fn augment(&mut self, augment: Option<&Augment>) {
        if let Some(augment) = augment {
            self.whole("crop", augment.crop, 0, MAX_CROP);
        }
    }

    pub(super) fn awp(&mut self, awp: Option<&Awp>) {
        if let Some(awp) = awp {
            let help = "it is a share of each weight tensor's length; 0.005 to 0.01 are usual";
            self.require_or((0.0..=1.0).contains(&awp.gamma), "gamma", "from 0 to 1", awp.gamma, help);
        }
    }
}

impl Ranges<'_> {
    pub(super) fn stop_early(&mut self, rule: Option<&StopEarly>, radii: Radii) {
        let Some(rule) = rule else { return };
        let help = "it is a share of the training set, taken out of training; 0.1 is usual";
        let fits = rule.fraction > 0.0 && rule.fraction <= 0.5;
        self.require_or(fits, "fraction", "above 0 and at most 0.5", rule.fraction, help);
        self.whole("every", rule.every, 1, MAX_EPOCHS);
        self.whole("patience", rule.patience, 1, MAX_EPOCHS);
        self.whole("steps", rule.steps, 1, MAX_STEPS);
        if let Some(epsilon) = rule.epsilon {
            self.require(epsilon > 0.0, "epsilon", "above 0", epsilon);
            self.problems.extend(radius(
                epsilon,
                "epsilon",
                self.place("epsilon"),
                rule.norm.unwrap_or_default(),
                radii,
            ));
        }
    }
}

/// What is wrong with an option beside the rest of its recipe; the place is left to the caller.
pub(in crate::spec) fn contradiction(section: Section, recipe: &Recipe) -> Option<Problem> {
    let kind = recipe.method.kind();
    match section {
        Section::Awp if recipe.options.awp.is_some() && recipe.method.awp_passes().is_none() => Some(
            Problem::unplaced(format!("`awp` does not apply where `method` is `{kind}`"))
                .label("only beside pgd, fast_at, trades and mart")
                .help("limit this to the points it applies to: vary it in `grid` with `when: {method: [pgd, fast_at, trades, mart]}` beside it"),
        ),
        Section::StopEarly
            if recipe.method.ball().is_none()
                && recipe.options.stop_early.as_ref().is_some_and(|rule| rule.epsilon.is_none()) =>
        {
            Some(
                Problem::unplaced(format!("`stop_early` beside `{kind}` has no `epsilon`"))
                    .label("how far does the validation attack go?")
                    .help("add for example `epsilon: 0.1`; other methods lend it their own"),
            )
        }
        Section::Method if matches!(recipe.method, Method::Ibp { .. }) && !recipe.model.has_trainable_bounds() => Some(
            Problem::unplaced(format!("`ibp` cannot train `{}`", recipe.model.kind()))
                .label("needs interval bounds through every layer")
                .help("use `linear`, `mlp`, `smallcnn`, `lenet5` or `madry`; in a grid, `exclude` the others"),
        ),
        Section::Method if recipe.is_pretrained() && recipe.files().next().is_none() => Some(
            Problem::unplaced(format!("`pretrained` needs weights, and `{kind}` has none", kind = recipe.model.kind()))
                .label("nothing to load")
                .help(
                    "add `weights: FILE` (safetensors, or a state dict that PyTorch saved), or `model: {torchscript: FILE}`",
                ),
        ),
        _ => None,
    }
}
