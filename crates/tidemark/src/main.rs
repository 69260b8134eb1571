//! The one executable. Its roles are subcommands; every role can run alone, many times, or all
//! together under `up`.
//!
//! In: a command line, settings, signals. Out: running roles, answers on standard output, an exit
//! code. Never here: rules of the trade; the rooms hold them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod cli;
mod roles;
mod settings;
mod supervise;
mod telemetry;

use anyhow::{Context, Result};
use clap::Parser;
use cli::{BillCommand, Cli, Command, RegistryCommand};
use settings::Settings;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start_log(cli.log);
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidemark: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line; a cause that was said already is not said again.
fn told(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

fn run(cli: Cli) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    // `block_on` keeps the main task on the main thread; `up` relies on it (see `supervise`).
    let code = runtime.block_on(dispatch(cli))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    Ok(code)
}

async fn dispatch(cli: Cli) -> Result<ExitCode> {
    let shutdown = cancel_on_signal()?;
    let file = cli.config.as_deref();
    match cli.command {
        Command::Decode(args) => roles::decode::run(&args),
        Command::Rate(args) => roles::rate::run(&args),
        Command::Up(args) => done(roles::up::run(&args, cli.log, &shutdown).await),
        Command::Embedded(service) => done(roles::embedded::run(service, shutdown).await),
        Command::CoapGateway => {
            done(roles::coap_gateway::run(Settings::load(file)?, shutdown).await)
        }
        Command::Ingest => done(roles::ingest::run(Settings::load(file)?, shutdown).await),
        Command::Console => done(roles::console::run(Settings::load(file)?, shutdown).await),
        Command::Migrate => done(roles::migrate::run(&Settings::load(file)?).await),
        Command::Registry(RegistryCommand::Import { file: registry }) => {
            done(roles::registry::import(&Settings::load(file)?, &registry).await)
        }
        Command::Bill(BillCommand::Run(args)) => {
            roles::bill::run(&Settings::load(file)?, args, shutdown).await
        }
        Command::Bill(BillCommand::Show(args)) => {
            done(roles::bill::show(&Settings::load(file)?, &args).await)
        }
        Command::Bill(BillCommand::Explain(args)) => {
            done(roles::bill::explain(&Settings::load(file)?, &args).await)
        }
        Command::Replay(args) => {
            done(roles::replay::dead_letters(&Settings::load(file)?, args).await)
        }
        Command::ReplayEvents(args) => {
            done(roles::replay::events(&Settings::load(file)?, &args, &shutdown).await)
        }
        Command::Books(args) => roles::books::run(&Settings::load(file)?, &args).await,
        Command::CheckConfig => {
            let settings = Settings::load(file)?;
            println!("{settings:#?}");
            done(Ok(()))
        }
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Cancelled by SIGTERM or Ctrl-C; a second one ends the process at once.
fn cancel_on_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            asked = true;
            tracing::info!("stopping");
            cancel.cancel();
        }
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let twice = anyhow::anyhow!("connection reset").context("postgres: connection reset");
        assert_eq!(told(&twice), "postgres: connection reset");
        let chain = anyhow::anyhow!("no such file").context("read a.toml").context("settings");
        assert_eq!(told(&chain), "settings: read a.toml: no such file");
    }
}
