//! Cores for threads that compute: which there are, and how a thread is bound to one.
//!
//! What counts is the mask that this process inherited: a batch system's cpuset, a container's, `taskset`.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fmt::Write;
use std::str::FromStr;

/// The calling thread, to the kernel.
const SELF: Pid = Pid::from_raw(0);

/// Which cores slots are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Those that the process may use, in their order.
    Allowed,
    /// These, in the order in which slots take them.
    Listed(Vec<usize>),
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PinError {
    #[error("cannot ask the kernel for the cores of this process")]
    Kernel(#[source] nix::Error),
    #[error("--pin names core {core}, which this process may not use")]
    #[diagnostic(help(
        "it may use {allowed}: what it was started with says so (a batch job's cpuset, a container, taskset)"
    ))]
    NotAllowed { core: usize, allowed: String },
    #[error("--pin has {cores} cores for {slots} slots")]
    #[diagnostic(help("two slots on one core would each run at half its speed: ask for fewer, or leave --pin out"))]
    TooFew { cores: usize, slots: usize },
}

impl Pin {
    /// One core for each of `slots`.
    ///
    /// # Errors
    /// When a core is not this process's to use, or there are fewer cores than slots.
    pub fn cores(&self, slots: usize) -> Result<Vec<usize>, PinError> {
        let allowed = allowed().map_err(PinError::Kernel)?;
        let cores = match self {
            Pin::Allowed => allowed.clone(),
            Pin::Listed(cores) => cores.clone(),
        };
        if let Some(&core) = cores.iter().find(|core| !allowed.contains(core)) {
            return Err(PinError::NotAllowed { core, allowed: text(&allowed) });
        }
        if cores.len() < slots {
            return Err(PinError::TooFew { cores: cores.len(), slots });
        }
        Ok(cores.into_iter().take(slots).collect())
    }

    /// How many cores a list names.
    pub fn listed(&self) -> Option<usize> {
        match self {
            Pin::Allowed => None,
            Pin::Listed(cores) => Some(cores.len()),
        }
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Pin, String> {
        if text == "all" {
            return Ok(Pin::Allowed);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<usize>().ok().filter(|core| *core < CpuSet::count());
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err("cores are numbers such as 0,2-5".into());
            };
            if first > last {
                return Err(format!("{part} counts backwards"));
            }
            cores.extend(first..=last);
        }
        let mut sorted = cores.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(format!("core {} stands there twice", twice[0])),
            None => Ok(Pin::Listed(cores)),
        }
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pin::Allowed => f.write_str("all"),
            Pin::Listed(cores) => f.write_str(&text(cores)),
        }
    }
}

/// The cores that the calling thread may run on, ascending.
///
/// # Errors
/// When the kernel does not say, as on machines with more cores than a mask of the C library has room for (1024).
pub fn allowed() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(SELF)?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Binds the calling thread, and those it starts later, to `core`.
///
/// # Errors
/// When the core is not there, or not this process's to use.
pub fn bind(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(SELF, &set)
}

/// `0-3,8`, in the order given.
fn text(cores: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cores;
    while let Some(&first) = rest.first() {
        let run = rest.iter().enumerate().take_while(|&(i, &core)| core == first + i).count();
        let comma = if text.is_empty() { "" } else { "," };
        let range = if run > 1 { format!("-{}", first + run - 1) } else { String::new() };
        write!(text, "{comma}{first}{range}").expect("a string takes it");
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!("all".parse(), Ok(Pin::Allowed));
        let pin: Pin = "6,0-2".parse().unwrap();
        assert_eq!((&pin, pin.to_string().as_str()), (&Pin::Listed(vec![6, 0, 1, 2]), "6,0-2"));
        for wrong in ["", "x", "1,", "3-1", "0,0", "1-2,2", "-1", "99999"] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bound_thread_runs_on_that_core_alone_and_the_others_where_they_did() {
        let before = allowed().unwrap();
        let last = *before.last().unwrap();
        let bound = std::thread::spawn(move || {
            bind(last).unwrap();
            (allowed().unwrap(), std::thread::spawn(|| allowed().unwrap()).join().unwrap())
        });
        assert_eq!(bound.join().unwrap(), (vec![last], vec![last]));
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn only_cores_of_the_inherited_mask_are_given_out() {
        std::thread::spawn(|| {
            let all = allowed().unwrap();
            bind(all[0]).unwrap(); // as if a batch system had
            assert_eq!(Pin::Allowed.cores(1).unwrap(), [all[0]]);
            assert!(matches!(Pin::Allowed.cores(2), Err(PinError::TooFew { cores: 1, slots: 2 })));
            let other = all[0] + 1;
            let refused = Pin::Listed(vec![other]).cores(1);
            assert!(matches!(refused, Err(PinError::NotAllowed { core, .. }) if core == other), "{refused:?}");
        })
        .join()
        .unwrap();
    }
}
