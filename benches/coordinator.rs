//! What a task costs the coordinator when it costs the worker nothing: real gRPC, durable commits.
//!
//! `make bench-coordinator`, or `cargo bench --profile dev --bench coordinator -- [TASKS] [SLOTS...]`
//!
//! Starts `epsweep serve` as a process of its own, hands in a sweep over the embedded digits, and plays
//! workers that answer at once. Prints tasks per second and the coordinator's CPU time per task, for 2, 128 and
//! 2,048 slots; without arguments, also how long a million tasks take to be handed in, and their memory (that alone
//! with 0 slots).

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use epsweep::artifacts::ArtifactId;
use epsweep::coordinator::{PROTOCOL, prefetch};
use epsweep::plan::Question;
use epsweep::proto::client_service_client::ClientServiceClient;
use epsweep::proto::commit_response::Verdict;
use epsweep::proto::worker_service_client::WorkerServiceClient;
use epsweep::proto::{
    AcquireRequest, Checkpoint, CommitRequest, CommitsRequest, EvaluateAnswer, Lease, Passes, PutArtifactRequest,
    RegisterRequest, SubmitRequest, TrainAnswer, commit_request,
};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// Connections that the slots are spread over, at most.
const WORKERS: u32 = 16;
/// Evaluations of one trained network in the sweep: epochs times attacks times shards of the digits' test set.
const EPOCHS: u64 = 50;
const ATTACKS: u64 = 10;

fn sweep(seeds: u64) -> String {
    let attacks: Vec<String> = (1..=ATTACKS).map(|steps| format!("{{pgd: {{steps: {steps}}}}}")).collect();
    format!(
        "name: bench\ndataset: digits\n\
         trial: {{model: linear, method: natural, epochs: {EPOCHS}, batch_size: 64}}\nseeds: {seeds}\n\
         evaluate: {{epochs: {{every: 1}}, epsilons: [0.05, 0.1], attacks: [{}]}}\n",
        attacks.join(", ")
    )
}

/// `epsweep serve`, and what it has used.
struct Coordinator {
    child: Child,
    address: String,
}

impl Coordinator {
    fn start(state: &Path) -> Coordinator {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epsweep"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--quiet", "--state"]).arg(state);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_string();
        Coordinator { child, address }
    }

    /// User and system time.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10) // the kernel's 100 ticks a second
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection that plays a worker.
#[derive(Clone)]
struct Worker {
    client: WorkerServiceClient<Channel>,
    name: String,
    slots: u32,
    /// The one network that every training "yields".
    weights: Arc<str>,
}

impl Worker {
    async fn join(address: &str, index: u32, slots: u32) -> Worker {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true).connect().await;
        let name = format!("bench-{index}");
        let content = b"weights".to_vec();
        let weights = ArtifactId::of(&content).to_string();
        let mut worker = Worker {
            client: WorkerServiceClient::new(channel.unwrap()),
            name,
            slots,
            weights: weights.as_str().into(),
        };
        let register = RegisterRequest {
            protocol: PROTOCOL,
            worker: worker.name.clone(),
            host: "bench".into(),
            slots,
            device: "cpu".into(),
            ..RegisterRequest::default()
        };
        worker.client.register(register).await.unwrap();
        let put = PutArtifactRequest { id: weights, chunk: content.into(), kind: "checkpoint".into() };
        worker.client.put_artifact(tokio_stream::iter([put])).await.unwrap();
        worker
    }

    /// Takes tasks and answers them until there have been `tasks` by all workers together. As the real worker does,
    /// it hands in all that is finished with one call, and asks for more meanwhile.
    async fn work(self, done: Arc<AtomicU64>, tasks: u64) {
        let (mut request, mut finished) = (1, Vec::new());
        while done.load(Ordering::Relaxed) < tasks {
            let held = finished.len() as u32;
            let free_slots = self.slots.saturating_sub(held);
            let acquire = AcquireRequest {
                worker: self.name.clone(),
                request,
                free_slots,
                prefetch: self.slots + prefetch(self.slots) - free_slots,
                wait_ms: 100,
                seconds_left: None,
            };
            let mut client = self.client.clone();
            let (leases, accepted) = tokio::join!(client.acquire(acquire), self.hand_in(std::mem::take(&mut finished)));
            let leases = leases.unwrap().into_inner().leases;
            request += u64::from(!leases.is_empty());
            finished = leases.into_iter().map(|lease| self.answer(lease)).collect();
            done.fetch_add(accepted, Ordering::Relaxed);
        }
    }

    /// Returns how many were accepted.
    async fn hand_in(&self, answers: Vec<CommitRequest>) -> u64 {
        if answers.is_empty() {
            return 0;
        }
        let verdicts = self.client.clone().commits(CommitsRequest { answers }).await.unwrap().into_inner().verdicts;
        verdicts.iter().filter(|verdict| verdict.verdict() == Verdict::Accepted).count() as u64
    }

    fn answer(&self, lease: Lease) -> CommitRequest {
        let answer = if lease.kind == "train" {
            let checkpoint = |&epoch: &u32| Checkpoint {
                epoch,
                train_loss: 1.0,
                train_seconds: 0.01,
                artifact: self.weights.to_string(),
                bytes: 7,
                facts: String::new(),
            };
            commit_request::Answer::Train(TrainAnswer { checkpoints: lease.keep.iter().map(checkpoint).collect() })
        } else {
            let Ok(Question::Evaluate(question)) = serde_json::from_slice(&lease.question) else {
                panic!("not asked for")
            };
            let count = question.examples[1] - question.examples[0];
            commit_request::Answer::Evaluate(EvaluateAnswer {
                levels: vec![1; count as usize],
                ..EvaluateAnswer::default()
            })
        };
        CommitRequest {
            worker: self.name.clone(),
            lease: lease.id,
            seconds: 0.001,
            passes: Some(Passes { forwards: 1, backwards: 1, examples: 1 }),
            answer: Some(answer),
        }
    }
}

/// A sweep of about so many tasks that has been handed in.
struct Submitted {
    coordinator: Coordinator,
    tasks: u64,
    seconds: f64,
    /// Resident memory that came with it, per task.
    bytes: u64,
    _state: tempfile::TempDir,
}

async fn submit(tasks: u64) -> Submitted {
    let state = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(state.path());
    let before = coordinator.resident();
    let mut client = ClientServiceClient::connect(format!("http://{}", coordinator.address)).await.unwrap();
    let yaml = sweep(tasks.div_ceil(EPOCHS * ATTACKS));
    let submit = SubmitRequest { yaml, source: "bench.yaml".into(), base_dir: "/".into(), priority: 0 };
    let started = Instant::now();
    let tasks = client.submit(submit).await.unwrap().into_inner().tasks;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = coordinator.resident().saturating_sub(before) / tasks;
    Submitted { coordinator, tasks, seconds, bytes, _state: state }
}

async fn measure(slots: u32, tasks: u64) {
    let Submitted { coordinator, tasks, .. } = &submit(tasks).await;
    let workers = slots.min(WORKERS);
    let (cpu, started) = (coordinator.cpu(), Instant::now());
    let done = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for index in 0..workers {
        let worker = Worker::join(&coordinator.address, index, slots / workers).await;
        running.push(tokio::spawn(worker.work(done.clone(), *tasks)));
    }
    for worker in running {
        worker.await.unwrap();
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), coordinator.cpu() - cpu);
    let (rate, each) = (*tasks as f64 / seconds, cpu.as_secs_f64() * 1e6 / *tasks as f64);
    let target = if slots < 128 { 20_000 } else { 50_000 };
    println!("{slots:>6} {tasks:>9} {rate:>10.0} {target:>10} {each:>12.1} {:>10}", 8);
}

async fn plan(tasks: u64) {
    let Submitted { tasks, seconds, bytes, .. } = submit(tasks).await;
    println!(
        "{tasks} tasks handed in within {seconds:.1} s (target for a million: 5), {bytes} bytes each (target: 500)"
    );
}

/// What the numbers depend on besides the program: how busy the machine is, and what its disk takes for a commit.
fn circumstances() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let started = Instant::now();
    for _ in 0..100 {
        file.write_all(&[7; 4096]).unwrap();
        file.as_file().sync_all().unwrap();
    }
    let sync = started.elapsed().as_secs_f64() * 10.0;
    let cores = std::thread::available_parallelism().unwrap();
    format!("{cores} cores, load {}; a synced write of 4 KiB takes {sync:.2} ms", &load[..load.find(' ').unwrap()])
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let tasks = numbers.first().copied().unwrap_or(50_000);
    let slots = if numbers.len() > 1 { numbers[1..].to_vec() } else { vec![2, 128, 2048] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("{}", circumstances());
    println!(" slots     tasks    tasks/s     target  CPU us/task     target");
    for slots in slots {
        match slots {
            0 => runtime.block_on(plan(tasks)),
            _ => runtime.block_on(measure(slots as u32, tasks)),
        }
    }
    if numbers.is_empty() {
        runtime.block_on(plan(1_000_000));
    }
}
