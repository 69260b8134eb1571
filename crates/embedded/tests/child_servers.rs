//! The private Postgres and the private broker, as children of this process.
//!
//! In: fresh directories. Out: servers that answer, keep their data, and end with their parent.
//! Never here: what the product does with them.

#![expect(clippy::unwrap_used, reason = "a step that fails, fails the test")]

mod example;

use embedded::{
    Running, StartError,
    broker::{self, BrokerSettings},
    postgres::{self, PostgresSettings},
};
use example::example;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn postgres_in(dir: &Path) -> PostgresSettings {
    PostgresSettings { data_dir: dir.join("postgres"), ..Default::default() }
}

fn broker_in(dir: &Path) -> BrokerSettings {
    BrokerSettings { data_dir: dir.join("broker"), ..Default::default() }
}

/// What psql prints, so that `psql $DATABASE_URL` is what is tested.
fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql").args([url, "-Atc", sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn is_gone(pid: u32) {
    while Path::new(&format!("/proc/{pid}")).exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn postgres_keeps_its_data_port_and_password() {
    let dir = tempfile::tempdir().unwrap();
    let settings = postgres_in(dir.path());
    let first = postgres::start(&settings).await.unwrap();
    let url = first.url().to_owned();
    psql(&url, "CREATE TABLE t AS SELECT 42 AS a");
    let owner = psql(&url, "SELECT current_user || '/' || current_database()");
    assert_eq!(owner, "tidemark/tidemark");
    let without_password = url.replacen(&password(&url), "wrong", 1);
    let refused = Command::new("psql").args([&without_password, "-c", "SELECT 1"]).output();
    assert!(!refused.unwrap().status.success());
    assert!(matches!(postgres::start(&settings).await, Err(StartError::InUse { .. })));
    first.stop().await;

    let second = postgres::start(&settings).await.unwrap();
    assert_eq!(second.url(), url);
    assert_eq!(psql(&url, "SELECT a FROM t"), "42");
    second.stop().await;
}

fn password(url: &str) -> String {
    url.split(['@', ':']).nth(2).unwrap().to_owned()
}

#[tokio::test]
async fn a_cluster_half_made_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = postgres_in(dir.path());
    let half = settings.data_dir.join("cluster.new/base");
    std::fs::create_dir_all(half).unwrap();
    let running = postgres::start(&settings).await.unwrap();
    assert_eq!(psql(running.url(), "SELECT 1"), "1");
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let settings = PostgresSettings { connections_max: 0, ..postgres_in(dir.path()) };
    let error = postgres::start(&settings).await.unwrap_err();
    assert!(error.to_string().contains("max_connections"), "{error}");
    let absent = BrokerSettings { program: Some("/nowhere".into()), ..broker_in(dir.path()) };
    let error = broker::start(&absent).await.unwrap_err();
    assert!(error.to_string().contains("apt-get install mosquitto"), "{error}");
}

/// Passes one message through the broker with packets written by hand.
async fn pass_a_message(running: &Running) {
    let address = running.url().strip_prefix("mqtt://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01x").await.unwrap();
    stream.write_all(b"\x82\x06\x00\x01\x00\x01t\x01").await.unwrap(); // SUBSCRIBE t, QoS 1
    stream.write_all(b"\x32\x07\x00\x01t\x00\x02hi").await.unwrap(); // PUBLISH t, QoS 1
    let mut received = Vec::new();
    while !received.windows(2).any(|two| two == b"hi") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{received:x?}");
    }
}

#[tokio::test]
async fn the_broker_passes_messages_and_keeps_its_port() {
    let dir = tempfile::tempdir().unwrap();
    let first = broker::start(&broker_in(dir.path())).await.unwrap();
    pass_a_message(&first).await;
    let (url, pid) = (first.url().to_owned(), first.pid());
    first.stop().await;
    is_gone(pid).await;
    let second = broker::start(&broker_in(dir.path())).await.unwrap();
    assert_eq!(second.url(), url);
    drop(second);
}

#[tokio::test]
async fn children_end_with_a_killed_parent_and_start_again() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let mut parent = example("servers").arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find(|line| line.starts_with("ready ")).unwrap();
        let words: Vec<&str> = ready.split(' ').collect();
        let [_, postgres, broker, url] = words.as_slice() else { panic!("{ready}") };
        psql(url, "CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t VALUES (1)");
        parent.kill().unwrap();
        parent.wait().unwrap();
        // Not waiting for the old Postgres is part of the test in the second round.
        if round == 0 {
            is_gone(postgres.parse().unwrap()).await;
        }
        is_gone(broker.parse().unwrap()).await;
    }
    let running = postgres::start(&postgres_in(dir.path())).await.unwrap();
    assert_eq!(psql(running.url(), "SELECT count(*) FROM t"), "2");

    // The server itself is killed: the next start recovers and drops the stale pid file.
    let kill = Command::new("kill").args(["-9", &running.pid().to_string()]).status().unwrap();
    assert!(kill.success());
    running.ended().await;
    drop(running);
    let recovered = postgres::start(&postgres_in(dir.path())).await.unwrap();
    assert_eq!(psql(recovered.url(), "SELECT count(*) FROM t"), "2");
    recovered.stop().await;
}
