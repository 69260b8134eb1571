//! Serves a private ClickHouse: `cargo run -p embedded --example engine -- DIR PORT [SETTINGS]`.
//!
//! In: a directory, a port (0: any), other settings as TOML. Out: the address on standard output;
//! serves until SIGINT or SIGTERM. Tests run it as the process they kill.
//! Never here: anything `tidemark embedded clickhouse` does not do better; this one is for working
//! on the crates below it.

#![allow(clippy::print_stdout, reason = "the address is the output")]

use embedded::clickhouse::{ClickhouseEngineSettings, exit_now, serve};
use std::{error::Error, net::SocketAddr};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("want: DIR PORT".into());
    };
    let others: ClickhouseEngineSettings = toml::from_str(&arguments.next().unwrap_or_default())?;
    let settings = ClickhouseEngineSettings {
        data_dir: dir.into(),
        listen: SocketAddr::from(([127, 0, 0, 1], port.parse()?)),
        ..others
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        stop.cancel();
    });
    serve(settings, shutdown, |address| println!("http://{address}")).await?;
    exit_now(0)
}
