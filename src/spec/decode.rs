//! A node as a typed value: a serde deserialiser over the tree that puts a place on every error.
//!
//! The types of [`super::recipe`] say through their `Deserialize` what is allowed; serde calls back
//! with "unknown field", "missing field" and so on, and the innermost node that sees such an error
//! pass adds its own place. One error per call; callers decode independent parts one by one.

use super::error::{Problem, did_you_mean, join};
use super::yaml::{Entry, Kind, Map, Node, Scalar};
use serde::Deserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use std::fmt::Display;
use std::rc::Rc;

/// Decodes `node`, the value of `what`, into a `T`.
pub(super) fn decode<T: DeserializeOwned>(node: &Node, what: &str) -> Result<T, Problem> {
    T::deserialize(Place { node, what }).map_err(|problem| problem.at(node.span))
}

/// "`what` must be ..., found ...".
pub(super) fn mismatch(node: &Node, what: &str, expected: impl Display) -> Problem {
    let problem = Problem::new(node.span, format!("`{what}` must be {expected}, found {}", node.describe()))
        .label(format!("expected {expected}"));
    match &node.kind {
        Kind::Scalar(s) if s.quoted && Scalar { quoted: false, ..s.clone() }.number().is_some() => {
            problem.help("remove the quotes: in quotes it is text, not a number")
        }
        Kind::List(_) => problem.help("one value belongs here; to try several, vary it in `grid`"),
        _ => problem.help(format!("write {expected} here")),
    }
}

/// A map where one name with its fields is expected: mostly, the fields stand beside the name.
pub(super) fn several_keys<S: AsRef<str>>(node: &Node, map: &Map, what: &str, names: &[S]) -> Problem {
    let keys: Vec<&String> = map.keys().collect();
    let known = names.iter().map(AsRef::as_ref).find(|name| map.contains_key(*name));
    let name = known.or(names.first().map(AsRef::as_ref)).unwrap_or("name");
    Problem::new(node.span, format!("`{what}` must be one name with its fields below it"))
        .label(format!("found the keys {}", join(&keys)))
        .help(format!("put the fields below the name: `{{{name}: {{field: value}}}}`"))
}

/// An unknown word among `allowed`, as a problem that still needs its place.
pub(super) fn unknown<S: AsRef<str>>(sort: &str, word: &str, allowed: &[S]) -> Problem {
    Problem::unplaced(format!("unknown {sort} `{word}`"))
        .label(format!("unknown {sort}"))
        .help(did_you_mean(word, allowed))
}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Problem {
        Problem::unplaced(message)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Problem {
        let problem = unknown("field", field, expected);
        if expected.is_empty() { problem.help("it takes no fields: remove this one") } else { problem }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Problem {
        unknown("name", variant, expected)
    }

    fn missing_field(field: &'static str) -> Problem {
        Problem::unplaced(format!("the field `{field}` is missing"))
            .label(format!("has no `{field}`"))
            .help(format!("add `{field}: ...` to its fields"))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Problem {
        Problem::unplaced(format!("expected {expected}, found {len} values")).label(format!("{len} values"))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Problem {
        Problem::unplaced(format!("expected {expected}, found {unexpected}")).label(format!("expected {expected}"))
    }
}

/// A node being decoded, and the key it stands under, for messages.
#[derive(Clone, Copy)]
struct Place<'n> {
    node: &'n Node,
    what: &'n str,
}

impl Place<'_> {
    fn mismatch(&self, expected: impl Display) -> Problem {
        mismatch(self.node, self.what, expected)
    }

    /// The whole number that stands here, if it lies in `0..=max`.
    fn unsigned(&self, max: u64) -> Result<u64, Problem> {
        let number = match &self.node.kind {
            Kind::Scalar(scalar) => scalar.integer(),
            _ => None,
        };
        let fitting = number.and_then(|n| u64::try_from(n).ok()).filter(|&n| n <= max);
        fitting.ok_or_else(|| match number {
            Some(n) if n > i128::from(max) => self.mismatch(format!("a whole number up to {max}")),
            _ => self.mismatch("a whole number, 0 or larger"),
        })
    }

    fn float(&self) -> Result<f64, Problem> {
        let number = match &self.node.kind {
            Kind::Scalar(scalar) => scalar.number(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(number),
            Some(_) => Err(self.mismatch("a finite number")),
            None => Err(self.mismatch("a number such as `0.1`, `5e-4` or `8/255`")),
        }
    }
}

impl<'de> Deserializer<'de> for Place<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar(_) if self.node.is_null() => visitor.visit_unit(),
            Kind::Scalar(scalar) => match (scalar.boolean(), scalar.number()) {
                (Some(value), _) => visitor.visit_bool(value),
                (_, Some(value)) => visitor.visit_f64(value),
                _ => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let value = match &self.node.kind {
            Kind::Scalar(scalar) => scalar.boolean(),
            _ => None,
        };
        visitor.visit_bool(value.ok_or_else(|| self.mismatch("`true` or `false`"))?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.unsigned(u32::MAX.into())?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.unsigned(u64::MAX)?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_str(self.node.text().ok_or_else(|| self.mismatch("text"))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let items = self.node.list().ok_or_else(|| self.mismatch("a list"))?;
        visitor.visit_seq(Items { items: items.iter(), what: self.what })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Problem> {
        let expected = format!("a list of {len} values");
        let items = self.node.list().ok_or_else(|| self.mismatch(&expected))?;
        if items.len() != len {
            let message = format!("`{}` must be {expected}, found {}", self.what, items.len());
            return Err(Problem::new(self.node.span, message).label(format!("{} values", items.len())));
        }
        visitor.visit_seq(Items { items: items.iter(), what: self.what })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let map = self.node.map().ok_or_else(|| self.mismatch("a map"))?;
        visitor.visit_map(Entries { entries: map.iter(), value: None }).map_err(|problem| problem.at(self.node.span))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let choice = match &self.node.kind {
            Kind::Map(map) if map.len() == 1 => {
                let (name, entry) = map.get_index(0).ok_or_else(|| self.mismatch("a name"))?;
                Choice { name, at: entry.key, content: Some(&entry.node) }
            }
            Kind::Map(map) if map.len() > 1 => return Err(several_keys(self.node, map, self.what, variants)),
            _ => match self.node.text() {
                Some(name) => Choice { name, at: self.node.span, content: None },
                None => return Err(self.mismatch(format!("one of {}", join(variants)))),
            },
        };
        if !variants.contains(&choice.name) {
            return Err(unknown(self.what, choice.name, variants).at(choice.at));
        }
        visitor.visit_enum(choice)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct
        tuple_struct identifier ignored_any
    }
}

struct Items<'n> {
    items: std::slice::Iter<'n, Rc<Node>>,
    what: &'n str,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Place { node, what: self.what }).map(Some).map_err(|problem| problem.at(node.span))
    }
}

struct Entries<'n> {
    entries: indexmap::map::Iter<'n, String, Entry>,
    value: Option<(&'n str, &'n Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, entry)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, &entry.node));
        let name: de::value::StrDeserializer<'_, Problem> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|problem| problem.at(entry.key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (what, node) =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(Place { node, what }).map_err(|problem| problem.at(node.span))
    }
}

/// `name` or `{name: {field: value}}`.
struct Choice<'n> {
    name: &'n str,
    at: super::error::Span,
    content: Option<&'n Node>,
}

impl<'de, 'n> EnumAccess<'de> for Choice<'n> {
    type Error = Problem;
    type Variant = Choice<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Choice<'n>), Problem> {
        let name: de::value::StrDeserializer<'_, Problem> = self.name.into_deserializer();
        let value = seed.deserialize(name).map_err(|problem| problem.at(self.at))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.content {
            Some(node) if !node.is_null() => {
                Err(Problem::new(node.span, format!("`{}` takes no fields", self.name)).help("remove them"))
            }
            _ => Ok(()),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Problem> {
        let nothing = Map::new();
        let entries = match self.content {
            Some(node) if !node.is_null() => node.map().ok_or_else(|| {
                mismatch(node, self.name, "a map of fields").help(match fields.first() {
                    Some(field) => {
                        format!("for example `{{{}: {{{field}: ...}}}}`; its fields are {}", self.name, join(fields))
                    }
                    None => format!("`{}` takes no fields", self.name),
                })
            })?,
            _ => &nothing,
        };
        visitor.visit_map(Entries { entries: entries.iter(), value: None }).map_err(|problem| problem.at(self.at))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        let nothing = Node::plain(self.at, "");
        let node = self.content.unwrap_or(&nothing);
        seed.deserialize(Place { node, what: self.name }).map_err(|problem| problem.at(node.span))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Problem> {
        let nothing = Node::plain(self.at, "");
        let node = self.content.unwrap_or(&nothing);
        Place { node, what: self.name }.deserialize_tuple(len, visitor)
    }
}
