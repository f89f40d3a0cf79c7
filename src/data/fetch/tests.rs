//! Downloads from a real server on this machine.

use super::*;
use miette::Diagnostic;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// 200,000 bytes; [`FILE`] has their MD5.
fn content() -> Vec<u8> {
    (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

const FILE: PublishedFile = PublishedFile { name: "images.gz", md5: "MD5", bytes: 200_000 };

/// What a mirror does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Serves the file, and ranges of it.
    Good,
    /// Promises the file, sends 70,000 bytes at most, and hangs up.
    Cuts,
    /// Serves the whole file whatever was asked.
    NoRanges,
    /// Serves other bytes.
    Wrong,
    NotFound,
}

struct Mirror {
    url: String,
    /// The `Range` of every request, or an empty text.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    /// The first request meets the first mood, and so on; the last one stays.
    fn start(moods: &'static [Mood]) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/data/", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut log = log.lock().expect("no panic");
                let mood = moods[log.len().min(moods.len() - 1)];
                log.push(serve(stream, mood));
            }
        });
        Mirror { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Answers one request; returns its `Range`.
fn serve(mut stream: TcpStream, mood: Mood) -> String {
    let lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    assert_eq!(head[0], "GET /data/images.gz HTTP/1.1");
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(String::from));
    let range = range.unwrap_or_default();
    let start: usize = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let all = if mood == Mood::Wrong { vec![7; 200_000] } else { content() };
    let start = if matches!(mood, Mood::NoRanges | Mood::Wrong) { 0 } else { start };
    let (status, body) = match mood {
        Mood::NotFound => ("404 Not Found".to_string(), &b"no such file"[..]),
        _ if start >= all.len() => ("416 Range Not Satisfiable".to_string(), &b""[..]),
        _ if start > 0 => {
            let (last, size) = (all.len() - 1, all.len());
            (format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{size}"), &all[start..])
        }
        _ => ("200 OK".to_string(), &all[..]),
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let sent = if mood == Mood::Cuts { &body[..body.len().min(70_000)] } else { body };
    let _ = stream.write_all(sent);
    range
}

/// Fetches from these mirrors into `dir`, without any proxy.
fn fetch(dir: &TempDir, mirrors: &[&str]) -> Result<Fetched, FetchError> {
    let fetcher = Fetcher { agent: Fetcher::config().proxy(None).build().new_agent() };
    let digest = {
        let path = dir.path().join("digest");
        std::fs::write(&path, content()).expect("writable");
        md5_of(&path).expect("readable")
    };
    let file = PublishedFile { md5: Box::leak(digest.into_boxed_str()), ..FILE };
    let mirrors: Vec<String> = mirrors.iter().map(ToString::to_string).collect();
    let mut last = 0;
    let fetched = fetcher.fetch(&file, &dir.path().join("to"), &mirrors, &mut |have| last = have);
    if matches!(fetched, Ok(Fetched::Downloaded)) {
        assert_eq!(last, 200_000, "progress reaches the end");
        assert_eq!(std::fs::read(dir.path().join("to/images.gz")).expect("there"), content());
        assert!(!dir.path().join("to/images.gz.part").exists());
    }
    fetched
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// A URL where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/data", listener.local_addr().expect("bound"))
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let mirror = Mirror::start(&[Mood::Cuts, Mood::Cuts, Mood::Good]);
    let dir = folder();
    assert_eq!(fetch(&dir, &[&mirror.url]).expect("fetched"), Fetched::Downloaded);
    assert_eq!(mirror.asked(), ["", "bytes=70000-", "bytes=140000-"]);
    assert_eq!(fetch(&dir, &[&mirror.url]).expect("there"), Fetched::Present);
    assert_eq!(mirror.asked().len(), 3, "nothing is asked for twice");
}

#[test]
fn what_one_day_left_the_next_day_and_another_mirror_complete() {
    let (cuts, good) = (Mirror::start(&[Mood::Cuts, Mood::NotFound]), Mirror::start(&[Mood::Good]));
    let dir = folder();
    fetch(&dir, &[&cuts.url]).expect_err("it breaks off and then is gone");
    assert_eq!(std::fs::metadata(dir.path().join("to/images.gz.part")).expect("kept").len(), 70_000);
    assert_eq!(fetch(&dir, &[&good.url]).expect("fetched"), Fetched::Downloaded);
    assert_eq!(good.asked(), ["bytes=70000-"]);
}

#[test]
fn a_mirror_without_ranges_starts_over() {
    let mirror = Mirror::start(&[Mood::Cuts, Mood::NoRanges]);
    assert_eq!(fetch(&folder(), &[&mirror.url]).expect("fetched"), Fetched::Downloaded);
    assert_eq!(mirror.asked(), ["", "bytes=70000-"]);
}

#[test]
fn a_wrong_beginning_is_thrown_away() {
    let mirror = Mirror::start(&[Mood::Good]);
    let dir = folder();
    std::fs::create_dir(dir.path().join("to")).expect("writable");
    for length in [1000, 200_000, 300_000] {
        std::fs::write(dir.path().join("to/images.gz.part"), vec![1; length]).expect("writable");
        assert_eq!(fetch(&dir, &[&mirror.url]).expect("fetched"), Fetched::Downloaded);
        std::fs::remove_file(dir.path().join("to/images.gz")).expect("removable");
    }
    assert_eq!(mirror.asked(), ["bytes=1000-", "", "bytes=200000-", "", "bytes=300000-", ""]);
}

#[test]
fn mirrors_that_fail_are_left_for_the_next() {
    let (wrong, gone, good) =
        (Mirror::start(&[Mood::Wrong]), Mirror::start(&[Mood::NotFound]), Mirror::start(&[Mood::Good]));
    let dir = folder();
    assert_eq!(fetch(&dir, &[&nobody(), &wrong.url, &gone.url, &good.url]).expect("fetched"), Fetched::Downloaded);
    assert_eq!((wrong.asked().len(), gone.asked().len(), good.asked()), (1, 1, vec![String::new()]));
}

#[test]
fn without_any_copy_it_says_what_to_do_by_hand() {
    let (wrong, gone) = (Mirror::start(&[Mood::Wrong]), Mirror::start(&[Mood::NotFound]));
    let dir = folder();
    let error = fetch(&dir, &[&nobody(), &wrong.url, &gone.url]).expect_err("no mirror gives it");
    let (said, help) = (error.to_string(), error.help().expect("a remedy").to_string());
    for words in ["cannot fetch images.gz", "efused", "has the MD5", "404 Not Found"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let url = format!("{}images.gz", gone.url);
    for words in [&url, "HTTPS_PROXY", "--mirror", "MD5", "data verify", &dir.path().join("to").display().to_string()] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(!dir.path().join("to/images.gz").exists(), "a wrong file never gets the name");
}

#[test]
fn a_file_of_that_name_that_is_another_is_not_overwritten() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("to")).expect("writable");
    std::fs::write(dir.path().join("to/images.gz"), b"mine").expect("writable");
    let error = fetch(&dir, &[&nobody()]).expect_err("another file");
    assert!(matches!(error, FetchError::Different { .. }));
    assert_eq!(std::fs::read(dir.path().join("to/images.gz")).expect("there"), b"mine");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = folder();
    std::fs::write(dir.path().join("to"), b"a file").expect("writable");
    let error = fetch(&dir, &[&nobody()]).expect_err("no folder");
    assert!(matches!(&error, FetchError::Disk { .. }), "{error}");
}
