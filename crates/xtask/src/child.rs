//! Child processes that never outlive us.
//!
//! In: commands. Out: their results, or their first line once they are ready. Every child is tied
//! to this process through `setpriv --pdeathsig`, so even `kill -9` of xtask leaves nothing behind.
//! Never here: what the commands are for.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a child may take to stop by itself before it is killed.
const GRACE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// From now on Ctrl-C and SIGTERM end the errand in an orderly way.
pub(crate) fn watch_for_interrupts() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).context("watch for Ctrl-C")
}

/// Whether somebody asked us to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Waits a moment; an error when somebody asked us to stop.
pub(crate) fn pause() -> Result<()> {
    thread::sleep(POLL);
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits so long, or until somebody asks us to stop, which is an error.
pub(crate) fn wait(long: Duration) -> Result<()> {
    let mut waited = Duration::ZERO;
    while waited < long {
        pause()?;
        waited += POLL;
    }
    Ok(())
}

/// A command tied to our life.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// Runs a command to its end; an error when it fails or somebody asks us to stop.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{}: {status}", said(command));
    }
    Ok(())
}

/// Runs a command to its end and returns how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let child = command.spawn().with_context(|| format!("start {}", said(command)))?;
    let mut running = Running { child, name: said(command) };
    loop {
        if let Some(status) = running.child.try_wait()? {
            return Ok(status);
        }
        pause()?;
    }
}

/// Runs a command to its end and returns what it printed; how it ended comes with it.
pub(crate) fn output(command: &mut Command) -> Result<(ExitStatus, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", said(command)))?;
    let out = child.stdout.take().context("its output")?;
    let reader = thread::spawn(move || std::io::read_to_string(out));
    let mut running = Running { child, name: said(command) };
    let status = loop {
        if let Some(status) = running.child.try_wait()? {
            break status;
        }
        pause()?;
    };
    let text = reader.join().map_err(|_| anyhow::anyhow!("reader stopped"))??;
    Ok((status, text))
}

/// What a command printed, when it ended well.
pub(crate) fn printed(command: &mut Command) -> Result<String> {
    let (status, text) = output(command)?;
    if !status.success() {
        bail!("{}: {status}", said(command));
    }
    Ok(text)
}

/// A child that runs in the background; stopped when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts `command` in the background, its log in `log`, and waits for the line it prints on
    /// standard output when it is ready.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<(Self, String)> {
        let name = said(command);
        let log_file =
            File::create(log).with_context(|| format!("create the log {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let out = child.stdout.take().context("its output")?;
        let mut running = Self { child, name };
        let (send, receive) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(out).lines();
            if let Some(Ok(first)) = lines.next() {
                drop(send.send(first));
            }
            lines.for_each(drop);
        });
        loop {
            if let Ok(line) = receive.try_recv() {
                return Ok((running, line));
            }
            if let Some(status) = running.child.try_wait()? {
                bail!(
                    "{} ended before it was ready: {status}; see {}",
                    running.name,
                    log.display()
                );
            }
            pause()?;
        }
    }

    /// An error when the child has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may be gone already; the wait below finds out.
            kill_process(pid, Signal::TERM).ok();
        }
        let mut waited = Duration::ZERO;
        while waited < GRACE {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(POLL);
            waited += POLL;
        }
        eprintln!("xtask: {} did not stop in {} s: killed", self.name, GRACE.as_secs());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn said(command: &Command) -> String {
    let skip = if command.get_program() == "setpriv" { 3 } else { 0 };
    let mut words: Vec<_> = command.get_args().skip(skip).map(OsStr::to_string_lossy).collect();
    if skip == 0 {
        words.insert(0, command.get_program().to_string_lossy());
    }
    words.truncate(6);
    words.join(" ")
}
