//! The listener: binds, refuses what would be unsafe, serves until told to stop.

use super::auth::Access;
use super::client_service::Clients;
use super::core::Handle;
use super::worker_service::Workers;
use crate::engine::Settings;
use crate::proto;
use crate::proto::client_service_server::ClientServiceServer;
use crate::proto::worker_service_server::WorkerServiceServer;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub listen: String,
    pub access: Access,
    pub settings: Settings,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServerError {
    #[error("{listen:?} is not an address to listen on")]
    #[diagnostic(help("write HOST:PORT, such as 127.0.0.1:7070; port 0 takes a free one"))]
    Address { listen: String, source: std::io::Error },
    #[error("cannot listen on {address}")]
    #[diagnostic(help("the port is in use: choose another with --listen, or port 0 for a free one"))]
    InUse { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("{address} can be reached from other machines, and no token was given")]
    #[diagnostic(help(
        "add --token-file FILE (and give the same file to workers and clients), or listen on 127.0.0.1"
    ))]
    Unprotected { address: SocketAddr },
}

/// A running listener.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Binds and serves in the background.
    ///
    /// # Errors
    /// When the address is wrong, taken, or would be open to everybody.
    pub async fn start(core: Handle, options: ServerOptions) -> Result<Server, ServerError> {
        let listen = options.listen.clone();
        let address = tokio::net::lookup_host(&listen)
            .await
            .and_then(|mut found| found.next().ok_or_else(|| std::io::Error::other("no such host")))
            .map_err(|source| ServerError::Address { listen, source })?;
        if !address.ip().is_loopback() && options.access.is_open() {
            return Err(ServerError::Unprotected { address });
        }
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => ServerError::InUse { address },
            _ => ServerError::Bind { address, source },
        })?;
        let address = listener.local_addr().map_err(|source| ServerError::Bind { address, source })?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(core, options, listener, stop.clone()));
        Ok(Server { address, stop, task })
    }

    /// Takes no new calls and waits briefly for those under way.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.task).await;
    }
}

async fn serve(
    core: Handle,
    options: ServerOptions,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let access = options.access.clone();
    let guard = move |request| access.check(request);
    let workers = WorkerServiceServer::new(Workers { core: core.clone(), options });
    let clients = ClientServiceServer::new(Clients { core });
    health.set_serving::<WorkerServiceServer<Workers>>().await;
    health.set_serving::<ClientServiceServer<Clients>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were made by our own build");
    // Probes carry no token: the health service alone stands outside the guard.
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, guard.clone()))
        .add_service(InterceptedService::new(workers, guard.clone()))
        .add_service(InterceptedService::new(clients, guard))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned())
        .await
}
