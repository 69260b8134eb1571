//! The private ClickHouse killed while it stores.
//!
//! In: SIGKILL at any moment of an insert. Out: after a restart, every acknowledged batch whole,
//! every other whole or absent, and a repeated one once.
//! Never here: power loss, which a test cannot do.
//!
//! `EMBEDDED_TEST_KILLS=100` kills more often than CI does.

#![expect(clippy::unwrap_used, reason = "a step that fails, fails the test")]

mod example;

use clickhouse::{Client, Compression, Row, error::Error};
use example::example;
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const BATCH_ROWS: u32 = 2_000;

#[derive(Row, Serialize, Deserialize)]
struct Record {
    batch: u64,
    n: u32,
    pad: u64,
}

/// The engine as a process of its own.
fn start(dir: &Path) -> (Child, Client) {
    let mut child = example("engine").arg(dir).arg("0").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map(Result::unwrap).find(|line| line.starts_with("http://")).unwrap();
    (child, Client::default().with_url(ready).with_compression(Compression::Lz4))
}

async fn insert(client: &Client, batch: u64) -> Result<(), Error> {
    let mut insert = client.insert::<Record>("k").await?;
    for n in 0..BATCH_ROWS {
        insert.write(&Record { batch, n, pad: batch.wrapping_mul(u64::from(n)) }).await?;
    }
    insert.end().await
}

#[tokio::test]
async fn a_killed_engine_loses_nothing_it_acknowledged() {
    let kills: u64 = std::env::var("EMBEDDED_TEST_KILLS").map_or(5, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut client) = start(dir.path());
    client
        .query(
            "CREATE TABLE k (batch UInt64, n UInt32, pad UInt64) ENGINE = ReplacingMergeTree \
             ORDER BY (batch, n) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, \
             non_replicated_deduplication_window = 0",
        )
        .execute()
        .await
        .unwrap();
    let (mut next, mut repeated) = (0, 0);
    for kill in 0..kills {
        let first = next;
        let pid = child.id().to_string();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30 + kill * 7919 % 300));
            Command::new("kill").args(["-9", &pid]).status().unwrap();
        });
        while insert(&client, next).await.is_ok() {
            next += 1;
        }
        killer.join().unwrap();
        child.wait().unwrap();
        (child, client) = start(dir.path());
        let found: Vec<(u64, u64)> = client
            .query(
                "SELECT batch, count() FROM k FINAL WHERE batch >= ? GROUP BY batch ORDER BY batch",
            )
            .bind(first)
            .fetch_all()
            .await
            .unwrap();
        assert!(found.iter().all(|(_, rows)| *rows == u64::from(BATCH_ROWS)), "torn: {found:?}");
        let acknowledged = found.iter().filter(|(batch, _)| *batch < next).count();
        assert_eq!(u64::try_from(acknowledged).unwrap(), next - first, "lost: {found:?}");
        repeated += u64::from(found.iter().any(|(batch, _)| *batch == next));
        insert(&client, next).await.unwrap();
        next += 1;
    }
    let rows: u64 = client.query("SELECT count() FROM k FINAL").fetch_one().await.unwrap();
    assert_eq!(rows, next * u64::from(BATCH_ROWS));
    println!("{kills} kills, {next} batches, {repeated} stored but unacknowledged and repeated");

    // A polite end, so that the exit is the one a user sees.
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_relative_data_directory_is_one_directory() {
    let above = tempfile::tempdir().unwrap();
    let mut child = example("engine")
        .args(["data", "0"])
        .current_dir(above.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let client = Client::default().with_url(ready).with_compression(Compression::Lz4);
    let create = "CREATE TABLE k (batch UInt64, n UInt32, pad UInt64) ENGINE = MergeTree \
        ORDER BY n";
    client.query(create).execute().await.unwrap();
    insert(&client, 1).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(above.path().join("data/store").is_dir());
}
