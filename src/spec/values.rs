//! Lists of values: written out, or made by `linspace`, `logspace` or `range`.

use super::decode::{decode, mismatch, unknown};
use super::error::Problem;
use super::yaml::{Kind, Node};
use std::rc::Rc;

const GENERATORS: [&str; 3] = ["linspace", "logspace", "range"];

/// A generator that makes more values than this is a typing error.
const MAX_VALUES: u32 = 100_000;

/// The values of a list or generator that stands under the key `what`; at least one.
pub(super) fn values(node: &Rc<Node>, what: &str) -> Result<Vec<Rc<Node>>, Problem> {
    let list = match &node.kind {
        Kind::List(items) => items.clone(),
        Kind::Map(map) if map.keys().any(|key| GENERATORS.contains(&key.as_str())) => generate(node)?,
        Kind::Map(map) if map.len() == 1 && map.values().all(|entry| entry.node.list().is_some()) => {
            let (key, entry) = map.first().ok_or_else(|| not_a_list(node, what))?;
            return Err(unknown("generator", key, &GENERATORS).at(entry.key));
        }
        _ => return Err(not_a_list(node, what)),
    };
    if list.is_empty() {
        return Err(Problem::new(node.span, format!("`{what}` has no values"))
            .label("an empty list")
            .help("give it at least one value, or remove the key"));
    }
    Ok(list)
}

fn not_a_list(node: &Node, what: &str) -> Problem {
    let problem = mismatch(node, what, "a list of values");
    match node.text() {
        Some(text) => problem.help(format!("write `[{text}]`, or `{{linspace: [first, last, count]}}`")),
        None => problem.help("write `[...]` around it, or use `{linspace: [first, last, count]}`"),
    }
}

fn generate(node: &Node) -> Result<Vec<Rc<Node>>, Problem> {
    let map = node.map().filter(|map| map.len() == 1);
    let (name, entry) = map.and_then(|map| map.first()).ok_or_else(|| {
        Problem::new(node.span, "a generator stands alone")
            .help("for example `{linspace: [0, 0.3, 16]}`, nothing beside it")
    })?;
    let numbers: [f64; 3] = decode(&entry.node, name).map_err(|problem| problem.help(usage(name)))?;
    let wrong = |message: String| Problem::new(entry.node.span, message).help(usage(name));
    let [a, b, c] = numbers;
    let made = match name.as_str() {
        "range" => range(a, b, c),
        "logspace" if a <= 0.0 || b <= 0.0 => Err("`logspace` needs a first and a last value above 0".to_string()),
        "logspace" => count(c, a == b).map(|n| spaced(n, |t| a * (b / a).powf(t), a, b)),
        _ => count(c, a == b).map(|n| spaced(n, |t| a + (b - a) * t, a, b)),
    };
    let made = made.map_err(wrong)?;
    Ok(made.into_iter().map(|value| Node::plain(node.span, value.to_string())).collect())
}

fn usage(name: &str) -> &'static str {
    match name {
        "range" => "write `{range: [first, last, step]}`; `last` is included when a step lands on it",
        "logspace" => "write `{logspace: [first, last, count]}`; `first` and `last` are values, not exponents",
        _ => "write `{linspace: [first, last, count]}`; `first` and `last` are included",
    }
}

/// The third number of `linspace` and `logspace`: how many values.
fn count(number: f64, ends_meet: bool) -> Result<u32, String> {
    let least = if ends_meet { 1 } else { 2 };
    if number.fract() != 0.0 || number < f64::from(least) || number > f64::from(MAX_VALUES) {
        return Err(format!("the count must be a whole number from {least} to {MAX_VALUES}, found {number}"));
    }
    Ok(number as u32)
}

fn spaced(count: u32, at: impl Fn(f64) -> f64, first: f64, last: f64) -> Vec<f64> {
    let value = |i: u32| match i {
        0 => first,
        i if i + 1 == count => last,
        i => tidy(at(f64::from(i) / f64::from(count - 1))),
    };
    (0..count).map(value).collect()
}

fn range(first: f64, last: f64, step: f64) -> Result<Vec<f64>, String> {
    if step == 0.0 || (last - first) * step < 0.0 {
        return Err(format!("steps of {step} never lead from {first} to {last}"));
    }
    // A millionth of a step forgives 0.1 + 0.2 != 0.3 and nothing else.
    let steps = ((last - first) / step + 1e-6).floor();
    if steps >= f64::from(MAX_VALUES) {
        return Err(format!("this range has more than {MAX_VALUES} values"));
    }
    Ok((0..=steps as u32).map(|i| tidy(first + step * f64::from(i))).collect())
}

/// Rounds to 12 significant digits, so that 0.1 + 2 * 0.1 is the 0.3 that a person would write.
/// Without this, `linspace` and a list by hand would give different task keys.
fn tidy(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn made(text: &str) -> Result<Vec<String>, String> {
        let node = yaml::parse(text).expect("valid YAML");
        let list = values(&node, "axis").map_err(|problem| problem.to_string())?;
        Ok(list.iter().map(|node| node.text().expect("scalars").to_string()).collect())
    }

    #[test]
    fn generators_make_the_numbers_a_person_would_write() {
        let tenths = ["0", "0.1", "0.2", "0.3"].map(String::from).to_vec();
        assert_eq!(made("{linspace: [0, 0.3, 4]}"), Ok(tenths.clone()));
        assert_eq!(made("{range: [0, 0.3, 0.1]}"), Ok(tenths));
        assert_eq!(made("{range: [5, 1, -2]}"), Ok(["5", "3", "1"].map(String::from).to_vec()));
        assert_eq!(made("{range: [0, 1, 0.3]}"), Ok(["0", "0.3", "0.6", "0.9"].map(String::from).to_vec()));
        assert_eq!(
            made("{logspace: [0.001, 10, 5]}"),
            Ok(["0.001", "0.01", "0.1", "1", "10"].map(String::from).to_vec())
        );
        assert_eq!(made("{linspace: [0, 8/255, 3]}").expect("fractions").len(), 3);
        assert_eq!(made("{linspace: [2, 2, 1]}"), Ok(vec!["2".to_string()]));
    }

    #[test]
    fn senseless_generators_are_refused() {
        for (text, message) in [
            ("{linspace: [0, 1, 1]}", "the count must be a whole number from 2 to 100000, found 1"),
            ("{linspace: [0, 1, 2.5]}", "the count must be a whole number from 2 to 100000, found 2.5"),
            ("{logspace: [0, 1, 3]}", "`logspace` needs a first and a last value above 0"),
            ("{range: [0, 1, -0.1]}", "steps of -0.1 never lead from 0 to 1"),
            ("{range: [0, 1, 0]}", "steps of 0 never lead from 0 to 1"),
            ("{range: [0, 1, 1e-9]}", "this range has more than 100000 values"),
            ("{linspace: [0, 1]}", "`linspace` must be a list of 3 values, found 2"),
            ("{geomspace: [0, 1, 3]}", "unknown generator `geomspace`"),
            ("[]", "`axis` has no values"),
            ("0.1", "`axis` must be a list of values, found `0.1`"),
        ] {
            assert_eq!(made(text), Err(message.to_string()), "{text}");
        }
    }
}
