//! What the hosts of a world start: the coordinator, its workers, and a person who wants results.

use crate::bench::{Bench, Books};
use crate::net::{Listener, Network};
use crate::shell::{self, Options};
use crate::world::Story;
use epsweep::artifacts::{Place, Store};
use epsweep::coordinator::{Core, Notice, Recovery, Server, ServerOptions};
use epsweep::engine::Settings;
use epsweep::ledger::Ledger;
use epsweep::proto::client_service_client::ClientServiceClient;
use epsweep::proto::{StatusRequest, SubmitRequest};
use epsweep::telemetry::traces::Tracer;
use epsweep::transport::{Access, Bearer, Credentials, Proof, Role};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

pub const HEAD: &str = "head";
const PORT: u16 = 7070;

/// What every host of a world knows.
#[derive(Debug, Clone)]
pub struct Site {
    pub dir: PathBuf,
    pub story: Story,
    pub books: Arc<Mutex<Books>>,
    pub settings: Settings,
    pub fails: bool,
    /// Workers are told to leave when they have nothing more to do.
    pub drain: CancellationToken,
    /// What ended that should not have.
    pub wrong: Arc<Mutex<Vec<String>>>,
}

/// How a worker is started, each time.
#[derive(Debug, Clone)]
pub struct Crew {
    pub name: String,
    pub slots: u32,
    pub slowness: f64,
    pub save_every: Option<Duration>,
    /// Replaced before each start; cancelled, it is a SIGTERM.
    pub leave: Arc<Mutex<CancellationToken>>,
    /// It has left in order since it was last started.
    pub left: Arc<Mutex<bool>>,
}

impl Site {
    /// Token files, as `serve --token-file` takes them.
    pub fn prepare(&self) {
        std::fs::create_dir_all(self.dir.join("state")).unwrap();
        std::fs::write(self.dir.join("tokens"), "crew worker 0123456789abcdef\npeople client fedcba9876543210\n")
            .unwrap();
    }

    fn credentials(&self, from: &str, role: Role) -> Credentials {
        let proof = Proof { token_file: Some(self.dir.join("tokens")), ..Proof::default() };
        let network = Network { from: from.into(), story: self.story.clone() };
        Credentials::load(&proof, role).unwrap().over(Arc::new(network))
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn cache(&self, worker: &str) -> PathBuf {
        self.dir.join("caches").join(worker)
    }

    /// `epsweep serve`, without what it prints.
    pub async fn coordinate(self) {
        self.story.note(HEAD, "starts");
        let state = self.state();
        let ledger = Ledger::open(&state).unwrap();
        let store = Store::open(&state.join("checkpoints")).unwrap();
        let (core, mut notices) = Core::start_here(ledger, store, Recovery::Resume, self.settings).unwrap();
        let access = Access::from_files(Some(&self.dir.join("tokens")), None).unwrap();
        let listener = Listener::open(PORT, self.story.clone()).await.unwrap();
        let settings = self.settings;
        let options = ServerOptions { listen: format!("{HEAD}:{PORT}"), access, settings, artifacts: None };
        let _server = Server::start_on(core.clone(), options, listener, ([0, 0, 0, 0], PORT).into());
        let mut drained = false;
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                Some(notice) = notices.recv() => match notice {
                    Notice::Finished { name, .. } => self.story.note(HEAD, &format!("finished {name}")),
                    Notice::Halted { sweep, why } => self.wrong(format!("sweep {sweep} was halted: {why}")),
                    Notice::Broken(error) => self.wrong(format!("the ledger broke: {error}")),
                },
                () = self.drain.cancelled(), if !drained => {
                    drained = true;
                    core.call(Core::drain).await.unwrap();
                }
                _ = look.tick() => core.read(Core::sanity_check).await.unwrap(),
            }
        }
    }

    /// `epsweep-worker`.
    pub async fn work(self, crew: Crew) {
        let name = crew.name.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let (story, books) = (self.story.clone(), self.books.clone());
        let bench = Bench { at: name.clone(), life: now, story, books, fails: self.fails, slowness: crew.slowness };
        let leave = crew.leave.lock().unwrap().clone();
        self.story.note(&name, "starts");
        let options = Options {
            connect: format!("{HEAD}:{PORT}"),
            name: name.clone(),
            host: name.clone(),
            device: "none".into(),
            slots: crew.slots,
            compute: Arc::new(bench),
            first_request: now,
            cache: self.cache(&name),
            cache_size: None,
            place: Place::Own,
            credentials: self.credentials(&name, Role::Worker),
            libtorch: "none".into(),
            save_every: crew.save_every,
            patience: (Duration::from_secs(3600), Duration::from_secs(3600)),
            ends: None,
            idle_exit: None,
            metrics: None,
            tracer: Tracer::default(),
        };
        let ended = shell::run(options, leave.clone()).await;
        self.story.note(&name, "left");
        *crew.left.lock().unwrap() = true;
        match ended {
            Err(error) => self.wrong(format!("{name} ended by itself: {error}")),
            Ok(()) if !leave.is_cancelled() && !self.drain.is_cancelled() => self.wrong(format!("{name} left unasked")),
            Ok(()) => {}
        }
    }

    fn wrong(&self, what: String) {
        self.story.note("wrong", &what);
        self.wrong.lock().unwrap().push(what);
    }

    /// `epsweep submit` and `epsweep status`, until the sweep has ended; returns its state.
    pub async fn want(self, yaml: &'static str, after: Duration, ended: impl Fn(String)) {
        tokio::time::sleep(after).await;
        let mut client = self.client("person");
        let base_dir = self.dir.display().to_string();
        let message = SubmitRequest { yaml: yaml.into(), source: "sweep.yaml".into(), base_dir, priority: 0 };
        let name = loop {
            match client.submit(soon(message.clone())).await {
                Ok(answer) => break answer.into_inner().sweep,
                Err(status) => self.bear(status).await,
            }
        };
        self.story.note("person", &format!("submitted {name}"));
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            match client.status(soon(StatusRequest { sweep: name.clone() })).await {
                Ok(answer) => {
                    let state = answer.into_inner().status.unwrap().state;
                    if !matches!(state.as_str(), "running" | "paused") {
                        self.story.note("person", &format!("{name} is {state}"));
                        return ended(state);
                    }
                }
                Err(status) => self.bear(status).await,
            }
        }
    }

    async fn bear(&self, status: Status) {
        let passing = matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
        );
        if !passing {
            self.wrong(format!("a person hears {status}"));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    fn client(&self, from: &str) -> ClientServiceClient<InterceptedService<Channel, Bearer>> {
        let credentials = self.credentials(from, Role::Client);
        let (endpoint, dialer) = credentials.endpoint(&format!("{HEAD}:{PORT}")).unwrap();
        ClientServiceClient::with_interceptor(endpoint.connect_with_connector_lazy(dialer), credentials.bearer())
    }
}

fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(10));
    request
}

/// A folder in memory, where there is one: the simulation syncs a thousand times a second.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
