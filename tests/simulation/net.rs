//! Connections over the simulated network, as the shells take them.

use crate::world::Story;
use epsweep::transport::{Accept, Connect, Connection, Opening};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The calling side.
#[derive(Debug)]
pub struct Network {
    pub from: String,
    pub story: Story,
}

impl Connect for Network {
    fn connect(&self, host: String, port: u16) -> Opening {
        let (from, story) = (self.from.clone(), self.story.clone());
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await;
            story.note(&from, if stream.is_ok() { "connected" } else { "no connection" });
            let stream = Box::new(Noted { stream: stream?, at: from, story });
            // Nobody listens on the way: the links carry tokens in the clear.
            Ok(Connection { stream, is_local: true })
        })
    }
}

/// The coordinator's side.
pub struct Listener {
    listener: TcpListener,
    story: Story,
}

impl Listener {
    pub async fn open(port: u16, story: Story) -> io::Result<Listener> {
        Ok(Listener { listener: TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?, story })
    }
}

impl Accept for Listener {
    type Stream = Noted;

    async fn accept(&mut self) -> io::Result<(Noted, SocketAddr)> {
        let (stream, address) = self.listener.accept().await?;
        Ok((Noted { stream, at: format!("from {}", address.ip()), story: self.story.clone() }, address))
    }
}

/// A stream of which the story tells when something came: two histories that agree in that, agree.
pub struct Noted {
    stream: TcpStream,
    at: String,
    story: Story,
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(read) = &read {
            self.story.trace(&self.at, if read.is_ok() { "read" } else { "broken" });
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            self.story.trace(&self.at, &format!("wrote {count}"));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
