//! Wrong input: a clear error, the right exit code, nothing lost.

use crate::harness::{Folder, SMALL, path};
use epsweep::proto::RegisterRequest;
use epsweep::proto::worker_service_client::WorkerServiceClient;

/// SMALL with one thing replaced.
fn small(from: &str, to: &str) -> Folder {
    assert!(SMALL.contains(from), "{from}");
    Folder::with(&SMALL.replace(from, to))
}

#[test]
fn mistakes_in_the_file_point_at_the_line() {
    for (from, to, words) in [
        ("evaluate:", "evalute:", &["sweep.yaml:8:1", "evalute", "evaluate"][..]),
        ("epochs: 3", "epochs: three", &["epochs", "three"]),
        ("0.2]", "-0.2]", &["-0.2"]),
        ("0.2]", "1.2]", &["1.2"]),
        ("[natural, {pgd: {epsilon: 0.1, steps: 3}}]", "[]", &["method"]),
        ("seeds: 2", "seeds: 2\nexclude: [{method: any}]", &["exclude"]),
    ] {
        let folder = small(from, to);
        for verb in ["plan", "run"] {
            let said = folder.epsweep(&[verb, "sweep.yaml"]).expect(2).says(words).says(&["sweep.yaml"]);
            assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
        }
        assert!(!path(&folder, "runs").exists(), "nothing was started");
    }
}

#[test]
fn a_missing_file_and_an_unknown_verb_are_mistakes_of_the_command_line() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "nowhere.yaml"]).expect(2).says(&["nowhere.yaml", "No such file"]);
    folder.epsweep(&["rum", "sweep.yaml"]).expect(2).says(&["rum"]);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "0"]).expect(2);
}

/// A tiny MNIST in IDX files: `train` and `test` images with as many labels.
fn write_mnist(folder: &Folder, labels: usize) {
    let images = |count: u32| {
        [
            &[0, 0, 8, 3][..],
            &count.to_be_bytes(),
            &28u32.to_be_bytes(),
            &28u32.to_be_bytes(),
            &vec![7; count as usize * 784],
        ]
        .concat()
    };
    let label = |count: u32| [&[0, 0, 8, 1][..], &count.to_be_bytes(), &vec![3; count as usize]].concat();
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(path(folder, "mnist").join(name), bytes).unwrap();
    std::fs::create_dir_all(path(folder, "mnist")).unwrap();
    put("train-images-idx3-ubyte", images(20));
    put("train-labels-idx1-ubyte", label(20));
    put("t10k-images-idx3-ubyte", images(10));
    put("t10k-labels-idx1-ubyte", label(labels as u32));
}

#[test]
fn damaged_data_is_named() {
    let folder = small("dataset: digits", "dataset: {mnist: {dir: mnist}}");
    folder.epsweep(&["plan", "sweep.yaml"]).expect(2).says(&["mnist"]);
    write_mnist(&folder, 9);
    folder.epsweep(&["plan", "sweep.yaml"]).expect(2).says(&["10", "9", "labels"]);
    write_mnist(&folder, 10);
    folder.epsweep(&["plan", "sweep.yaml"]).expect(0);
    let images = path(&folder, "mnist/train-images-idx3-ubyte");
    let whole = std::fs::read(&images).unwrap();
    std::fs::write(&images, &whole[..whole.len() - 100]).unwrap();
    folder.epsweep(&["run", "sweep.yaml"]).expect(2).says(&["train-images-idx3-ubyte", "cut short"]);
    std::fs::write(&images, whole).unwrap();
    let asked = folder.read("sweep.yaml").replace("attacks:", "test_examples: 11\n  attacks:");
    folder.write("sweep.yaml", &asked);
    folder.epsweep(&["plan", "sweep.yaml"]).expect(2).says(&["11", "10"]);
}

#[test]
fn nobody_home_is_exit_code_four() {
    let folder = Folder::with(SMALL);
    for verb in [&["submit", "sweep.yaml"][..], &["status"], &["list"], &["watch"], &["cancel", "x"]] {
        let args: Vec<&str> = verb.iter().copied().chain(["--to", "127.0.0.1:9"]).collect();
        folder.epsweep(&args).expect(4).says(&["127.0.0.1:9", "epsweep serve"]);
    }
    folder.worker("127.0.0.1:9", "w", &["--connect-timeout", "1"]).wait().expect(4).says(&["127.0.0.1:9"]);
}

#[test]
fn a_port_in_use_and_a_public_listener_without_tls_are_refused() {
    let folder = Folder::with(SMALL);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    folder.epsweep(&["serve", "--listen", &address, "--state", "s"]).expect(2).says(&[&address, "in use"]);
    folder.epsweep(&["serve", "--listen", "0.0.0.0:0", "--state", "s"]).expect(2).says(&["TLS", "epsweep certs"]);
    folder.epsweep(&["serve", "--listen", "nonsense", "--state", "s"]).expect(2).says(&["HOST:PORT"]);
}

#[test]
fn two_coordinators_cannot_share_a_state_directory() {
    let folder = Folder::with(SMALL);
    let (_first, _) = folder.serve(&[]);
    folder
        .epsweep(&["serve", "--listen", "127.0.0.1:0", "--state", "state"])
        .expect(2)
        .says(&["another epsweep", "state"]);
    folder.epsweep(&["run", "sweep.yaml", "--out", "state"]).expect(2).says(&["another epsweep"]);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let folder = Folder::with(SMALL);
    folder.write("file", "not a directory");
    folder.epsweep(&["run", "sweep.yaml", "--out", "file/out"]).expect(2).says(&["file/out", "permissions"]);
    folder.epsweep(&["run", "sweep.yaml", "--out", "/proc/epsweep"]).expect(2).says(&["/proc/epsweep"]);
    folder.epsweep(&["report", "nothing-here"]).expect(2).says(&["nothing-here"]);
}

#[test]
fn a_full_disk_loses_nothing_that_was_computed() {
    // Files may grow to 200 KiB and no further: what a full disk looks like to SQLite.
    let folder = Folder::with(&SMALL.replace("seeds: 2", "seeds: 12"));
    let program = env!("CARGO_BIN_EXE_epsweep");
    let script = format!("ulimit -f 200; trap '' XFSZ; exec {program} run sweep.yaml --workers 2 --out out");
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("EPSWEEP_WORKER", env!("CARGO_BIN_EXE_epsweep-worker"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("ledger.sqlite") && stderr.contains("nothing that was computed is lost"), "{stderr}");
    let done = folder.log_lines("out", &["\"committed\""]).len();
    let resumed = folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(0);
    assert!(done == 0 || !resumed.stderr.contains(" 0 of them already answered"), "{}", resumed.stderr);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "calm"]).expect(0);
    assert_eq!(folder.results("out/report"), folder.results("calm/report"));
}

#[test]
fn a_diverging_trial_fails_alone() {
    let folder = small("grid:", "grid:\n  - {optimizer.sgd.lr: [0.05, 1e12]}");
    let said = folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(3);
    let said = said.says(&["optimizer.sgd.lr=", "loss"]);
    assert!(said.stdout.contains("index.html"), "the report is written all the same");
    let trials = folder.read("out/report/trials.csv");
    assert!(trials.contains("done") && trials.contains("failed"), "{trials}");
    let again = folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "out"]).expect(3);
    assert!(folder.log_lines("out", &["\"leased\"", "\"attempt\":2"]).is_empty(), "what diverged is not tried again");
    again.says(&["optimizer.sgd.lr=", "loss"]);
}

#[test]
fn a_wrong_token_opens_nothing() {
    let folder = Folder::with(SMALL);
    folder.write("token", "a long enough secret\n");
    folder.write("other", "another long secret\n");
    folder.write("short", "abc\n");
    let (_coordinator, address) = folder.serve(&["--token-file", "token"]);
    folder.epsweep(&["list", "--to", &address]).expect(2).says(&["wants a token"]);
    folder.epsweep(&["list", "--to", &address, "--token-file", "other"]).expect(2).says(&["not this coordinator's"]);
    folder
        .epsweep(&["list", "--to", &address, "--token-file", "short"])
        .expect(2)
        .says(&["short, line 1", "16 to 4096"]);
    folder.epsweep(&["list", "--to", &address, "--token-file", "token"]).expect(0);
    folder.worker(&address, "w", &["--token-file", "other"]).wait().expect(2).says(&["not this coordinator's"]);
}

#[tokio::test]
async fn a_worker_of_another_protocol_is_told_so() {
    let folder = Folder::with(SMALL);
    let (_coordinator, address) = folder.serve(&[]);
    let mut client = WorkerServiceClient::connect(format!("http://{address}")).await.unwrap();
    let request = RegisterRequest { protocol: 99, worker: "future".into(), slots: 1, ..RegisterRequest::default() };
    let refused = client.register(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("99") && refused.message().contains("future"), "{}", refused.message());
    let nameless = RegisterRequest {
        protocol: epsweep::coordinator::PROTOCOL,
        worker: "../x".into(),
        slots: 1,
        ..RegisterRequest::default()
    };
    assert_eq!(client.register(nameless).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let folder = Folder::with(SMALL);
    let refused = |extra: &[&str], words: &[&str]| {
        folder.worker("127.0.0.1:9", "w", extra).wait().expect(2).says(words);
    };
    refused(&["--device", "cuda:7"], &["no cuda:7", "libtorch", "help:"]);
    refused(&["--device", "tpu"], &["tpu", "cuda:K"]);
    refused(&["--tf32"], &["--tf32 is for GPUs", "--device cuda"]);
    refused(&["--device", "cuda", "--gpu-memory", "1.5"], &["--gpu-memory", "0 (excluded) to 1"]);
    refused(&["--pin=1023"], &["core 1023", "may not use", "cpuset"]);
    refused(&["--pin=0", "--slots", "2"], &["1 cores for 2 slots"]);
    folder.epsweep(&["run", "sweep.yaml", "--device", "cuda:7"]).expect(2).says(&["no cuda:7"]);
    folder.epsweep(&["run", "sweep.yaml", "--device", "tpu"]).expect(2).says(&["tpu"]);
    folder.epsweep(&["run", "sweep.yaml", "--pin=1023"]).expect(2).says(&["core 1023"]);
    folder.epsweep(&["run", "sweep.yaml", "--listen", "127.0.0.1:0", "--pin"]).expect(2).says(&["--pin", "--listen"]);
}
