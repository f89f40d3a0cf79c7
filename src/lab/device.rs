//! GPUs: how libtorch's CUDA half comes into the process, how it computes, and what the GPUs are called.
//!
//! The worker links `libtorch_cpu` and `libc10` alone. `libtorch_cuda` registers its kernels by itself when it is opened,
//! so one program serves CPUs and GPUs: which it finds depends on the folder that the loader took libtorch from.
//!
//! What `tch` does not wrap is called by its C++ name. Member functions with arguments of a word or less are called like
//! functions whose first argument is the object (Itanium C++ ABI, which Linux uses).

use nix::libc;
use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `at::Context& at::globalContext()`.
const GLOBAL_CONTEXT: &CStr = c"_ZN2at13globalContextEv";
/// `cudaDeviceProp* at::cuda::getDeviceProperties(c10::DeviceIndex)`.
const DEVICE_PROPERTIES: &CStr = c"_ZN2at4cuda19getDevicePropertiesEa";
const CUDA_HALF: &str = "libtorch_cuda.so";

/// How GPUs of this process compute 32-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arithmetic {
    /// Convolutions and matrix products round their factors to 10 bits of fraction.
    pub tf32: bool,
    /// Kernels may sum in another order from run to run.
    pub nondeterministic: bool,
}

impl std::fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let precision = if self.tf32 { "tf32" } else { "fp32" };
        write!(f, "{}, {precision}", if self.nondeterministic { "nondeterministic" } else { "deterministic" })
    }
}

/// Why there is no GPU to compute on.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DeviceError {
    #[error("this process cannot tell where its libtorch lies")]
    Nowhere,
    #[error("no {asked}: the libtorch in {folder} is for CPUs only", folder = .folder.display())]
    #[diagnostic(help(
        "start this worker with LD_LIBRARY_PATH at the folder of a CUDA build of libtorch {wanted}: that of PyTorch is what `python -c 'import torch; print(torch.__path__[0] + \"/lib\")'` prints"
    ))]
    CpuOnly { asked: String, folder: PathBuf, wanted: String },
    #[error("the libtorch in {folder} is release {found}, this worker was built for {wanted}", folder = .folder.display())]
    #[diagnostic(help(
        "LD_LIBRARY_PATH must name the same release: another's results need not be equal, if it works at all"
    ))]
    Release { folder: PathBuf, found: String, wanted: String },
    #[error("cannot open {file}: {reason}", file = .file.display())]
    #[diagnostic(help(
        "the CUDA libraries it wants must lie where the loader finds them, as pip and the archive of libtorch put them"
    ))]
    Open { file: PathBuf, reason: String },
    #[error("no {asked}: libtorch sees no GPU here")]
    #[diagnostic(help("nvidia-smi lists the GPUs and the driver; CUDA_VISIBLE_DEVICES may hide them"))]
    NoGpu { asked: String },
    #[error("there is no {asked}, only {there}")]
    #[diagnostic(help("--device cuda takes all of them; CUDA_VISIBLE_DEVICES may hide some"))]
    NotThere { asked: String, there: String },
    #[error("this libtorch has no {symbol}, without which GPUs cannot be set to compute {how}")]
    #[diagnostic(help("use the release that this worker was built for"))]
    Unsettable { symbol: String, how: Arithmetic },
}

/// Opens the CUDA half of libtorch, release `wanted`, for the device `asked` for. Must come before anything asks libtorch about GPUs: it remembers
/// the first answer.
///
/// # Errors
/// When there is none beside the libtorch in use, or it is another release, or cannot be opened.
pub fn open_cuda(asked: &str, wanted: &str) -> Result<PathBuf, DeviceError> {
    let folder = folder().ok_or(DeviceError::Nowhere)?;
    let file = folder.join(CUDA_HALF);
    if !file.exists() {
        return Err(DeviceError::CpuOnly { asked: asked.into(), folder, wanted: wanted.into() });
    }
    if let Some(found) = release(&folder).filter(|found| found != wanted && !wanted.is_empty()) {
        return Err(DeviceError::Release { folder, found, wanted: wanted.into() });
    }
    let path = CString::new(file.as_os_str().as_bytes()).expect("a path has no zero byte");
    // SAFETY: opening a library runs its initialisers; these are libtorch's own, made to run at load time. It is never closed.
    let opened = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if opened.is_null() {
        return Err(DeviceError::Open { file, reason: loader_says() });
    }
    Ok(file)
}

/// The folder that the loader took `libtorch_cpu` from.
pub fn folder() -> Option<PathBuf> {
    let address = symbol(GLOBAL_CONTEXT)?;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr writes to what it is given a pointer to, and takes any address.
    let info = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    // SAFETY: the loader's name of a library that stays loaded; checked for null.
    let name = unsafe { info.dli_fname.as_ref().map(|name| CStr::from_ptr(name)) }?;
    // Through links: the other half lies beside the file itself.
    let path = std::fs::canonicalize(OsStr::from_bytes(name.to_bytes())).ok()?;
    path.parent().map(Path::to_path_buf)
}

/// The release of the libtorch in a folder, by its headers or by what the packages of PyTorch say; `None` where neither is there.
fn release(folder: &Path) -> Option<String> {
    let root = folder.parent()?;
    let header = std::fs::read_to_string(root.join("include/torch/headeronly/version.h")).ok();
    let of_header = header.and_then(|text| {
        let part = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
            line.split_whitespace().nth(2).map(str::to_string)
        };
        Some([part("MAJOR")?, part("MINOR")?, part("PATCH")?].join("."))
    });
    of_header.or_else(|| {
        let text = std::fs::read_to_string(root.join("build-version")).ok()?;
        text.trim().split('+').next().map(str::to_string)
    })
}

/// The GPUs that libtorch sees, by name; empty where it sees none.
pub fn gpus() -> Vec<String> {
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    (0..count).map(|index| gpu_name(index).unwrap_or_else(|| "a GPU".into())).collect()
}

fn gpu_name(index: usize) -> Option<String> {
    let properties = symbol(DEVICE_PROPERTIES)?;
    let index = i8::try_from(index).ok()?;
    // SAFETY: the function's C++ signature is the one above; `gpus` asks for devices that exist only, for which it does
    // not throw, and its result lives as long as the process.
    let text = unsafe {
        let properties: extern "C" fn(i8) -> *const c_char = std::mem::transmute(properties);
        let name = properties(index); // `char name[256]` is the first member
        if name.is_null() {
            return None;
        }
        std::slice::from_raw_parts(name.cast::<u8>(), 256)
    };
    let name = CStr::from_bytes_until_nul(text).ok()?.to_string_lossy().trim().to_string();
    (!name.is_empty() && !name.chars().any(char::is_control)).then_some(name)
}

/// Sets how GPUs compute, for the whole process; before the first tensor.
///
/// Deterministic kernels are taken wherever there are some. Where there is none libtorch says so once, on stderr, and goes on.
///
/// # Errors
/// When this libtorch lacks a setting.
pub fn compute_in(how: Arithmetic) -> Result<(), DeviceError> {
    let deterministic = !how.nondeterministic;
    // setDeterministicAlgorithms(bool, bool warn_only); the others take one bool.
    set(c"_ZN2at7Context26setDeterministicAlgorithmsEbb", deterministic, deterministic, how)?;
    set(c"_ZN2at7Context21setDeterministicCuDNNEb", deterministic, false, how)?;
    // Timing kernels to choose between them would choose another from run to run.
    set(c"_ZN2at7Context17setBenchmarkCuDNNEb", false, false, how)?;
    set(c"_ZN2at7Context17setAllowTF32CuDNNEb", how.tf32, false, how)?;
    set(c"_ZN2at7Context18setAllowTF32CuBLASEb", how.tf32, false, how)
}

fn set(name: &CStr, first: bool, second: bool, how: Arithmetic) -> Result<(), DeviceError> {
    let (Some(context), Some(setter)) = (context(), symbol(name)) else {
        return Err(DeviceError::Unsettable { symbol: name.to_string_lossy().into_owned(), how });
    };
    // SAFETY: a member function of at::Context that takes one or two bools and returns nothing; one that takes one does
    // not look at the register of the second.
    unsafe {
        let setter: extern "C" fn(*mut c_void, bool, bool) = std::mem::transmute(setter);
        setter(context, first, second);
    }
    Ok(())
}

/// libtorch's global settings.
fn context() -> Option<*mut c_void> {
    let global = symbol(GLOBAL_CONTEXT)?;
    // SAFETY: takes nothing and returns a reference, which is an address.
    unsafe {
        let global: extern "C" fn() -> *mut c_void = std::mem::transmute(global);
        Some(global())
    }
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: looks a name up among the loaded libraries.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

fn loader_says() -> String {
    // SAFETY: the loader's own text about the last failure on this thread, or null.
    let text = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text).to_bytes().to_vec()) };
    text.map_or("the loader does not say why".into(), |text| {
        std::ffi::OsString::from_vec(text).to_string_lossy().into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A getter of at::Context.
    fn says(name: &CStr) -> bool {
        let (context, getter) = (context().unwrap(), symbol(name).unwrap());
        // SAFETY: const member functions without arguments that return a bool.
        unsafe {
            let getter: extern "C" fn(*mut c_void) -> bool = std::mem::transmute(getter);
            getter(context)
        }
    }

    #[test]
    fn settings_reach_libtorch() {
        let read = || {
            [
                c"_ZNK2at7Context23deterministicAlgorithmsEv",
                c"_ZNK2at7Context31deterministicAlgorithmsWarnOnlyEv",
                c"_ZNK2at7Context18deterministicCuDNNEv",
                c"_ZNK2at7Context14benchmarkCuDNNEv",
            ]
            .map(says)
        };
        compute_in(Arithmetic::default()).unwrap();
        let default = read();
        compute_in(Arithmetic { tf32: true, nondeterministic: true }).unwrap();
        let loose = read();
        // As it was when the process began.
        compute_in(Arithmetic { tf32: false, nondeterministic: true }).unwrap();
        assert_eq!((default, loose), ([true, true, true, false], [false; 4]));
    }

    #[test]
    fn libtorch_is_found_with_its_release() {
        let folder = folder().unwrap();
        assert!(folder.join("libtorch_cpu.so").exists(), "{folder:?}");
        let built_for = env!("EPSWEEP_LIBTORCH_VERSION");
        assert!(release(&folder).is_none_or(|found| found == built_for), "{:?}", release(&folder));
    }

    #[test]
    fn what_is_computed_how_is_said() {
        assert_eq!(Arithmetic::default().to_string(), "deterministic, fp32");
        assert_eq!(Arithmetic { tf32: true, nondeterministic: true }.to_string(), "nondeterministic, tf32");
    }
}
