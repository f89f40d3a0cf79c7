//! Settings as short text for table columns: `smallcnn(channels=[16,32])`, `0.1`.

use super::yaml::{Kind, Node, Scalar};
use serde_json::Value;

/// A written setting. A number that fills a column alone is written plainly (`8/255` as
/// `0.03137254901960784`), so that scripts can read the column as numbers; inside a composite the
/// spelling of the file stays.
pub(super) fn setting(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => number(scalar).unwrap_or_else(|| scalar.text.clone()),
        _ => composite(node),
    }
}

fn number(scalar: &Scalar) -> Option<String> {
    let whole = scalar.integer().map(|integer| integer.to_string());
    whole.or_else(|| scalar.number().map(|number| number.to_string()))
}

/// A name with the fields that were written: `pgd(epsilon=8/255,steps=7)`.
pub(super) fn composite(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.text.clone(),
        Kind::List(items) => {
            let items: Vec<String> = items.iter().map(|item| composite(item)).collect();
            format!("[{}]", items.join(","))
        }
        Kind::Map(map) => {
            let named = map.iter().map(|(name, entry)| match entry.node.map() {
                Some(fields) if !fields.is_empty() => {
                    let fields = fields.iter().map(|(field, value)| format!("{field}={}", composite(&value.node)));
                    format!("{name}({})", fields.collect::<Vec<_>>().join(","))
                }
                None if !entry.node.is_null() => format!("{name}={}", composite(&entry.node)),
                _ => name.clone(),
            });
            named.collect::<Vec<_>>().join(",")
        }
    }
}

/// A setting that nobody wrote, out of the decoded recipe: a number or word as it is, of anything
/// larger only its name.
pub(super) fn default(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    #[test]
    fn settings_are_compact_and_say_what_was_written() {
        for (text, shown) in [
            ("natural", "natural"),
            ("{natural: {}}", "natural"),
            ("{pgd: {epsilon: 8/255, steps: 7}}", "pgd(epsilon=8/255,steps=7)"),
            ("{crop: 4, flip: true}", "crop=4,flip=true"),
            ("{smallcnn: {channels: [16, 32]}}", "smallcnn(channels=[16,32])"),
            ("8/255", "0.03137254901960784"),
            ("5e-4", "0.0005"),
            ("1e3", "1000"),
            ("'0.10'", "0.10"),
            ("true", "true"),
            ("[16, 32]", "[16,32]"),
            ("{torchscript: nets/m.pt}", "torchscript=nets/m.pt"),
        ] {
            assert_eq!(setting(&yaml::parse(text).expect("valid YAML")), shown, "{text}");
        }
    }
}
