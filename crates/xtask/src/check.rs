//! Every check, in the order that fails fastest.
//!
//! In: the workspace. Out: a report, and an error at the first check that fails.
//! Never here: what a test asserts.

use crate::{child, child::Running, root, setup, target};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Sets up and runs every check.
pub(crate) fn everything() -> Result<()> {
    setup::everything()?;
    step("rustfmt", cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "clippy",
        cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    step("build", cargo().args(["build", "--workspace", "--bins", "--examples", "--locked"]))?;
    let services = Services::start()?;
    step("tests", services.tell(&mut test_runner()))?;
    step("doc tests", services.tell(cargo().args(["test", "--doc", "--workspace", "--locked"])))?;
    drop(services);
    println!("xtask: every check passed");
    Ok(())
}

/// Runs the frame sets in `vectors`.
pub(crate) fn conformance(vectors: &Path) -> Result<()> {
    let vectors = vectors
        .canonicalize()
        .with_context(|| format!("the frame sets in {}", vectors.display()))?;
    step(
        "conformance",
        cargo()
            .args(["test", "--locked", "--package", "uplink"])
            .args(["--test", "conformance", "--test", "mbus", "--"])
            .args(["--nocapture", "--test-threads=1"])
            .env("TIDEMARK_VECTORS", vectors),
    )
}

/// The test runner: nextest where it is installed, cargo's own otherwise; both run every test.
fn test_runner() -> Command {
    let nextest =
        cargo().args(["nextest", "--version"]).output().is_ok_and(|answer| answer.status.success());
    let mut command = cargo();
    if nextest {
        command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--all-targets"]);
    }
    command
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("xtask: {name}");
    child::run(command).with_context(|| format!("{name} failed"))
}

/// The real services the integration tests talk to; each test makes its own database in them.
struct Services {
    urls: Vec<(&'static str, String)>,
    // Stopped in this order, before the folder goes.
    _running: Vec<Running>,
    _home: Scratch,
}

impl Services {
    fn start() -> Result<Self> {
        let home = Scratch::new("tidemark-test")?;
        let tidemark = target().join("debug/tidemark");
        let mut urls = Vec::new();
        let mut running = Vec::new();
        for (role, variable) in [
            ("postgres", "TIDEMARK_TEST_POSTGRES_URL"),
            ("clickhouse", "TIDEMARK_TEST_CLICKHOUSE_URL"),
            ("broker", "TIDEMARK_TEST_MQTT_URL"),
        ] {
            let mut command = child::tied(&tidemark);
            command.args(["embedded", role, "--data"]).arg(home.0.join(role));
            let log = home.0.join(format!("{role}.log"));
            let (service, line) = Running::start(&mut command, &log)?;
            running.push(service);
            let said: serde_json::Value = serde_json::from_str(&line)
                .with_context(|| format!("what {role} said when ready: {line}"))?;
            let url = said.get("url").and_then(serde_json::Value::as_str);
            urls.push((variable, url.context("its url")?.to_owned()));
        }
        // Last in, first out: nothing outlives the folder it writes to.
        Ok(Self { urls, _running: running, _home: home })
    }

    fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .envs(self.urls.iter().map(|(name, url)| (*name, url)))
            .env("TIDEMARK_TEST_BINARY", target().join("debug/tidemark"))
            .env("TIDEMARK_TEST_SIMULATORS", target().join("debug/simulators"))
    }
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("{name}-{}", std::process::id()));
        if path.exists() {
            bail!("{} is left from another run: remove it", path.display());
        }
        fs::create_dir_all(&path)?;
        // An unprivileged Postgres must be able to pass through.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A service that was just stopped may still close its last files.
        for _ in 0..10 {
            if fs::remove_dir_all(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
