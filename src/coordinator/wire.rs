//! What peers send, checked before it goes any further. Every limit has a name and stands here or in
//! `transport::limits`; docs/security.md lists them. What only the question can tell stands in `answer`.

use super::worker_service::lease;
use crate::engine::Lease;
use crate::proto::{AcquireRequest, CommitRequest, LeaseRef, RegisterRequest, SubmitRequest};
use crate::transport::{Caller, is_name};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Extensions, Status};

/// Of one worker.
pub const MOST_SLOTS: u32 = 16_384;
/// Leases that one worker can name in a call.
const MOST_LEASES: usize = 8 * MOST_SLOTS as usize;
/// Of a host, a device, a version: what people read.
const LONGEST_WORD: usize = 255;
/// Of a failure's message; the rest is cut off.
const LONGEST_MESSAGE: usize = 2000;
/// Characters of a worker's log that are kept beside a failure.
const LONGEST_LOG: usize = 16 * 1024;
/// What a task may claim to have taken: a year.
pub const LONGEST_TASK: f64 = 366.0 * 86_400.0;
/// Counts beyond this are not exact in every program that reads them, and sums of them overflow.
pub const LARGEST_COUNT: u64 = 1 << 53;
/// Of a sweep file, in bytes.
const LONGEST_FILE: usize = 4 << 20;
/// Of a path, as on Linux.
const LONGEST_PATH: usize = 4096;
/// Names of workers that are remembered with their owners.
const NAMES: usize = 100_000;

fn invalid(text: impl Into<String>) -> Status {
    Status::invalid_argument(text)
}

/// Words that stand in logs, tables and terminals.
#[allow(clippy::result_large_err)] // tonic's own error type, here and below
fn word(field: &str, text: &str, longest: usize) -> Result<(), Status> {
    if text.len() > longest {
        return Err(invalid(format!("{field} has {} bytes, at most {longest} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("{field} holds control characters")));
    }
    Ok(())
}

/// A worker's introduction; returns the leases it names.
#[allow(clippy::result_large_err)]
pub fn introduction(request: &RegisterRequest) -> Result<Vec<Lease>, Status> {
    if request.slots == 0 || request.slots > MOST_SLOTS {
        return Err(invalid(format!("a worker has 1 to {MOST_SLOTS} slots, not {}", request.slots)));
    }
    let words = [
        ("host", &request.host),
        ("device", &request.device),
        ("version", &request.version),
        ("libtorch", &request.libtorch),
    ];
    words.into_iter().try_for_each(|(field, text)| word(field, text, LONGEST_WORD))?;
    leases(&request.running)
}

#[allow(clippy::result_large_err)]
pub fn leases(sent: &[LeaseRef]) -> Result<Vec<Lease>, Status> {
    if sent.len() > MOST_LEASES {
        return Err(invalid(format!("{} leases in one call, at most {MOST_LEASES} are allowed", sent.len())));
    }
    sent.iter().cloned().map(lease).collect()
}

/// What a worker says of its own end.
#[allow(clippy::result_large_err)]
pub fn time_left(request: &AcquireRequest) -> Result<(), Status> {
    match request.seconds_left {
        Some(left) if !(0.0..=f64::MAX).contains(&left) => {
            Err(invalid(format!("a worker has a number of seconds left, not {left}")))
        }
        _ => Ok(()),
    }
}

/// The numbers of an answer that its question says nothing about.
#[allow(clippy::result_large_err)]
pub fn answer(request: &CommitRequest) -> Result<(), Status> {
    if !(0.0..=LONGEST_TASK).contains(&request.seconds) {
        return Err(invalid(format!("a task takes 0 to {LONGEST_TASK} seconds, not {}", request.seconds)));
    }
    let passes = request.passes.unwrap_or_default();
    [passes.forwards, passes.backwards, passes.examples].into_iter().try_for_each(|sum| count("passes", sum))
}

/// A number that is stored and compared.
#[allow(clippy::result_large_err)]
pub fn count(field: &str, count: u64) -> Result<(), Status> {
    if count > LARGEST_COUNT { Err(invalid(format!("{field} is at most {LARGEST_COUNT}"))) } else { Ok(()) }
}

/// A failure's message as it may be shown: nothing in it can steer a terminal.
pub fn message(text: &str) -> String {
    harmless(text, LONGEST_MESSAGE)
}

/// The lines of a worker's log that come with it, likewise.
pub fn log(text: &str) -> String {
    harmless(text, LONGEST_LOG)
}

fn harmless(text: &str, longest: usize) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().take(longest).map(shown).collect()
}

#[allow(clippy::result_large_err)]
pub fn submission(request: &SubmitRequest) -> Result<(), Status> {
    if request.yaml.len() > LONGEST_FILE {
        return Err(invalid(format!("a sweep file has at most {} MiB", LONGEST_FILE >> 20)));
    }
    word("source", &request.source, LONGEST_PATH)?;
    word("base_dir", &request.base_dir, LONGEST_PATH)?;
    if !request.base_dir.starts_with('/') {
        return Err(invalid(format!("base_dir {:?} is not an absolute path", request.base_dir)));
    }
    Ok(())
}

/// A text that came from a peer, in an answer to it.
pub fn shortened(text: &str) -> String {
    let most = LONGEST_WORD;
    if text.chars().count() <= most { text.into() } else { text.chars().take(most).chain(['…']).collect() }
}

/// Whose each worker's name is: that of the token or certificate that first called by it. Workers
/// that share a token share their names. Forgotten when the coordinator ends, and oldest first.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<Owners>>);

#[derive(Debug, Default)]
struct Owners {
    owner: HashMap<String, Arc<str>>,
    by_age: VecDeque<String>,
}

impl Names {
    /// Whether the caller may speak as this worker; from now on nobody else may.
    #[allow(clippy::result_large_err)]
    pub fn claim(&self, worker: &str, caller: &Extensions) -> Result<(), Status> {
        if !is_name(worker) {
            return Err(invalid(
                "a worker's name has 1 to 64 letters, digits, '-', '_' and '.', and begins with neither '-' nor '.'",
            ));
        }
        let caller = caller.get::<Caller>().map_or("anybody", |caller| &*caller.name);
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match owners.owner.get(worker) {
            Some(owner) if **owner == *caller => Ok(()),
            Some(_) => Err(Status::permission_denied(format!(
                "the name {worker} is that of a worker with another token or certificate: choose another with --name"
            ))),
            None => {
                if owners.by_age.len() >= NAMES
                    && let Some(oldest) = owners.by_age.pop_front()
                {
                    owners.owner.remove(&oldest);
                }
                owners.by_age.push_back(worker.into());
                owners.owner.insert(worker.into(), caller.into());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Roles;

    #[test]
    fn a_name_is_its_first_owners_until_very_many_others_have_come() {
        let names = Names::default();
        let by = |name: &str| {
            let mut extensions = Extensions::new();
            extensions.insert(Caller { name: name.into(), roles: Roles::ALL });
            extensions
        };
        names.claim("w", &by("a")).unwrap();
        names.claim("w", &by("a")).unwrap();
        assert_eq!(names.claim("w", &by("b")).unwrap_err().code(), tonic::Code::PermissionDenied);
        assert_eq!(names.claim("w\n", &by("a")).unwrap_err().code(), tonic::Code::InvalidArgument);
        (0..NAMES).for_each(|n| names.claim(&format!("w{n}"), &by("b")).unwrap());
        names.claim("w", &by("b")).unwrap();
        assert_eq!(names.0.lock().unwrap().owner.len(), NAMES, "memory is bounded");
    }

    #[test]
    fn what_is_shown_cannot_steer_a_terminal() {
        assert_eq!(message("\u{1b}[31mred\nline\u{7}"), "\u{fffd}[31mred\nline\u{fffd}");
        assert_eq!(message(&"é".repeat(5000)).chars().count(), LONGEST_MESSAGE);
        assert!(word("w", "a\u{9b}2J", 10).is_err(), "C1 codes are control characters too");
        assert_eq!(shortened(&"ü".repeat(1000)).chars().count(), LONGEST_WORD + 1);
    }
}
