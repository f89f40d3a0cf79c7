//! Too much of everything: refused or shed, while a sweep goes on as if nothing were.

use crate::harness::{Desk, Safe, list, undisturbed, work};
use epsweep::transport::{Access, Proof, limits};
use std::future::poll_fn;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One flood at a time: they share this process's file descriptors where tests share a process.
static FLOOD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Asks for as many connections as the system lets one process have, both ends of each.
fn connections(wanted: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let (now, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Of the coordinator's ends only the last few are open at a time.
    let possible = wanted.min((now as usize).saturating_sub(4 * limits::STRANGERS));
    if possible < wanted {
        eprintln!("{possible} connections instead of {wanted}: the limit of open files is {now} (was {soft})");
    }
    possible
}

/// How many of these streams the other side has closed.
async fn closed(streams: &mut [TcpStream]) -> usize {
    let mut closed = 0;
    for stream in streams {
        let mut byte = [0; 64];
        loop {
            match stream.try_read(&mut byte) {
                Ok(0) => {
                    closed += 1;
                    break;
                }
                Ok(_) => continue, // HTTP/2 settings
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    closed += 1;
                    break;
                }
            }
        }
    }
    closed
}

/// A sweep over a TLS or plain listener while idle connections come in; every honest call is quick.
async fn idle_flood(desk: Desk, worker: Proof, client: Proof, first_bytes: &'static [u8]) {
    let _alone = FLOOD.lock().await;
    desk.submit().await;
    let _worker = work(&desk.address(), worker, "w", Duration::from_millis(30));
    let count = connections(10_000);
    let mut idle = Vec::with_capacity(count);
    let mut slowest = Duration::ZERO;
    for number in 0..count {
        let mut stream = TcpStream::connect(desk.address()).await.unwrap();
        let _ = stream.write_all(first_bytes).await; // it may be shed already
        idle.push(stream);
        if number % 1000 == 999 {
            let asked = Instant::now();
            assert_eq!(list(&desk.address(), &client).await.unwrap(), 1, "after {number} idle connections");
            slowest = slowest.max(asked.elapsed());
        }
    }
    let shed = closed(&mut idle).await;
    assert!(shed >= count - limits::STRANGERS - 64, "only {shed} of {count} were shed");
    assert!(slowest < Duration::from_secs(2), "an honest call took {slowest:?}");
    eprintln!("{count} idle connections: {shed} shed at once; the slowest honest call took {slowest:?}");
    assert_eq!(desk.results().await, undisturbed().await);
    // The rest go when they have not introduced themselves in time.
    tokio::time::sleep(limits::INTRODUCTION + Duration::from_secs(1)).await;
    assert_eq!(closed(&mut idle).await, count);
    assert_eq!(list(&desk.address(), &client).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_are_shed() {
    idle_flood(Desk::open(Access::open()).await, Proof::default(), Proof::default(), b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_begin_http_and_stop_are_shed() {
    let settings_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    idle_flood(Desk::open(Access::open()).await, Proof::default(), Proof::default(), settings_frame).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_never_shake_hands_are_shed() {
    let safe = Safe::new();
    let desk = Desk::open(safe.tls()).await;
    let proof = |name| safe.proof(Some(name), None);
    idle_flood(desk, proof("certs/worker"), proof("certs/client"), b"\x16\x03\x01").await;
}

/// Announces a message of 1 GiB to `path` and sends it until it is stopped; the status, and how much was taken.
async fn send_a_gibibyte(address: &str, path: &str, token: Option<&str>) -> (Option<String>, usize) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let pump = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = tonic::codegen::http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    let mut first = vec![0];
    first.extend((1u32 << 30).to_be_bytes());
    let mut sent = 0;
    let mut piece = tonic::codegen::Bytes::from(first);
    let answer = tokio::spawn(async move {
        let response = response.await.ok()?;
        let status = |headers: &tonic::codegen::http::HeaderMap| {
            headers.get("grpc-status").map(|value| value.to_str().unwrap().to_string())
        };
        match status(response.headers()) {
            Some(status) => Some(status),
            None => status(&response.into_body().trailers().await.ok()??),
        }
    });
    while sent < (1 << 30) + 5 && !answer.is_finished() {
        body.reserve_capacity(piece.len());
        let capacity = tokio::time::timeout(Duration::from_millis(500), poll_fn(|cx| body.poll_capacity(cx))).await;
        let Ok(Some(Ok(_))) = capacity else { break };
        let room = body.capacity().min(piece.len());
        if body.send_data(piece.slice(..room), false).is_err() {
            break;
        }
        sent += room;
        piece = tonic::codegen::Bytes::from(vec![0; 1 << 16]);
    }
    let status =
        tokio::time::timeout(Duration::from_secs(5), answer).await.ok().and_then(|joined| joined.ok().flatten());
    pump.abort();
    (status, sent)
}

#[tokio::test]
async fn a_message_of_a_gibibyte_is_refused_unread() {
    let safe = Safe::new();
    safe.write("tokens", "a worker,client tttttttttttttttttttt\n");
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    desk.submit().await;
    let proof = safe.proof(None, Some("tokens"));
    let _worker = work(&desk.address(), proof.clone(), "w", Duration::from_millis(20));
    for path in ["WorkerService/Commits", "WorkerService/PutArtifact", "WorkerService/Register", "ClientService/Submit"]
    {
        let path = format!("/epsweep.v1.{path}");
        let (status, sent) = send_a_gibibyte(&desk.address(), &path, Some("tttttttttttttttttttt")).await;
        assert_eq!(status.as_deref(), Some("11"), "{path}: OUT_OF_RANGE, the message is too large");
        assert!(sent < 8 << 20, "{path}: {sent} bytes were taken");
        let (status, sent) = send_a_gibibyte(&desk.address(), &path, None).await;
        assert_eq!(status.as_deref(), Some("16"), "{path}: UNAUTHENTICATED, before anything is read");
        assert!(sent < 8 << 20, "{path}: {sent} bytes were taken from a stranger");
    }
    assert_eq!(list(&desk.address(), &proof).await.unwrap(), 1);
    assert_eq!(desk.results().await, undisturbed().await);
}

#[tokio::test]
async fn who_guesses_loses_the_connection_and_nobody_else_does() {
    let safe = Safe::new();
    safe.write("tokens", "right-right-right-right\n");
    safe.write("wrong", "wrong-wrong-wrong-wrong\n");
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    let mut guessing = crate::harness::client(&desk.address(), &safe.proof(None, Some("wrong")));
    let mut cut = 0;
    for _ in 0..limits::FAILURES + 20 {
        let status = guessing.list(epsweep::proto::ListRequest {}).await.unwrap_err();
        cut += usize::from(status.code() != tonic::Code::Unauthenticated);
        list(&desk.address(), &safe.proof(None, Some("tokens"))).await.unwrap();
    }
    assert!(cut >= 10, "only {cut} guesses beyond the limit lost their connection");
}

#[tokio::test]
async fn garbage_is_no_reason_to_fall() {
    let safe = Safe::new();
    for (desk, proof) in [
        (Desk::open(Access::open()).await, Proof::default()),
        (Desk::open(safe.tls()).await, safe.proof(Some("certs/client"), None)),
    ] {
        for seed in 0..50u32 {
            let mut stream = TcpStream::connect(desk.address()).await.unwrap();
            let mut garbage = vec![0; 4096];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut garbage);
            if seed % 2 == 0 {
                garbage.splice(..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            }
            let _ = stream.write_all(&garbage).await;
            let mut end = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut end)).await;
        }
        assert_eq!(list(&desk.address(), &proof).await.unwrap(), 0);
    }
}
