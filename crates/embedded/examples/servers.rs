//! Holds a private Postgres and a private broker: `cargo run -p embedded --example servers -- DIR`.
//!
//! In: a directory. Out: one line, `ready POSTGRES_PID BROKER_PID POSTGRES_URL`; then holds both
//! until it is killed. Tests run it as the parent they kill.
//! Never here: anything `tidemark embedded` does not do better.

#![allow(clippy::print_stdout, reason = "the line is the output")]

use embedded::{broker, postgres};
use std::{error::Error, path::PathBuf};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("want: DIR")?);
    let postgres = postgres::start(&postgres::PostgresSettings {
        data_dir: dir.join("postgres"),
        ..Default::default()
    })
    .await?;
    let broker = broker::start(&broker::BrokerSettings {
        data_dir: dir.join("broker"),
        ..Default::default()
    })
    .await?;
    println!("ready {} {} {}", postgres.pid(), broker.pid(), postgres.url());
    postgres.ended().await;
    Ok(())
}
