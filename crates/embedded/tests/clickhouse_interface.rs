//! The private ClickHouse as the unmodified `clickhouse` crate sees it.
//!
//! In: what the crate can ask. Out: what it would get from ClickHouse.
//! Never here: anything that knows the server is embedded, but for starting it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a step that fails, fails the test"
)]

mod example;

use clickhouse::{Client, Compression, Row, error::Error};
use example::example;
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{OnceLock, mpsc},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The engine all tests of this process ask; a process of its own, because the engine's threads do
/// not live well with our exit handlers. Started from a thread that never ends: the kernel ties the
/// child to it, and so to us.
fn address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let (ready, address) = mpsc::channel();
        std::thread::spawn(move || {
            // Below `target`, because nobody is left to remove it.
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let engine = example("engine");
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(engine.get_program())
                .arg(dir.path())
                .args(["0", SETTINGS])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            ready.send(lines.next().unwrap().unwrap()).unwrap();
            child.wait().unwrap();
        });
        address.recv().expect("the engine starts, see the panic above")
    })
}

const SETTINGS: &str = "
    password = \"p'w\"
    compress_on_loopback = true
    query_bytes_max = 4194304
    insert_bytes_max = 67108864
    buffered_answer_bytes_max = 33554432
";

fn server() -> Client {
    Client::default().with_url(address()).with_user("default").with_password("p'w")
}

/// A fresh database, and clients for it with and without compression and validation.
async fn clients(name: &str) -> [Client; 3] {
    let create = format!("CREATE DATABASE {name} ENGINE = Atomic");
    server().query(&create).execute().await.unwrap();
    let client = server().with_database(name);
    let create = "CREATE TABLE t (meter UInt64, at DateTime64(3, 'UTC'), v Int64, \
        q Nullable(UInt32), s LowCardinality(String), e Enum8('a' = 1, 'b' = 2), n UInt32 DEFAULT 7) \
        ENGINE = MergeTree ORDER BY (meter, at)";
    client.query(create).execute().await.unwrap();
    [
        client.clone().with_compression(Compression::Lz4),
        client.clone().with_compression(Compression::None),
        client.with_compression(Compression::None).with_validation(false),
    ]
}

#[derive(Row, Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Record {
    meter: u64,
    at: i64,
    v: i64,
    q: Option<u32>,
    s: String,
    e: i8,
}

fn record(n: u32) -> Record {
    Record {
        meter: u64::from(n % 100),
        at: 1_767_225_600_000 + i64::from(n) * 1000,
        v: i64::from(n) * 3 - 7,
        q: (!n.is_multiple_of(3)).then_some(n),
        s: format!("s{n}\n\n'\\"),
        e: 1,
    }
}

async fn insert(client: &Client, table: &str, numbers: std::ops::Range<u32>) -> Result<(), Error> {
    let mut insert = client.insert::<Record>(table).await?;
    for n in numbers {
        insert.write(&record(n)).await?;
    }
    insert.end().await
}

async fn count(client: &Client) -> u64 {
    client.query("SELECT count() FROM t").fetch_one().await.unwrap()
}

fn code(error: &Error) -> u32 {
    let text = error.to_string();
    let rest = text.split("Code: ").nth(1).unwrap_or_else(|| panic!("no code in {text}"));
    rest.split('.').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn rows_come_back_as_they_went_in_over_many_chunks() {
    for (n, client) in clients("rows").await.into_iter().enumerate() {
        client.query("TRUNCATE TABLE t").execute().await.unwrap();
        insert(&client, "t", 0..1000).await.unwrap();
        insert(&client, "t", 1000..101_000).await.unwrap();
        let mut cursor =
            client.query("SELECT ?fields FROM t ORDER BY at").fetch::<Record>().unwrap();
        let mut expected = 0;
        while let Some(found) = cursor.next().await.unwrap() {
            assert_eq!(found, record(expected), "client {n}");
            expected += 1;
        }
        assert_eq!(expected, 101_000);
    }
}

#[tokio::test]
async fn small_and_empty_answers_are_complete() {
    for client in clients("small").await {
        client.query("TRUNCATE TABLE t").execute().await.unwrap();
        insert(&client, "t", 0..10).await.unwrap();
        let of = |meter: u64| client.query("SELECT ?fields FROM t WHERE meter = ?").bind(meter);
        assert_eq!(of(5).fetch_all::<Record>().await.unwrap(), [record(5)]);
        assert_eq!(of(99).fetch_all::<Record>().await.unwrap(), []);
        assert_eq!(of(99).fetch_optional::<Record>().await.unwrap(), None);
        assert!(matches!(of(99).fetch_one::<Record>().await, Err(Error::RowNotFound)));
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_the_table_is_noticed() {
    #[derive(Row, Deserialize, Debug)]
    struct Narrow {
        #[expect(dead_code, reason = "only its type matters")]
        meter: u32,
    }
    let [client, ..] = clients("fit").await;
    insert(&client, "t", 0..1).await.unwrap();
    let error = client.query("SELECT meter FROM t").fetch_one::<Narrow>().await.unwrap_err();
    assert!(matches!(error, Error::SchemaMismatch(_)), "{error}");
}

#[tokio::test]
async fn texts_and_parameters_arrive_unchanged() {
    for client in clients("texts").await {
        for text in ["", "it's ? \\ \n\n x", "tab\t quote' back\\ \u{1F600}", "--b\r\n\r\n--"] {
            let back: String =
                client.query("SELECT {a:String}").param("a", text).fetch_one().await.unwrap();
            assert_eq!(back, text);
            let back: String = client.query("SELECT ?").bind(text).fetch_one().await.unwrap();
            assert_eq!(back, text);
        }
        let many: Vec<u64> = (0..100_000).collect();
        let length: u64 = client
            .query("SELECT arraySum({many:Array(UInt64)})")
            .param("many", many)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(length, 4_999_950_000);
        let found: u64 = client
            .query("SELECT count() FROM t WHERE meter IN {m:Array(UInt64)} AND s != {s:String}")
            .param("m", vec![1, 2])
            .param("s", "x")
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(found, 0);
        client.query("TRUNCATE TABLE t").execute().await.unwrap();
    }
}

#[tokio::test]
async fn a_setting_holds_for_its_statement_only() {
    let [client, ..] = clients("settings").await;
    let threads = || client.query("SELECT toString(getSetting('max_threads'))");
    let before: String = threads().fetch_one().await.unwrap();
    let during: String = threads().with_setting("max_threads", "3").fetch_one().await.unwrap();
    let after: String = threads().fetch_one().await.unwrap();
    assert_eq!((during.as_str(), &after), ("3", &before));
    client.query("SET max_threads = 5").execute().await.unwrap();
    assert_eq!(threads().fetch_one::<String>().await.unwrap(), before);
}

#[tokio::test]
async fn errors_carry_clickhouse_codes() {
    let [client, ..] = clients("errors").await;
    let cases: [(&str, &str, u32); 6] = [
        ("SELECT * FROM nope", "", 60),
        ("SELEC 1", "", 62),
        ("SELECT 1; SELECT 2", "", 62),
        ("SELECT 1", "no_such_setting", 115),
        ("SELECT throwIf(number = 3) FROM numbers(10)", "", 395),
        ("SELECT nope FROM t", "", 47),
    ];
    for (sql, setting, expected) in cases {
        let mut query = client.query(sql);
        if !setting.is_empty() {
            query = query.with_setting(setting, "1");
        }
        let error = query.fetch_all::<u8>().await.unwrap_err();
        assert_eq!(code(&error), expected, "{sql}: {error}");
    }
    assert_eq!(code(&insert(&client, "nope", 0..10).await.unwrap_err()), 60);
    let elsewhere = client.clone().with_database("nowhere");
    assert_eq!(code(&elsewhere.query("SELECT 1").execute().await.unwrap_err()), 81);
    let stranger = client.with_password("wrong");
    assert_eq!(code(&stranger.query("SELECT 1").execute().await.unwrap_err()), 516);
}

#[tokio::test]
async fn an_error_in_the_midst_of_a_result_is_noticed() {
    for client in clients("midst").await {
        let failing = "SELECT throwIf(number = 1500000) FROM numbers(2000000)";
        for wait in ["0", "1"] {
            let query = client.query(failing).with_setting("wait_end_of_query", wait);
            let error = query.fetch_all::<u8>().await.unwrap_err();
            assert_eq!(code(&error), 395, "wait_end_of_query {wait}");
        }
        // Nothing of it shows in what follows.
        let clean: Vec<u8> = client.query("SELECT 1").fetch_all().await.unwrap();
        assert_eq!(clean, [1]);
        // The engine keeps what a failed statement without streaming had put out.
        let error = client.query("EXPLAIN SELECT throwIf(1)").fetch_all::<String>().await;
        drop(error);
        let tables: Vec<String> = client.query("SHOW TABLES").fetch_all().await.unwrap();
        assert_eq!(tables, ["t"]);
        client.query("TRUNCATE TABLE t").execute().await.unwrap();
    }
}

#[tokio::test]
async fn an_insert_given_up_stores_nothing() {
    let [client, ..] = clients("given_up").await;
    let mut insert = client.insert::<Record>("t").await.unwrap();
    for n in 0..50_000 {
        insert.write(&record(n)).await.unwrap();
    }
    drop(insert);
    // A client that dies in the midst of a chunked body.
    let mut stream = TcpStream::connect(address().trim_start_matches("http://")).await.unwrap();
    let head = "POST /?database=given_up&query=INSERT%20INTO%20t(meter)%20FORMAT%20CSV&user=default\
        &password=p%27w HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n6\r\n1\n2\n3\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    super_insert(&client).await;
    assert_eq!(count(&client).await, 1);
}

/// An insert after which the earlier ones have had their say.
async fn super_insert(client: &Client) {
    insert(client, "t", 0..1).await.unwrap();
}

#[tokio::test]
async fn inserts_of_text_formats_and_values_keep_blank_lines() {
    let [client, ..] = clients("formats").await;
    client
        .query("INSERT INTO t (meter, s) VALUES (1, 'a\n\nb'), (2, 'c')")
        .execute()
        .await
        .unwrap();
    let mut csv = client.insert_formatted_with("INSERT INTO t (meter, s) FORMAT CSV");
    csv.send("3,\"x\n\ny\"\n".into()).await.unwrap();
    csv.end().await.unwrap();
    client.query("INSERT INTO t (meter, s) SELECT meter + 10, s FROM t").execute().await.unwrap();
    let found: Vec<(u64, String)> =
        client.query("SELECT meter, s FROM t ORDER BY meter").fetch_all().await.unwrap();
    let expected =
        [(1, "a\n\nb"), (2, "c"), (3, "x\n\ny"), (11, "a\n\nb"), (12, "c"), (13, "x\n\ny")];
    assert_eq!(found, expected.map(|(meter, s)| (meter, s.to_owned())));
}

#[tokio::test]
async fn insert_settings_are_taken_and_checked() {
    let [client, ..] = clients("insert_settings").await;
    let with = |name: &str, value: &str| client.clone().with_setting(name, value);
    let strict = with("async_insert", "0").with_setting("insert_deduplicate", "0");
    insert(&strict, "t", 0..10).await.unwrap();
    insert(&with("async_insert", "1").with_setting("wait_for_async_insert", "1"), "t", 10..20)
        .await
        .unwrap();
    assert_eq!(count(&client).await, 20);
    let error = insert(&with("no_such_setting", "1"), "t", 0..1).await.unwrap_err();
    assert_eq!(code(&error), 115);
}

#[tokio::test]
async fn other_formats_come_as_one_document() {
    let [client, ..] = clients("documents").await;
    let rows = client.query("SELECT number FROM numbers(200000)");
    let json = rows.fetch_bytes("JSON").unwrap().collect().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["rows"], 200_000);
    let lines = client.query("SELECT number FROM numbers(200000)").fetch_bytes("JSONEachRow");
    let lines = lines.unwrap().collect().await.unwrap();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 200_000);
}

#[tokio::test]
async fn a_summary_comes_with_an_answer_waited_for() {
    let [client, ..] = clients("summary").await;
    insert(&client, "t", 0..1000).await.unwrap();
    let query = client.query("SELECT v FROM t").with_setting("wait_end_of_query", "1");
    let mut cursor = query.fetch::<i64>().unwrap();
    while cursor.next().await.unwrap().is_some() {}
    assert_eq!(cursor.summary().and_then(|summary| summary.read_rows()), Some(1000));
}

#[tokio::test]
async fn a_query_nobody_waits_for_is_stopped() {
    let [client, ..] = clients("stopped").await;
    let running = || {
        client
            .query("SELECT count() FROM system.processes WHERE query LIKE '%99999999999%' AND NOT query LIKE '%processes%'")
            .fetch_one::<u64>()
    };
    // One that has given rows already, and one that never will.
    let endless = "SELECT number FROM numbers(99999999999)";
    let silent = "SELECT count() FROM numbers(99999999999) WHERE NOT ignore(sipHash64(number))";
    let mut cursor = client.query(endless).fetch::<u64>().unwrap();
    cursor.next().await.unwrap();
    let mut quiet = client.query(silent).fetch::<u64>().unwrap();
    let waiting = tokio::spawn(async move { quiet.next().await });
    while running().await.unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    drop(cursor);
    waiting.abort();
    while running().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sixteen_clients_work_at_once() {
    let [client, ..] = clients("at_once").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (writer, reader) = (client.clone(), client.clone());
        tasks.spawn(async move { insert(&writer, "t", n * 10_000..(n + 1) * 10_000).await });
        tasks.spawn(async move {
            reader.query("SELECT count() FROM t").fetch_one::<u64>().await.map(drop)
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(count(&client).await, 80_000);
}

#[tokio::test]
async fn limits_are_kept() {
    let [client, ..] = clients("limits").await;
    let long = format!("SELECT 1 -- {}", "x".repeat(5 << 20));
    assert_eq!(code(&client.query(&long).execute().await.unwrap_err()), 307);
    let buffered =
        client.query("SELECT number FROM numbers(10000000)").with_setting("wait_end_of_query", "1");
    assert_eq!(code(&buffered.fetch_all::<u64>().await.unwrap_err()), 396);
    let error = insert(&client, "t", 0..2_500_000).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    assert_eq!(count(&client).await, 0);
}

#[tokio::test]
async fn plain_http_answers_as_clickhouse_does() {
    let ask = async |request: &str| {
        let mut stream = TcpStream::connect(address().trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let cases = [
        ("GET /ping HTTP/1.0\r\n\r\n", "200 OK", "Ok.\n"),
        ("GET / HTTP/1.0\r\n\r\n", "200 OK", "Ok.\n"),
        ("GET /?query=SELECT+6*7&user=default&password=p%27w HTTP/1.0\r\n\r\n", "200 OK", "42\n"),
        ("GET /?query=SELECT+1 HTTP/1.0\r\n\r\n", "403 Forbidden", "AUTHENTICATION_FAILED"),
        (
            "GET /?query=CREATE+DATABASE+x HTTP/1.0\r\nauthorization: Basic ZGVmYXVsdDpwJ3c=\r\n\r\n",
            "403 Forbidden",
            "READONLY",
        ),
        ("GET /nope?a=b HTTP/1.0\r\n\r\n", "404 Not Found", "Code: 60"),
        (
            "POST / HTTP/1.0\r\ncontent-length: 0\r\nauthorization: Basic ZGVmYXVsdDpwJ3c=\r\n\r\n",
            "400 Bad Request",
            "empty query",
        ),
    ];
    for (request, status, body) in cases {
        let answer = ask(request).await;
        assert!(answer.contains(status) && answer.contains(body), "{request}: {answer}");
    }
}
