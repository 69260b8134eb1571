//! The registry against a real Postgres: imports, snapshots, and the promises of the schema.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`. Out: verdicts. Never here: bills (see `bills.rs`).

use crate::support::{at, day, master, small_utility, with_database};
use model::{DeviceKey, MeterEntry};
use std::error::Error;
use store_postgres::{ImportError, MasterKey, RegistryFile, Store};

const NOW: &str = "2026-02-01T00:00:00Z";

async fn refused(store: &Store, file: &RegistryFile) -> String {
    match store.import(file, &master(), at(NOW)).await {
        Err(ImportError::Entry(error)) => error.to_string(),
        other => panic!("want a refused entry, got {other:?}"),
    }
}

fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}

#[test]
fn importing_twice_is_importing_once() {
    with_database(|db| async move {
        let once = db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        assert_eq!(once.sections["meters"].added, 3);
        assert_eq!(once.sections["meters.key"].added, 3);
        assert_eq!(once.sections["agreements"].added, 2);
        let version = db.store.snapshot_version().await.unwrap();
        assert!(version > 0);
        let before = db.store.snapshot(&master()).await.unwrap();

        let twice = db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        assert!(twice.changed_nothing(), "{twice:?}");
        assert_eq!(db.store.snapshot_version().await.unwrap(), version);
        let after = db.store.snapshot(&master()).await.unwrap();
        assert_eq!(before.meters(), after.meters());
    });
}

#[test]
fn the_snapshot_holds_what_was_imported() {
    with_database(|db| async move {
        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let snapshot = db.store.snapshot(&master()).await.unwrap();
        assert_eq!(snapshot.meters().len(), 3);
        let m1 = snapshot.by_device(DeviceKey::Serial(4711)).unwrap();
        assert_eq!(m1.devices.len(), 2);
        assert_eq!(m1.key.as_ref().unwrap().expose()[15], 0x0f);
        assert_eq!(
            (m1.profile.as_str(), m1.register_digits, m1.register_exponent),
            ("native", 8, -3)
        );
        assert_eq!(m1.hourly_max.to_string(), "3.125");
        assert_eq!(m1.installed[0].during.until(), Some(at("2026-01-19T02:00:00Z")));
        let m2 = snapshot.by_device(DeviceKey::DevEui(0x0101_0101_0101_0101)).unwrap();
        let session = m2.lorawan.as_ref().unwrap();
        assert_eq!(session.dev_addr, 0x0102_0304);
        assert_eq!(session.nwk_s_key.expose(), &[0x11; 16]);
        assert_eq!(session.app_s_key.expose(), &[0x22; 16]);
        assert_eq!(m2.pulse_weight.unwrap().to_string(), "0.01");
        let m3: &MeterEntry = &snapshot.meters()[2];
        assert_eq!((m3.devices.len(), m3.installed.len()), (0, 1));
        assert_ne!(m1.installed[0].service_point, m2.installed[0].service_point);
    });
}

#[test]
fn a_changed_file_changes_only_what_differs() {
    with_database(|db| async move {
        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let version = db.store.snapshot_version().await.unwrap();
        let mut file = small_utility();
        // M2 is swapped for a new meter, which takes over its radio module.
        let moved = file.meters[1].devices.remove(0);
        file.meters[2].devices.push(moved);
        file.customers[0].name = "B. Reader".to_owned();
        let report = db.store.import(&file, &master(), at(NOW)).await.unwrap();
        let devices = report.sections["meters.devices"];
        assert_eq!((devices.added, devices.removed), (1, 1));
        assert_eq!(report.sections["customers"].changed, 1);
        assert_eq!(report.sections["agreements"].changed, 0);
        assert!(db.store.snapshot_version().await.unwrap() > version);
        let snapshot = db.store.snapshot(&master()).await.unwrap();
        let owner = snapshot.by_device(moved).unwrap().meter;
        assert_eq!(owner, snapshot.meters()[2].meter);

        // Ending one place and beginning the next may come in any order.
        let mut file = small_utility();
        file.installed_meters[2].until = Some(at("2026-03-01T00:00:00Z"));
        let mut next = file.installed_meters[2].clone();
        (next.from, next.until) = (at("2026-03-01T00:00:00Z"), None);
        file.installed_meters.insert(0, next);
        db.store.import(&file, &master(), at(NOW)).await.unwrap();
        let snapshot = db.store.snapshot(&master()).await.unwrap();
        assert_eq!(snapshot.meters()[1].installed.len(), 2);
    });
}

#[test]
fn a_wrong_entry_is_named_and_nothing_is_imported() {
    with_database(|db| async move {
        let part = |text: &str| RegistryFile::from_json(text).unwrap();
        let message = refused(
            &db.store,
            &part(
                r#"{"customers":[{"number":"C9","name":"n"}],
                      "accounts":[{"number":"A9","customer":"C9","book":"B9"}]}"#,
            ),
        )
        .await;
        assert_eq!(message, "accounts \"A9\": book \"B9\" is unknown");
        let customers: i64 =
            sqlx::query_scalar("SELECT count(*) FROM customers").fetch_one(&db.sql).await.unwrap();
        assert_eq!(customers, 0);

        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let cases = [
            (
                r#"{"meters":[{"number":"M9","model":"AQUA-15","devices":["serial:4711"]}]}"#,
                "meters.devices \"serial:4711\": belongs to meter \"M1\" already",
            ),
            (
                r#"{"installed_meters":[{"meter":"M1","service_point":"S2","opening_count":0,
                    "from":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z"}]}"#,
                "installed_meters \"M1 from 2026-01-01T00:00:00+00:00\": overlaps with the one \
                 from 2024-12-31T16:00:00+00:00",
            ),
            (
                r#"{"agreements":[{"account":"A2","service_point":"S1","schedule":"SHOP",
                    "class":"commercial","from":"2026-01-10"}]}"#,
                "agreements \"S1 from 2026-01-10\": overlaps with the one from 2025-01-01",
            ),
            (
                r#"{"books":[{"code":"B1","organisation":"JM","name":"North bank","read_day":1,
                    "cycles":[{"name":"x","from":"2026-01-31","until":"2026-02-01"}]}]}"#,
                "books.cycles \"B1 from 2026-01-31\": overlaps with the one from 2026-01-01",
            ),
            (
                r#"{"schedules":[{"code":"HOME","organisation":"JM","name":"Household",
                    "commodity":"water","versions":[
                    {"from":"2026-02-01","document":"JM-2026-1","text":"newer"}]}]}"#,
                "schedules.versions \"HOME from 2026-02-01\": is active with other content and \
                 cannot be changed: add a new version",
            ),
            (
                r#"{"service_points":[{"code":"S3","commodity":"gas","address":"x"}],
                    "agreements":[{"account":"A2","service_point":"S3","schedule":"SHOP",
                    "class":"commercial","from":"2026-01-10"}]}"#,
                "agreements \"A2\": schedule \"SHOP\" prices another commodity than service point \
                 \"S3\" delivers",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(refused(&db.store, &part(text)).await, message);
        }
    });
}

#[test]
fn a_successor_ends_the_open_rate_version() {
    with_database(|db| async move {
        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let mut file = small_utility();
        let versions = &mut file.schedules[0].versions;
        versions[1].until = Some(day("2027-01-01"));
        let mut next = versions[1].clone();
        (next.from, next.until) = (day("2027-01-01"), None);
        next.text = Some("newest".to_owned());
        versions.push(next);
        let report = db.store.import(&file, &master(), at(NOW)).await.unwrap();
        let versions = report.sections["schedules.versions"];
        assert_eq!((versions.added, versions.changed), (1, 1));
        let twice = db.store.import(&file, &master(), at(NOW)).await.unwrap();
        assert!(twice.changed_nothing());
    });
}

#[test]
fn the_schema_refuses_what_must_not_be() {
    with_database(|db| async move {
        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let cases = [
            (
                "INSERT INTO installed_meters (meter_id, service_point_id, from_at, multiplier,
                     opening_count)
                 SELECT meter_id, service_point_id, from_at + interval '1 hour', 1, 0
                 FROM installed_meters WHERE until_at IS NULL LIMIT 1",
                "a_meter_is_at_one_place_at_a_time",
            ),
            (
                "INSERT INTO service_agreements (account_id, service_point_id, commodity,
                     schedule_id, class, from_day)
                 SELECT account_id, service_point_id, commodity, schedule_id, class, '2026-01-09'
                 FROM service_agreements LIMIT 1",
                "agreements_for_a_service_point_do_not_overlap",
            ),
            (
                "INSERT INTO cycles (book_id, name, from_day, until_day)
                 SELECT book_id, 'x', from_day + 3, until_day FROM cycles LIMIT 1",
                "cycles_of_a_book_do_not_overlap",
            ),
            (
                "INSERT INTO rate_versions (schedule_id, valid_from, state, document, text, hash)
                 SELECT schedule_id, '2026-03-01', 'active', document, text, hash
                 FROM rate_versions WHERE valid_until IS NULL LIMIT 1",
                "rate_versions_do_not_overlap",
            ),
            (
                "INSERT INTO rate_versions (schedule_id, valid_from, state, document, text, hash)
                 SELECT schedule_id, '2001-03-01', 'draft', '', text, 'not the hash'::bytea
                 FROM rate_versions LIMIT 1",
                "rate_version_hash_is_of_its_text",
            ),
            ("UPDATE rate_versions SET text = 'cheaper'", "active_rate_version_is_immutable"),
            (
                "UPDATE rate_versions SET valid_until = '2026-01-01' WHERE text = 'old'",
                "active_rate_version_is_immutable",
            ),
            ("DELETE FROM rate_versions", "active_rate_version_is_immutable"),
            ("TRUNCATE rate_versions CASCADE", "rate_versions_are_never_truncated"),
            (
                "UPDATE service_points SET commodity = 'gas'",
                "service_agreements_service_point_id_commodity_fkey",
            ),
        ];
        for (sql, constraint) in cases {
            let error = sqlx::query(sql).execute(&db.sql).await.unwrap_err();
            let error = error.into_database_error().unwrap();
            assert_eq!(error.constraint(), Some(constraint), "{sql}: {error}");
        }
    });
}

#[test]
fn keys_cannot_be_read_in_the_table() {
    with_database(|db| async move {
        db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
        let plain: Vec<[u8; 16]> =
            vec![[0x11; 16], [0x22; 16], std::array::from_fn(|n| u8::try_from(n).unwrap())];
        let rows: Vec<(String, Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT master_key_id, nonce, sealed FROM device_keys")
                .fetch_all(&db.sql)
                .await
                .unwrap();
        assert_eq!(rows.len(), 3);
        for (id, nonce, sealed) in rows {
            assert_eq!(id, "test-1");
            for key in &plain {
                for half in key.chunks(4) {
                    assert!(!sealed.windows(4).any(|window| window == half));
                    assert!(!nonce.windows(4).any(|window| window == half));
                }
            }
        }
        let other = MasterKey::new("test-2", &[0x5B; 32]).unwrap();
        let error = db.store.snapshot(&other).await.unwrap_err();
        assert_eq!(
            whole(&error),
            "open the uplink key of meter M1: sealed under master key \"test-1\", given is \"test-2\""
        );
    });
}

#[test]
fn migrating_again_changes_nothing_and_a_dead_server_is_named() {
    with_database(|db| async move {
        db.store.migrate().await.unwrap();
        db.store.ping().await.unwrap();
        let nobody = store_postgres::PostgresSettings {
            url: "postgres://app:hush@127.0.0.1:9/none".to_owned(),
            acquire_timeout_ms: 2_000,
            ..db.settings.clone()
        };
        let error = Store::connect(&nobody).await.unwrap_err().to_string();
        assert_eq!(error, "connect to Postgres at 127.0.0.1:9/none");
    });
}
