//! Calls that get lost, for tests: `EPSWEEP_FAULTS=RATE:SEED` loses that share of the workers' requests before they
//! are heard, and as many of the answers to what was heard. Programs built without debug assertions cannot do it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tower::Service;

/// Calls of clients are left alone: people see their errors, workers repeat theirs.
const SERVICE: &str = "/epsweep.v1.WorkerService/";

/// Which calls get lost. The same calls in the same order lose the same ones.
#[derive(Debug, Clone)]
pub struct Faults(Option<Arc<Plan>>);

#[derive(Debug)]
struct Plan {
    rate: f64,
    seed: u64,
    /// Calls so far, by method.
    calls: Mutex<HashMap<String, u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    Request,
    Reply,
}

impl Faults {
    /// As the environment says; almost always none.
    pub fn from_env() -> Faults {
        let wanted = std::env::var("EPSWEEP_FAULTS").ok().filter(|_| cfg!(debug_assertions));
        let plan = wanted.as_deref().and_then(Plan::parse);
        if let Some(plan) = &plan {
            tracing::warn!(rate = plan.rate, seed = plan.seed, "calls of workers get lost on purpose: EPSWEEP_FAULTS");
        }
        Faults(plan.map(Arc::new))
    }

    fn lose(&self, path: &str) -> Lost {
        let Some((plan, method)) = self.0.as_deref().zip(path.strip_prefix(SERVICE)) else { return Lost::Nothing };
        let mut calls = plan.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(method.into()).or_default();
        *count += 1;
        let lost = plan.judge(method, *count);
        if lost != Lost::Nothing {
            tracing::info!(method, lost = ?lost, "a call is lost on purpose");
        }
        lost
    }
}

impl Plan {
    fn parse(text: &str) -> Option<Plan> {
        let (rate, seed) = text.split_once(':')?;
        let rate = rate.parse().ok().filter(|rate| (0.0..=0.5).contains(rate))?;
        Some(Plan { rate, seed: seed.parse().ok()?, calls: Mutex::default() })
    }

    fn judge(&self, method: &str, count: u64) -> Lost {
        let hash = blake3::hash(format!("{} {method} {count}", self.seed).as_bytes());
        let drawn = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("4 of 32 bytes"));
        match f64::from(drawn) / f64::from(u32::MAX) {
            drawn if drawn < self.rate => Lost::Request,
            drawn if drawn < 2.0 * self.rate => Lost::Reply,
            _ => Lost::Nothing,
        }
    }
}

impl<S> tower::Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { faults: self.clone(), inner }
    }
}

/// A service some of whose calls get lost.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    faults: Faults,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Faulty<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // As a caller sees it whose connection breaks.
        let broken = || Ok(Status::unavailable("lost on purpose").into_http());
        match self.faults.lose(request.uri().path()) {
            Lost::Nothing => Box::pin(self.inner.call(request)),
            Lost::Request => Box::pin(std::future::ready(broken())),
            Lost::Reply => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    drop(answer.await?);
                    broken()
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_requests_as_replies_get_lost_and_always_the_same() {
        let faults = || Faults(Plan::parse("0.2:7").map(Arc::new));
        let drawn = |faults: Faults| -> Vec<Lost> {
            (0..1000).map(|_| faults.lose("/epsweep.v1.WorkerService/Commits")).collect()
        };
        let first = drawn(faults());
        for kind in [Lost::Request, Lost::Reply] {
            let share = first.iter().filter(|lost| **lost == kind).count();
            assert!((150..250).contains(&share), "{kind:?}: {share} of 1000");
        }
        assert_eq!(first, drawn(faults()));
        assert_eq!(faults().lose("/epsweep.v1.ClientService/Submit"), Lost::Nothing);
        assert!(Plan::parse("0.6:1").is_none() && Plan::parse("0.1").is_none() && Plan::parse("x:1").is_none());
    }
}
