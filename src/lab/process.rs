//! Settings of the whole process that libtorch's speed depends on.

use std::sync::Once;

/// Makes the calling thread compute on one core, and libtorch start no threads of its own.
///
/// A worker runs one task per core; two OpenMP teams on the same cores spin against each other and
/// are tens of times slower. [`super::train`] and [`super::evaluate`] do this themselves; the first
/// call should come before anything else touches libtorch.
pub fn use_one_thread() {
    static PROCESS: Once = Once::new();
    PROCESS.call_once(|| {
        keep_freed_memory();
        // Allowed once per process and only before any parallel work: a refusal changes nothing.
        let quiet = std::panic::catch_unwind(|| tch::set_num_interop_threads(1));
        drop(quiet);
    });
    // OpenMP keeps this number per thread.
    tch::set_num_threads(1);
}

/// Keeps glibc from handing activations back to the kernel after every layer. They are allocated
/// anew with every batch, and faulting their pages in again costs up to half of a training step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    use nix::libc;
    const MIB: libc::c_int = 1 << 20;
    // SAFETY: mallopt only sets tuning parameters of the allocator, and checks their range itself.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * MIB);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 512 * MIB);
        libc::mallopt(libc::M_TOP_PAD, 16 * MIB);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}
