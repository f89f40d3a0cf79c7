//! When a worker must have left: as it is told, or as Slurm says of the job that it runs in.

use epsweep::engine::RESERVE_SECONDS;
use epsweep::launch::slurm::{TimeLimit, time_left_of_this_job};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So far ahead that it comes to no limit.
const NEVER: f64 = 10.0 * 365.0 * 86_400.0;

/// Options about a worker's end.
#[derive(Debug, Clone, clap::Args)]
pub struct Limit {
    /// When this worker must have left: seconds since 1970, or a time such as 2026-11-23T14:00:00Z. It takes no task
    /// that it is not expected to finish, and leaves in order before [default: the end of the Slurm job it is in]
    #[arg(long, value_name = "TIME", value_parser = timestamp, conflicts_with = "time_left")]
    until: Option<f64>,
    /// The same, in seconds from now
    #[arg(long, value_name = "SECONDS", value_parser = from_now)]
    time_left: Option<f64>,
}

/// Seconds since 1970.
fn timestamp(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let parsed = || text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond() as f64 / 1000.0);
    seconds.or_else(parsed).ok_or_else(|| "seconds since 1970 are expected, or a time with its zone".into())
}

fn from_now(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=NEVER).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds is expected, such as 3600".into())
}

impl Limit {
    /// The end of this worker's time; `None` where there is none, or nothing is known of it.
    pub async fn find(&self) -> Option<Instant> {
        let left = match (self.time_left, self.until) {
            (Some(left), _) => Some(left),
            (None, Some(until)) => Some(until - now()),
            (None, None) => match end_of_job() {
                Some(end) => Some(end - now()),
                None => left_of_job().await,
            },
        }?;
        let left = left.max(0.0);
        (left < NEVER).then(|| Instant::now() + Duration::from_secs_f64(left))
    }
}

/// Slurm sets it since release 23.02.
fn end_of_job() -> Option<f64> {
    std::env::var_os("SLURM_JOB_ID")?;
    let end = std::env::var("SLURM_JOB_END_TIME").ok()?.parse::<f64>().ok()?;
    (end > 0.0 && end.is_finite()).then_some(end)
}

/// Asks Slurm, once: an answer that does not come or means nothing is no limit.
async fn left_of_job() -> Option<f64> {
    std::env::var_os("SLURM_JOB_ID")?;
    match time_left_of_this_job().await {
        Some(TimeLimit::Seconds(left)) => {
            tracing::info!(seconds = left, "this job's time is limited");
            Some(left as f64)
        }
        Some(TimeLimit::Unlimited) => None,
        None => {
            tracing::warn!("Slurm does not say how long this job may run: any task is taken");
            None
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Stops the worker in order shortly before its end, whatever it is at.
pub fn leave_in_time(ends: Instant, shutdown: CancellationToken) {
    tokio::spawn(async move {
        let reserve = Duration::from_secs_f64(RESERVE_SECONDS);
        tokio::time::sleep_until(ends.checked_sub(reserve).unwrap_or_else(Instant::now)).await;
        tracing::info!("the time of this worker is over: leaving");
        shutdown.cancel();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_told_in_several_ways() {
        assert_eq!(timestamp("1700000000"), Ok(1.7e9));
        assert_eq!(timestamp("2023-11-14T22:13:20Z"), Ok(1.7e9));
        assert!(timestamp("tomorrow").is_err() && timestamp("-1").is_err() && timestamp("NaN").is_err());
        assert!(from_now("1e99").is_err() && from_now("-5").is_err());
        let left = |limit: Limit| async move {
            limit.find().await.map(|ends| ends.saturating_duration_since(Instant::now()).as_secs_f64())
        };
        let told = left(Limit { until: None, time_left: Some(60.0) }).await.unwrap();
        assert!((59.0..=60.0).contains(&told), "{told}");
        let until = left(Limit { until: Some(now() + 60.0), time_left: None }).await.unwrap();
        assert!((58.0..=60.0).contains(&until), "{until}");
        assert_eq!(left(Limit { until: Some(1.0), time_left: None }).await, Some(0.0), "long past");
    }
}
