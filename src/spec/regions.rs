//! `measure: {regions: ...}`: maps of what a network names on a plane of images.
//!
//! As in [`super::measure`], the serialised form is part of a task's identity.

use super::decode::{decode, mismatch};
use super::document::fields;
use super::epochs;
use super::error::{Problem, Problems};
use super::measure::{Measure, NamedMeasure};
use super::recipe::Norm;
use super::yaml::{Kind, Node};
use crate::measure::regions::MAX_POINTS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A plane through the space of images, and the grid on which it is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    #[serde(default)]
    pub plane: Plane,
    /// The test images that span the plane; `None`: the first of each of three different classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<[u32; 3]>,
    /// Points along each side of the map.
    #[serde(default = "default_points")]
    pub points: u32,
    /// Of the attack on the images that gives the second map, pixel units of `[0,1]`; 0: no second map.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Of that attack: PGD from the clean image, with steps of 2.5 epsilon / steps.
    #[serde(default = "default_steps")]
    pub steps: u32,
    #[serde(default)]
    pub norm: Norm,
}

/// What spans the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Three test images.
    #[default]
    Images,
    /// The first two principal components of the training images.
    Components,
}

pub(super) const REGIONS_KEYS: [&str; 7] = ["plane", "images", "points", "epsilon", "steps", "norm", "epochs"];
/// Keys that say something about three images.
const OF_IMAGES: [&str; 4] = ["images", "epsilon", "steps", "norm"];

const MAX_STEPS: u32 = 10_000;

fn default_points() -> u32 {
    96
}

fn default_epsilon() -> f64 {
    0.1
}

fn default_steps() -> u32 {
    40
}

/// Reads the fields of `regions`.
pub(super) fn read(node: &Rc<Node>, problems: &mut Problems) -> Option<NamedMeasure> {
    let map = fields(node, "regions", &REGIONS_KEYS, problems)?;
    let part = |key: &str| map.get(key).map(|entry| &entry.node).filter(|node| !node.is_null());
    let mut own = map.clone();
    own.retain(|key, _| key != "epochs");
    let asked: Regions = problems.keep(decode(&Node::new(node.span, Kind::Map(own)), "regions"))?;
    let range = |key: &str, good: bool, what: String| match part(key) {
        Some(node) if !good => Some(mismatch(node, key, what)),
        _ => None,
    };
    problems.extend(range("points", (8..=MAX_POINTS).contains(&asked.points), format!("from 8 to {MAX_POINTS}")));
    problems.extend(range("steps", (1..=MAX_STEPS).contains(&asked.steps), format!("from 1 to {MAX_STEPS}")));
    let sound = asked.epsilon.is_finite() && asked.epsilon >= 0.0 && (asked.norm != Norm::Linf || asked.epsilon <= 1.0);
    let what = "0 or more, and at most 1 in `linf`; 8-bit steps are written `8/255`; 0 leaves the second map out";
    problems.extend(range("epsilon", sound, what.into()));
    if let (Some(node), Some([a, b, c])) = (part("images"), asked.images)
        && (a == b || b == c || a == c)
    {
        let problem = mismatch(node, "images", "three different positions in the test set");
        problems.push(problem.help("for example `[0, 1, 2]`; leave it out for the first of each of three classes"));
    }
    if asked.plane == Plane::Components {
        for entry in OF_IMAGES.iter().filter_map(|key| map.get(*key)) {
            let problem = Problem::new(entry.key, "this goes with `plane: images` only").label("of no effect here");
            problems.push(problem.help("a plane of principal components goes through no image; remove it"));
        }
    }
    let epochs = match part("epochs") {
        Some(node) => Some(epochs::read(node, problems)?),
        None => None,
    };
    let asked = match asked.plane {
        Plane::Images => asked,
        Plane::Components => Regions { epsilon: 0.0, ..asked },
    };
    Some(NamedMeasure { name: "regions".into(), measure: Measure::Regions(asked), examples: 0, epochs })
}
