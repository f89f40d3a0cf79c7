//! What stands on stdout: tables for people, JSON for scripts.

use crate::proto::SweepStatus;
use std::io::Write;
use std::path::Path;

/// Prints a line of data. A closed pipe (`| head`) is no error.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints JSON, indented.
pub fn json(value: &impl serde::Serialize) {
    line(serde_json::to_string_pretty(value).expect("our own values are valid JSON"));
}

/// Prints rows under a header, columns aligned; numbers to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| rows.iter().all(|row| row[column].starts_with(|c: char| c.is_ascii_digit())))
        .collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(&widths)
            .zip(&numeric)
            .map(|((cell, &width), &right)| if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") })
            .collect();
        line(cells.join("  ").trim_end());
    };
    print(&mut header.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// `1 slot`, `2 slots`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `1h 02m`, `3m 20s`, `45s`, `0.4s`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1}s"),
        s if s < 60.0 => format!("{s:.0}s"),
        s if s < 3600.0 => format!("{:.0}m {:02.0}s", (s / 60.0).floor(), s % 60.0),
        s if s < 86_400.0 => format!("{:.0}h {:02.0}m", (s / 3600.0).floor(), (s % 3600.0) / 60.0),
        s => format!("{:.0}d {:02.0}h", (s / 86_400.0).floor(), (s % 86_400.0) / 3600.0),
    }
}

/// One sweep's status as JSON, with the names of client.proto.
pub fn status_json(status: &SweepStatus) -> serde_json::Value {
    let counts = |counts: &Option<crate::proto::Counts>| {
        let counts = counts.unwrap_or_default();
        serde_json::json!({"total": counts.total, "done": counts.done, "running": counts.running, "failed": counts.failed})
    };
    serde_json::json!({
        "sweep": status.sweep,
        "state": status.state,
        "trials": status.trials,
        "train": counts(&status.train),
        "evaluate": counts(&status.evaluate),
        "remaining_seconds": (status.remaining_seconds >= 0.0).then_some(status.remaining_seconds),
        "progress": status.progress,
        "priority": status.priority,
        "paused": (!status.paused.is_empty()).then_some(&status.paused),
        "set_aside": status.set_aside,
        "workers": status.workers,
        "slots": status.slots,
        "failures": status.failures,
        "report": (!status.report.is_empty()).then_some(&status.report),
        "waits": (!status.waits.is_empty()).then_some(&status.waits),
    })
}

/// One line for a sweep: `train 3/24, evaluate 10/96, 2 slots, about 1m 20s left`.
pub fn status_line(status: &SweepStatus) -> String {
    let counts = |name: &str, counts: &Option<crate::proto::Counts>| {
        let counts = counts.unwrap_or_default();
        let failed = if counts.failed > 0 { format!(" ({} failed)", counts.failed) } else { String::new() };
        format!("{name} {}/{}{failed}", counts.done, counts.total)
    };
    let left = match status.remaining_seconds {
        s if status.state != "running" || s < 0.0 => String::new(),
        s => format!(", about {} left", duration(s)),
    };
    let slots = match status.slots {
        _ if status.state != "running" => String::new(),
        0 => ", no worker yet".to_string(),
        slots => format!(", {}", count(slots.into(), "slot")),
    };
    let (train, evaluate) = (counts("train", &status.train), counts("evaluate", &status.evaluate));
    match status.waits.as_str() {
        waits if !waits.is_empty() && status.state == "running" => format!("{train}, {evaluate}; waits: {waits}"),
        _ if status.state == "paused" => format!("{train}, {evaluate}; paused {}", status.paused),
        _ => format!("{train}, {evaluate}{slots}{left}"),
    }
}

/// ` --name 'path'`, or nothing: for commands that a person may paste.
pub fn option(name: &str, path: Option<&Path>) -> String {
    path.map(|path| format!(" {name} {}", quoted(path))).unwrap_or_default()
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_clocks() {
        let shown = [0.44, 12.0, 200.0, 3720.0, 180_000.0].map(duration);
        assert_eq!(shown, ["0.4s", "12s", "3m 20s", "1h 02m", "2d 02h"]);
    }

    #[test]
    fn a_command_can_be_pasted_whatever_the_folder_is_called() {
        for (path, shown) in [
            ("runs/digits-1.yaml", "runs/digits-1.yaml"),
            ("my sweep.yaml", "'my sweep.yaml'"),
            ("it's; rm -rf $HOME", r"'it'\''s; rm -rf $HOME'"),
            ("~/x", "'~/x'"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
        assert_eq!(option("--out", Some(Path::new("a b"))), " --out 'a b'");
        assert_eq!(option("--out", None), "");
    }
}
