//! Accepts connections: makes the TLS handshake, counts, and sheds those of strangers.

use super::conn::Conn;
use super::limits::{CONNECTIONS, INTRODUCTION, STRANGERS};
use super::roles::Caller;
use super::tls::{ServerTls, holder};
use super::{Access, limits};
use crate::blocking;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Files that stay for the ledger, artifacts, logs and data sets when connections take all others.
const FILES_KEPT: usize = 256;
/// After a failure to accept (no file descriptor is left).
const RECOVERY: Duration = Duration::from_millis(50);

/// What is known of a connection. Every call on it carries one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer(Arc<State>);

#[derive(Debug)]
pub struct State {
    id: u64,
    pub address: SocketAddr,
    pub since: Instant,
    /// What its certificate says; `None` also where there is no TLS.
    pub certificate: Option<Caller>,
    /// Ends the connection.
    pub close: CancellationToken,
    proven: AtomicBool,
    open: AtomicU64,
    /// When the last call ended, in milliseconds from `since`.
    last: AtomicU64,
}

impl std::ops::Deref for Peer {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Peer {
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// How long it has had no call under way.
    pub fn quiet(&self) -> Duration {
        if self.open.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// A call is under way until the returned value is dropped.
    pub fn begin_call(&self) -> OpenCall {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenCall(self.clone())
    }
}

/// A call under way.
#[derive(Debug)]
pub struct OpenCall(Peer);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.last.store(self.0.since.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All connections of a listener.
#[derive(Debug)]
pub struct Register {
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    next: u64,
    /// By age.
    strangers: BTreeMap<u64, CancellationToken>,
    proven: usize,
    /// Closed for want of room since the last look.
    shed: u64,
}

impl Register {
    pub fn new() -> Register {
        let files = raise_file_limit();
        let most = CONNECTIONS.min(files.saturating_sub(FILES_KEPT + STRANGERS).max(16));
        if most < CONNECTIONS {
            tracing::info!(connections = most, files, "the limit of open files allows fewer connections");
        }
        Register { most, counts: Mutex::new(Counts::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection; the oldest that has proved nothing makes room for it where there is none.
    fn enter(&self) -> (u64, CancellationToken) {
        let close = CancellationToken::new();
        let mut counts = self.lock();
        let id = counts.next;
        counts.next += 1;
        counts.strangers.insert(id, close.clone());
        if counts.strangers.len() > STRANGERS
            && let Some((_, oldest)) = counts.strangers.pop_first()
        {
            counts.shed += 1;
            oldest.cancel();
        }
        (id, close)
    }

    /// An accepted call came over this connection. False when there are too many that have come so far.
    pub fn prove(&self, peer: &Peer) -> bool {
        if peer.is_proven() {
            return true;
        }
        let mut counts = self.lock();
        if counts.strangers.remove(&peer.id).is_none() {
            return peer.is_proven(); // shed a moment ago, or by another call
        }
        if counts.proven >= self.most {
            counts.shed += 1;
            return false;
        }
        counts.proven += 1;
        peer.proven.store(true, Ordering::Relaxed);
        true
    }

    pub fn forget(&self, peer: &Peer) {
        peer.close.cancel();
        let mut counts = self.lock();
        if counts.strangers.remove(&peer.id).is_none() && peer.is_proven() {
            counts.proven -= 1;
        }
    }

    fn report(&self) {
        let shed = std::mem::take(&mut self.lock().shed);
        if shed > 0 {
            tracing::warn!(connections = shed, "closed for want of room: they had made no accepted call");
        }
    }
}

/// Where connections come from: TCP, or what carries them in its place.
pub trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection, and who it comes from. Nothing is lost when the future is dropped.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        let _ = stream.set_nodelay(true);
        Ok((stream, address))
    }
}

/// Accepts connections until `stop`; those that are ready for HTTP/2 come out of the stream.
pub fn listen<A: Accept>(
    mut listener: A,
    access: Access,
    register: Arc<Register>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Conn<A::Stream>>> {
    let (ready, connections) = mpsc::channel(64);
    let epochs = Arc::new(Epochs::default());
    tokio::spawn(keep_fresh(access.clone(), register.clone(), epochs.clone(), stop.clone()));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = Accept::accept(&mut listener) => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (id, close) = register.enter();
                    let state = State {
                        id,
                        address,
                        since: Instant::now(),
                        certificate: None,
                        close,
                        proven: AtomicBool::new(false),
                        open: AtomicU64::new(0),
                        last: AtomicU64::new(0),
                    };
                    let greeting =
                        greet(stream, state, access.clone(), register.clone(), epochs.clone(), ready.clone());
                    tokio::spawn(greeting);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(RECOVERY).await;
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

/// The handshake, in time, and on to HTTP/2.
async fn greet<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: S,
    mut state: State,
    access: Access,
    register: Arc<Register>,
    epochs: Arc<Epochs>,
    ready: mpsc::Sender<io::Result<Conn<S>>>,
) {
    let Some(tls) = access.tls() else {
        let _ = ready.send(Ok(Conn::plain(stream, Peer(Arc::new(state)), register))).await;
        return;
    };
    let shake = TlsAcceptor::from(tls.config.clone()).accept(stream);
    let shaken = tokio::select! {
        biased;
        () = state.close.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
        shaken = tokio::time::timeout(INTRODUCTION, shake) => shaken.unwrap_or_else(|late| Err(late.into())),
    };
    match shaken {
        Ok(stream) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            state.certificate = certificates.first().and_then(holder);
            epochs.tie(&tls, &state.close);
            let _ = ready.send(Ok(Conn::tls(stream, Peer(Arc::new(state)), register))).await;
        }
        Err(error) => {
            tracing::debug!(peer = %state.address, %error, "no TLS handshake");
            access.failed(state.address.ip());
            register.forget(&Peer(Arc::new(state)));
        }
    }
}

/// Connections by the CA that let them in.
#[derive(Debug, Default)]
struct Epochs(Mutex<Option<(blake3::Hash, Vec<CancellationToken>)>>);

impl Epochs {
    /// The connection that `close` ends lasts no longer than this CA.
    fn tie(&self, tls: &ServerTls, close: &CancellationToken) {
        let mut epoch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *epoch {
            Some((ca, open)) if *ca == tls.ca => {
                if open.len() >= 2 * CONNECTIONS {
                    open.retain(|close| !close.is_cancelled());
                }
                open.push(close.clone());
            }
            Some(_) => close.cancel(), // the handshake began before the change
            None => *epoch = Some((tls.ca, vec![close.clone()])),
        }
    }

    /// Ends what another CA let in.
    fn turn(&self, tls: &ServerTls) {
        let mut epoch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ca, open)) = &mut *epoch
            && *ca != tls.ca
        {
            tracing::info!("another CA: connections that the former one let in are closed");
            open.drain(..).for_each(|close| close.cancel());
            *ca = tls.ca;
        }
    }
}

/// Looks at the files, and says what was shed.
async fn keep_fresh(access: Access, register: Arc<Register>, epochs: Arc<Epochs>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(limits::LOOK) => {}
        }
        let looking = access.clone();
        if blocking::run(move || looking.look()).await.is_err() {
            return;
        }
        if let Some(tls) = access.tls() {
            epochs.turn(&tls);
        }
        register.report();
        access.report();
    }
}

/// Open files are what connections are made of: takes as many as the system allows. Returns how many.
fn raise_file_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = hard.min((2 * CONNECTIONS) as u64);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        return wanted as usize;
    }
    soft as usize
}
