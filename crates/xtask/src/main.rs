//! The project's own errands: set up a machine, run the demo, run every test.
//!
//! In: a fresh Debian machine with Rust, the workspace. Out: installed parts, a demo that proves
//! its own books, a test report. Never here: anything the product itself does.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod books;
mod check;
mod child;
mod demo;
mod setup;

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Errands of the Tidemark workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    errand: Errand,
}

#[derive(Subcommand)]
enum Errand {
    /// Install what the demo and the tests need: Debian packages and the embedded engine.
    Setup,
    /// Run the main job on embedded defaults: meters report, two cycles are billed, the books are
    /// proven. Needs nothing but Rust; installs the rest.
    Demo {
        /// Leave everything running afterwards, the console included, until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Seed of the simulated fleet and of everything that happens to it.
        #[arg(long, default_value_t = 20_260_901)]
        seed: u64,
    },
    /// Set up, then run everything: rustfmt, clippy, unit, property, integration, tidy, doc tests.
    Test,
    /// Decode shared frame sets and compare with their expected values.
    Conformance {
        /// Folder with the frame sets.
        #[arg(long, default_value = "../shared/vectors")]
        vectors: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = child::watch_for_interrupts().and_then(|()| match cli.errand {
        Errand::Setup => setup::everything(),
        Errand::Demo { keep, seed } => demo::run(keep, seed),
        Errand::Test => check::everything(),
        Errand::Conformance { vectors } => check::conformance(&vectors),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo builds to: two folders above our own executable, wherever `CARGO_TARGET_DIR` points.
fn target() -> PathBuf {
    let ourselves = std::env::current_exe().ok();
    let above = ourselves.as_deref().and_then(|file| file.parent()?.parent());
    above.map_or_else(|| root().join("target"), PathBuf::from)
}

/// The workspace's own folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_default()
}
