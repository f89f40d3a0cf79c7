//! Tokens and certificates are replaced while everything runs.

use crate::harness::{Desk, Safe, client, list, undisturbed, work};
use epsweep::proto::ListRequest;
use epsweep::transport::{Access, make_certs};
use std::time::Duration;
use tonic::Code;

/// Files are looked at every two seconds, and a broken one twice.
const NOTICED: Duration = Duration::from_secs(12);

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + NOTICED;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_token_is_replaced_without_a_restart_and_a_broken_file_changes_nothing() {
    let safe = Safe::new();
    safe.write("tokens", "laptop client oooooooooooooooooooo\n");
    safe.write("old", "oooooooooooooooooooo\n");
    safe.write("new", "nnnnnnnnnnnnnnnnnnnn\n");
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    let code =
        async |name| list(&desk.address(), &safe.proof(None, Some(name))).await.err().map(|status| status.code());
    assert_eq!(code("old").await, None);
    assert_eq!(code("new").await, Some(Code::Unauthenticated));

    safe.write("tokens", "laptop client oooooooooooooooooooo\nlaptop client nnnnnnnnnnnnnnnnnnnn\n");
    until("both are accepted", async || code("new").await.is_none()).await;
    assert_eq!(code("old").await, None, "while one takes the other's place");
    safe.write("tokens", "laptop client nnnnnnnnnnnnnnnnnnnn\n");
    until("the old one is refused", async || code("old").await.is_some()).await;

    safe.write("tokens", "laptop admin nnnn\nnonsense\n");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(code("new").await, None, "what is broken changes nothing");
    assert_eq!(code("old").await, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_caller_takes_up_its_new_token_on_the_connection_it_has() {
    let safe = Safe::new();
    safe.write("tokens", "laptop client oooooooooooooooooooo\n");
    safe.write("mine", "oooooooooooooooooooo\n");
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    let mut client = client(&desk.address(), &safe.proof(None, Some("mine")));
    client.list(ListRequest {}).await.unwrap();
    safe.write("tokens", "laptop client nnnnnnnnnnnnnnnnnnnn\n");
    until("the old one is refused", async || client.list(ListRequest {}).await.is_err()).await;
    safe.write("mine", "nnnnnnnnnnnnnnnnnnnn\n");
    until("the new one is shown", async || client.list(ListRequest {}).await.is_ok()).await;
}

#[tokio::test]
async fn certificates_and_their_ca_are_replaced_during_a_sweep() {
    let safe = Safe::new();
    let desk = Desk::open(safe.tls()).await;
    desk.submit().await;
    // 16 training runs and evaluations of 64 checkpoint-attack pairs, two at a time: some ten seconds.
    let _worker = work(&desk.address(), safe.proof(Some("certs/worker"), None), "w", Duration::from_millis(400));
    let client_proof = safe.proof(Some("certs/client"), None);
    until("work has begun", async || desk.status().await.train.unwrap().done > 0).await;
    std::fs::create_dir(safe.path("stale")).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(safe.path("certs/client").join(name), safe.path("stale").join(name)).unwrap();
    }
    let mut open = client(&desk.address(), &client_proof);
    open.list(ListRequest {}).await.unwrap();

    // Renewed under the same CA: nobody notices.
    make_certs(&safe.path("certs"), &[], &[], 30).unwrap();
    assert!(list(&desk.address(), &client_proof).await.is_ok());
    assert!(list(&desk.address(), &safe.proof(Some("stale"), None)).await.is_ok(), "the CA is the same");

    // Another CA: who shows a certificate of the former one is refused, on old connections too.
    std::fs::remove_file(safe.path("certs/ca.pem")).unwrap();
    std::fs::remove_file(safe.path("certs/ca-key.pem")).unwrap();
    assert!(!make_certs(&safe.path("certs"), &[], &[], 30).unwrap().old_ca);
    until("the new ones are accepted", async || list(&desk.address(), &client_proof).await.is_ok()).await;
    let stale = safe.proof(Some("stale"), None);
    until("the old ones are refused", async || list(&desk.address(), &stale).await.is_err()).await;
    until("an open connection ends, and the next one is good", async || open.list(ListRequest {}).await.is_ok()).await;
    assert_eq!(desk.status().await.state, "running", "the sweep has seen all of this");

    // A key that is not the certificate's: what was there stays in use.
    safe.write("certs/server/key.pem", &std::fs::read_to_string(safe.path("certs/client/key.pem")).unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(list(&desk.address(), &client_proof).await.is_ok());
    assert_eq!(desk.results().await, undisturbed().await);
}
