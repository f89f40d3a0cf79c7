//! A folder with a sweep file, and the programs run in it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Small enough for seconds, large enough to have several trials, epochs, shards and attacks.
pub const SMALL: &str = "
name: small
dataset: digits
trial: {model: {mlp: {hidden: [16]}}, method: natural, optimizer: {sgd: {lr: 0.05}}, epochs: 3, batch_size: 64}
grid:
  - method: [natural, {pgd: {epsilon: 0.1, steps: 3}}]
seeds: 2
evaluate:
  epochs: [1, final]
  epsilons: [0, 0.05, 0.1, 0.2]
  attacks: [fgsm, {pgd: {steps: 10, restarts: 2}}]
";

/// The same questions, but each takes long enough to be killed in the middle.
pub const SLOW: &str = "
name: slow
dataset: digits
trial: {model: {mlp: {hidden: [64]}}, method: {pgd: {epsilon: 0.1, steps: 10}}, optimizer: {sgd: {lr: 0.05}}, epochs: 9, batch_size: 16}
seeds: 3
evaluate:
  epsilons: [0, 0.05, 0.1]
  attacks: [{pgd: {steps: 20}}]
";

pub struct Folder {
    dir: tempfile::TempDir,
    /// What programs are told besides.
    env: Vec<(&'static str, String)>,
}

impl Folder {
    pub fn with(yaml: &str) -> Folder {
        let folder = Folder { dir: tempfile::tempdir().unwrap(), env: Vec::new() };
        folder.write("sweep.yaml", yaml);
        folder
    }

    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Folder {
        self.env.push((name, value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The two files that must not depend on how they were computed.
    pub fn results(&self, report: &str) -> (String, String) {
        (self.read(&format!("{report}/curves.csv")), self.read(&format!("{report}/frontier.csv")))
    }

    /// Rows of costs.csv as maps from column to value.
    pub fn costs(&self, report: &str) -> Vec<BTreeMap<String, String>> {
        let text = self.read(&format!("{report}/costs.csv"));
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epsweep"));
        command.args(args).current_dir(self.path()).env("NO_COLOR", "1").env_remove("RUST_LOG");
        command.env("EPSWEEP_WORKER", env!("CARGO_BIN_EXE_epsweep-worker")).envs(self.env.clone());
        command
    }

    pub fn epsweep(&self, args: &[&str]) -> Finished {
        Finished::of(self.command(args).output().unwrap())
    }

    /// Starts a program that is killed when dropped.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// A coordinator on a free port; returns its address.
    pub fn serve(&self, extra: &[&str]) -> (Running, String) {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--state", "state"];
        args.extend(extra);
        let mut command = self.command(&args);
        let mut running = Running::start(std::mem::replace(&mut command, Command::new("true")));
        let line = running.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_string();
        (running, address)
    }

    pub fn worker(&self, address: &str, name: &str, extra: &[&str]) -> Running {
        self.worker_with(address, name, &[&["--cache", name], extra].concat())
    }

    /// The same, with a cache to be named in `extra`.
    pub fn worker_with(&self, address: &str, name: &str, extra: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epsweep-worker"));
        command.args(["--connect", address, "--name", name]).args(extra).current_dir(self.path());
        command.env("NO_COLOR", "1").env_remove("RUST_LOG").envs(self.env.clone());
        Running::start(command)
    }

    /// Waits until `condition` holds; what for is said when it never does.
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_for_long(what, Duration::from_secs(120), condition);
    }

    pub fn wait_for_long(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !condition() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of all log files below `state` that hold every one of `words`.
    pub fn log_lines(&self, state: &str, words: &[&str]) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.path().join(state).join("logs")) else { return Vec::new() };
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        texts
            .flat_map(|text| text.lines().map(String::from).collect::<Vec<_>>())
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .collect()
    }

    /// The worker processes of `epsweep run`, by their log: pids in order of start.
    pub fn worker_pids(&self, state: &str) -> Vec<i32> {
        let lines = self.log_lines(state, &["\"worker started\""]);
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["pid"].as_i64())
            .map(|pid| pid as i32)
            .collect()
    }
}

pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    fn of(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into(),
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Every word must stand on stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Finished {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        self
    }
}

pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Read all the while: a program whose log nobody reads stops when the pipe is full.
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut log = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            log.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into()
        });
        Running { child, stdout, stderr: Some(stderr) }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait(mut self) -> Finished {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let code = self.child.wait().unwrap().code();
        Finished { code, stdout, stderr }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGKILL, as the out-of-memory killer would.
pub fn kill_pid(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

pub fn path(folder: &Folder, name: &str) -> PathBuf {
    folder.path().join(name)
}
