//! Artifacts in a bucket, against a real server on loopback: moto's, from PyPI. `make test-s3` installs and names it;
//! without it these tests say so and pass.

use super::harness::{Folder, SLOW};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server, and a wire to it that can be cut.
struct S3 {
    child: Child,
    port: u16,
    /// Where programs connect.
    wire: u16,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl S3 {
    /// `None` where there is no server to start.
    fn start(env: &[(&str, &str)]) -> Option<S3> {
        let Some(program) = std::env::var_os("EPSWEEP_S3_SERVER") else {
            println!("skipped: EPSWEEP_S3_SERVER names no moto_server; `make test-s3` installs one");
            return None;
        };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]).envs(env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let (cut, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let wire = wire(port, &cut, &open);
        let s3 = S3 { child, port, wire, cut, open };
        for _ in 0..600 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(s3);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server never listened");
    }

    /// With a bucket, and what programs must know of it.
    fn with_bucket(yaml: &str) -> Option<(S3, Folder)> {
        let s3 = S3::start(&[])?;
        s3.ask("PUT", "/sweeps", b"");
        let folder = s3.known_to(Folder::with(yaml));
        Some((s3, folder))
    }

    fn known_to(&self, folder: Folder) -> Folder {
        folder
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.wire))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
    }

    /// One request past the wire; returns the reply's body.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let (port, length) = (self.port, body.len());
        // The scope names the service; the server does not check signatures.
        let scope =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {scope}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{method} {path}: {reply}");
        reply
    }

    fn objects(&self, prefix: &str) -> Vec<String> {
        let reply = self.ask("GET", &format!("/sweeps?list-type=2&prefix={prefix}"), b"");
        let keys = reply.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_string());
        keys.collect()
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
        if cut {
            for stream in self.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes bytes between a port of its own and `port`; hangs up while it is cut.
fn wire(port: u16, cut: &Arc<AtomicBool>, open: &Arc<Mutex<Vec<TcpStream>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (cut, open, wire) = (cut.clone(), open.clone(), listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            if cut.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            let copies = |stream: &TcpStream| stream.try_clone().unwrap();
            open.lock().unwrap().extend([copies(&near), copies(&far)]);
            for (mut from, mut to) in [(copies(&near), copies(&far)), (far, near)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    wire
}

#[test]
fn a_bucket_that_goes_away_pauses_the_sweep_and_changes_nothing() {
    let Some((s3, folder)) = S3::with_bucket(SLOW) else { return };
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    let (mut coordinator, address) = folder.serve(&["--artifacts", "s3://sweeps/lab"]);
    let mut through = folder.worker(&address, "through", &[]);
    let mut direct = folder.worker(&address, "direct", &["--artifacts", "s3://sweeps/lab"]);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &address]).expect(0);
    folder.wait_for("a first network in the bucket", || !s3.objects("lab/checkpoints/").is_empty());
    s3.cut(true);
    folder.wait_for("the pause", || {
        !folder.log_lines("state", &["nothing is leased or taken in", "s3://sweeps/lab"]).is_empty()
    });
    let status = folder.epsweep(&["status", "slow", "--to", &address]).expect(0);
    assert!(format!("{}{}", status.stdout, status.stderr).contains("s3://sweeps/lab"), "{}", status.stdout);
    std::thread::sleep(Duration::from_secs(3));
    assert!(coordinator.is_running() && through.is_running() && direct.is_running());
    s3.cut(false);
    folder.epsweep(&["watch", "slow", "--to", &address]).expect(0);
    // More than once, where a request that the cut had broken was heard of late.
    assert!(!folder.log_lines("state", &["can be used again"]).is_empty());
    folder.epsweep(&["report", "state", "--out", "out"]).expect(0);
    assert_eq!(folder.results("out"), folder.results("calm/report"));
    assert_eq!(folder.costs("out").len(), folder.costs("calm/report").len(), "no task ran twice");
    assert_eq!(s3.objects("lab/checkpoints/").len(), 3);
}

#[test]
fn a_corrupted_object_is_found_and_made_anew_and_a_new_disk_is_filled_from_the_bucket() {
    let yaml = SLOW.replace("epochs: 9", "epochs: 2");
    let Some((s3, folder)) = S3::with_bucket(&yaml) else { return };
    folder.epsweep(&["run", "sweep.yaml", "--out", "run", "--artifacts", "s3://sweeps/lab"]).expect(0);
    let objects = s3.objects("lab/checkpoints/");
    assert_eq!(objects.len(), 3, "{objects:?}");
    // The disk with the cache is lost; in the bucket, one of the three is not what it was.
    std::fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();
    s3.ask("PUT", &format!("/sweeps/{}", objects[1]), b"other weights");
    folder.write("sweep.yaml", &yaml.replace("{steps: 20}", "{steps: 25}"));
    folder.epsweep(&["run", "sweep.yaml", "--out", "run", "--artifacts", "s3://sweeps/lab"]).expect(0);
    folder.epsweep(&["run", "sweep.yaml", "--out", "calm"]).expect(0);
    assert_eq!(folder.results("run/report"), folder.results("calm/report"));
    assert_eq!(folder.log_lines("run", &["a checkpoint is gone"]).len(), 1, "one of three is trained anew");
    assert_eq!(s3.objects("lab/checkpoints/"), objects);
    let stray = format!("/sweeps/lab/checkpoints/{}.safetensors", "ab".repeat(32));
    s3.ask("PUT", &stray, b"nobody's");
    let gc = ["gc", "run", "--artifacts", "s3://sweeps/lab", "--older-than", "0"];
    let dry = folder.epsweep(&[&gc[..], &["--dry-run"]].concat()).expect(0);
    assert!(dry.stdout.contains("1 artifact would be removed"), "{}", dry.stdout);
    folder.epsweep(&gc).expect(0);
    assert_eq!(s3.objects("lab/checkpoints/"), objects);
}

#[test]
fn commands_that_read_a_run_fetch_what_lies_only_in_the_bucket() {
    let yaml = SLOW.replace("epochs: 9", "epochs: 2") + "  witnesses: break\n";
    let Some((s3, folder)) = S3::with_bucket(&yaml) else { return };
    let bucket = ["--artifacts", "s3://sweeps/lab"];
    folder.epsweep(&[&["run", "sweep.yaml", "--out", "run"], &bucket[..]].concat()).expect(0);
    let (checkpoints, witnesses) = (s3.objects("lab/checkpoints/"), s3.objects("lab/witnesses/"));
    assert!(checkpoints.len() == 3 && witnesses.len() >= 3, "{checkpoints:?} {witnesses:?}");
    let ways: [&[&str]; 3] = [&["audit", "run"], &["witnesses", "run", "--out", "arrays"], &["backup", "run", "copy"]];
    for way in ways {
        for cache in ["checkpoints", "witnesses"] {
            std::fs::remove_dir_all(folder.path().join("run").join(cache)).unwrap();
        }
        folder.epsweep(&[way, &bucket[..]].concat()).expect(0).says(&["copied from s3://sweeps/lab"]);
    }
    assert_eq!(std::fs::read_dir(folder.path().join("copy/checkpoints")).unwrap().count(), 3);
    folder.epsweep(&["audit", "copy"]).expect(0);
    // What is damaged there is found, said and left where it is.
    std::fs::remove_dir_all(folder.path().join("run/witnesses")).unwrap();
    s3.ask("PUT", &format!("/sweeps/{}", witnesses[0]), b"other images");
    folder.epsweep(&[&["audit", "run"], &bucket[..]].concat()).expect(3).says(&["was damaged"]);
    assert_eq!(s3.objects("lab/witnesses/"), witnesses);
    // Another ledger's artifacts are safe from a `gc` that does not know of it.
    folder.write("sweep.yaml", &yaml.replace("{steps: 20}", "{steps: 25}"));
    folder.epsweep(&[&["run", "sweep.yaml", "--out", "other"], &bucket[..]].concat()).expect(0);
    let gc = |dirs: &[&str]| folder.epsweep(&[&["gc", "--older-than", "0"], dirs, &bucket[..]].concat());
    gc(&["run"]).expect(2).says(&["s3://sweeps/lab holds artifacts of the ledger", "other", "nothing was removed"]);
    gc(&["run", "other"]).expect(0);
}

#[test]
fn a_bucket_that_cannot_be_used_is_refused_before_any_work() {
    let Some((s3, folder)) = S3::with_bucket(SLOW) else { return };
    let run = |folder: &Folder, place: &str| folder.epsweep(&["run", "sweep.yaml", "--artifacts", place]);
    run(&folder, "s3://other/lab").expect(2).says(&["there is no bucket for s3://other/lab"]);
    run(&folder, "s3://").expect(2).says(&["s3://BUCKET"]);
    s3.cut(true);
    run(&folder, "s3://sweeps/lab").expect(2).says(&["s3://sweeps/lab does not answer", "AWS_ENDPOINT_URL"]);
    // A server that knows nobody of that name.
    let Some(strict) = S3::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]) else { return };
    let folder = strict.known_to(Folder::with(SLOW));
    run(&folder, "s3://sweeps/lab").expect(2).says(&["s3://sweeps/lab may not be used", "AWS_ACCESS_KEY_ID"]);
}
