//! Ranges: what a value of the right type must still satisfy to mean something.

mod training;

pub(super) use training::contradiction;

use super::attack::{Attack, Certificate};
use super::error::{Problem, Span};
use super::inputs::{GivenFile, Normalize};
use super::recipe::{Model, Norm, Optimizer, Schedule};
use super::section::Setting;
use super::yaml::{Map, Node};
use std::fmt::Display;

/// Layers wider than this are typing errors on the data sets at hand.
pub(super) const MAX_WIDTH: u32 = 8192;
const MAX_LAYERS: usize = 32;
/// Channels of the first (PreActResNet) and last stage (WRN, divided by 64).
const MAX_CHANNELS: u32 = 2048;
const MAX_DEPTH: u32 = 208;
const MAX_EPOCHS: u32 = 1_000_000;
const MAX_BATCH: u32 = 1_000_000;
const MAX_STEPS: u32 = 10_000;
const MAX_RESTARTS: u32 = 1_000;
const MAX_TARGETS: u32 = 1_000;
const MAX_QUERIES: u32 = 1_000_000;
/// Noise beyond this hides every image.
const MAX_SIGMA: f64 = 100.0;
const MAX_COPIES: u32 = 100_000_000;
const MAX_SAMPLES: u32 = 1_000;
/// The bound on an L2 radius when the size of the images is not known: the diagonal of 10,000 pixels.
const MAX_L2: f64 = 100.0;
/// The same for L1.
const MAX_L1: f64 = 10_000.0;

/// The largest radius that makes sense: beyond it the ball holds every image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Radii {
    /// Channels times height times width, if the data set fixes them.
    pub pixels: Option<u32>,
}

impl Radii {
    pub fn largest(self, norm: Norm) -> f64 {
        match (norm, self.pixels) {
            (Norm::Linf, _) => 1.0,
            (Norm::L2, Some(pixels)) => f64::from(pixels).sqrt(),
            (Norm::L2, None) => MAX_L2,
            (Norm::L1, Some(pixels)) => f64::from(pixels),
            (Norm::L1, None) => MAX_L1,
        }
    }
}

/// What is out of range in a decoded setting of a trial that stands at `node`.
pub(super) fn setting(setting: &Setting, what: &str, node: &Node, radii: Radii) -> Vec<Problem> {
    let mut range = Ranges { node, problems: Vec::new() };
    match setting {
        Setting::Model(model) => range.model(model),
        Setting::Method(method) => range.method(method, radii),
        Setting::Optimizer(optimizer) => range.optimizer(optimizer),
        Setting::Schedule(schedule) => range.schedule(schedule),
        Setting::Count(count) => {
            let most = if what == "epochs" { MAX_EPOCHS } else { MAX_BATCH };
            range.whole(what, *count, 1, most);
        }
        Setting::Real(share) => {
            range.require((0.0..1.0).contains(share), what, "from 0 to below 1", share);
        }
        Setting::Augment(augment) => range.augment(augment.as_ref()),
        Setting::Awp(awp) => range.awp(awp.as_ref()),
        Setting::Precision(_) => {}
        Setting::StopEarly(rule) => range.stop_early(rule.as_ref(), radii),
        Setting::Normalize(normalize) => range.normalize(normalize),
        Setting::Weights(file) => range.files(file.as_ref(), "weights"),
    }
    range.problems
}

/// What is out of range in an attack of the evaluation that stands at `node`.
pub(super) fn attack(attack: &Attack, node: &Node, norm: Norm, radii: Radii) -> Vec<Problem> {
    let mut range = Ranges { node, problems: Vec::new() };
    match attack {
        Attack::Fgsm {} => {}
        Attack::Pgd { steps, step, restarts } => {
            range.whole("steps", *steps, 1, MAX_STEPS);
            range.whole("restarts", *restarts, 1, MAX_RESTARTS);
            range.step(*step, norm, radii, "2.5 epsilon / steps");
        }
        Attack::Apgd { loss: _, steps, restarts, targets, samples } => {
            range.whole("steps", *steps, 1, MAX_STEPS);
            range.whole("restarts", *restarts, 1, MAX_RESTARTS);
            range.whole("targets", *targets, 1, MAX_TARGETS);
            range.whole("samples", *samples, 1, MAX_SAMPLES);
        }
        Attack::Fab { steps, targets, restarts } => {
            range.whole("steps", *steps, 1, MAX_STEPS);
            range.whole("targets", *targets, 0, MAX_TARGETS);
            range.whole("restarts", *restarts, 1, MAX_RESTARTS);
        }
        Attack::Ddn { steps } => range.whole("steps", *steps, 1, MAX_STEPS),
        Attack::Cw { steps, searches, lr } => {
            range.whole("steps", *steps, 1, MAX_STEPS);
            range.whole("searches", *searches, 1, MAX_RESTARTS);
            range.require(*lr > 0.0, "lr", "above 0", lr);
        }
        Attack::Square { queries } => range.whole("queries", *queries, 1, MAX_QUERIES),
        Attack::Autoattack { .. } => {}
    }
    range.problems
}

/// What is out of range in a certificate that stands at `node`.
pub(super) fn certificate(certificate: &Certificate, node: &Node) -> Vec<Problem> {
    let mut range = Ranges { node, problems: Vec::new() };
    if let Certificate::Smoothing { sigma, n0, n, alpha } = certificate {
        range.require(*sigma > 0.0 && *sigma <= MAX_SIGMA, "sigma", format!("above 0 and at most {MAX_SIGMA}"), sigma);
        range.whole("n0", *n0, 1, MAX_COPIES);
        range.whole("n", *n, 1, MAX_COPIES);
        range.require(*alpha > 0.0 && *alpha < 0.5, "alpha", "above 0 and below 0.5", alpha);
    }
    range.problems
}

struct Ranges<'n> {
    node: &'n Node,
    problems: Vec<Problem>,
}

impl Ranges<'_> {
    /// The value of a field, if it is written, else the whole setting.
    fn place(&self, field: &str) -> Span {
        let content = self.node.map().and_then(Map::first).and_then(|(_, entry)| entry.node.map());
        let own = || self.node.map().and_then(|fields| fields.get(field));
        let written = content.and_then(|fields| fields.get(field)).or_else(own);
        written.map_or(self.node.span, |entry| entry.node.span)
    }

    fn require(
        &mut self,
        holds: bool,
        field: &str,
        expected: impl Display,
        found: impl Display,
    ) -> Option<&mut Problem> {
        if holds {
            return None;
        }
        let problem = Problem::new(self.place(field), format!("`{field}` must be {expected}, found {found}"))
            .label("out of range")
            .help(format!("choose a value that is {expected}"));
        self.problems.push(problem);
        self.problems.last_mut()
    }

    fn require_or(&mut self, holds: bool, field: &str, expected: &str, found: impl Display, help: &str) {
        if let Some(problem) = self.require(holds, field, expected, found) {
            *problem = problem.clone().help(help);
        }
    }

    fn whole(&mut self, field: &str, value: u32, least: u32, most: u32) {
        self.require((least..=most).contains(&value), field, format!("from {least} to {most}"), value);
    }

    fn model(&mut self, model: &Model) {
        match model {
            Model::Linear {} => {}
            Model::Mlp { hidden } => {
                let expected = format!("1 to {MAX_LAYERS} widths");
                let found = format!("{} widths", hidden.len());
                let help = "for a model without hidden layers write `linear`";
                self.require_or((1..=MAX_LAYERS).contains(&hidden.len()), "hidden", &expected, found, help);
                hidden.iter().for_each(|&width| self.whole("hidden", width, 1, MAX_WIDTH));
            }
            Model::Smallcnn { channels, hidden } => {
                channels.iter().for_each(|&width| self.whole("channels", width, 1, MAX_WIDTH));
                self.whole("hidden", *hidden, 1, MAX_WIDTH);
            }
            Model::Lenet5 {} | Model::Madry {} => {}
            Model::Torchscript(file) => self.files(Some(file), "torchscript"),
            Model::Preactresnet18 { width } => self.whole("width", *width, 1, MAX_CHANNELS),
            Model::Wrn { depth, width } => {
                let help = "depths are 6n + 4: 10, 16, 22, 28, 34, 40, ...";
                let fits = (10..=MAX_DEPTH).contains(depth) && depth % 6 == 4;
                self.require_or(fits, "depth", &format!("6n + 4, from 10 to {MAX_DEPTH}"), depth, help);
                self.whole("width", *width, 1, MAX_CHANNELS / 64);
            }
            Model::Vit { patch, dim, depth, heads } => {
                self.whole("patch", *patch, 1, 256);
                self.whole("dim", *dim, 1, MAX_WIDTH);
                self.whole("depth", *depth, 1, MAX_DEPTH);
                self.whole("heads", *heads, 1, *dim);
                let help = "each head works on `dim / heads` numbers: choose a `dim` that `heads` divides";
                let divides = *heads == 0 || dim % heads == 0;
                self.require_or(divides, "dim", &format!("a multiple of `heads`, {heads}"), dim, help);
            }
        }
    }

    fn files(&mut self, file: Option<&GivenFile>, what: &str) {
        let Some(file) = file.filter(|file| file.text().is_empty() || file.text().starts_with('~')) else { return };
        let problem = Problem::new(self.place(what), format!("`{}` is not a file", file.text()));
        let problem = problem.label("`~` is not expanded here");
        self.problems.push(problem.help("write an absolute path, or one that starts at this file's folder"));
    }

    fn normalize(&mut self, normalize: &Normalize) {
        let Normalize::Channels { mean, std } = normalize else { return };
        let found = format!("{} and {}", mean.len(), std.len());
        let help = "write one number per channel: one for grey images, three for colour";
        let equal = mean.len() == std.len() && !mean.is_empty();
        self.require_or(equal, "std", "as many numbers as `mean`, at least one", found, help);
        for value in std {
            self.require(*value > 0.0, "std", "above 0", value);
        }
    }

    /// `usual` is what the step is where none is written.
    fn step(&mut self, step: Option<f64>, norm: Norm, radii: Radii, usual: &str) {
        let Some(step) = step else { return };
        let largest = radii.largest(norm);
        let expected = format!("above 0 and at most {largest}");
        let help = format!("it is a length in pixel units of [0,1]; leave it out for {usual}");
        self.require_or(step > 0.0 && step <= largest, "step", &expected, step, &help);
    }

    fn optimizer(&mut self, optimizer: &Optimizer) {
        let (lr, weight_decay) = match optimizer {
            Optimizer::Sgd { lr, momentum, weight_decay, nesterov } => {
                self.require((0.0..1.0).contains(momentum), "momentum", "from 0 to below 1", momentum);
                let help = "set a `momentum` above 0, or leave out `nesterov`";
                self.require_or(!nesterov || *momentum > 0.0, "nesterov", "`false` without momentum", "`true`", help);
                (lr, weight_decay)
            }
            Optimizer::Adamw { lr, betas, eps, weight_decay } => {
                for beta in betas {
                    self.require((0.0..1.0).contains(beta), "betas", "from 0 to below 1", beta);
                }
                self.require(*eps > 0.0, "eps", "above 0", eps);
                (lr, weight_decay)
            }
        };
        self.require(*lr > 0.0, "lr", "above 0", lr);
        self.require(*weight_decay >= 0.0, "weight_decay", "0 or larger", weight_decay);
    }

    fn schedule(&mut self, schedule: &Schedule) {
        match schedule {
            Schedule::Constant {} | Schedule::Cosine {} => {}
            Schedule::Step { milestones, gamma } => {
                let ascending = milestones.windows(2).all(|pair| pair[0] < pair[1]);
                let inside = milestones.iter().all(|&m| m > 0.0 && m < 1.0);
                let found = format!("{milestones:?}");
                let help = "milestones are fractions of the run: `[0.5, 0.75]` drops at half and three quarters of it";
                let expected = "ascending numbers above 0 and below 1";
                self.require_or(ascending && inside && !milestones.is_empty(), "milestones", expected, found, help);
                self.require(*gamma > 0.0 && *gamma <= 1.0, "gamma", "above 0 and at most 1", gamma);
            }
            Schedule::OneCycle { warmup } => {
                self.require(*warmup > 0.0 && *warmup < 1.0, "warmup", "above 0 and below 1", warmup);
            }
        }
    }
}

/// The mistake in a radius of a norm ball, if there is one.
pub(super) fn radius(epsilon: f64, field: &str, place: Span, norm: Norm, radii: Radii) -> Option<Problem> {
    let largest = radii.largest(norm);
    if (0.0..=largest).contains(&epsilon) {
        return None;
    }
    let problem =
        Problem::new(place, format!("`{field}` must be from 0 to {largest}, found {epsilon}")).label("out of range");
    Some(match norm {
        _ if epsilon < 0.0 => problem.help("a radius is never negative; 0 stands for no attack"),
        Norm::Linf if epsilon <= 255.0 => {
            problem.help(format!("pixels lie in [0,1]; a radius in 8-bit steps is written `{epsilon}/255`"))
        }
        Norm::Linf => problem.help("pixels lie in [0,1], so a radius above 1 allows everything"),
        Norm::L2 | Norm::L1 => problem.help(format!("no two images are further apart than {largest} in this norm")),
    })
}
