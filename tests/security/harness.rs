//! A coordinator, certificates, tokens, and workers that answer without computing.

use epsweep::artifacts::ArtifactId;
use epsweep::coordinator::{Core, Handle, Notice, Prepared, Recovery, Server, ServerOptions, publish};
use epsweep::engine::Settings;
use epsweep::ledger::Ledger;
use epsweep::plan::Question;
use epsweep::proto::client_service_client::ClientServiceClient;
use epsweep::proto::worker_service_client::WorkerServiceClient;
use epsweep::proto::{
    AcquireRequest, Checkpoint, CommitRequest, CommitResponse, CommitsRequest, EvaluateAnswer, Lease, ListRequest,
    PutArtifactRequest, RegisterRequest, SweepStatus, TrainAnswer, commit_request,
};
use epsweep::transport::{Access, Bearer, Credentials, Proof, Role, make_certs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub const SWEEP: &str = "
name: small
dataset: digits
trial: {model: linear, method: natural, epochs: 3, batch_size: 64}
grid: [{optimizer.sgd.lr: [0.1, 0.2, 0.3, 0.4]}]
seeds: 2
evaluate: {epochs: [1, final], epsilons: [0, 0.1, 0.2], attacks: [fgsm, {pgd: {steps: 5}}]}
";

pub type Worker = WorkerServiceClient<InterceptedService<Channel, Bearer>>;
pub type Client = ClientServiceClient<InterceptedService<Channel, Bearer>>;

/// A folder of certificates and tokens.
pub struct Safe {
    dir: tempfile::TempDir,
}

impl Safe {
    pub fn new() -> Safe {
        let safe = Safe { dir: tempfile::tempdir().unwrap() };
        make_certs(&safe.path("certs"), &[], &[], 30).unwrap();
        safe
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `certs/NAME` and the token file `TOKENS` prove.
    pub fn proof(&self, certs: Option<&str>, tokens: Option<&str>) -> Proof {
        let path = |name: Option<&str>| name.map(|name| self.path(name));
        Proof { tls_dir: path(certs), token_file: path(tokens), tls_name: None }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn tls(&self) -> Access {
        Access::from_files(None, Some(&self.path("certs/server"))).unwrap()
    }
}

/// A coordinator at work.
pub struct Desk {
    dir: tempfile::TempDir,
    pub core: Handle,
    pub server: Server,
    /// Keeps the channel open.
    _notices: tokio::sync::mpsc::UnboundedReceiver<Notice>,
}

impl Desk {
    pub async fn open(access: Access) -> Desk {
        Desk::listening(access, "127.0.0.1:0").await
    }

    pub async fn listening(access: Access, listen: &str) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let (core, notices) = Core::start(Ledger::open(dir.path()).unwrap(), Recovery::Resume, settings).unwrap();
        let options = ServerOptions { listen: listen.into(), access, settings, artifacts: None };
        let server = Server::start(core.clone(), options).await.unwrap();
        Desk { dir, core, server, _notices: notices }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.address.port())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub async fn submit(&self) {
        let prepared = Prepared::new(SWEEP.into(), "sweep.yaml".into(), self.dir()).unwrap();
        self.core.call(move |core| core.submit(&prepared)).await.unwrap();
    }

    pub async fn status(&self) -> SweepStatus {
        self.core.call(|core| core.status("small")).await.unwrap().unwrap()
    }

    /// Waits for the end of the sweep; the files that must not depend on what happened meanwhile.
    pub async fn results(&self) -> [String; 3] {
        for _ in 0..2000 {
            if self.status().await.state != "running" {
                let into = self.dir().join("report");
                publish(self.dir(), Some("small"), &into).unwrap();
                return ["trials", "curves", "frontier"]
                    .map(|name| std::fs::read_to_string(into.join(format!("{name}.csv"))).unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the sweep never ended: {:?}", self.status().await);
    }
}

/// The files of a sweep that nobody disturbs.
pub async fn undisturbed() -> [String; 3] {
    let desk = Desk::open(Access::open()).await;
    desk.submit().await;
    let _worker = work(&desk.address(), Proof::default(), "calm", Duration::ZERO);
    desk.results().await
}

pub fn worker(address: &str, proof: &Proof) -> Worker {
    let credentials = Credentials::load(proof, Role::Worker).unwrap();
    let (endpoint, dialer) = credentials.endpoint(address).unwrap();
    WorkerServiceClient::with_interceptor(endpoint.connect_with_connector_lazy(dialer), credentials.bearer())
}

pub fn client(address: &str, proof: &Proof) -> Client {
    let credentials = Credentials::load(proof, Role::Client).unwrap();
    let (endpoint, dialer) = credentials.endpoint(address).unwrap();
    ClientServiceClient::with_interceptor(endpoint.connect_with_connector_lazy(dialer), credentials.bearer())
}

/// What a client hears that lists the sweeps.
pub async fn list(address: &str, proof: &Proof) -> Result<usize, Status> {
    let mut request = tonic::Request::new(ListRequest {});
    request.set_timeout(Duration::from_secs(10));
    client(address, proof).list(request).await.map(|answer| answer.into_inner().sweeps.len())
}

pub fn hello(name: &str) -> RegisterRequest {
    RegisterRequest {
        protocol: epsweep::coordinator::PROTOCOL,
        worker: name.into(),
        slots: 2,
        ..RegisterRequest::default()
    }
}

/// A worker that takes `pause` for each task, outlives whatever happens to its connection, and ends when dropped.
pub struct Work(JoinHandle<()>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn work(address: &str, proof: Proof, name: &str, pause: Duration) -> Work {
    let (client, name) = (worker(address, &proof), name.to_string());
    Work(tokio::spawn(async move {
        let mut request = 1;
        loop {
            match turn(client.clone(), &name, request, pause).await {
                Ok(served) => request += u64::from(served),
                Err(status) => {
                    assert_ne!(status.code(), Code::InvalidArgument, "{status}");
                    if status.code() == Code::NotFound {
                        let _ = client.clone().register(hello(&name)).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }))
}

/// Acquires once and answers; whether there was anything to do.
async fn turn(mut client: Worker, name: &str, request: u64, pause: Duration) -> Result<bool, Status> {
    let ask =
        AcquireRequest { worker: name.into(), request, free_slots: 2, prefetch: 0, wait_ms: 1000, seconds_left: None };
    let leases = client.acquire(ask).await?.into_inner().leases;
    let served = !leases.is_empty();
    for lease in leases {
        tokio::time::sleep(pause).await;
        let answer = answer(&mut client, name, &lease).await?;
        while let Err(status) = commits(&mut client, vec![answer.clone()]).await {
            assert_ne!(status.code(), Code::InvalidArgument, "{status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(served)
}

/// Hands answers in with one call.
pub async fn commits(client: &mut Worker, answers: Vec<CommitRequest>) -> Result<Vec<CommitResponse>, Status> {
    let count = answers.len();
    let verdicts = client.commits(CommitsRequest { answers }).await?.into_inner().verdicts;
    assert_eq!(verdicts.len(), count, "one verdict for each");
    Ok(verdicts)
}

/// Hands one answer in.
pub async fn commit(client: &mut Worker, answer: CommitRequest) -> CommitResponse {
    commits(client, vec![answer]).await.unwrap().remove(0)
}

/// What the question's hash says.
pub async fn answer(client: &mut Worker, name: &str, lease: &Lease) -> Result<CommitRequest, Status> {
    let question: Question = serde_json::from_slice(&lease.question).unwrap();
    let key = question.key();
    let answer = match question {
        Question::Train(_) => {
            let mut checkpoints = Vec::new();
            for &epoch in &lease.keep {
                let weights = format!("weights of {key} at {epoch}").into_bytes();
                let artifact = upload(client, &weights).await?;
                let bytes = weights.len() as u64;
                checkpoints.push(Checkpoint {
                    epoch,
                    train_loss: 1.0,
                    train_seconds: 1.0,
                    artifact,
                    bytes,
                    ..Checkpoint::default()
                });
            }
            commit_request::Answer::Train(TrainAnswer { checkpoints })
        }
        Question::Evaluate(question) => {
            let most = question.epsilons.len() as u32 + 2;
            let level = |example: u32| {
                let hash = blake3::hash(&[&key.0[..], &example.to_le_bytes()].concat());
                u32::from(hash.as_bytes()[0]) % most
            };
            let levels = (question.examples[0]..question.examples[1]).map(level).collect();
            commit_request::Answer::Evaluate(EvaluateAnswer { levels, ..EvaluateAnswer::default() })
        }
        other => panic!("the sweep does not ask {other:?}"),
    };
    Ok(CommitRequest {
        worker: name.into(),
        lease: lease.id.clone(),
        seconds: 0.01,
        answer: Some(answer),
        ..CommitRequest::default()
    })
}

/// Stores an artifact; returns its id.
pub async fn upload(client: &mut Worker, content: &[u8]) -> Result<String, Status> {
    let id = ArtifactId::of(content).to_string();
    let piece = PutArtifactRequest { id: id.clone(), chunk: content.to_vec().into(), ..PutArtifactRequest::default() };
    client.put_artifact(tokio_stream::iter([piece])).await?;
    Ok(id)
}
