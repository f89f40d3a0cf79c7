//! What can go wrong in the lab, by kind: each kind has its own retry policy further up.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a task has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The training loss or a weight stopped being finite. Trying again gives the same.
    #[error("training diverged in epoch {epoch}, step {step}: the loss was {loss}")]
    Diverged {
        /// From 1.
        epoch: u32,
        /// Over the whole run, from 0.
        step: u64,
        loss: f64,
    },
    /// The device's memory did not suffice.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The question, the data or the weights do not fit together.
    #[error("bad input: {0}")]
    BadInput(String),
    /// [`super::Watch::stop`] said so.
    #[error("stopped on request")]
    Stopped,
    /// Anything else libtorch complained about.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl LabError {
    pub(super) fn bad_input(message: impl Into<String>) -> LabError {
        LabError::BadInput(message.into())
    }

    /// What happened, without the kind.
    pub(super) fn detail(&self) -> String {
        match self {
            LabError::BadInput(text) | LabError::OutOfMemory(text) | LabError::Torch(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn from_text(text: String) -> LabError {
        let lower = text.to_lowercase();
        // The allocators of CPU and CUDA word it differently.
        if lower.contains("out of memory") || lower.contains("can't allocate memory") {
            LabError::OutOfMemory(first_line(&text))
        } else {
            LabError::Torch(first_line(&text))
        }
    }
}

impl From<tch::TchError> for LabError {
    fn from(error: tch::TchError) -> LabError {
        LabError::from_text(error.to_string())
    }
}

/// libtorch appends a C++ stack trace that nobody reads.
fn first_line(text: &str) -> String {
    text.replace("\\n", "\n").lines().next().unwrap_or_default().to_string()
}

/// Runs `task` without a graph and on one thread, and turns the panics that `tch` raises into errors.
///
/// The guard also restores the thread's gradient mode when a panic passes through
/// [`tch::with_grad`], which does not restore it itself.
pub(super) fn guarded<T>(task: impl FnOnce() -> Result<T, LabError>) -> Result<T, LabError> {
    super::use_one_thread();
    let _restores = tch::no_grad_guard();
    // A task owns all it changes and drops it on the way out, so nothing half-changed survives.
    catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|payload| Err(LabError::from_text(message(payload))))
}

fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().map_or("a panic without a message".to_string(), |t| t.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn torch_errors_come_back_as_errors_and_leave_the_gradient_mode_alone() {
        let mismatch =
            guarded(|| Ok(tch::with_grad(|| Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu)).view([7]))));
        assert!(matches!(&mismatch, Err(LabError::Torch(text)) if text.contains("invalid")), "{mismatch:?}");
        let leaf = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        assert!((leaf * 2.0).requires_grad(), "gradients were on before and must be on again");
    }

    #[test]
    fn memory_errors_are_told_apart() {
        let text = "CUDA out of memory. Tried to allocate 2 GiB\nframe #0: c10".to_string();
        assert!(matches!(LabError::from_text(text), LabError::OutOfMemory(t) if !t.contains("frame")));
        let text = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes".to_string();
        assert!(matches!(LabError::from_text(text), LabError::OutOfMemory(_)));
    }
}
