//! How the calling side opens a connection.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One that is open, before anything is sent over it.
pub struct Connection {
    pub stream: Box<dyn Stream>,
    /// It leads to this machine: nobody on the way could listen.
    pub is_local: bool,
}

/// A connection that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Opens connections: TCP, or what carries them in its place.
pub trait Connect: Debug + Send + Sync {
    fn connect(&self, host: String, port: u16) -> Opening;
}

/// What everybody uses.
#[derive(Debug)]
pub(super) struct Tcp;

impl Connect for Tcp {
    fn connect(&self, host: String, port: u16) -> Opening {
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let is_local = stream.peer_addr()?.ip().is_loopback();
            Ok(Connection { stream: Box::new(stream), is_local })
        })
    }
}
