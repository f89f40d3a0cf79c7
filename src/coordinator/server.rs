//! The listener: binds, refuses what would be unsafe, serves until told to stop.

use super::client_service::Clients;
use super::core::Handle;
use super::worker_service::Workers;
use crate::engine::Settings;
use crate::proto;
use crate::proto::client_service_server::ClientServiceServer;
use crate::proto::worker_service_server::WorkerServiceServer;
use crate::transport::{Accept, Access, Faults, Guard, limits, listen};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub listen: String,
    pub access: Access,
    pub settings: Settings,
    /// What the place of artifacts is known by, where workers may reach it too.
    pub artifacts: Option<String>,
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
    #[error(
        "{address} can be reached from other machines, and without TLS everybody on the way could read and change what is sent"
    )]
    #[diagnostic(help(
        "add --tls-dir DIR (`epsweep certs --out certs --host NAME` makes certificates for all sides), or listen on 127.0.0.1 and let others in through a tunnel"
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
        if !address.ip().is_loopback() && !options.access.has_tls() {
            return Err(ServerError::Unprotected { address });
        }
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => ServerError::InUse { address },
            _ => ServerError::Bind { address, source },
        })?;
        let address = listener.local_addr().map_err(|source| ServerError::Bind { address, source })?;
        Ok(Server::start_on(core, options, listener, address))
    }

    /// Serves whoever comes through `listener`, which is known as `address`. Whether that may be without TLS is the
    /// caller's to know.
    pub fn start_on(core: Handle, options: ServerOptions, listener: impl Accept, address: SocketAddr) -> Server {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(core, options, listener, stop.clone()));
        Server { address, stop, task }
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
    listener: impl Accept,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let guard = Guard::new(options.access.clone());
    let incoming = listen(listener, options.access.clone(), guard.register(), stop.clone());
    let workers = WorkerServiceServer::new(Workers::new(core.clone(), options));
    let workers = workers.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE);
    let clients = ClientServiceServer::new(Clients::new(core)).max_decoding_message_size(limits::MESSAGE);
    health.set_serving::<WorkerServiceServer<Workers>>().await;
    health.set_serving::<ClientServiceServer<Clients>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were made by our own build");
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(limits::PING))
        .http2_keepalive_timeout(Some(limits::PING))
        .http2_max_header_list_size(limits::HEADERS)
        .max_concurrent_streams(limits::STREAMS)
        .max_connection_age(limits::CONNECTION_AGE)
        .layer(guard)
        .layer(Faults::from_env())
        .add_service(health_service)
        .add_service(reflection)
        .add_service(workers)
        .add_service(clients)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}
