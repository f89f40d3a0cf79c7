//! The calling side: the connection, and the proof of who calls.

use super::AccessError;
use super::address::Place;
use super::connect::{Connect, Connection, Stream, Tcp};
use super::fresh::Fresh;
use super::limits::{LOOK, PING};
use super::roles::Role;
use super::tls::ClientTls;
use super::tokens::secret_for;
use crate::blocking;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::service::Interceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// TCP and the handshake together may take this long.
const CONNECT: Duration = Duration::from_secs(10);

/// The options by which a worker or client proves who it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Proof {
    /// File with the coordinator's token: a line TOKEN, or NAME ROLES TOKEN. Read again when it changes
    #[arg(long, value_name = "FILE", env = "EPSWEEP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Folder with ca.pem, cert.pem and key.pem (or ca.crt, tls.crt and tls.key): TLS, needed beyond loopback.
    /// Read again when they change
    #[arg(long, value_name = "DIR", env = "EPSWEEP_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// What the coordinator's certificate must be for, where that is not the host it is called by
    #[arg(long, value_name = "NAME", env = "EPSWEEP_TLS_NAME", value_parser = server_name)]
    pub tls_name: Option<ServerName<'static>>,
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_string()).map_err(|_| "it is neither a host's name nor an address".into())
}

/// What a worker or client shows, read from its files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Credentials {
    token: Option<Arc<Fresh<String>>>,
    tls: Option<Arc<Fresh<ClientTls>>>,
    tls_name: Option<ServerName<'static>>,
    connect: Arc<dyn Connect>,
}

impl Credentials {
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(proof: &Proof, role: Role) -> Result<Credentials, AccessError> {
        let token = proof.token_file.as_deref().map(|path| secret_for(path, role)).transpose()?;
        let tls = proof.tls_dir.as_deref().map(ClientTls::from_dir).transpose()?;
        let (token, tls) = (token.map(Arc::new), tls.map(Arc::new));
        Ok(Credentials { token, tls, tls_name: proof.tls_name.clone(), connect: Arc::new(Tcp) })
    }

    /// The same, shown over connections that `connect` opens.
    pub fn over(self, connect: Arc<dyn Connect>) -> Credentials {
        Credentials { connect, ..self }
    }

    /// The coordinator at `address` (HOST:PORT, or @FILE for a file that says so), and the way there. The file is
    /// read at every new connection: it may not be there yet, and a coordinator that moves writes it anew.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn endpoint(&self, address: &str) -> Result<(Endpoint, Dialer), AccessError> {
        let wrong = || AccessError::Address { address: address.into() };
        let place = Place::parse(address).ok_or_else(wrong)?;
        let origin = match &place {
            Place::At { .. } => format!("http://{address}"),
            Place::In(_) => "http://coordinator".into(), // calls need some origin; the dialer knows the way
        };
        let (tls, tls_name, connect) = (self.tls.clone(), self.tls_name.clone(), self.connect.clone());
        let dialer = Dialer { place, tls, tls_name, connect };
        // TLS is the dialer's: to tonic it looks like any stream.
        let endpoint = Endpoint::from_shared(origin).map_err(|_| wrong())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        Ok((endpoint, dialer))
    }

    pub fn bearer(&self) -> Bearer {
        Bearer { token: self.token.clone(), looked: Arc::new(Mutex::new(Instant::now())) }
    }
}

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub struct Bearer {
    token: Option<Arc<Fresh<String>>>,
    looked: Arc<Mutex<Instant>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.token else { return Ok(request) };
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= LOOK
        {
            *looked = Instant::now();
            token.look();
        }
        let header = format!("Bearer {}", token.get()).parse();
        let mut header: tonic::metadata::MetadataValue<_> =
            header.map_err(|_| Status::unauthenticated("the token is not plain ASCII"))?;
        header.set_sensitive(true);
        request.metadata_mut().insert("authorization", header);
        Ok(request)
    }
}

/// Makes connections, each with the certificates as they are then.
#[derive(Debug, Clone)]
pub struct Dialer {
    place: Place,
    tls: Option<Arc<Fresh<ClientTls>>>,
    tls_name: Option<ServerName<'static>>,
    connect: Arc<dyn Connect>,
}

/// Why no connection was even tried, or not in the clear.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(
        "{host} is beyond loopback, where everything must be encrypted: add --tls-dir DIR (`epsweep certs` makes one), or go through a tunnel to 127.0.0.1"
    )]
    Plaintext { host: String },
    #[error("{host:?} is not a host that a certificate can name")]
    Name { host: String },
}

impl Dialer {
    async fn dial(self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = self.place.find().await?;
        let Connection { stream, is_local } = self.connect.connect(host.clone(), port).await?;
        let Some(tls) = self.tls else {
            return if is_local { Ok(stream) } else { Err(io::Error::other(DialError::Plaintext { host })) };
        };
        let looking = tls.clone();
        let _ = blocking::run(move || looking.look()).await;
        let name = self.tls_name.map_or_else(|| ServerName::try_from(host.clone()), Ok);
        let name = name.map_err(|_| io::Error::other(DialError::Name { host }))?;
        let mut stream = TlsConnector::from(tls.get().config.clone()).connect(name, stream).await?;
        // In TLS 1.3 the caller is done first, and learns of a refusal when it reads. HTTP/2 begins with
        // the server's settings, so there is something to wait for: a refusal fails the connection.
        let first = stream.read_u8().await?;
        Ok(Box::new(Begun { first: Some(first), stream }))
    }
}

/// A stream whose first byte has been read.
struct Begun<S> {
    first: Option<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

/// What trying again will not mend: wrong certificates, or TLS on one side only. In words for people.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(dial) = error.downcast_ref::<DialError>() {
        return Some(dial.to_string());
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(explain_tls(tls));
    }
    // An io::Error hides what it wraps from `source`.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.and_then(|inner| explain(inner)).or_else(|| error.source().and_then(explain))
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    let remedy = match error {
        Error::AlertReceived(Alert::CertificateExpired) => "the certificate in --tls-dir has expired: renew it",
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError) => {
            "the coordinator trusts another CA than the one that signed the certificate in --tls-dir"
        }
        Error::AlertReceived(Alert::CertificateRequired) => "the coordinator wants a certificate: add --tls-dir",
        Error::AlertReceived(Alert::UnsupportedCertificate | Alert::AccessDenied) => {
            "the certificate in --tls-dir is not one for clients"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the coordinator's certificate has expired: renew it there"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the coordinator's certificate was signed by another CA than the one in --tls-dir"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the coordinator's certificate is for another name than the one it was called by: `epsweep certs --host NAME`"
        }
        Error::InvalidMessage(_) => "it does not speak TLS: leave --tls-dir out, or start the coordinator with it",
        _ => return format!("TLS: {error}"),
    };
    format!("{remedy} ({error})")
}
