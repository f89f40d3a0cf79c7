//! YAML text as a tree of nodes that know their place. The only module that knows the YAML parser.
//!
//! The tree is built from parser events, not by deserialising: the decoder needs the place of every
//! key and value, the spelling of numbers (`8/255`, `5e-4`), and nodes that it can recombine when a
//! grid is expanded. Anchors and aliases share nodes; merge keys (`<<`) are resolved here.

use super::error::{Problem, Span};
use indexmap::IndexMap;
use serde_yaml::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span as EventSpan, Tag};
use std::collections::HashMap;
use std::rc::Rc;

/// Nodes that a file may have once its aliases are followed. Far above any real sweep, far below
/// what a "billion laughs" file asks for.
const MAX_NODES: u64 = 5_000_000;

/// Levels of nesting once aliases are followed. The tree is walked by recursion, and a chain of
/// aliases could otherwise make it as deep as the file is long.
const MAX_DEPTH: u32 = 200;

/// A value of the file, or one that a generator made, which then has the generator's place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// For a block that goes over several lines: its first line.
    pub span: Span,
    pub kind: Kind,
    /// Nodes in this tree, aliases counted as often as they occur.
    size: u64,
    /// Levels of nesting from here down.
    depth: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Map),
}

/// A map in the order of the file; its keys are distinct.
pub(super) type Map = IndexMap<String, Entry>;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The place of the key.
    pub key: Span,
    pub node: Rc<Node>,
}

/// A word, number or string as it is spelled in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub text: String,
    /// In quotes, or a block of text: never a number, never empty in the sense of "no value".
    pub quoted: bool,
}

impl Node {
    pub fn new(span: Span, kind: Kind) -> Rc<Node> {
        let add = |(size, depth): (u64, u32), node: &Rc<Node>| (size.saturating_add(node.size), depth.max(node.depth));
        let (size, depth) = match &kind {
            Kind::Scalar(_) => (0, 0),
            Kind::List(items) => items.iter().fold((0, 0), add),
            Kind::Map(map) => map.values().map(|entry| &entry.node).fold((0, 0), add),
        };
        Rc::new(Node { span, kind, size: size.saturating_add(1), depth: depth + 1 })
    }

    /// An unquoted scalar that is not written in the file, e.g. a default.
    pub fn plain(span: Span, text: impl Into<String>) -> Rc<Node> {
        Node::new(span, Kind::Scalar(Scalar { text: text.into(), quoted: false }))
    }

    /// Whether nothing is written: `key:`, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(s) if !s.quoted && matches!(&*s.text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) if !self.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    pub fn map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Rc<Node>]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// For "found ..." in messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".to_string(),
            Kind::Scalar(scalar) if scalar.quoted => format!("the text `{:?}`", shorten(&scalar.text)),
            Kind::Scalar(scalar) => format!("`{}`", shorten(&scalar.text)),
            Kind::List(_) => "a list".to_string(),
            Kind::Map(_) => "a map".to_string(),
        }
    }
}

/// Keeps a message readable when a whole paragraph stands where a word should.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// Parses one YAML document.
pub(super) fn parse(text: &str) -> Result<Rc<Node>, Problem> {
    let options = serde_yaml::granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { text, events, anchors: HashMap::new() };
    loop {
        match builder.next()? {
            (Event::StreamStart, _) => {}
            (Event::DocumentStart(..), _) => break,
            _ => return Err(empty_file()),
        }
    }
    let root = builder.node()?;
    builder.nothing_follows()?;
    if root.is_null() { Err(empty_file()) } else { Ok(root) }
}

fn empty_file() -> Problem {
    Problem::new(Span::default(), "the file is empty")
        .label("nothing here")
        .help("a sweep has at least `dataset`, `trial` and `evaluate`; examples/digits.yaml is one to start from")
}

struct Builder<'t, E> {
    text: &'t str,
    events: E,
    anchors: HashMap<usize, Rc<Node>>,
}

impl<'t, E> Builder<'t, E>
where
    E: Iterator<Item = Result<(Event<'t>, EventSpan), ScanError>>,
{
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, self.span(span))),
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok((Event::StreamEnd, Span { start: self.text.len(), end: self.text.len() })),
        }
    }

    fn node(&mut self) -> Result<Rc<Node>, Problem> {
        let (event, span) = self.next()?;
        self.node_from(event, span)
    }

    fn node_from(&mut self, event: Event<'t>, span: Span) -> Result<Rc<Node>, Problem> {
        let (kind, anchor, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = check_tag(tag.as_deref(), span)?;
                let quoted = text_tag || style != ScalarStyle::Plain;
                (Kind::Scalar(Scalar { text: text.into_owned(), quoted }), anchor, span.end)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), span)?;
                let (items, end) = self.list()?;
                (Kind::List(items), anchor, end)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), span)?;
                let (map, end) = self.map()?;
                (Kind::Map(map), anchor, end)
            }
            Event::Alias(id) => return self.alias(id, span),
            _ => return Err(Problem::new(span, "this is not valid YAML").label("a value was expected here")),
        };
        let node = Node::new(self.first_line(span.start, end), kind);
        if node.size > MAX_NODES {
            return Err(Problem::new(span, format!("aliases make this value larger than {MAX_NODES} nodes"))
                .help("use fewer aliases of lists inside lists"));
        }
        if node.depth > MAX_DEPTH {
            return Err(Problem::new(node.span, format!("this value is nested more than {MAX_DEPTH} levels deep"))
                .help("a sweep needs fewer than ten"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The items of a list, and where it ends.
    fn list(&mut self) -> Result<(Vec<Rc<Node>>, usize), Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, span.end)),
                (event, span) => items.push(self.node_from(event, span)?),
            }
        }
    }

    /// The entries of a map, and where it ends.
    fn map(&mut self) -> Result<(Map, usize), Problem> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, key_span) = match self.next()? {
                (Event::MappingEnd, span) => {
                    merge(&mut map, merged)?;
                    return Ok((map, span.end));
                }
                other => other,
            };
            let plain = matches!(&event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.node_from(event, key_span)?;
            let mut node = self.node()?;
            let Kind::Scalar(Scalar { text, .. }) = &key.kind else {
                return Err(Problem::new(key.span, "a key must be a word").label("this key is a list or a map"));
            };
            if node.is_null() && node.span.start == node.span.end {
                // `key:` with nothing behind it has no place of its own to point at.
                node = Node::new(key.span, node.kind.clone());
            }
            if plain && text == "<<" {
                merged.push((key.span, node));
            } else if let Some(first) = map.get(text) {
                return Err(Problem::new(key.span, format!("the key `{text}` occurs twice in this map"))
                    .label("second")
                    .also(first.key, "first")
                    .help("keep one of them; the settings of two blocks of that name belong into one"));
            } else {
                map.insert(text.clone(), Entry { key: key.span, node });
            }
        }
    }

    fn alias(&self, id: usize, span: Span) -> Result<Rc<Node>, Problem> {
        self.anchors.get(&id).cloned().ok_or_else(|| {
            Problem::new(span, "an anchor cannot contain itself").label("this alias stands inside its own anchor")
        })
    }

    fn nothing_follows(&mut self) -> Result<(), Problem> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(..), span) => {
                    return Err(Problem::new(span, "a file holds one sweep, this one has a second document")
                        .label("the second document starts here")
                        .help("write the second sweep into a file of its own"));
                }
                _ => {}
            }
        }
    }

    fn span(&self, span: EventSpan) -> Span {
        let clamp = |offset: Option<usize>| offset.unwrap_or(0).min(self.text.len());
        let start = clamp(span.start.byte_offset());
        Span { start, end: clamp(span.end.byte_offset()).max(start) }
    }

    /// The part of `start..end` on its first line: a caret below ten lines helps nobody.
    fn first_line(&self, start: usize, end: usize) -> Span {
        let covered = self.text.get(start..end.max(start)).unwrap_or("");
        let line = covered.lines().next().unwrap_or("").trim_end();
        Span { start, end: start + line.len() }
    }

    fn syntax_error(&self, error: &ScanError) -> Problem {
        let start = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let indentation = &line[..line.len() - line.trim_start().len()];
        if matches!(error.kind(), ErrorKind::UnknownAnchor) {
            let alias = line[start - line_start..].split([' ', ',', ']', '}']).next().unwrap_or("");
            return Problem::new(
                Span { start, end: start + alias.len() },
                format!("nothing is called `{}`", alias.trim_start_matches('*')),
            )
            .label("an alias without its anchor")
            .help("put `&name` before the value that is meant, further up in the file");
        }
        let problem = match indentation.find('\t') {
            Some(tab) => {
                let tab = line_start + tab;
                return Problem::new(Span { start: tab, end: tab + 1 }, "a tab in the indentation")
                    .label("this is a tab")
                    .help("YAML indents with spaces only; most editors can replace tabs by spaces");
            }
            None => {
                let width = self.text[start..].chars().next().map_or(0, char::len_utf8);
                Problem::new(Span { start, end: start + width }, format!("this is not valid YAML: {}", error.info()))
            }
        };
        problem
            .label("the parser stopped here")
            .help("look for a missing `:`, quote or bracket, or a wrong indentation, here or on the line before")
    }
}

/// Adds the entries of `<<` maps: written keys win over merged ones, earlier merges over later ones.
fn merge(map: &mut Map, merged: Vec<(Span, Rc<Node>)>) -> Result<(), Problem> {
    for (span, node) in merged {
        let sources = match &node.kind {
            Kind::List(items) => items.clone(),
            _ => vec![node],
        };
        for source in sources {
            let entries = source.map().ok_or_else(|| {
                Problem::new(span, format!("`<<` merges maps, found {}", source.describe()))
                    .help("write `<<: *anchor`, where `&anchor` stands before a map")
            })?;
            for (key, entry) in entries {
                map.entry(key.clone()).or_insert_with(|| entry.clone());
            }
        }
    }
    Ok(())
}

/// Whether the tag asks for text. Tags beyond YAML's own are refused: silently ignoring `!include`
/// would run another sweep than the one that was meant.
fn check_tag(tag: Option<&Tag>, span: Span) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.handle() == "tag:yaml.org,2002:" => Ok(tag.suffix() == "str"),
        Some(tag) => {
            Err(Problem::new(span, format!("tags such as `{}{}` have no meaning here", tag.handle(), tag.suffix()))
                .label("this value carries the tag")
                .help("remove the tag"))
        }
    }
}

impl Scalar {
    /// The number this is, possibly infinite or NaN; `None` for anything else. Fractions count.
    pub fn number(&self) -> Option<f64> {
        if self.quoted {
            return None;
        }
        let text = self.text.trim();
        match text.split_once('/') {
            Some((above, below)) => Some(decimal(above.trim())? / decimal(below.trim())?),
            None => decimal(text),
        }
    }

    /// The whole number this is: `128`, `0x80`, `1e3`, `256/2`.
    pub fn integer(&self) -> Option<i128> {
        if self.quoted {
            return None;
        }
        let radix =
            |prefix, radix| self.text.strip_prefix(prefix).map(|digits| i128::from_str_radix(digits, radix).ok());
        if let Some(parsed) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return parsed;
        }
        self.text.parse().ok().or_else(|| {
            // Above 2^53 a float no longer names one whole number.
            let number = self.number().filter(|n| n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0)?;
            Some(number as i128)
        })
    }

    pub fn boolean(&self) -> Option<bool> {
        match &*self.text {
            "true" | "True" | "TRUE" if !self.quoted => Some(true),
            "false" | "False" | "FALSE" if !self.quoted => Some(false),
            _ => None,
        }
    }
}

/// Rust's own parser would also take `nan`, `inf` and `infinity`, which YAML spells `.nan`, `.inf`.
fn decimal(text: &str) -> Option<f64> {
    match text.trim_start_matches(['-', '+']) {
        ".inf" | ".Inf" | ".INF" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        _ if text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) => text.parse().ok(),
        _ => None,
    }
}
