//! A peer that sends whatever it likes, through the services that answer real ones.

use super::client_service::Clients;
use super::worker_service::Workers;
use super::{Core, Handle, Prepared, Recovery, ServerOptions};
use crate::engine::Settings;
use crate::ledger::Ledger;
use crate::proto::client_service_server::ClientService;
use crate::proto::worker_service_server::WorkerService;
use crate::proto::{self, LeaseRef};
use crate::transport::Access;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Request;

const YAML: &str = "
name: fuzz
dataset: digits
trial: {model: linear, method: natural, epochs: 2, batch_size: 64}
seeds: 3
evaluate: {epsilons: [0, 0.1], attacks: [fgsm], certify: [ibp], epochs: [1, final]}
";

/// A coordinator with a sweep under way, and a connection to it.
pub struct Peer {
    runtime: tokio::runtime::Runtime,
    workers: Workers,
    clients: Clients,
    core: Handle,
    /// What the sweep has leased: a message whose lease has one byte names one of these.
    leased: Vec<LeaseRef>,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// # Panics
    /// When there is no room for a ledger.
    #[allow(clippy::new_without_default)] // it writes files
    pub fn new() -> Peer {
        let dir = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ledger = Ledger::open(dir.path()).expect("a ledger");
        let settings = Settings::default();
        let (core, _) = Core::start(ledger, Recovery::Resume, settings).expect("a core");
        let options = ServerOptions { listen: String::new(), access: Access::open(), settings, artifacts: None };
        let workers = Workers::new(core.clone(), options);
        let clients = Clients::new(core.clone());
        let mut peer = Peer { runtime, workers, clients, core, leased: Vec::new(), _dir: dir };
        peer.begin();
        peer
    }

    fn begin(&mut self) {
        let prepared = Prepared::new(YAML.into(), "fuzz.yaml".into(), std::path::Path::new("/")).expect("a sweep");
        let register =
            proto::RegisterRequest { protocol: super::PROTOCOL, worker: "w".into(), slots: 8, ..Default::default() };
        let acquire = proto::AcquireRequest { worker: "w".into(), request: 1, free_slots: 8, ..Default::default() };
        self.runtime.block_on(async {
            self.core.call(move |core| core.submit(&prepared)).await.expect("submitted");
            self.workers.register(Request::new(register)).await.expect("registered");
            let acquired = self.workers.acquire(Request::new(acquire)).await.expect("leases").into_inner();
            self.leased = acquired.leases.into_iter().filter_map(|lease| lease.id).collect();
        });
        self.core.store.put(b"weights").expect("stored");
    }

    fn lease(&self, sent: Option<LeaseRef>) -> Option<LeaseRef> {
        let sent = sent?;
        match (sent.task.first(), sent.task.len()) {
            (Some(&n), 1) if !self.leased.is_empty() => Some(self.leased[usize::from(n) % self.leased.len()].clone()),
            _ => Some(sent),
        }
    }

    /// Sends one message; the coordinator must survive it, and go on answering.
    ///
    /// # Panics
    /// When it does not.
    pub fn send(&mut self, kind: u8, bytes: &[u8]) {
        fn read<M: Message + Default>(bytes: &[u8]) -> Option<Request<M>> {
            M::decode(bytes).ok().map(Request::new)
        }
        let status = self.runtime.block_on(async {
            match kind % 11 {
                0 => drop(self.workers.register(read(bytes)?).await),
                1 => {
                    let request = proto::AcquireRequest::decode(bytes).ok()?;
                    let request = proto::AcquireRequest { wait_ms: 0, ..request }; // nobody comes to wake it
                    drop(self.workers.acquire(Request::new(request)).await);
                }
                2 => drop(self.workers.heartbeat(read(bytes)?).await),
                3 => {
                    let request = proto::CommitRequest::decode(bytes).ok()?;
                    let lease = self.lease(request.lease.clone());
                    let answer = proto::CommitRequest { lease, ..request };
                    let request = proto::CommitsRequest { answers: vec![answer.clone(), answer] };
                    drop(self.workers.commits(Request::new(request)).await);
                }
                4 => {
                    let request = proto::FailRequest::decode(bytes).ok()?;
                    let lease = self.lease(request.lease.clone());
                    drop(self.workers.fail(Request::new(proto::FailRequest { lease, ..request })).await);
                }
                5 => drop(self.workers.leave(read(bytes)?).await),
                6 => {
                    if let Ok(stream) = self.workers.get_artifact(read(bytes)?).await {
                        let mut stream = stream.into_inner();
                        while let Some(Ok(_)) = stream.next().await {}
                    }
                }
                7 => drop(self.clients.status(read(bytes)?).await),
                8 => drop(self.clients.list(read(bytes)?).await),
                9 => drop(self.clients.watch(read(bytes)?).await),
                _ => drop(self.clients.cancel(read(bytes)?).await),
            }
            Some(self.core.read(|core| core.list()).await)
        });
        if let Some(status) = status {
            assert_eq!(status.expect("the core lives").len(), 1);
        }
    }
}
