//! Who may call, and what.

use crate::harness::{Desk, Safe, client, hello, list, worker};
use epsweep::coordinator::{Core, Recovery, Server, ServerOptions};
use epsweep::engine::Settings;
use epsweep::ledger::Ledger;
use epsweep::proto::{CancelRequest, ListRequest, StatusRequest, SubmitRequest};
use epsweep::transport::{Access, Need, Proof, Role, explain, make_certs, need};
use tonic::Code;

const TOKENS: &str =
    "cluster worker wwwwwwwwwwwwwwwwwwww\nlaptop client cccccccccccccccccccc\nwall read-only rrrrrrrrrrrrrrrrrrrr\n";

/// A folder with a token file for each role.
fn tokens() -> Safe {
    let safe = Safe::new();
    safe.write("tokens", TOKENS);
    for line in TOKENS.lines() {
        safe.write(line.split_whitespace().nth(1).unwrap(), line);
    }
    safe.write("wrong", "xxxxxxxxxxxxxxxxxxxx");
    safe
}

#[tokio::test]
async fn a_token_opens_what_its_role_may_and_nothing_else() {
    let safe = tokens();
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    let address = desk.address();
    desk.submit().await;
    let proof = |name| safe.proof(None, Some(name));

    assert_eq!(list(&address, &Proof::default()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(list(&address, &proof("wrong")).await.unwrap_err().code(), Code::Unauthenticated);
    let hello_as = |name: &'static str| worker(&address, &proof(name));
    assert_eq!(hello_as("wrong").register(hello("w")).await.unwrap_err().code(), Code::Unauthenticated);

    let refused = list(&address, &proof("worker")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for word in ["cluster", "worker", "needs read-only", "--token-file"] {
        assert!(refused.message().contains(word), "no {word:?} in {refused}");
    }
    let cancel = || CancelRequest { sweep: "small".into() };
    let refused = client(&address, &proof("worker")).cancel(cancel()).await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("needs client"), "{refused}");

    assert_eq!(list(&address, &proof("read-only")).await.unwrap(), 1);
    let mut looking = client(&address, &proof("read-only"));
    looking.status(StatusRequest::default()).await.unwrap();
    assert_eq!(looking.cancel(cancel()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(looking.submit(SubmitRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    for name in ["client", "read-only"] {
        assert_eq!(hello_as(name).register(hello("w")).await.unwrap_err().code(), Code::PermissionDenied);
    }
    hello_as("worker").register(hello("w")).await.unwrap();
    assert_eq!(desk.status().await.state, "running", "nobody has cancelled it");
    client(&address, &proof("client")).cancel(cancel()).await.unwrap();
    assert_eq!(desk.status().await.state, "cancelled");
}

#[test]
fn every_call_has_its_need() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/epsweep/v1");
    let rpcs = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        names.map(String::from).collect()
    };
    let (workers, clients) = (rpcs("worker.proto"), rpcs("client.proto"));
    assert!(workers.len() >= 8 && clients.len() >= 5, "the calls were not found");
    for name in workers {
        assert_eq!(need(&format!("/epsweep.v1.WorkerService/{name}")), Need::Role(Role::Worker), "{name}");
    }
    let looks = |name: &str| need(&format!("/epsweep.v1.ClientService/{name}")) == Need::Role(Role::ReadOnly);
    let looking: Vec<_> = clients.iter().filter(|name| looks(name)).collect();
    for name in ["Submit", "Cancel", "Pause", "Resume", "Retry", "SetPriority", "AnythingNew"] {
        assert_eq!(need(&format!("/epsweep.v1.ClientService/{name}")), Need::Role(Role::Client), "{name}");
    }
    assert!(
        looking.len() >= 3
            && looking.iter().all(|name| ["List", "Status", "Watch", "Why", "Logs"].contains(&name.as_str()))
    );
    assert_eq!(need("/grpc.health.v1.Health/Check"), Need::Nothing);
    assert_eq!(need("/a.service.of.tomorrow/Call"), Need::Role(Role::Client));
}

#[tokio::test]
async fn a_certificate_opens_what_its_role_may_and_nothing_else() {
    let safe = Safe::new();
    let desk = Desk::open(safe.tls()).await;
    let address = desk.address();
    desk.submit().await;
    let proof = |name| safe.proof(Some(name), None);
    assert_eq!(list(&address, &proof("certs/client")).await.unwrap(), 1);
    assert_eq!(list(&address, &proof("certs/read-only")).await.unwrap(), 1);
    assert_eq!(list(&address, &proof("certs/worker")).await.unwrap_err().code(), Code::PermissionDenied);
    let hello_as = |name| worker(&address, &proof(name));
    hello_as("certs/worker").register(hello("w")).await.unwrap();
    assert_eq!(hello_as("certs/client").register(hello("w")).await.unwrap_err().code(), Code::PermissionDenied);
    let refused = client(&address, &proof("certs/read-only")).cancel(CancelRequest { sweep: "small".into() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn without_with_a_strangers_and_with_an_expired_certificate_nobody_comes_in() {
    let safe = Safe::new();
    let desk = Desk::open(safe.tls()).await;
    let address = desk.address();
    let why = async |name: Option<&str>| {
        let status = list(&address, &safe.proof(name, None)).await.unwrap_err();
        (explain(&status).unwrap_or_default(), status)
    };
    make_certs(&safe.path("others"), &[], &[], 30).unwrap();
    let (said, status) = why(Some("others/client")).await;
    assert!(said.contains("another CA"), "{said} {status:?}");
    // The stranger's certificate with our CA beside it: now the coordinator is the one to refuse.
    std::fs::copy(safe.path("certs/ca.pem"), safe.path("others/client/ca.pem")).unwrap();
    let (said, status) = why(Some("others/client")).await;
    assert!(said.contains("the coordinator trusts another CA"), "{said} {status:?}");

    let expired = safe.path("expired");
    std::fs::create_dir(&expired).unwrap();
    for name in ["ca.pem", "ca-key.pem"] {
        std::fs::copy(safe.path("certs").join(name), expired.join(name)).unwrap();
    }
    assert!(make_certs(&expired, &[], &[], 0).unwrap().old_ca);
    let (said, status) = why(Some("expired/client")).await;
    assert!(said.contains("has expired"), "{said} {status:?}");

    // The coordinator's own certificate is no client's.
    let (said, status) = why(Some("certs/server")).await;
    assert!(!said.is_empty(), "{status:?}");
    let (_, status) = why(None).await; // in the clear
    assert_ne!(status.code(), Code::PermissionDenied, "it never reached a service: {status:?}");
    assert_eq!(list(&address, &safe.proof(Some("certs/client"), None)).await.unwrap(), 0, "while others come in");

    let old = Desk::open(Access::from_files(None, Some(&safe.path("expired/server"))).unwrap()).await;
    let status = list(&old.address(), &safe.proof(Some("certs/client"), None)).await.unwrap_err();
    assert!(explain(&status).unwrap_or_default().contains("coordinator's certificate has expired"), "{status:?}");
}

#[tokio::test]
async fn tls_without_a_certificate_ends_at_the_handshake() {
    let safe = Safe::new();
    let desk = Desk::open(safe.tls()).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(safe.path("certs/ca.pem")).unwrap();
    let ca = <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap();
    roots.add(ca).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(desk.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = "localhost".try_into().unwrap();
    let ended = match connector.connect(name, stream).await {
        Err(error) => error,
        // In TLS 1.3 the client is done first; the refusal is what it reads.
        Ok(mut stream) => tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err(),
    };
    assert!(ended.to_string().contains("CertificateRequired"), "{ended}");
}

#[tokio::test]
async fn a_certificate_and_a_token_together_allow_what_both_allow() {
    let safe = tokens();
    let access = Access::from_files(Some(&safe.path("tokens")), Some(&safe.path("certs/server"))).unwrap();
    let desk = Desk::open(access).await;
    let code =
        async |certs, tokens| list(&desk.address(), &safe.proof(Some(certs), tokens)).await.map_err(|s| s.code());
    assert_eq!(code("certs/client", Some("client")).await, Ok(0));
    assert_eq!(code("certs/client", Some("read-only")).await, Ok(0));
    assert_eq!(code("certs/client", None).await, Err(Code::Unauthenticated));
    assert_eq!(code("certs/worker", Some("client")).await, Err(Code::PermissionDenied));
    assert_eq!(code("certs/client", Some("worker")).await, Err(Code::PermissionDenied));
    let mut both = client(&desk.address(), &safe.proof(Some("certs/client"), Some("read-only")));
    let refused = both.cancel(CancelRequest { sweep: "x".into() }).await.unwrap_err();
    assert!(refused.message().contains("wall/client"), "both names stand there: {refused}");
}

#[tokio::test]
async fn beyond_loopback_nothing_speaks_in_the_clear() {
    let safe = tokens();
    let access = Access::from_files(Some(&safe.path("tokens")), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::default();
    let ledger = Ledger::open(dir.path()).unwrap();
    let (core, _notices) = Core::start(ledger, Recovery::Resume, settings).unwrap();
    let options = ServerOptions { listen: "0.0.0.0:0".into(), access, settings, artifacts: None };
    let refused = Server::start(core, options).await.unwrap_err();
    let help = miette::Diagnostic::help(&refused).unwrap().to_string();
    assert!(refused.to_string().contains("TLS") && help.contains("epsweep certs"), "{refused} {help}");

    // The caller's side: a token is not sent to another machine unencrypted. Needs an address besides loopback.
    let own = local_address();
    let tls = Desk::listening(safe.tls(), "0.0.0.0:0").await;
    let Some(own) = own else { return };
    let address = format!("{own}:{}", tls.server.address.port());
    let status = list(&address, &safe.proof(None, Some("client"))).await.unwrap_err();
    assert!(explain(&status).unwrap_or_default().contains("beyond loopback"), "{status:?}");
    // And a coordinator is believed only under the names of its certificate.
    let status = list(&address, &safe.proof(Some("certs/client"), None)).await.unwrap_err();
    assert!(explain(&status).unwrap_or_default().contains("for another name"), "{status:?}");
    make_certs(&safe.path("certs"), &[own.to_string()], &[], 30).unwrap();
    let named = Desk::listening(safe.tls(), "0.0.0.0:0").await;
    let address = format!("{own}:{}", named.server.address.port());
    assert_eq!(list(&address, &safe.proof(Some("certs/client"), None)).await.unwrap(), 0);
}

/// This machine's address as others see it.
fn local_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // nothing is sent
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[tokio::test]
async fn probes_need_no_token_and_see_nothing_else() {
    let safe = tokens();
    let desk = Desk::open(Access::from_files(Some(&safe.path("tokens")), None).unwrap()).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", desk.address())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    let mut blank = epsweep::proto::client_service_client::ClientServiceClient::new(channel);
    assert_eq!(blank.list(ListRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
}
