//! Whole sweeps between real processes over mutual TLS, and those who must stay outside.

use crate::harness::{Folder, SMALL};

fn with_certs() -> Folder {
    let folder = Folder::with(SMALL);
    for dir in ["certs", "others"] {
        folder.epsweep(&["certs", "--out", dir, "--host", "127.0.0.1"]).expect(0);
    }
    folder
}

#[test]
fn a_sweep_over_tls_is_the_same_and_its_certificates_are_renewed_meanwhile() {
    let folder = with_certs();
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let (_coordinator, address) = folder.serve(&["--tls-dir", "certs/server"]);
    let _workers = ["one", "two"].map(|name| folder.worker(&address, name, &["--tls-dir", "certs/worker"]));
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address, "--tls-dir", "certs/client"]).expect(0);
    folder.wait_for("a first answer", || !folder.log_lines("state", &["\"committed\""]).is_empty());
    let renewed = folder.epsweep(&["certs", "--out", "certs", "--host", "127.0.0.1"]).expect(0);
    assert!(renewed.stderr.contains("signed by the CA that was there"), "{}", renewed.stderr);
    folder.epsweep(&["watch", "--to", &address, "--tls-dir", "certs/client"]).expect(0);
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(folder.results("out"), folder.results("calm/report"));
    assert!(folder.costs("out").iter().all(|row| row["attempt"] == "1"), "nobody was thrown out");
}

#[test]
fn who_has_no_certificate_or_a_wrong_one_or_another_role_is_refused() {
    let folder = with_certs();
    let (_coordinator, address) = folder.serve(&["--tls-dir", "certs/server"]);
    let list = |extra: &[&str]| folder.epsweep(&[&["list", "--to", &address], extra].concat());
    list(&["--tls-dir", "certs/client"]).expect(0);
    assert_ne!(list(&[]).code, Some(0), "in the clear");
    assert_ne!(list(&["--tls-dir", "others/client"]).code, Some(0), "of another CA");
    list(&["--tls-dir", "certs/worker"]).expect(2).says(&["worker"]);
    list(&["--tls-dir", "nowhere"]).expect(2).says(&["nowhere"]);
    let stranger = folder.worker(&address, "w", &["--tls-dir", "others/worker", "--connect-timeout", "2"]).wait();
    assert_ne!(stranger.code, Some(0));
    folder.worker(&address, "w", &["--tls-dir", "certs/client"]).wait().expect(2).says(&["client"]);
    list(&["--tls-dir", "certs/client"]).expect(0);
}

#[test]
fn nothing_listens_beyond_loopback_in_the_clear() {
    let folder = Folder::with(SMALL);
    let serve = folder.epsweep(&["serve", "--listen", "0.0.0.0:0", "--state", "state"]);
    serve.expect(2).says(&["--tls-dir"]);
}
