//! kill -9, again and again, at random: nothing is lost, nothing is committed twice, and the files are
//! those of an undisturbed run.
//!
//! `make test` kills a dozen times; `make chaos` 200 times (`EPSWEEP_KILLS`), with another seed on
//! request (`EPSWEEP_CHAOS_SEED`).

use crate::harness::{Folder, Running};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// Between two kills, at most; then the one who was killed stays away for a while.
const BETWEEN: u64 = 900;
const AWAY: u64 = 400;

/// Trainings of several epochs, evaluations of several shards; `seeds` make it as long as it has to be.
fn sweep(seeds: u64) -> String {
    format!(
        "
name: chaos
dataset: digits
trial: {{model: {{mlp: {{hidden: [32]}}}}, method: natural, optimizer: {{sgd: {{lr: 0.05}}}}, epochs: 8, batch_size: 16}}
grid: [{{method: [natural, {{pgd: {{epsilon: 0.1, steps: 7}}}}]}}]
seeds: {seeds}
evaluate: {{epochs: [2, final], epsilons: [0, 0.05, 0.1, 0.2], attacks: [fgsm, {{pgd: {{steps: 20, restarts: 2}}}}]}}
"
    )
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// One coordinator and two workers, any of which may die at any moment.
struct Fleet<'a> {
    folder: &'a Folder,
    address: String,
    coordinator: Running,
    workers: [Running; 2],
}

const NAMES: [&str; 2] = ["first", "second"];

impl<'a> Fleet<'a> {
    fn start(folder: &'a Folder) -> Fleet<'a> {
        let (coordinator, address) = folder.serve(&[]);
        let workers = NAMES.map(|name| folder.worker(&address, name, &[]));
        Fleet { folder, address, coordinator, workers }
    }

    /// Kills one of the three and starts it anew after `pause`.
    fn strike(&mut self, which: u64, pause: Duration) {
        let alive = [self.coordinator.is_running(), self.workers[0].is_running(), self.workers[1].is_running()];
        assert!(alive.iter().all(|alive| *alive), "somebody went without being killed: {alive:?}");
        match which {
            0 => {
                self.coordinator.kill();
                std::thread::sleep(pause);
                let args = ["serve", "--listen", &self.address, "--state", "state"];
                self.coordinator = self.folder.start(&args);
                // So that the next kill finds it at work, and not always at its start.
                assert!(self.coordinator.line().starts_with("listening on"), "it came back");
            }
            worker => {
                let worker = worker as usize - 1;
                self.workers[worker].kill();
                std::thread::sleep(pause);
                self.workers[worker] = self.folder.worker(&self.address, NAMES[worker], &[]);
            }
        }
    }

    fn is_done(&self) -> bool {
        let status = self.folder.epsweep(&["status", "--to", &self.address, "--json"]);
        status.stdout.contains("\"state\": \"done\"") && status.stdout.contains("index.html")
    }
}

/// An undisturbed run of a sweep that takes this machine as long as the kills will take; its file stays.
fn calm_run(folder: &Folder, kills: u64) {
    let wanted = Duration::from_millis(kills * (BETWEEN + AWAY) / 2);
    let begun = Instant::now();
    let mut seeds = kills.div_ceil(4);
    loop {
        folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "calm"]).expect(0);
        if begun.elapsed() >= wanted {
            return;
        }
        // What is there is not computed again, so the time of all runs together is that of the last sweep.
        seeds += kills.div_ceil(4);
        folder.write("sweep.yaml", &sweep(seeds));
    }
}

#[test]
fn random_kills_lose_nothing_and_repeat_nothing() {
    let kills = number("EPSWEEP_KILLS", 12);
    let folder = Folder::with(&sweep(kills.div_ceil(4)));
    calm_run(&folder, kills);

    let mut rng = ChaCha8Rng::seed_from_u64(number("EPSWEEP_CHAOS_SEED", 1));
    let mut fleet = Fleet::start(&folder);
    folder.epsweep(&["submit", "sweep.yaml", "--to", &fleet.address]).expect(0);
    let mut struck = [0u64; 3];
    let mut late = 0;
    while struck.iter().sum::<u64>() < kills {
        std::thread::sleep(Duration::from_millis(rng.next_u64() % BETWEEN));
        let which = rng.next_u64() % 3;
        late += u64::from(fleet.is_done());
        fleet.strike(which, Duration::from_millis(rng.next_u64() % AWAY));
        struck[which as usize] += 1;
    }
    println!("killed the coordinator {} times, the workers {} and {} times", struck[0], struck[1], struck[2]);
    folder.wait_for_long("the end of the sweep", Duration::from_secs(30 * 60), || fleet.is_done());
    assert!(late * 4 < kills, "{late} of {kills} kills came after the end: make the sweep longer");

    assert_eq!(folder.results("state/reports/chaos"), folder.results("calm/report"));
    let costs = folder.costs("state/reports/chaos");
    let calm = folder.costs("calm/report");
    let tasks = |rows: &[std::collections::BTreeMap<String, String>]| {
        let mut tasks: Vec<String> = rows.iter().map(|row| row["task"].clone()).collect();
        tasks.sort();
        tasks
    };
    assert_eq!(tasks(&costs), tasks(&calm), "every task was answered, and none twice");
    drop(fleet);
    committed_once(&folder);
}

/// In the ledger's own history no task is committed twice, and none has failed.
pub fn committed_once(folder: &Folder) {
    let ledger = rusqlite::Connection::open(folder.path().join("state/ledger.sqlite")).unwrap();
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let twice =
        "SELECT count(*) FROM (SELECT task FROM history WHERE event = 'committed' GROUP BY task HAVING count(*) > 1)";
    assert_eq!(count(twice), 0, "committed twice");
    assert_eq!(count("SELECT count(*) FROM history WHERE event = 'failed'"), 0, "a kill is nobody's failure");
    let attempts = count("SELECT count(*) FROM history WHERE event = 'leased'");
    println!("{attempts} leases for {} answers", count("SELECT count(*) FROM history WHERE event = 'committed'"));
}
