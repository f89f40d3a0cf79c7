//! What a person reads when a file is wrong: what is wrong, where, and what to write instead.
//!
//! Every mistake is a [`Problem`] with a place in the file. Reading goes on after a mistake where
//! the rest can be judged on its own, so one run shows several; [`SpecError`] carries them together
//! with the text they point into, and miette draws the snippets.

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;

/// More mistakes than this are counted, not shown: the first few usually explain the rest.
const SHOWN: usize = 12;

/// Bytes `start..end` of the YAML text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// One mistake (or, among warnings, one oddity) with its place and its remedy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem(
    // Boxed because nearly every function of this room may return one.
    Box<Parts>,
);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Parts {
    message: String,
    /// The place and what stands beside the caret. Unset only while serde carries the problem up.
    place: Option<Span>,
    label: String,
    others: Vec<(Span, String)>,
    help: Option<String>,
    is_warning: bool,
}

impl Problem {
    pub(super) fn new(span: Span, message: impl Display) -> Problem {
        Problem::unplaced(message).at(span)
    }

    pub(super) fn unplaced(message: impl Display) -> Problem {
        Problem(Box::new(Parts {
            message: message.to_string(),
            place: None,
            label: "here".to_string(),
            others: Vec::new(),
            help: None,
            is_warning: false,
        }))
    }

    /// Sets the place unless one is known already: the innermost knows best.
    pub(super) fn at(mut self, span: Span) -> Problem {
        self.0.place.get_or_insert(span);
        self
    }

    /// What stands beside the caret.
    pub(super) fn label(mut self, text: impl Display) -> Problem {
        self.0.label = text.to_string();
        self
    }

    /// A second place that matters.
    pub(super) fn also(mut self, span: Span, text: impl Display) -> Problem {
        self.0.others.push((span, text.to_string()));
        self
    }

    /// What to write instead.
    pub(super) fn help(mut self, text: impl Display) -> Problem {
        self.0.help = Some(text.to_string());
        self
    }

    pub(super) fn warning(mut self) -> Problem {
        self.0.is_warning = true;
        self
    }

    /// The place of the mistake in the text.
    pub fn span(&self) -> Span {
        self.0.place.unwrap_or_default()
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(if self.0.is_warning { Severity::Warning } else { Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span();
        let primary = LabeledSpan::new_primary_with_span(Some(self.0.label.clone()), span.start..span.end);
        let others =
            self.0.others.iter().map(|(s, text)| LabeledSpan::new_with_span(Some(text.clone()), s.start..s.end));
        Some(Box::new(std::iter::once(primary).chain(others)))
    }
}

/// Collects problems in the order of discovery, each once: one bad value of an axis may come up at
/// a thousand points.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    seen: HashSet<Problem>,
}

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        if self.seen.insert(problem.clone()) {
            self.list.push(problem);
        }
    }

    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    /// The value, or `None` with the problem noted.
    pub fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.push(problem)).ok()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn into_list(self) -> Vec<Problem> {
        self.list
    }
}

/// Why a sweep's file was not accepted.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum SpecError {
    /// The file could not be read at all.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check the path; `epsweep plan FILE` takes a sweep written in YAML"))]
    Read { path: PathBuf, source: std::io::Error },
    /// The file was read and is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(Box<Invalid>),
}

impl SpecError {
    pub(super) fn invalid(name: &str, text: &str, mut problems: Vec<Problem>) -> SpecError {
        problems.sort_by_key(|problem| problem.span().start);
        SpecError::Invalid(Box::new(Invalid { source: source(name, text), problems }))
    }

    /// The mistakes, in the order of the file; empty when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            SpecError::Read { .. } => &[],
            SpecError::Invalid(invalid) => &invalid.problems,
        }
    }
}

/// A file's mistakes with its text. A single mistake is shown as it is, several below a headline.
#[derive(Debug)]
pub struct Invalid {
    source: NamedSource<Arc<str>>,
    problems: Vec<Problem>,
}

impl Invalid {
    fn only(&self) -> Option<&Problem> {
        match &self.problems[..] {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(problem) => problem.fmt(f),
            None => write!(f, "{} mistakes in {}", self.problems.len(), self.source.name()),
        }
    }
}

impl std::error::Error for Invalid {}

impl Diagnostic for Invalid {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        match self.only() {
            Some(problem) => problem.help(),
            None if self.problems.len() > SHOWN => Some(Box::new(format!("the first {SHOWN} are shown"))),
            None => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only().and_then(Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.only() {
            Some(_) => None,
            None => Some(Box::new(self.problems.iter().take(SHOWN).map(|problem| problem as &dyn Diagnostic))),
        }
    }
}

/// Something in a valid file that is probably not meant, e.g. an `exclude` that excludes nothing.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Warning {
    code: NamedSource<Arc<str>>,
    problem: Problem,
}

impl Warning {
    pub(super) fn all(name: &str, text: &str, problems: Problems) -> Vec<Warning> {
        let code = source(name, text);
        let with_code = |problem: Problem| Warning { code: code.clone(), problem: problem.warning() };
        problems.into_list().into_iter().map(with_code).collect()
    }
}

impl Diagnostic for Warning {
    fn severity(&self) -> Option<Severity> {
        self.problem.severity()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.code)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Diagnostic::help(&self.problem)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problem.labels()
    }
}

fn source(name: &str, text: &str) -> NamedSource<Arc<str>> {
    NamedSource::new(name, Arc::from(text)).with_language("YAML")
}

/// The remedy for an unknown word: the one that was probably meant, else all that are allowed.
pub(super) fn did_you_mean<S: AsRef<str>>(word: &str, allowed: &[S]) -> String {
    match nearest(word, allowed) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("allowed here: {}", join(allowed)),
    }
}

/// "`a`, `b` and `c`".
pub(super) fn join<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match &quoted[..] {
        [] => "nothing".to_string(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The allowed word within a typing error or two of `word`, or that `word` abbreviates.
pub(super) fn nearest<'a, S: AsRef<str>>(word: &str, allowed: &'a [S]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    let tolerance = if wanted.chars().count() <= 3 { 1 } else { 2 };
    let typed = |candidate: &&str| strsim::damerau_levenshtein(&wanted, &plain(candidate));
    let words = || allowed.iter().map(AsRef::as_ref);
    let abbreviated = || words().find(|candidate| wanted.len() >= 2 && plain(candidate).starts_with(&wanted));
    words().filter(|candidate| typed(candidate) <= tolerance).min_by_key(typed).or_else(abbreviated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_abbreviations_are_recognised_and_others_are_not() {
        let allowed = ["epsilons", "batch_size", "attacks", "norm"];
        assert_eq!(nearest("epsilon", &allowed), Some("epsilons"));
        assert_eq!(nearest("batchsize", &allowed), Some("batch_size"));
        assert_eq!(nearest("batch-size", &allowed), Some("batch_size"));
        assert_eq!(nearest("eps", &allowed), Some("epsilons"));
        assert_eq!(nearest("colour", &allowed), None);
        assert_eq!(did_you_mean("colour", &allowed[..2]), "allowed here: `epsilons` and `batch_size`");
    }

    #[test]
    fn a_problem_is_kept_once() {
        let mut problems = Problems::default();
        for _ in 0..3 {
            problems.push(Problem::new(Span { start: 1, end: 2 }, "wrong"));
        }
        assert_eq!(problems.into_list().len(), 1);
    }
}
