//! Coordinator and workers on hosts of their own. `make test-hosts` runs this: it needs root, iproute2 and Python.

use crate::harness::{Folder, Running};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the coordinator's link is cut, in seconds.
const CUT: u64 = 30;
const LONG: Duration = Duration::from_secs(240);

/// Enough for two workers to be at it before, during and after the cut.
const SWEEP: &str = "
name: apart
dataset: digits
trial: {model: {mlp: {hidden: [64]}}, method: {pgd: {epsilon: 0.1, steps: 10}}, optimizer: {sgd: {lr: 0.05}}, epochs: 9, batch_size: 16}
seeds: 6
evaluate:
  epochs: [3, final]
  epsilons: [0, 0.05, 0.1]
  attacks: [fgsm, {pgd: {steps: 20}}]
";

/// Three namespaces on a wire of 100 ms that loses one frame in fifty.
struct Hosts {
    prefix: String,
    wire: Child,
    orders: Option<ChildStdin>,
}

impl Hosts {
    /// `None`, with a message, where it was not asked for, or cannot be.
    fn start() -> Option<Hosts> {
        if std::env::var_os("EPSWEEP_TEST_HOSTS").is_none() {
            eprintln!("skipped: hosts are made by `make test-hosts` only");
            return None;
        }
        let prefix = format!("epsweep{}", std::process::id());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/three_hosts.py");
        let mut command = Command::new("python3");
        command.args([script, &prefix, "--delay-ms", "100", "--loss", "0.02"]);
        let mut wire = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = wire.stdin.take();
        let mut ready = [0; 6];
        let read = std::io::Read::read_exact(wire.stdout.as_mut().unwrap(), &mut ready);
        if read.is_err() && wire.wait().unwrap().code() == Some(77) {
            eprintln!("skipped: no hosts can be made here; why stands above");
            return None;
        }
        assert_eq!(&ready, b"ready\n");
        Some(Hosts { prefix, wire, orders })
    }

    fn order(&mut self, text: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{text}").unwrap();
    }

    /// A program on one of the hosts.
    fn on(&self, host: &str, program: &str, folder: &Folder, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{host}", self.prefix), program]).args(args);
        command.current_dir(folder.path()).env("NO_COLOR", "1").env_remove("RUST_LOG");
        command
    }

    /// Takes the wire down; returns what it says of itself.
    fn stop(mut self) -> String {
        drop(self.orders.take());
        let mut said = String::new();
        std::io::Read::read_to_string(self.wire.stdout.as_mut().unwrap(), &mut said).unwrap();
        self.wire.wait().unwrap();
        said
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(self.orders.take()); // it removes the namespaces, and ends
        let _ = self.wire.wait();
    }
}

#[test]
fn hosts_apart_with_latency_losses_and_a_cut_link_compute_the_same() {
    let Some(mut hosts) = Hosts::start() else { return };
    let folder = Folder::with(SWEEP);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    folder.epsweep(&["certs", "--out", "certs", "--host", "10.77.0.1"]).expect(0);
    let (epsweep, worker) = (env!("CARGO_BIN_EXE_epsweep"), env!("CARGO_BIN_EXE_epsweep-worker"));
    let at = "10.77.0.1:7070";
    let serve = ["serve", "--listen", at, "--state", "state", "--tls-dir", "certs/server"];
    let mut coordinator = Running::start(hosts.on("head", epsweep, &folder, &serve));
    assert_eq!(coordinator.line(), format!("listening on {at}"));
    let _workers = ["one", "two"].map(|name| {
        let args = ["--connect", at, "--tls-dir", "certs/worker", "--name", name, "--cache", name];
        Running::start(hosts.on(name, worker, &folder, &args))
    });
    let submit = ["submit", "sweep.yaml", "--to", at, "--tls-dir", "certs/client"];
    assert!(hosts.on("two", epsweep, &folder, &submit).status().unwrap().success());
    let committed = || folder.log_lines("state", &["\"committed\""]).len();
    folder.wait_for_long("answers of both", LONG, || committed() >= 4);

    hosts.order("cut head");
    std::thread::sleep(Duration::from_secs(2)); // what was on the wire has arrived
    let before = committed();
    std::thread::sleep(Duration::from_secs(CUT - 2));
    assert_eq!(committed(), before, "nobody reached the coordinator");
    hosts.order("mend head");
    let mended = Instant::now();
    folder.wait_for_long("an answer after the cut", LONG, || committed() > before);
    eprintln!("the first answer came {:.1} s after the cut had ended", mended.elapsed().as_secs_f64());

    let watch = ["watch", "apart", "--to", at, "--tls-dir", "certs/client"];
    assert!(hosts.on("one", epsweep, &folder, &watch).stdout(Stdio::null()).status().unwrap().success());
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(folder.results("out"), folder.results("calm/report"));
    let said = hosts.stop();
    eprintln!("the wire: {said}");
    assert!(!said.contains("lost 0,") && !said.contains("swallowed 0"), "{said}");
}
