//! Logs, metrics and traces. Of logs: one event per state change, as text for people and as JSON lines for machines.
//!
//! Fields, where they apply: `sweep, trial, task, attempt, worker, kind, seconds`. `RUST_LOG`
//! filters what is shown on stderr as everywhere; the file always gets everything from `info` up.

pub mod metrics;
pub mod traces;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// So many lines, at most so many bytes, are kept for [`tail`].
const TAIL_LINES: usize = 40;
const TAIL_BYTES: usize = 16 * 1024;

/// The last lines of the log, oldest first; `None` while nobody wants them.
static TAIL: Mutex<Option<VecDeque<String>>> = Mutex::new(None);

/// From the next [`init`] on, the last lines of the log are kept in memory: a worker sends them along with a failure.
pub fn keep_tail() {
    *lock_tail() = Some(VecDeque::new());
}

/// The last lines of the log, if they are kept.
pub fn tail() -> String {
    let mut lines: Vec<String> = lock_tail().iter().flatten().cloned().collect();
    while lines.iter().map(String::len).sum::<usize>() > TAIL_BYTES && lines.len() > 1 {
        lines.remove(0);
    }
    lines.concat()
}

fn lock_tail() -> MutexGuard<'static, Option<VecDeque<String>>> {
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes whole lines, as the formatter writes them.
#[derive(Clone, Copy)]
struct Tail;

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(lines) = lock_tail().as_mut() {
            if lines.len() == TAIL_LINES {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(bytes).chars().take(TAIL_BYTES).collect());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What stderr shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A terminal that can make room for a log line, such as a progress bar that steps aside.
pub type Aside = fn(&mut dyn FnMut());

static ASIDE: OnceLock<Aside> = OnceLock::new();

/// Lets log lines pass a progress display unharmed.
pub fn set_aside(aside: Aside) {
    let _ = ASIDE.set(aside);
}

/// Starts logging: to stderr from `default_level` up (or as `RUST_LOG` says), and to `file` from `info` up.
///
/// # Errors
/// When the log file cannot be opened.
pub fn init(format: LogFormat, default_level: &str, file: Option<&Path>) -> Result<(), LogFileError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    layers.push(match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(Stderr)
            .with_ansi(colours)
            .with_target(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => json(Stderr).with_filter(filter).boxed(),
    });
    if let Some(path) = file {
        let open = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            OpenOptions::new().create(true).append(true).open(path)
        };
        let opened = Arc::new(open().map_err(|source| LogFileError { path: path.into(), source })?);
        let opened = FILE.get_or_init(|| opened).clone();
        layers.push(json(Lines(opened)).with_filter(LevelFilter::INFO).boxed());
    }
    if lock_tail().is_some() {
        let text = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(|| Tail);
        layers.push(text.with_filter(LevelFilter::INFO).boxed());
    }
    // A second initialisation (tests within one process) keeps the first.
    let _ = Registry::default().with(layers).try_init();
    Ok(())
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot write the log file {path}", path = .path.display())]
#[diagnostic(help("check the directory's permissions and that the disk is not full"))]
pub struct LogFileError {
    path: PathBuf,
    source: std::io::Error,
}

fn json<W>(writer: W) -> impl Layer<Registry> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(writer)
}

/// Writes whole lines, with the progress display out of the way.
#[derive(Clone, Copy)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match ASIDE.get() {
            Some(aside) => {
                let mut result = Ok(());
                aside(&mut || result = std::io::stderr().write_all(bytes));
                result?;
            }
            None => std::io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr
    }
}

thread_local! {
    /// Lines for the log file that wait for the end of [`in_bulk`]; `None` outside of it.
    static GATHERED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// So many bytes of lines wait at most.
const BULK: usize = 1 << 20;

/// Does `work`, whose lines for the log file are written together when it is done: thousands of them may belong to one
/// transaction, and a system call for each would cost more than the line.
pub fn in_bulk<T>(work: impl FnOnce() -> T) -> T {
    GATHERED.set(Some(Vec::new()));
    let result = work();
    if let (Some(lines), Some(file)) = (GATHERED.take(), FILE.get()) {
        let _ = (&**file).write_all(&lines); // a log that cannot be written stops nothing
    }
    result
}

/// The log file, once there is one.
static FILE: OnceLock<Arc<File>> = OnceLock::new();

/// Writes whole lines to the log file.
#[derive(Clone)]
struct Lines(Arc<File>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(lines) => {
                lines.extend_from_slice(bytes);
                if lines.len() >= BULK {
                    (&*self.0).write_all(lines)?;
                    lines.clear();
                }
                Ok(bytes.len())
            }
            None => (&*self.0).write(bytes),
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// The log file of a process in a state directory.
pub fn log_file(dir: &Path, process: &str) -> PathBuf {
    dir.join("logs").join(format!("{process}.jsonl"))
}
