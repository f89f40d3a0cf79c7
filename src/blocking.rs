//! Work that blocks (files, hashes) beside the threads that speak.

use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The work ended in a panic, which has been told.
#[derive(Debug, thiserror::Error)]
#[error("what was done aside panicked")]
pub struct Panicked;

/// Does `work` on a thread where it keeps nobody waiting. A runtime of one thread does it at once: nothing that happens
/// there depends on how the system schedules threads, which is what simulations need.
///
/// # Errors
/// When `work` panics.
///
/// # Panics
/// Outside of a runtime.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => Err(Panicked),
        // The runtime ends, and whoever waits ends with it.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::thread::current;

    #[test]
    fn a_runtime_of_one_thread_does_it_at_once() {
        let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let several = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let here = current().id();
        assert_eq!(one.block_on(run(move || current().id())).unwrap(), here);
        assert_ne!(several.block_on(run(move || current().id())).unwrap(), here);
        for runtime in [one, several] {
            let panics: fn() = || panic!("on purpose");
            assert!(runtime.block_on(run(panics)).is_err());
            assert_eq!(runtime.block_on(run(|| 7)).unwrap(), 7);
        }
    }
}
