//! One connection at the coordinator, as the HTTP/2 machinery reads and writes it.

use super::limits::{IDLE, INTRODUCTION};
use super::listener::{Peer, Register};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// A stream that ends by itself when its peer does not introduce itself, sleeps, or is shut out.
pub struct Conn<S> {
    stream: Stream<S>,
    peer: Peer,
    register: Arc<Register>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When the peer is looked at again.
    look: Pin<Box<Sleep>>,
}

impl<S> Conn<S> {
    pub fn plain(stream: S, peer: Peer, register: Arc<Register>) -> Conn<S> {
        Conn::new(Stream::Plain(stream), peer, register)
    }

    pub fn tls(stream: TlsStream<S>, peer: Peer, register: Arc<Register>) -> Conn<S> {
        Conn::new(Stream::Tls(Box::new(stream)), peer, register)
    }

    fn new(stream: Stream<S>, peer: Peer, register: Arc<Register>) -> Conn<S> {
        let closed = Box::pin(peer.close.clone().cancelled_owned());
        let look = Box::pin(tokio::time::sleep_until(peer.since + INTRODUCTION));
        Conn { stream, peer, register, closed, look }
    }

    /// An error once the connection must end; wakes the task when that may be.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Some(io::ErrorKind::ConnectionAborted.into());
        }
        while self.look.as_mut().poll(cx).is_ready() {
            if !self.peer.is_proven() {
                return Some(io::Error::new(io::ErrorKind::TimedOut, "no accepted call in time"));
            }
            let quiet = self.peer.quiet();
            if quiet >= IDLE {
                return Some(io::Error::new(io::ErrorKind::TimedOut, "no call for too long"));
            }
            self.look.as_mut().reset(Instant::now() + (IDLE - quiet));
        }
        None
    }
}

impl<S> Drop for Conn<S> {
    fn drop(&mut self) {
        self.register.forget(&self.peer);
    }
}

impl<S> Connected for Conn<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Conn<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Conn<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
