//! The system's clock: threads that simulate hear the simulation's time from it, whichever library asks.
//!
//! Most of what the shells do goes by tokio's clock, which each host has its own of. What is left are dates: of ledger rows, and
//! of HTTP answers, where another date is another length.

use nix::libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, SYS_clock_gettime, c_int, c_long, clockid_t, syscall, timespec};
use std::cell::Cell;
use std::time::Duration;

/// When a world begins, in seconds since 1970.
pub const BEGINNING: u64 = 1_790_000_000;

thread_local! {
    /// Since the beginning of the world that this thread simulates.
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// This thread's time, from now on.
pub fn set(now: Duration) {
    NOW.set(Some(now));
}

/// Stands before the function of the C library, which `std` calls.
///
/// # Safety
/// As of that one: `time` is valid for writing.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let simulated = NOW.try_with(Cell::get).ok().flatten();
    match simulated.filter(|_| matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC)) {
        Some(now) => {
            let (tv_sec, tv_nsec) = ((BEGINNING + now.as_secs()) as i64, c_long::from(now.subsec_nanos()));
            // SAFETY: the caller says so.
            unsafe { time.write(timespec { tv_sec, tv_nsec }) };
            0
        }
        // SAFETY: the system call is what the C library's function comes to.
        None => unsafe { syscall(SYS_clock_gettime, clock, time) as c_int },
    }
}

#[test]
fn a_thread_that_simulates_hears_the_simulations_time() {
    let real = std::time::SystemTime::now();
    set(Duration::from_millis(1_500));
    let simulated = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(simulated, Duration::from_millis(BEGINNING * 1_000 + 1_500));
    let elsewhere = std::thread::spawn(std::time::SystemTime::now).join().unwrap();
    assert!(elsewhere >= real && elsewhere.duration_since(real).unwrap() < Duration::from_secs(60));
}
