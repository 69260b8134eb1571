//! A database per test, on the server the test runner started.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`. Out: a migrated store in a database of its own, and a small
//! registry. Never here: what is tested.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
};
use store_postgres::{MasterKey, PostgresSettings, RegistryFile, Store};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One test's database.
pub(crate) struct TestDatabase {
    pub(crate) store: Store,
    /// For questions the store does not ask, and for breaking promises.
    pub(crate) sql: PgPool,
    pub(crate) settings: PostgresSettings,
}

/// Runs `test` in a database of its own; it is dropped afterwards, also when the test fails.
pub(crate) fn with_database<T: Future<Output = ()>>(test: impl FnOnce(TestDatabase) -> T) {
    let server = std::env::var("TIDEMARK_TEST_POSTGRES_URL").expect(
        "TIDEMARK_TEST_POSTGRES_URL is not set: run `cargo xtask test`, which starts the services",
    );
    let name =
        format!("tidemark_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut admin = PgConnection::connect(&server).await.expect("connect to the test server");
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name}"),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
    });
    let (base, _) = server.rsplit_once('/').expect("the test server's address names a database");
    let settings = PostgresSettings {
        url: format!("{base}/{name}"),
        max_connections: 4,
        ..PostgresSettings::default()
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let store = Store::connect(&settings).await.unwrap();
            store.migrate().await.unwrap();
            let sql = PgPool::connect(&settings.url).await.unwrap();
            test(TestDatabase { store, sql, settings: settings.clone() }).await;
        });
    }));
    runtime.block_on(async {
        let mut admin = PgConnection::connect(&server).await.expect("connect to the test server");
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn master() -> MasterKey {
    MasterKey::new("test-1", &[0x5A; 32]).unwrap()
}

pub(crate) fn at(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

pub(crate) fn day(text: &str) -> chrono::NaiveDate {
    text.parse().unwrap()
}

/// Two accounts in one book: A1 a household with a meter swap in January, A2 a shop.
pub(crate) fn small_utility() -> RegistryFile {
    RegistryFile::from_json(
        r#"{
        "organisations": [{"code":"JM","name":"Jingmen Water"}],
        "schedules": [
            {"code":"HOME","organisation":"JM","name":"Household","commodity":"water","versions":[
                {"from":"2011-03-01","until":"2026-02-01","document":"JM-2011-12","text":"old"},
                {"from":"2026-02-01","document":"JM-2026-1","text":"new"}]},
            {"code":"SHOP","organisation":"JM","name":"Shops","commodity":"water","versions":[
                {"from":"2011-03-01","document":"JM-2011-12","text":"shop"}]}],
        "books": [{"code":"B1","organisation":"JM","name":"North bank","read_day":1,"cycles":[
            {"name":"2026-01","from":"2026-01-01","until":"2026-02-01"},
            {"name":"2026-02","from":"2026-02-01","until":"2026-03-01"}]}],
        "customers": [{"number":"C1","name":"A. Reader"},{"number":"C2","name":"Tea House"}],
        "accounts": [{"number":"A1","customer":"C1","book":"B1"},
                     {"number":"A2","customer":"C2","book":"B1"}],
        "households": [{"code":"H1","persons":[
            {"from":"2020-01-01","until":"2026-01-15","persons":4},
            {"from":"2026-01-15","persons":5}]}],
        "service_points": [{"code":"S1","commodity":"water","address":"1 Bank Street"},
                           {"code":"S2","commodity":"water","address":"2 Bank Street"}],
        "meter_models": [
            {"code":"AQUA-15","profile":"native","register_digits":8,"register_exponent":-3,
             "register_unit":"m3","calibre_mm":15,"hourly_max":"3.125"},
            {"code":"AQUA-40","profile":"cjt188-2004","register_digits":8,"register_exponent":-2,
             "register_unit":"m3","calibre_mm":40,"hourly_max":"20","pulse_weight":"0.01"}],
        "meters": [
            {"number":"M1","model":"AQUA-15","devices":["serial:4711","imei:867512079825846"],
             "key":"000102030405060708090a0b0c0d0e0f"},
            {"number":"M2","model":"AQUA-40","devices":["dev_eui:0101010101010101"],
             "lorawan":{"dev_addr":"01020304","nwk_s_key":"11111111111111111111111111111111",
                        "app_s_key":"22222222222222222222222222222222"}},
            {"number":"M3","model":"AQUA-15","devices":[]}],
        "installed_meters": [
            {"meter":"M1","service_point":"S1","from":"2024-12-31T16:00:00Z",
             "until":"2026-01-19T02:00:00Z","opening_count":0,"closing_count":123456},
            {"meter":"M3","service_point":"S1","from":"2026-01-19T02:00:00Z","opening_count":12},
            {"meter":"M2","service_point":"S2","from":"2024-12-31T16:00:00Z","opening_count":100,
             "multiplier":"10"}],
        "agreements": [
            {"account":"A1","service_point":"S1","household":"H1","schedule":"HOME",
             "class":"household","from":"2025-01-01"},
            {"account":"A2","service_point":"S2","schedule":"SHOP","class":"commercial",
             "from":"2025-01-01"}]
    }"#,
    )
    .unwrap()
}
