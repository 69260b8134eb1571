//! The demo: the main job on embedded defaults, from radio frames to proven books.
//!
//! In: the workspace. Out: a running house for a minute, two billed cycles, one bill explained
//! line by line, and the proof that nothing was lost, doubled or left unbilled.
//! Never here: what the roles do; the demo only starts them, as an operator would.

use crate::{
    books::{self, Books},
    child::{self, Running},
    root, setup, target,
};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    env, fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const STEPS: u64 = 8;
/// How long ingest may be without progress before the demo calls it stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Without progress for so long, the networks publish once more: a broker that died took with it
/// what it had acknowledged and not yet passed on.
const PUBLISH_AGAIN_AFTER: Duration = Duration::from_secs(20);
/// How long an errand is repeated while a part of the house is starting again.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);

/// Runs the demo; with `keep` leaves everything up until Ctrl-C.
pub(crate) fn run(keep: bool, seed: u64) -> Result<()> {
    let mut steps = Steps::new();
    steps.next("setting up");
    setup::everything()?;
    steps
        .next("building; the first time cargo fetches some 35 MB of crates and takes some minutes");
    build()?;
    let demo = Demo::begin(seed)?;
    steps.next("starting Postgres, ClickHouse, mosquitto, gateway, ingest and console");
    let mut house = demo.start()?;
    steps.say(&format!("console     {}", house.console));
    steps.next("seeding a small utility: 2 books, 200 accounts, their meters, two tariffs");
    demo.seed()?;
    steps.next("meters report: two months of hourly reads, with everything that goes wrong");
    demo.play(&house)?;
    demo.wait_until_stored(&mut house)?;
    steps.next("billing two cycles");
    demo.bill_every_cycle()?;
    steps.next("explaining a bill and proving the books");
    demo.explain()?;
    demo.prove()?;
    steps.next("the same on real platform events");
    demo.replay_real_events(&mut house.up)?;
    steps.done();
    if keep {
        println!("console stays at {}; Ctrl-C ends everything", house.console);
        println!("settings    {}", demo.config().display());
        loop {
            house.up.check()?;
            if child::pause().is_err() {
                break;
            }
        }
    }
    println!("stopping what the demo started");
    Ok(())
}

fn build() -> Result<()> {
    child::run(
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--locked"])
            .args(["--package", "tidemark", "--package", "simulators"])
            .current_dir(root()),
    )
}

/// The running house.
struct House {
    up: Running,
    console: String,
    coap: String,
    mqtt: String,
}

/// Where the demo keeps its files, and how it calls the programs.
struct Demo {
    home: PathBuf,
    seed: u64,
    /// The first of the two months it lives through, as `YYYY-MM`; both are over.
    first_month: String,
}

impl Demo {
    fn begin(seed: u64) -> Result<Self> {
        let home = target().join("demo");
        if home.exists() {
            fs::remove_dir_all(&home)
                .with_context(|| format!("remove the last demo's {}", home.display()))?;
        }
        fs::create_dir_all(&home)?;
        Ok(Self { home, seed, first_month: two_months_ago()? })
    }

    fn program(name: &str) -> PathBuf {
        target().join("release").join(name)
    }

    fn config(&self) -> PathBuf {
        self.home.join("data/tidemark.toml")
    }

    fn tidemark(&self, arguments: &[&str]) -> Command {
        let mut command = child::tied(Self::program("tidemark"));
        command.arg("--config").arg(self.config()).args(arguments).env("RUST_LOG", "warn");
        command
    }

    fn simulators(&self, arguments: &[&str]) -> Command {
        let mut command = child::tied(Self::program("simulators"));
        command.args(arguments).args([
            "--seed",
            &self.seed.to_string(),
            "--first-month",
            &self.first_month,
        ]);
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    fn start(&self) -> Result<House> {
        let mut command = child::tied(Self::program("tidemark"));
        command.args(["up", "--data"]).arg(self.home.join("data"));
        let (up, line) = Running::start(&mut command, &self.file("up.log"))?;
        let said: serde_json::Value =
            serde_json::from_str(&line).context("the ready line of up")?;
        let get = |name: &str| {
            said.get(name)
                .and_then(serde_json::Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("`{name}` in the ready line {line}"))
        };
        Ok(House { up, console: get("console")?, coap: get("coap")?, mqtt: get("mqtt")? })
    }

    fn seed(&self) -> Result<()> {
        let fleet = self.file("fleet.json");
        child::run(self.simulators(&["fleet"]).arg("--out").arg(&fleet))?;
        patiently(|| child::run(self.tidemark(&["registry", "import"]).arg(&fleet)))
    }

    fn play(&self, house: &House) -> Result<()> {
        child::run(
            self.simulators(&["play", "--coap", &house.coap, "--mqtt", &house.mqtt])
                .arg("--expect")
                .arg(self.file("expect.json")),
        )
    }

    /// Waits until everything the meters sent has come to its end in the store.
    fn wait_until_stored(&self, house: &mut House) -> Result<()> {
        let expected = books::expected(&self.file("expect.json"))?;
        let mut last = 0;
        let mut quiet = Duration::ZERO;
        let mut published_again = false;
        loop {
            let now = self.books()?;
            if now.stored >= expected.stored && now.rejected >= expected.rejected_in_all() {
                return Ok(());
            }
            quiet = if now.received > last { Duration::ZERO } else { quiet + BETWEEN_LOOKS };
            last = now.received;
            if quiet > PUBLISH_AGAIN_AFTER && !published_again {
                println!("  uplinks are missing: meters and networks send once more");
                published_again = true;
                self.play(house)?;
                quiet = Duration::ZERO;
            }
            if quiet > STUCK_AFTER {
                bail!(
                    "ingest stands still: {} of {} uplinks stored, {} of {} refused; logs in {}",
                    now.stored,
                    expected.stored,
                    now.rejected,
                    expected.rejected_in_all(),
                    self.home.display()
                );
            }
            house.up.check()?;
            child::wait(BETWEEN_LOOKS)?;
        }
    }

    fn books(&self) -> Result<Books> {
        let printed = patiently(|| child::printed(&mut self.tidemark(&["books", "--json"])))?;
        serde_json::from_str(&printed).context("what `tidemark books --json` printed")
    }

    fn bill_every_cycle(&self) -> Result<()> {
        for cycle in books::expected(&self.file("expect.json"))?.cycles {
            patiently(|| {
                let mut run = self.tidemark(&["bill", "run", "--cycle", &cycle.name]);
                let status = child::status(&mut run)?;
                // 3: billed, and some accounts wait on the outsort list.
                if !matches!(status.code(), Some(0 | 3)) {
                    bail!("tidemark bill run --cycle {}: {status}", cycle.name);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The bill with the most to explain, in the cycle its meter was swapped.
    fn explain(&self) -> Result<()> {
        let expected = books::expected(&self.file("expect.json"))?;
        let account = expected.account_to_explain().context("an account worth explaining")?;
        for cycle in &expected.cycles {
            patiently(|| {
                let mut explain = self.tidemark(&["bill", "explain", "--account", account]);
                child::run(explain.args(["--cycle", &cycle.name]))
            })?;
        }
        Ok(())
    }

    fn prove(&self) -> Result<()> {
        let expected = books::expected(&self.file("expect.json"))?;
        let mut bills = Vec::new();
        for cycle in &expected.cycles {
            let show = ["bill", "show", "--cycle", &cycle.name, "--json"];
            let printed = patiently(|| child::printed(&mut self.tidemark(&show)))?;
            bills.extend(books::bills(&printed)?);
        }
        for line in books::prove(&self.books()?, &expected, &bills)? {
            println!("  proven: {line}");
        }
        Ok(())
    }

    /// Feeds events that real platforms published, where they lie beside the project.
    fn replay_real_events(&self, up: &mut Running) -> Result<()> {
        let folder = root().join("../shared/vectors/events");
        let files = platform_events(&folder)?;
        if files.is_empty() {
            println!("  no platform events beside the project: nothing to replay");
            return Ok(());
        }
        let before = self.books()?.received;
        let printed = patiently(|| child::printed(self.tidemark(&["replay-events"]).args(&files)))?;
        print!("{printed}");
        let uplinks: u64 = printed
            .split_whitespace()
            .rev()
            .find_map(|word| word.parse().ok())
            .context("how many uplinks were published")?;
        let mut waited = Duration::ZERO;
        while self.books()?.received < before + uplinks {
            up.check()?;
            if waited > STUCK_AFTER {
                bail!("ingest did not take the platform events");
            }
            waited += BETWEEN_LOOKS;
            child::wait(BETWEEN_LOOKS)?;
        }
        books::balanced(&self.books()?)?;
        println!("  proven: received = stored + duplicate + rejected holds with them too");
        Ok(())
    }
}

/// Repeats an errand that fails, for a while: every errand may be repeated at will, and a role that
/// was killed is back in seconds.
fn patiently<T>(mut errand: impl FnMut() -> Result<T>) -> Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        match errand() {
            Err(error) if waited < AWAY_AT_MOST && !child::interrupted() => {
                println!("  {error:#}; once more");
                child::wait(BETWEEN_LOOKS)?;
                waited += BETWEEN_LOOKS;
            }
            ended => return ended,
        }
    }
}

/// The month before the last one that is over, by the machine's calendar; a month that is over here
/// was over in China hours ago.
fn two_months_ago() -> Result<String> {
    let today = child::printed(Command::new("date").args(["-u", "+%Y %m"]))?;
    let mut parts = today.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(year)), Some(Ok(month))) = (parts.next(), parts.next()) else {
        bail!("the machine's date is {today:?}");
    };
    let months = (year * 12 + month - 1).checked_sub(2).context("a date after year 0")?;
    Ok(format!("{:04}-{:02}", months / 12, months % 12 + 1))
}

fn platform_events(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["chirpstack", "thingsstack", "ttn"].iter().any(|platform| name.contains(platform))
    });
    files.sort();
    Ok(files)
}

/// One line per step; a bar on a terminal.
struct Steps {
    bar: ProgressBar,
    at: u64,
}

impl Steps {
    fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(STEPS).with_style(
                ProgressStyle::with_template("[{bar:24}] {pos}/{len} {elapsed} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            )
        } else {
            ProgressBar::hidden()
        };
        Self { bar, at: 0 }
    }

    fn next(&mut self, what: &str) {
        self.bar.set_position(self.at);
        self.at += 1;
        self.bar.set_message(what.to_owned());
        let at = self.at;
        self.bar.suspend(|| println!("[{at}/{STEPS}] {what}"));
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| println!("  {line}"));
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
