//! Progress with an estimate: a bar on a terminal, a line now and then elsewhere.

use super::printer;
use crate::program::note;
use crate::proto::SweepStatus;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// The bar that log lines must step aside for; there is at most one.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Shows how far a sweep is, on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
    last_line: String,
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {percent:>3}%  {msg}")
                .expect("a valid template")
                .progress_chars("━╸─");
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr()).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        if let Some(bar) = &bar {
            let _ = BAR.set(bar.clone());
            crate::telemetry::set_aside(|write| match BAR.get() {
                Some(bar) => bar.suspend(write),
                None => write(),
            });
        }
        Progress { bar, last: None, last_line: String::new(), quiet }
    }

    /// Shows a new status. `note` stands in front, for what is no longer ordinary progress.
    pub fn show(&mut self, status: &SweepStatus) {
        let line = printer::status_line(status);
        if let Some(bar) = &self.bar {
            bar.set_position((status.progress.clamp(0.0, 1.0) * 1000.0) as u64);
            bar.set_message(line);
            return;
        }
        let due = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        let started = status.slots > 0 || status.state != "running";
        if !self.quiet && due && started && line != self.last_line {
            note(format_args!("{:3.0}%  {line}", status.progress * 100.0));
            self.last = Some(Instant::now());
            self.last_line = line;
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
