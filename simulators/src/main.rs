//! The simulators' command line.
//!
//! In: a subcommand. Out: a registry file, or the story played against running roles.
//! Never here: the story itself (see the library).

use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use simulators::{
    Months, PlaySettings, Utility, expected,
    play::{Broker, all_days, sendings},
    registry_file,
};
use std::{
    fs,
    io::{IsTerminal, Write},
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A small utility that exists only in arithmetic.
#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Options all commands share: they decide what the utility is.
#[derive(clap::Args)]
struct Story {
    /// Everything follows from it: two runs with one seed are the same to the byte
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first of the two months, one cycle each; both must lie in the past when played
    #[arg(long, value_name = "YYYY-MM", default_value = "2026-09")]
    first_month: Months,
}

#[derive(Subcommand)]
enum Command {
    /// Write the registry: 200 accounts in 2 books, 201 meters with their keys, two tariffs
    Fleet {
        #[command(flatten)]
        story: Story,
        /// Where to write it (JSON)
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write what the books must show after the whole story
    Expect {
        #[command(flatten)]
        story: Story,
        /// Where to write it (JSON)
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Play two months of hourly reads, compressed, until everything is acknowledged
    Play {
        #[command(flatten)]
        story: Story,
        /// The CoAP gateway
        #[arg(long, value_name = "HOST:PORT")]
        coap: String,
        /// The broker
        #[arg(long, value_name = "mqtt://HOST[:PORT]")]
        mqtt: Broker,
        /// The first day to play, 0 to 61
        #[arg(long, default_value_t = 0)]
        from: usize,
        /// The first day not to play; all when left out
        #[arg(long)]
        until: Option<usize>,
        /// How many days are published again when the broker's connection breaks; all of them
        /// unless said otherwise, for nobody knows how much of them the broker had passed on
        #[arg(long, default_value_t = 62)]
        replay_days: usize,
        /// Show a progress bar even when not on a terminal
        #[arg(long)]
        progress: bool,
        /// Write what the books must show (JSON)
        #[arg(long, value_name = "FILE")]
        expect: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            writeln!(std::io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Fleet { story, out } => write_json(&out, &registry_file(&utility(&story))),
        Command::Expect { story, out } => {
            let utility = utility(&story);
            write_json(&out, &expected(&utility, all_days(&utility)))
        }
        Command::Play { story, coap, mqtt, from, until, replay_days, progress, expect } => {
            let utility = Arc::new(utility(&story));
            let last = all_days(&utility).end;
            let days = from..until.unwrap_or(last).min(last);
            anyhow::ensure!(days.start < days.end, "nothing to play: days are 0 to {last}");
            let settings = PlaySettings { coap: address(&coap)?, broker: mqtt, days, replay_days };
            if let Some(path) = &expect {
                write_json(path, &expected(&utility, settings.days.clone()))?;
            }
            play(utility, settings, progress)
        }
    }
}

fn utility(story: &Story) -> Utility {
    Utility::new(story.seed, story.first_month)
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text.to_socket_addrs().with_context(|| format!("look up {text:?}"))?;
    found.next().with_context(|| format!("{text:?} has no address"))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn play(utility: Arc<Utility>, settings: PlaySettings, forced: bool) -> anyhow::Result<()> {
    let total = sendings(&utility, settings.days.clone());
    let done = Arc::new(AtomicU64::new(0));
    let bar = if forced || std::io::stderr().is_terminal() {
        ProgressBar::new(total)
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(ProgressStyle::with_template(
        "{spinner} uplinks {bar:30} {human_pos}/{human_len} {per_sec} eta {eta}",
    )?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let played = runtime.block_on(async {
        let playing = simulators::play(utility, settings, Arc::clone(&done));
        tokio::pin!(playing);
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                played = &mut playing => break played.map_err(anyhow::Error::from),
                _ = tick.tick() => bar.set_position(done.load(Ordering::Relaxed)),
                stopped = tokio::signal::ctrl_c() => {
                    stopped?;
                    break Err(anyhow::anyhow!("stopped"));
                }
            }
        }
    })?;
    bar.finish_and_clear();
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&played)?)?;
    Ok(())
}
