//! Serves a private ClickHouse: `cargo run -p embedded --example engine -- DIR PORT`.
//!
//! In: a directory and a port (0: any). Out: the address on standard output; serves until SIGINT
//! or SIGTERM.
//! Never here: anything `tidemark embedded clickhouse` does not do better; this one is for working
//! on the crates below it.

#![allow(clippy::print_stdout, reason = "the address is the output")]

use embedded::clickhouse::{ClickhouseEngineSettings, exit_now, serve};
use std::{error::Error, net::SocketAddr};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).init();
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("want: DIR PORT".into());
    };
    let settings = ClickhouseEngineSettings {
        data_dir: dir.into(),
        listen: SocketAddr::from(([127, 0, 0, 1], port.parse()?)),
        ..Default::default()
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
