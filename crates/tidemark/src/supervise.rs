//! Children of `tidemark up`: started, watched, started again when they die, stopped in order.
//!
//! In: command lines. Out: each child's ready line, and its log in a file. Every child is tied to
//! us by `setpriv --pdeathsig`, so even our own `kill -9` leaves nothing behind. The kernel ties a
//! child to the *thread* that started it: call everything here from the main task only.
//! Never here: what a child does.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long a child may take to say it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a child may take to stop after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_millis(20);
const BACKOFF_LEAST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(5);

/// What to run.
pub(crate) struct Recipe {
    /// The role, as shown in logs.
    pub(crate) name: &'static str,
    /// Arguments of our own executable.
    pub(crate) args: Vec<String>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
}

/// One child and how to start it again.
pub(crate) struct Supervised {
    recipe: Recipe,
    child: Option<Child>,
    backoff: Duration,
    start_at: Instant,
    started: Instant,
}

impl Supervised {
    /// Starts a child and waits for its ready line: one JSON object on standard output.
    pub(crate) async fn start(
        recipe: Recipe,
        shutdown: &CancellationToken,
    ) -> Result<(Self, serde_json::Value)> {
        let (child, first_line) = spawn(&recipe)?;
        let now = Instant::now();
        let mut started = Self {
            recipe,
            child: Some(child),
            backoff: BACKOFF_LEAST,
            start_at: now,
            started: now,
        };
        let line = started.first_line(&first_line, shutdown).await?;
        let said = serde_json::from_str(&line)
            .with_context(|| format!("what {} said when ready: {line}", started.recipe.name))?;
        Ok((started, said))
    }

    async fn first_line(
        &mut self,
        lines: &mpsc::Receiver<String>,
        shutdown: &CancellationToken,
    ) -> Result<String> {
        let name = self.recipe.name;
        let log = self.recipe.log.display().to_string();
        loop {
            if let Ok(line) = lines.try_recv() {
                return Ok(line);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("{name} ended before it was ready ({status}); its log is {log}");
            }
            if self.started.elapsed() > READY_WITHIN {
                bail!("{name} was not ready within {} s; its log is {log}", READY_WITHIN.as_secs());
            }
            if shutdown.is_cancelled() {
                bail!("stopped while {name} was starting");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks after the child: starts it again, after a pause that grows, when it has died.
    pub(crate) fn tend(&mut self) {
        let name = self.recipe.name;
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => warn!(role = name, %status, "role died; starting it again"),
                Err(cause) => error!(role = name, %cause, "cannot watch the role"),
            }
            self.child = None;
            // A role that ran for a while gets a fresh start; one that keeps dying waits longer.
            if self.started.elapsed() > BACKOFF_MOST {
                self.backoff = BACKOFF_LEAST;
            }
            self.start_at = Instant::now() + self.backoff;
            self.backoff = (self.backoff * 2).min(BACKOFF_MOST);
        }
        if Instant::now() < self.start_at {
            return;
        }
        self.started = Instant::now();
        match spawn(&self.recipe) {
            Ok((child, _ready)) => {
                info!(role = name, pid = child.id(), "role started again");
                self.child = Some(child);
            }
            Err(cause) => {
                error!(role = name, cause = format!("{cause:#}"), "role does not start");
                self.start_at = Instant::now() + self.backoff;
            }
        }
    }

    /// Asks the child to stop and waits; kills it when it does not.
    pub(crate) async fn stop(mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have gone by itself in the meantime; waiting finds out.
            kill_process(pid, Signal::TERM).ok();
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_WITHIN {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        warn!(role = self.recipe.name, "role did not stop in time: killed");
        drop(child.kill());
        drop(child.wait());
    }
}

fn spawn(recipe: &Recipe) -> Result<(Child, mpsc::Receiver<String>)> {
    let ourselves = std::env::current_exe().context("find our own executable")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&recipe.log)
        .with_context(|| format!("open the log {}", recipe.log.display()))?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .arg(ourselves)
        .args(&recipe.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C goes to the whole foreground group; a group of its own lets us stop in order.
        .process_group_of_its_own()
        .spawn()
        .with_context(|| format!("start {}", recipe.name))?;
    let out = child.stdout.take().context("its standard output")?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // Nobody listens after the ready line; reading on keeps the pipe open.
            drop(send.send(line));
        }
    });
    Ok((child, receive))
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
