//! What a worker computes on, and how: the options that `epsweep run` and `epsweep-worker` share.

use super::cores::Pin;
use std::ffi::OsString;

const HEADING: &str = "Devices";

/// Devices and how they compute.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Compute {
    /// What to compute on: cpu, cuda (the visible GPUs in turn), or cuda:K
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = HEADING)]
    pub device: String,
    /// Bind each slot to a core of its own: of those that the process may use, or of a list such as 0,2-5
    #[arg(long, value_name = "CORES", num_args = 0..=1, require_equals = true, default_missing_value = "all", help_heading = HEADING)]
    pub pin: Option<Pin>,
    /// Most of each GPU's memory that one worker process takes, above 0 up to 1: several may share a GPU
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = HEADING)]
    pub gpu_memory: Option<f64>,
    /// GPUs compute convolutions and matrix products in TF32: faster, and not the 32 bits that results are stated in
    #[arg(long, help_heading = HEADING)]
    pub tf32: bool,
    /// GPUs may use kernels whose sums come in another order from run to run
    #[arg(long, help_heading = HEADING)]
    pub nondeterministic: bool,
    /// Data sets lie in memory that the kernel cannot move, from where GPUs copy faster
    #[arg(long, help_heading = HEADING)]
    pub pinned_memory: bool,
}

impl Default for Compute {
    fn default() -> Compute {
        let device = "cpu".into();
        Compute { device, pin: None, gpu_memory: None, tf32: false, nondeterministic: false, pinned_memory: false }
    }
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ComputeError {
    #[error("--device {0:?} is neither cpu, nor cuda, nor cuda:K")]
    Device(String),
    #[error("{option} is for GPUs, and --device is cpu")]
    #[diagnostic(help("add --device cuda, or leave {option} out"))]
    ForGpus { option: &'static str },
    #[error("--pin is for slots that compute on the CPU")]
    #[diagnostic(help("leave it out, or start the worker under taskset or numactl"))]
    ForCpus,
}

/// Where a worker computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Cpu,
    /// All GPUs that are visible, or one of them.
    Gpus(Option<usize>),
}

impl Compute {
    /// # Errors
    /// When the device is no device, or another option does not go with it. Whether a GPU is there shows later.
    pub fn place(&self) -> Result<Place, ComputeError> {
        let place = match self.device.as_str() {
            "cpu" => Place::Cpu,
            "cuda" => Place::Gpus(None),
            device => match device.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => Place::Gpus(Some(index)),
                None => return Err(ComputeError::Device(device.into())),
            },
        };
        let for_gpus = [
            ("--gpu-memory", self.gpu_memory.is_some()),
            ("--tf32", self.tf32),
            ("--nondeterministic", self.nondeterministic),
            ("--pinned-memory", self.pinned_memory),
        ];
        match (place, for_gpus.into_iter().find(|(_, given)| *given)) {
            (Place::Cpu, Some((option, _))) => Err(ComputeError::ForGpus { option }),
            (Place::Gpus(_), _) if self.pin.is_some() => Err(ComputeError::ForCpus),
            _ => Ok(place),
        }
    }

    /// As they stand on a command line; none for what is the default anyway.
    pub fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if self.device != "cpu" {
            args.extend(["--device".into(), self.device.clone()]);
        }
        args.extend(self.pin.iter().map(|pin| format!("--pin={pin}")));
        args.extend(self.gpu_memory.iter().flat_map(|share| ["--gpu-memory".into(), share.to_string()]));
        let flags = [
            ("--tf32", self.tf32),
            ("--nondeterministic", self.nondeterministic),
            ("--pinned-memory", self.pinned_memory),
        ];
        args.extend(flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag.to_string()));
        args
    }

    /// What the environment must hold before libtorch and the CUDA libraries are loaded, since they read it once: names
    /// with their values, `None` for what must not stand there.
    ///
    /// `present` is the environment as it is.
    pub fn environment(&self, present: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, Option<OsString>)> {
        if matches!(self.place(), Ok(Place::Cpu) | Err(_)) {
            return Vec::new();
        }
        // The libraries of CUDA obey the first whatever libtorch is set to; libtorch forces TF32 where it sees the second.
        let tf32 = if self.tf32 { None } else { Some("0".into()) };
        let mut wanted = vec![("NVIDIA_TF32_OVERRIDE", tf32), ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)];
        if !self.nondeterministic {
            // Without a workspace of fixed size, cuBLAS may choose another kernel from run to run.
            wanted.push(("CUBLAS_WORKSPACE_CONFIG", Some(":4096:8".into())));
        }
        if let Some(share) = self.gpu_memory {
            wanted.push(allocator(share, &present));
        }
        wanted.retain(|(name, value)| present(name) != *value);
        wanted
    }
}

/// The settings of libtorch's allocator, with the share added to what a user has set.
fn allocator(share: f64, present: impl Fn(&str) -> Option<OsString>) -> (&'static str, Option<OsString>) {
    // The newer name, which is read first, and the one that older releases know.
    let name = if present("PYTORCH_ALLOC_CONF").is_some() { "PYTORCH_ALLOC_CONF" } else { "PYTORCH_CUDA_ALLOC_CONF" };
    let setting = format!("per_process_memory_fraction:{share}");
    let others = present(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
    let kept = others.split(',').filter(|part| !part.is_empty() && !part.starts_with("per_process_memory_fraction:"));
    (name, Some(kept.chain([setting.as_str()]).collect::<Vec<_>>().join(",").into()))
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number above 0 up to 1 is expected, such as 0.25".to_string())?;
    (value > 0.0 && value <= 1.0).then_some(value).ok_or_else(|| "it lies outside 0 (excluded) to 1".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(device: &str) -> Compute {
        Compute { device: device.into(), ..Compute::default() }
    }

    #[test]
    fn devices_are_cpu_all_gpus_or_one() {
        let place = |device: &str| on(device).place().ok();
        assert_eq!(place("cpu"), Some(Place::Cpu));
        assert_eq!(place("cuda"), Some(Place::Gpus(None)));
        assert_eq!(place("cuda:3"), Some(Place::Gpus(Some(3))));
        assert!(["", "tpu", "cuda:", "cuda:x", "cuda:-1", "CUDA"].iter().all(|wrong| place(wrong).is_none()));
    }

    #[test]
    fn options_that_do_not_go_with_the_device_are_refused() {
        let tf32 = |device: &str| Compute { tf32: true, ..on(device) };
        assert!(matches!(tf32("cpu").place(), Err(ComputeError::ForGpus { option: "--tf32" })));
        assert!(tf32("cuda:0").place().is_ok());
        let pinned = |device: &str| Compute { pin: Some(Pin::Allowed), ..on(device) };
        assert!(pinned("cpu").place().is_ok());
        assert!(matches!(pinned("cuda").place(), Err(ComputeError::ForCpus)));
    }

    #[test]
    fn the_environment_rules_tf32_out_and_leaves_what_users_set() {
        let none = |_: &str| None;
        assert!(on("cpu").environment(none).is_empty());
        let plain = on("cuda").environment(none);
        let value = |text: &str| Some(OsString::from(text));
        assert_eq!(plain, [("NVIDIA_TF32_OVERRIDE", value("0")), ("CUBLAS_WORKSPACE_CONFIG", value(":4096:8"))]);
        let forced = |name: &str| (name == "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE").then(|| OsString::from("1"));
        assert!(on("cuda").environment(forced).contains(&("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)));
        let shared = Compute { gpu_memory: Some(0.25), tf32: true, nondeterministic: true, ..on("cuda:1") };
        let set = |name: &str| (name == "PYTORCH_CUDA_ALLOC_CONF").then(|| OsString::from("max_split_size_mb:64"));
        let wanted = value("max_split_size_mb:64,per_process_memory_fraction:0.25");
        assert_eq!(shared.environment(set), [("PYTORCH_CUDA_ALLOC_CONF", wanted.clone())]);
        // Set once, nothing is left to do: the worker starts itself anew only once.
        let done = |name: &str| (name == "PYTORCH_CUDA_ALLOC_CONF").then(|| wanted.clone()).flatten();
        assert!(shared.environment(done).is_empty());
    }

    #[test]
    fn a_command_line_can_be_written_again() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            compute: Compute,
        }
        let read = |args: &[String]| {
            let words = std::iter::once("x".to_string()).chain(args.iter().cloned());
            <Line as clap::Parser>::try_parse_from(words).map(|line| line.compute).unwrap()
        };
        assert_eq!(read(&[]), Compute::default());
        let pinned = Compute { pin: Some(Pin::Listed(vec![0, 1, 4])), ..on("cpu") };
        assert_eq!(read(&pinned.args()), pinned);
        let gpus = Compute { gpu_memory: Some(0.3), tf32: true, nondeterministic: true, ..on("cuda") };
        assert_eq!(read(&gpus.args()), gpus);
        assert!(["0", "1.5", "x", "NaN"].iter().all(|wrong| share(wrong).is_err()));
    }
}
