//! Every part of the house killed while the story is told: the same final books.
//!
//! In: a house of its own; `TIDEMARK_TEST_SEED` chooses other moments. Out: pass or fail.
//! Never here: tidy ends (`journey`), bad input (`bad_input`).

use crate::{
    house::{House, PATIENCE, Running, ask, at_work_on, counter, tidemark, until},
    story::{self, Expected, Story, WHOLE},
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::{ffi::OsStr, fs, process::Child, time::Duration};

/// Whom to kill, as its command line has it.
const ROLES: [&[&str]; 6] = [
    &["ingest"],
    &["coap-gateway"],
    &["embedded", "clickhouse"],
    &["console"],
    &["embedded", "broker"],
    &["embedded", "postgres"],
];

/// The latest moment to die, in permille of the story: what a broker had acknowledged is gone with
/// it, and only networks that still publish can publish it again.
const LATEST: u64 = 850;

#[test]
fn killing_any_part_at_any_moment_leaves_the_same_books() {
    let seed = std::env::var("TIDEMARK_TEST_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut house = House::start("faults");
    let story = Story::new(2, WHOLE);
    story.seed(&house);

    let expected = told_while_dying(&house, &story, seed);
    let books = story::settled(&house, &expected);
    eprintln!("seed {seed}: {} received, {} copies", books.received, books.duplicate);

    // The first cycle's run is killed in the middle, the second's database too.
    let [first, second] = expected.cycles.as_slice() else { panic!("two cycles") };
    let written = bill_run_cut(&house, &first.name, |run, _| run.kill().unwrap());
    let report = story::bill(&house, &first.name);
    assert_eq!(report["billed"], 200, "{report}");
    assert!(report["newly_billed"].as_u64().unwrap() <= 200 - written, "{written}, {report}");
    bill_run_cut(&house, &second.name, |_, house| kill_role(house, &["embedded", "postgres"]));
    let report = until("the second cycle is billed", PATIENCE, || {
        // While Postgres comes back a run may end with an error; it is started again.
        let run = ask(&mut house.tidemark(&["bill", "run", "--cycle", &second.name]));
        assert!(run.code == Some(0) || run.err.contains("tidemark: "), "{run:#?}");
        (run.code == Some(0)).then_some(run.out)
    });
    assert!(report.contains("sum of lines"), "{report}");
    story::bills_are_right(&house, &expected);
    assert_eq!(story::books(&house).received, books.received, "nothing came in meanwhile");

    let data = house.data();
    house.up.end(Signal::KILL);
    until("after kill -9 of the house nothing runs", Duration::from_secs(20), || {
        at_work_on(&data).is_empty().then_some(())
    });
    // What was on disk is the whole truth: the next house starts from it.
    let again = ["up".as_ref(), "--data".as_ref(), data.as_os_str()];
    let log = house.scratch.path().join("up-again.log");
    house.up = Running::start(&mut tidemark(again), &log);
    assert_eq!(story::books(&house).received, books.received);
    story::bills_are_right(&house, &expected);
}

/// Plays the story; each role dies once, at a moment that follows from the seed.
fn told_while_dying(house: &House, story: &Story, seed: u64) -> Expected {
    let mut told = Told { metrics: gateway_metrics(house), before: 0, last: 0 };
    let mut expected = Expected::default();
    for (mut command, file) in story.plays(house) {
        let mut play = Playing(command.spawn().unwrap());
        let part: Value = until("the simulators say what they expect", PATIENCE, || {
            serde_json::from_slice(&fs::read(&file).ok()?).ok()
        });
        expected.add(&file);
        let by_coap: u64 = ["coap_native", "coap_cjt188"]
            .map(|way| part["stored_by_way"][way].as_u64().unwrap())
            .iter()
            .sum();
        for (permille, role) in deaths(seed) {
            let due = by_coap * permille / 1000;
            until("the moment to die has come", PATIENCE, || (told.now()? >= due).then_some(()));
            assert!(!play.is_over(), "the story ended before {role:?} died");
            kill_role(house, role);
        }
        play.ends_well();
    }
    expected
}

fn gateway_metrics(house: &House) -> String {
    let settings = house.settings();
    let at = settings["metrics"]["coap_gateway_listen"].as_str().unwrap();
    format!("http://{at}/metrics")
}

/// How much of the story is told, by what the gateway has answered.
struct Told {
    metrics: String,
    /// Of gateways that died.
    before: u64,
    last: u64,
}

impl Told {
    fn now(&mut self) -> Option<u64> {
        let name = "tidemark_coap_gateway_requests_total";
        let now = counter(&self.metrics, name, "outcome=\"stored\"")?;
        if now < self.last {
            self.before += self.last;
        }
        self.last = now;
        Some(self.before + now)
    }
}

/// Who dies when, in permille of the story.
fn deaths(seed: u64) -> Vec<(u64, &'static [&'static str])> {
    let mut chance = seed;
    let moment = |role: &&'static [&'static str]| {
        // Knuth's multiplier: the same seed does the same, any other something else.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((chance >> 33) % LATEST, *role)
    };
    let mut deaths: Vec<_> = ROLES.iter().map(moment).collect();
    deaths.sort_unstable();
    deaths
}

fn kill_role(house: &House, words: &[&str]) {
    let pid = until("the role lives", PATIENCE, || house.role(words));
    eprintln!("kill -9 {} ({words:?})", pid.as_raw_pid());
    kill_process(pid, Signal::KILL).unwrap();
    until("it is dead, or another lives", PATIENCE, || {
        (house.role(words) != Some(pid)).then_some(())
    });
}

/// Starts a cycle's run in small steps and cuts it once a few bills are written; returns how many.
fn bill_run_cut(house: &House, cycle: &str, cut: impl FnOnce(&mut Child, &House)) -> u64 {
    let config = fs::read_to_string(house.config()).unwrap();
    let config = format!("{config}\n[billrun]\naccounts_per_chunk = 2\n");
    let file = house.scratch.write("small-steps.toml", config);
    let mut run = tidemark([OsStr::new("--config"), file.as_ref()]);
    let mut run = run.args(["bill", "run", "--cycle", cycle]).spawn().unwrap();
    let written = until("a few bills are written", PATIENCE, || {
        let bills = story::bills(house, cycle).len() as u64;
        (bills > 0).then_some(bills)
    });
    cut(&mut run, house);
    run.wait().unwrap();
    written
}

/// The simulators at work.
struct Playing(Child);

impl Playing {
    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn ends_well(mut self) {
        let status = until("the story is told", PATIENCE, || self.0.try_wait().unwrap());
        assert!(status.success(), "the simulators: {status}");
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
