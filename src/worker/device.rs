//! From options to devices: what must be in the environment first, which GPUs there are, how they compute.

use crate::lab::Device;
use crate::lab::device::{self, Arithmetic, DeviceError};
use epsweep::launch::compute::{Compute, Place};
use epsweep::program::Failure;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Longest name of a device in the ledger.
const LONGEST_NAME: usize = 200;

/// What the slots compute on, in turn.
#[derive(Debug, Clone)]
pub struct Devices {
    pub all: Vec<Device>,
    /// With how they compute, as the ledger shows it.
    pub name: String,
    /// The core of each slot, where they are bound to one.
    pub cores: Option<Vec<usize>>,
    /// Whether data sets are to lie in pinned memory.
    pub pinned_memory: bool,
}

/// Starts this program anew, in the same process, where the environment must be another one: libtorch and the CUDA
/// libraries have read it by the time that a program could change it.
pub fn with_environment(compute: &Compute) -> Result<(), Failure> {
    compute.place().map_err(Failure::usage)?;
    let wanted = compute.environment(|name| std::env::var_os(name));
    if wanted.is_empty() {
        return Ok(());
    }
    let fault = |error: std::io::Error| Failure::internal(miette::miette!("cannot start with what GPUs need: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(fault)?);
    command.args(std::env::args_os().skip(1));
    for (name, value) in wanted {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(fault(command.exec())) // which returns only where it fails
}

/// The devices for `slots` slots (by default one for each device), `offset` of them left to other workers.
///
/// # Errors
/// When there is no such device; what there is stands in the error.
pub fn open(compute: &Compute, slots: Option<u32>, offset: usize) -> Result<Devices, Failure> {
    let index = match compute.place().map_err(Failure::usage)? {
        Place::Cpu => {
            let cores = match &compute.pin {
                Some(pin) => Some(pin.cores(slots.unwrap_or(1) as usize).map_err(Failure::usage)?),
                None => None,
            };
            return Ok(Devices { all: vec![Device::Cpu], name: "cpu".into(), cores, pinned_memory: false });
        }
        Place::Gpus(index) => index,
    };
    device::open_cuda(&compute.device, env!("EPSWEEP_LIBTORCH_VERSION")).map_err(Failure::usage)?;
    let how = Arithmetic { tf32: compute.tf32, nondeterministic: compute.nondeterministic };
    device::compute_in(how).map_err(Failure::usage)?;
    let gpus = device::gpus();
    let chosen = choose(&compute.device, index, &gpus).map_err(Failure::usage)?;
    let name = describe(&chosen, &gpus, &how.to_string());
    if slots.is_some_and(|slots| (slots as usize) < chosen.len()) {
        tracing::debug!(gpus = chosen.len(), slots, "fewer slots than GPUs: some are left to other workers");
    }
    let all = (0..chosen.len()).map(|turn| Device::Cuda(chosen[(turn + offset) % chosen.len()])).collect();
    Ok(Devices { all, name, cores: None, pinned_memory: compute.pinned_memory })
}

/// The one asked for, or all.
fn choose(asked: &str, index: Option<usize>, gpus: &[String]) -> Result<Vec<usize>, DeviceError> {
    let asked = || asked.to_string();
    match index {
        _ if gpus.is_empty() => Err(DeviceError::NoGpu { asked: asked() }),
        None => Ok((0..gpus.len()).collect()),
        Some(index) if index < gpus.len() => Ok(vec![index]),
        Some(_) => {
            let there: Vec<String> = gpus.iter().enumerate().map(|(k, name)| format!("cuda:{k} ({name})")).collect();
            Err(DeviceError::NotThere { asked: asked(), there: there.join(", ") })
        }
    }
}

/// `cuda:0 (NVIDIA H100; deterministic, fp32)`, or of several GPUs `cuda:0,1,2 (3 x NVIDIA H100; ...)`.
fn describe(chosen: &[usize], gpus: &[String], how: &str) -> String {
    let indices: Vec<String> = chosen.iter().map(usize::to_string).collect();
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for &index in chosen {
        let name = gpus[index].as_str();
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    let kind = |(name, count): &(&str, usize)| if *count > 1 { format!("{count} x {name}") } else { name.to_string() };
    let kinds: Vec<String> = kinds.iter().map(kind).collect();
    let text = format!("cuda:{} ({}; {how})", indices.join(","), kinds.join(", "));
    text.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_those_that_are() {
        let two = gpus(&["A", "B"]);
        assert_eq!(choose("cuda", None, &two).unwrap(), [0, 1]);
        assert_eq!(choose("cuda:1", Some(1), &two).unwrap(), [1]);
        let refused = choose("cuda:2", Some(2), &two).unwrap_err().to_string();
        assert_eq!(refused, "there is no cuda:2, only cuda:0 (A), cuda:1 (B)");
        assert!(choose("cuda", None, &[]).unwrap_err().to_string().contains("no GPU"));
    }

    #[test]
    fn devices_are_described_with_how_they_compute() {
        let three = gpus(&["H100", "H100", "A10"]);
        assert_eq!(describe(&[2], &three, "tf32"), "cuda:2 (A10; tf32)");
        assert_eq!(describe(&[0, 1, 2], &three, "fp32"), "cuda:0,1,2 (2 x H100, A10; fp32)");
    }
}
