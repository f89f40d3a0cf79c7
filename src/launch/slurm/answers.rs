//! What Slurm's programs say, read with suspicion: what is strange or unknown is "unknown", and never a failure.
//!
//! Answers come late, cut off, with warnings of the site before them, or not at all, while the jobs run on.

use super::time::{TimeLimit, parse_time};

/// What came of `sbatch --parsable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// The job's number.
    Job(u64),
    /// Slurm does not want it: what it said.
    Refused(String),
    /// It may have been taken or not.
    Unknown(String),
}

/// What the program says when it could not ask, or heard nothing: whether the job was taken is then open.
const SILENCE: [&str; 5] =
    ["timed out", "unable to contact", "communication", "connection refused", "zero bytes were transmitted"];

/// Reads an answer of `sbatch --parsable`: `JOB` or `JOB;CLUSTER`, maybe after lines that the site adds.
pub fn parse_submission(succeeded: bool, stdout: &str, stderr: &str) -> Submission {
    let said =
        [stderr.trim(), stdout.trim()].into_iter().find(|text| !text.is_empty()).unwrap_or("nothing").to_string();
    if !succeeded {
        let lower = said.to_lowercase();
        let silent = SILENCE.iter().any(|words| lower.contains(words));
        return if silent { Submission::Unknown(said) } else { Submission::Refused(said) };
    }
    let job = |line: &str| line.trim().split(';').next().and_then(|id| id.parse().ok()).filter(|&id| id > 0);
    match stdout.lines().rev().find_map(job) {
        Some(id) => Submission::Job(id),
        None => Submission::Unknown(said),
    }
}

/// How a job stands, as far as matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Pending,
    /// It has its nodes, or is about to get or lose them.
    Running,
    Ended,
    /// A word that this release does not know.
    Unknown,
}

impl JobState {
    fn parse(word: &str) -> JobState {
        match word {
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
                JobState::Pending
            }
            "RUNNING" | "CONFIGURING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "RESIZING" | "SIGNALING"
            | "STAGE_OUT" => JobState::Running,
            "COMPLETED" | "CANCELLED" | "FAILED" | "TIMEOUT" | "NODE_FAIL" | "PREEMPTED" | "BOOT_FAIL" | "DEADLINE"
            | "OUT_OF_MEMORY" | "REVOKED" => JobState::Ended,
            _ => JobState::Unknown,
        }
    }
}

/// A line of the queue: jobs that stand alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    pub job: u64,
    /// How many elements of an array the line speaks of.
    pub count: u32,
    pub state: JobState,
}

/// What `squeue` says of some jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    Known(Vec<QueueEntry>),
    /// Nothing that can be relied on; why.
    Unknown(String),
}

impl Queue {
    /// Jobs that wait, and jobs that run; `None` while unknown.
    pub fn counts(&self) -> Option<(u32, u32)> {
        let Queue::Known(entries) = self else { return None };
        let count = |state| entries.iter().filter(|entry| entry.state == state).map(|entry| entry.count).sum();
        Some((count(JobState::Pending), count(JobState::Running)))
    }
}

/// Reads `squeue --noheader --format='%i %T'`: `12 RUNNING`, `12_3 RUNNING`, `12_[4-7%2] PENDING`.
///
/// An empty answer of a program that succeeded means that there are none; a line that cannot be read
/// makes all of it unknown, since counting too few would submit too many.
pub fn parse_queue(succeeded: bool, stdout: &str, stderr: &str) -> Queue {
    if !succeeded {
        // Asked for by their numbers, jobs that have long ended are "invalid": that is an answer.
        if stderr.contains("Invalid job id specified") {
            return Queue::Known(Vec::new());
        }
        return Queue::Unknown(if stderr.trim().is_empty() {
            "it failed without a word".into()
        } else {
            stderr.trim().into()
        });
    }
    if !stderr.trim().is_empty() && stdout.trim().is_empty() {
        return Queue::Unknown(stderr.trim().into()); // it has been seen to succeed with an error on its lips
    }
    let entry = |line: &str| {
        let (id, state) = line.trim().split_once(char::is_whitespace)?;
        let (job, count) = parse_id(id)?;
        match JobState::parse(state.trim()) {
            JobState::Unknown => None,
            state => Some(QueueEntry { job, count, state }),
        }
    };
    let mut entries = Vec::new();
    for line in stdout.lines().filter(|line| !line.trim().is_empty()) {
        match entry(line) {
            Some(entry) => entries.push(entry),
            None => return Queue::Unknown(format!("{line:?} is no line of a queue")),
        }
    }
    Queue::Known(entries)
}

/// `12`, `12_3`, `12_[...]`, `12+0` (a part of a heterogeneous job): the number, and how many jobs that is.
fn parse_id(text: &str) -> Option<(u64, u32)> {
    let (job, rest) = match text.find(['_', '+']) {
        Some(at) => (&text[..at], &text[at..]),
        None => (text, ""),
    };
    let count = match rest.strip_prefix("_[").and_then(|rest| rest.strip_suffix(']')) {
        Some(elements) => array_size(elements)?,
        None if rest.is_empty() => 1,
        None => rest[1..].parse::<u32>().ok().map(|_| 1)?,
    };
    Some((job.parse().ok()?, count))
}

/// How many elements `0-3,7,9-20:2%4` names; squeue cuts long lists off with `...`, which is unknown.
pub fn array_size(elements: &str) -> Option<u32> {
    let elements = elements.split('%').next()?;
    let range = |part: &str| {
        let (range, step) =
            part.split_once(':').map_or(Some((part, 1)), |(range, step)| Some((range, step.parse().ok()?)))?;
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?),
            None => (range.parse().ok()?, range.parse().ok()?),
        };
        last.checked_sub(first)?.checked_div(step)?.checked_add(1)
    };
    elements.split(',').try_fold(0_u32, |sum, part| sum.checked_add(range(part)?))
}

/// Why a job that was taken waits, where waiting will not help: by the words of `squeue --format=%r`.
pub fn parse_hopeless(stdout: &str) -> Option<&'static str> {
    const HOPELESS: [&str; 9] = [
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "AccountNotAllowed",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "DependencyNeverSatisfied",
    ];
    HOPELESS.into_iter().find(|reason| stdout.lines().any(|line| line.trim() == *reason))
}

/// `MaxArraySize` of `scontrol show config`: array indexes are below it.
pub fn parse_max_array(stdout: &str) -> Option<u32> {
    let value = |line: &str| {
        line.split_once('=').filter(|(key, _)| key.trim() == "MaxArraySize").map(|(_, value)| value.trim().parse().ok())
    };
    stdout.lines().find_map(value)?
}

/// What is left of a job's time, by `squeue --noheader --format=%L`; `None` while unknown.
pub fn parse_time_left(stdout: &str) -> Option<TimeLimit> {
    let mut lines = stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    let limit = parse_left(lines.next()?)?;
    lines.next().is_none().then_some(limit)
}

/// squeue writes minutes and seconds as `M:SS`, so a number alone is none of its answers.
fn parse_left(text: &str) -> Option<TimeLimit> {
    match parse_time(text)? {
        TimeLimit::Seconds(_) if !text.contains(':') => None,
        limit => Some(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_a_number_a_refusal_or_unknown() {
        use Submission::{Job, Refused, Unknown};
        assert_eq!(parse_submission(true, "4711\n", ""), Job(4711));
        assert_eq!(parse_submission(true, "4711;cluster\n", ""), Job(4711));
        assert_eq!(parse_submission(true, "Your project has 3 hours left.\n4711\n", "sbatch: note\n"), Job(4711));
        assert!(matches!(parse_submission(true, "", ""), Unknown(_)));
        assert!(matches!(parse_submission(true, "Submitted batch job", ""), Unknown(_)));
        let partition = "sbatch: error: invalid partition specified: nowhere\nsbatch: error: Batch job submission failed: Invalid partition name specified";
        assert_eq!(parse_submission(false, "", partition), Refused(partition.into()));
        for silence in [
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        ] {
            assert_eq!(parse_submission(false, "", silence), Unknown(silence.into()));
        }
    }

    #[test]
    fn a_queue_is_counted_or_unknown() {
        let told =
            "12 RUNNING\n13_0 RUNNING\n13_1 COMPLETING\n13_[2-7%2] PENDING\n14_[1,3,9-20:4] PENDING\n15+0 PENDING\n";
        let queue = parse_queue(true, told, "");
        assert_eq!(queue.counts(), Some((6 + 5 + 1, 3)), "{queue:?}");
        assert_eq!(parse_queue(true, "", "").counts(), Some((0, 0)));
        assert_eq!(parse_queue(false, "", "slurm_load_jobs error: Invalid job id specified").counts(), Some((0, 0)));
        for (succeeded, stdout, stderr) in [
            (false, "", "slurm_load_jobs error: Socket timed out on send/recv operation"),
            (false, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"),
            (false, "", ""),
            (true, "", "squeue: error: slurm_receive_msg: Insane message length"),
            (true, "12_[0-3,5... PENDING\n", ""),
            (true, "12 HIBERNATING\n", ""),
            (true, "12\n", ""),
            (true, "JOBID STATE\n", ""),
            (true, "\u{fffd}\u{fffd} RUNNING\n", ""),
        ] {
            assert_eq!(parse_queue(succeeded, stdout, stderr).counts(), None, "{stdout:?} {stderr:?}");
        }
    }

    #[test]
    fn what_will_never_begin_is_told_from_what_waits() {
        assert_eq!(parse_hopeless("Priority\nPartitionTimeLimit\n"), Some("PartitionTimeLimit"));
        for waits in ["", "None\n", "Resources\nDependency\n", "slurm_load_jobs error: PartitionTimeLimit\n"] {
            assert_eq!(parse_hopeless(waits), None, "{waits:?}");
        }
    }

    #[test]
    fn arrays_are_counted_by_their_elements() {
        for (text, size) in [("0", 1), ("0-63", 64), ("0-3,7,9-20:2%4", 4 + 1 + 6), ("5%1", 1)] {
            assert_eq!(array_size(text), Some(size), "{text}");
        }
        for wrong in ["", "3-1", "0-3,", "0-9:0", "0-3,5...", "a", "0-4294967295,0-9"] {
            assert_eq!(array_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn limits_and_times_left_are_found_or_unknown() {
        let config =
            "Configuration data as of 2026-11-23T12:00:00\nMaxArraySize            = 1001\nMaxJobCount = 10000\n";
        assert_eq!(parse_max_array(config), Some(1001));
        assert_eq!(parse_max_array("slurm_load_ctl_conf error: Unable to contact slurm controller"), None);
        assert_eq!(parse_max_array("MaxArraySize = many"), None);
        assert_eq!(parse_time_left("59:58\n"), Some(TimeLimit::Seconds(3598)));
        assert_eq!(parse_time_left("1-00:00:00\n"), Some(TimeLimit::Seconds(86_400)));
        assert_eq!(parse_time_left("UNLIMITED\n"), Some(TimeLimit::Unlimited));
        for strange in ["", "INVALID\n", "NOT_SET\n", "17\n", "1:00\n2:00\n", "slurm_load_jobs error\n"] {
            assert_eq!(parse_time_left(strange), None, "{strange:?}");
        }
    }
}
