//! The page itself: a small HTTP/1.1 server for `/metrics`, and `/healthz` for probes that speak nothing else.
//!
//! It answers everybody who can reach it and holds no secret; what it takes is bounded, so that whoever floods it
//! harms this page alone.

use super::MetricFamily;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{TEXT_FORMAT, TextEncoder};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::Bytes;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 32;
/// From the connection to the last byte of the answer: one page each.
const LIMIT: Duration = Duration::from_secs(15);
/// After a failure to accept (no file descriptor is left).
const RECOVERY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PageError {
    #[error("--metrics {given:?} is not an address to show metrics at")]
    #[diagnostic(help("write HOST:PORT, such as 127.0.0.1:9464; port 0 takes a free one"))]
    Address { given: String, source: std::io::Error },
    #[error("cannot show metrics at {address}: the port is in use")]
    #[diagnostic(help(
        "choose another with --metrics; each worker of a machine needs a port of its own, and port 0 takes a free one"
    ))]
    InUse { address: SocketAddr },
    #[error("cannot show metrics at {address}")]
    #[diagnostic(help("--metrics must name an address of this machine, and a port above 1023 unless this is root"))]
    Bind { address: SocketAddr, source: std::io::Error },
}

/// What there is to show. `None` while the program cannot say: it does not answer itself.
type Answer = Pin<Box<dyn Future<Output = Option<Vec<MetricFamily>>> + Send>>;
type Look = dyn Fn() -> Answer + Send + Sync;

/// A page that is being served, until it is dropped.
#[derive(Debug)]
pub struct Page {
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Page {
    /// Binds, and serves in the background what `look` finds at each reading.
    ///
    /// # Errors
    /// When the address is wrong, taken, or not this machine's.
    pub async fn serve<F>(given: &str, look: impl Fn() -> F + Send + Sync + 'static) -> Result<Page, PageError>
    where
        F: Future<Output = Option<Vec<MetricFamily>>> + Send + 'static,
    {
        let address = tokio::net::lookup_host(given)
            .await
            .and_then(|mut found| found.next().ok_or_else(|| std::io::Error::other("no such host")))
            .map_err(|source| PageError::Address { given: given.into(), source })?;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => PageError::InUse { address },
            _ => PageError::Bind { address, source },
        })?;
        let address = listener.local_addr().map_err(|source| PageError::Bind { address, source })?;
        let look: Arc<Look> = Arc::new(move || Box::pin(look()));
        tracing::info!(address = %address, "metrics shown");
        Ok(Page { address, _task: AbortOnDropHandle::new(tokio::spawn(accept(listener, look))) })
    }
}

async fn accept(listener: TcpListener, look: Arc<Look>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(talk(stream, look.clone(), place))),
            Err(_) => tokio::time::sleep(RECOVERY).await,
        }
    }
}

/// One request and its answer.
async fn talk(stream: TcpStream, look: Arc<Look>, _place: OwnedSemaphorePermit) {
    let service = hyper::service::service_fn(move |request| {
        let look = look.clone();
        async move { Ok::<_, Infallible>(answer(&request, &*look).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(LIMIT, connection).await; // who went away, or was too slow, comes again
}

async fn answer<B>(request: &Request<B>, look: &Look) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        refused.headers_mut().insert(ALLOW, "GET, HEAD".parse().expect("a header's value"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => match look().await.map(encode) {
            Some(Ok(page)) => text(StatusCode::OK, page),
            Some(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "it does not answer\n"),
        },
        "/healthz" => match look().await {
            Some(_) => text(StatusCode::OK, "ok\n"),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "it does not answer\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
}

/// Without what has no rows at present, such as sweeps before the first: the encoder takes that for a mistake.
fn encode(mut families: Vec<MetricFamily>) -> prometheus::Result<String> {
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT.parse().expect("a header's value"));
    response
}

#[cfg(test)]
mod tests {
    use super::super::{common, gauges};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn the_page_shows_what_is_found_and_nothing_else() {
        let rows = || {
            let none = gauges("epsweep_y", "A y.", ["sweep"], []);
            [none, gauges("epsweep_x", "An x.", ["sweep"], [(["a\"b\\c\nd".to_string()], 2.5)])].concat()
        };
        let page = Page::serve("127.0.0.1:0", move || std::future::ready(Some(rows()))).await.expect("a page");
        let shown = ask(page.address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(shown.starts_with("HTTP/1.1 200 OK"), "{shown}");
        assert!(shown.contains("content-type: text/plain; version=0.0.4"), "{shown}");
        assert!(shown.contains("# TYPE epsweep_x gauge\nepsweep_x{sweep=\"a\\\"b\\\\c\\nd\"} 2.5\n"), "{shown}");
        for (request, says) in [
            ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
            ("\0\0\0\0\r\n\r\n", "400"),
        ] {
            let answer = ask(page.address, request).await;
            assert!(answer.lines().next().is_some_and(|line| line.contains(says)), "{request:?}: {answer}");
        }
        let address = page.address;
        drop(page);
        tokio::task::yield_now().await;
        assert!(Page::serve(&address.to_string(), || std::future::ready(None)).await.is_ok(), "its port is free again");
    }

    #[tokio::test]
    async fn a_program_that_cannot_say_is_not_healthy() {
        let page = Page::serve("127.0.0.1:0", || std::future::ready(None)).await.expect("a page");
        for path in ["/metrics", "/healthz"] {
            let answer = ask(page.address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_wrong_address_is_named_with_a_remedy() {
        let page = Page::serve("127.0.0.1:0", || std::future::ready(None)).await.expect("a page");
        let taken = page.address.to_string();
        for (given, says) in
            [("here", "HOST:PORT"), (&*taken, "in use"), ("192.0.2.1:9464", "an address of this machine")]
        {
            let error =
                miette::Report::new(Page::serve(given, || std::future::ready(None)).await.expect_err("refused"));
            let help = error.help().map(|help| help.to_string()).unwrap_or_default();
            assert!(format!("{error} {help}").contains(says), "{error}: {help}");
        }
    }

    #[test]
    fn a_process_says_what_it_uses() {
        let text = TextEncoder::new().encode_to_string(&common("epsweep")).expect("text");
        for name in
            ["epsweep_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"]
        {
            assert!(text.contains(&format!("# HELP {name} ")), "{text}");
        }
    }
}
