//! Runs and bills against a real Postgres: none twice, none missing, nothing edited.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`. Out: verdicts. Never here: rating; drafts are built by hand.

use crate::support::{TestDatabase, at, day, master, small_utility, with_database};
use billing::{
    Bill, BillKey, BillKind, BillLine, Completeness, DayShare, Draft, ExcuseReason, Excused, Hold,
    HoldReason, Segment, TierAppend, TierHolder, VersionRef, WindowUsed,
};
use model::{
    BillingDeterminant, DeterminantKind, Evidence, EvidenceRead, Money, Period, Price, Quantity,
    ReadQuality, Register, Unit,
};
use rating::{ItemFacts, Proration, WindowUse};
use rust_decimal::Decimal;
use std::sync::Arc;
use store_postgres::{
    BillChunk, BillableAccount, Cycle, RateVersion, RunBasis, RunGuard, StartedRun, Store,
    WriteBillsError, WriteReport, rates_hash,
};

const NOW: &str = "2026-02-02T00:00:00Z";

fn number(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn yuan(text: &str) -> Money {
    Money::yuan(number(text))
}

fn m3(text: &str) -> Quantity {
    Quantity::new(number(text), Unit::CubicMetre)
}

struct Scene {
    store: Store,
    january: Cycle,
    accounts: Vec<BillableAccount>,
    versions: Vec<RateVersion>,
}

async fn scene(db: &TestDatabase) -> Scene {
    db.store.import(&small_utility(), &master(), at(NOW)).await.unwrap();
    let january = db.store.cycle("B1", "2026-01").await.unwrap().unwrap();
    let accounts = db.store.billable(&january, None, 100).await.unwrap();
    let versions = db.store.rate_versions(&january).await.unwrap();
    Scene { store: db.store.clone(), january, accounts, versions }
}

fn basis() -> RunBasis {
    RunBasis { cutoff: at("2026-02-01T12:00:00Z"), rates_hash: [7; 32] }
}

impl Scene {
    async fn run(&self) -> RunGuard {
        match self.store.start_run(&self.january, basis(), at(NOW)).await.unwrap() {
            StartedRun::Started(guard) => guard,
            StartedRun::AlreadyRunning { since } => panic!("already running since {since:?}"),
        }
    }

    async fn write(&self, guard: &RunGuard, drafts: &[Draft]) -> WriteReport {
        let chunk = BillChunk { drafts, ..BillChunk::default() };
        self.store.write_bills(guard, chunk, at(NOW)).await.unwrap()
    }

    /// A bill of 20 + 3 m3 in two blocks, as Jingmen's household tariff prices it.
    fn draft(&self, account: usize, revision: u16) -> Draft {
        let account = &self.accounts[account];
        let agreement = &account.agreements[0];
        let version = self.versions.iter().find(|v| v.schedule == agreement.schedule).unwrap();
        let item = Arc::new(ItemFacts {
            id: Arc::from("water"),
            ledger_account: "revenue.water".to_owned(),
            agency: false,
            label_zh: "水费".to_owned(),
            label_en: "Water".to_owned(),
            currency: "yuan".to_owned(),
        });
        let line = |tier: u8, quantity: &str, price: &str, exact: &str, amount: &str| BillLine {
            item: Arc::clone(&item),
            clause: format!("block {tier} of 3"),
            tier: Some(tier),
            quantity: m3(quantity),
            price: Price::new(number(price), Unit::CubicMetre),
            proration: Proration::WHOLE,
            exact: yuan(exact),
            amount: yuan(amount),
            service: agreement.service,
            version_from: version.from,
            working: format!("{quantity} m3 × {price} yuan/m3 = {amount}"),
        };
        let meter = agreement.meters.last().unwrap();
        let read = |measured_at: &str, count: i64| EvidenceRead {
            meter: meter.meter,
            register: Register::VOLUME,
            measured_at: at(measured_at),
            count,
            exponent: meter.register_exponent,
            unit: meter.register_unit,
            quality: ReadQuality::Actual,
        };
        let holder = agreement
            .household
            .as_ref()
            .map_or(TierHolder::Agreement(agreement.agreement), |household| {
                TierHolder::Household(household.household)
            });
        let key = BillKey {
            account: account.account,
            cycle: self.january.period,
            kind: BillKind::Regular,
            revision,
        };
        let segment = Segment {
            agreement: agreement.agreement,
            service: agreement.service,
            version: VersionRef { version: version.version, hash: version.hash },
            share: Some(DayShare { days: 31, of_days: 31, whole: m3("23.000") }),
            determinants: vec![BillingDeterminant {
                kind: DeterminantKind::Usage,
                quantity: m3("23.000"),
                evidence: vec![Evidence::Reads {
                    start: read("2025-12-31T16:00:00Z", 1_000),
                    end: read("2026-01-31T15:30:00Z", 24_000),
                    rolled_over: false,
                    wraps_at: number("100000"),
                    multiplier: Decimal::ONE,
                }],
            }],
            lines: vec![
                line(1, "20.000", "1.62", "32.40000", "32.40"),
                line(2, "3.000", "2.43", "7.29000", "7.29"),
                line(3, "0.000", "3.24", "0.00000", "0.00"),
            ],
            total: yuan("39.69"),
            tier_appends: vec![TierAppend {
                holder,
                item: Arc::from("water"),
                window: self.january.period,
                quantity: m3("23.000"),
            }],
        };
        Draft::new(key, vec![segment]).unwrap()
    }

    fn window(&self, account: usize) -> WindowUsed {
        let appended = &self.draft(account, 0).contents().segments()[0].tier_appends[0].clone();
        WindowUsed {
            holder: appended.holder,
            used: WindowUse {
                item: Arc::clone(&appended.item),
                window: appended.window,
                quantity: Quantity::zero(Unit::CubicMetre),
            },
        }
    }
}

#[test]
fn a_book_is_read_with_everything_a_bill_needs() {
    with_database(|db| async move {
        let mut file = small_utility();
        for (account, from, until) in
            [("A3", "2025-01-01", Some("2026-01-01")), ("A4", "2026-02-01", None)]
        {
            let mut entry = file.accounts[0].clone();
            entry.number = account.to_owned();
            file.accounts.push(entry);
            let mut place = file.service_points[0].clone();
            place.code = format!("S-{account}");
            let mut agreement = file.agreements[1].clone();
            agreement.account = account.to_owned();
            agreement.service_point = place.code.clone();
            agreement.from = day(from);
            agreement.until = until.map(day);
            file.service_points.push(place);
            file.agreements.push(agreement);
        }
        let mut bare = file.accounts[0].clone();
        bare.number = "A5".to_owned();
        file.accounts.push(bare);
        db.store.import(&file, &master(), at(NOW)).await.unwrap();
        let january = db.store.cycle("B1", "2026-01").await.unwrap().unwrap();
        assert_eq!(db.store.cycles().await.unwrap().len(), 2);
        assert_eq!(db.store.cycle("B1", "2031-01").await.unwrap(), None);

        let first = db.store.billable(&january, None, 2).await.unwrap();
        let rest = db.store.billable(&january, Some(first[1].account), 100).await.unwrap();
        let accounts: Vec<_> = first.into_iter().chain(rest).collect();
        let numbers: Vec<_> = accounts.iter().map(|a| a.number.as_str()).collect();
        assert_eq!(numbers, ["A1", "A2", "A3", "A4", "A5"]);
        let excuses: Vec<_> = accounts.iter().map(|a| a.excuse).collect();
        assert_eq!(
            excuses,
            [
                None,
                None,
                Some(ExcuseReason::ClosedBefore),
                Some(ExcuseReason::OpensAfter),
                Some(ExcuseReason::NoAgreement)
            ]
        );
        let home = &accounts[0].agreements[0];
        assert_eq!(home.service, january.period);
        let persons = &home.household.as_ref().unwrap().persons;
        let span = |from, until| Period::new(day(from), day(until)).unwrap();
        assert_eq!(
            persons,
            &[(span("2026-01-01", "2026-01-15"), 4), (span("2026-01-15", "2026-02-01"), 5)]
        );
        let meters: Vec<_> =
            home.meters.iter().map(|m| (m.number.as_str(), m.closing_count)).collect();
        assert_eq!(meters, [("M1", Some(123_456)), ("M3", None)]);
        let shop = &accounts[1].agreements[0].meters[0];
        assert_eq!((shop.multiplier, shop.calibre_mm), (Decimal::TEN, Some(40)));

        let codes = |versions: Vec<RateVersion>| -> Vec<(String, String)> {
            versions.into_iter().map(|v| (v.schedule_code, v.text)).collect()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let versions = db.store.rate_versions(&january).await.unwrap();
        let mut backwards = versions.clone();
        backwards.reverse();
        assert_eq!(rates_hash(&versions), rates_hash(&backwards));
        assert_ne!(rates_hash(&versions), rates_hash(&versions[1..]));
        assert_eq!(codes(versions), [pair("HOME", "old"), pair("SHOP", "shop")]);
    });
}

#[test]
fn a_chunk_written_twice_is_written_once() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        let drafts = [scene.draft(0, 0), scene.draft(1, 0)];
        let once = scene.write(&guard, &drafts).await;
        assert_eq!((once.written, once.already_there), (2, 0));
        let twice = scene.write(&guard, &drafts).await;
        assert_eq!((twice.written, twice.already_there), (0, 2));

        for draft in &drafts {
            let stored = db.store.bill(draft.contents().id()).await.unwrap().unwrap();
            assert_eq!(stored.bill, Bill::Draft(draft.clone()));
            // Amounts keep their decimals, zero too.
            let amounts: Vec<_> =
                stored.bill.contents().lines().map(|line| line.amount.to_string()).collect();
            assert_eq!(amounts, ["32.40", "7.29", "0.00"]);
        }
        let stored = db.store.bill_for("A1", &scene.january).await.unwrap().unwrap();
        let explained = billing::explain(&stored.bill, &stored.labels);
        for word in ["A1", "B1 2026-01", "M3", "20.000 m3 × 1.62 yuan/m3 = 32.40"] {
            assert!(explained.contains(word), "{word} in {explained}");
        }

        let used = db.store.tier_usage(&[scene.window(1), scene.window(0)]).await.unwrap();
        assert_eq!(used.iter().map(|w| w.used.quantity).collect::<Vec<_>>(), [m3("23"), m3("23")]);
        let totals = db.store.cycle_totals(&scene.january).await.unwrap();
        assert_eq!((totals.sum_of_lines, totals.sum_of_bills), (yuan("79.38"), yuan("79.38")));
        assert_eq!(totals.items[0].quantity, m3("40"));
        let list = db.store.bills(&scene.january, None, 10).await.unwrap();
        assert_eq!(
            list.iter().map(|b| b.account_number.as_str()).collect::<Vec<_>>(),
            ["A1", "A2"]
        );
        let accounts = db.store.billable(&scene.january, None, 10).await.unwrap();
        assert!(accounts.iter().all(|account| account.billed));
    });
}

#[test]
fn a_window_nobody_used_is_at_zero_and_units_do_not_mix() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let unused = db.store.tier_usage(&[scene.window(0)]).await.unwrap();
        assert_eq!(unused[0].used.quantity, m3("0"));
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        let mut other = scene.window(0);
        other.used.quantity = Quantity::zero(Unit::KilowattHour);
        let error = db.store.tier_usage(&[other]).await.unwrap_err();
        assert_eq!(error.to_string(), "the tier ledger of \"water\" from 2026-01-01 is not in kWh");
        assert_eq!(db.store.tier_usage(&[]).await.unwrap(), []);
    });
}

#[test]
fn a_second_start_says_so_and_leaves() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        let second = db.store.start_run(&scene.january, basis(), at(NOW)).await.unwrap();
        assert!(
            matches!(second, StartedRun::AlreadyRunning { since: Some(since) } if since == at(NOW))
        );
        let february = db.store.cycle("B1", "2026-02").await.unwrap().unwrap();
        let other = db.store.start_run(&february, basis(), at(NOW)).await.unwrap();
        assert!(matches!(other, StartedRun::Started(_)), "another cycle is another run");
        drop(guard);
    });
}

/// Starts until the server has noticed that the former holder's connection is gone.
async fn start_again(store: &Store, cycle: &Cycle, basis: RunBasis) -> RunGuard {
    for _ in 0..1_000 {
        match store.start_run(cycle, basis, at(NOW)).await.unwrap() {
            StartedRun::Started(guard) => return guard,
            StartedRun::AlreadyRunning { .. } => tokio::task::yield_now().await,
        }
    }
    panic!("the lock was not freed");
}

#[test]
fn an_interrupted_run_is_taken_up_with_the_cutoff_it_began_with() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let killed = scene.run().await;
        scene.write(&killed, &[scene.draft(0, 0)]).await;
        let run = killed.run().clone();
        assert!(!run.is_resumed());
        drop(killed);
        let later = RunBasis { cutoff: at("2026-02-03T00:00:00Z"), ..basis() };
        let guard = start_again(&db.store, &scene.january, later).await;
        assert!(guard.run().is_resumed());
        assert_eq!((guard.run().id, guard.run().basis), (run.id, basis()));
        let report = scene.write(&guard, &[scene.draft(0, 0), scene.draft(1, 0)]).await;
        assert_eq!((report.written, report.already_there), (1, 1));
        drop(guard);

        // Other rates: the old run is abandoned, the new one has its own cutoff.
        let other = RunBasis { rates_hash: [8; 32], ..later };
        let guard = start_again(&db.store, &scene.january, other).await;
        assert_ne!(guard.run().id, run.id);
        assert_eq!(guard.run().basis, other);
        assert!(!guard.run().is_resumed());
        let counts = db.store.finish_run(guard, at(NOW)).await.unwrap();
        assert_eq!(counts, Completeness { active: 2, billed: 2, held: 0, excused: 0 });
        let last = db.store.last_run(None).await.unwrap().unwrap();
        assert_eq!((last.state.as_str(), last.attempt), ("finished", 1));
    });
}

#[test]
fn a_writer_thought_dead_writes_no_more() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let stale = scene.run().await;
        // Its connection breaks without it noticing; somebody else takes the run up.
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .execute(&db.sql)
        .await
        .unwrap();
        let guard = start_again(&db.store, &scene.january, basis()).await;
        assert_eq!(guard.run().id, stale.run().id);
        let drafts = [scene.draft(0, 0)];
        let chunk = BillChunk { drafts: &drafts, ..BillChunk::default() };
        let error = db.store.write_bills(&stale, chunk, at(NOW)).await.unwrap_err();
        assert!(matches!(error, WriteBillsError::TakenOver { .. }), "{error}");
        assert_eq!(scene.write(&guard, &drafts).await.written, 1);
    });
}

#[test]
fn a_run_ends_only_when_nobody_is_left_out() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        let error = db.store.finish_run(guard, at(NOW)).await.unwrap_err();
        let run = db.store.last_run(None).await.unwrap().unwrap().id;
        assert_eq!(
            error.to_string(),
            format!("run {run} leaves accounts out: 2 active, but 1 billed, 0 held, 0 excused")
        );

        let guard = start_again(&db.store, &scene.january, basis()).await;
        let hold = |account: usize, code: &'static str| Hold {
            account: scene.accounts[account].account,
            reason: HoldReason::new(code, "no read near 2026-02-01"),
        };
        // A billed account is not put aside; one that waits has one reason, the latest.
        let holds = [hold(0, "x"), hold(1, "spike"), hold(1, "missing_end_read")];
        let chunk = BillChunk { holds: &holds, ..BillChunk::default() };
        let report = db.store.write_bills(&guard, chunk, at(NOW)).await.unwrap();
        assert_eq!(report.held, 1);
        let waiting = db.store.held_accounts(&scene.january, 10).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].reason_code.as_str()), (1, "missing_end_read"));
        let counts = db.store.finish_run(guard, at(NOW)).await.unwrap();
        assert_eq!(counts, Completeness { active: 2, billed: 1, held: 1, excused: 0 });

        // The read arrives, a second run bills the account: it no longer waits.
        let guard = start_again(&db.store, &scene.january, basis()).await;
        assert!(!guard.run().is_resumed());
        scene.write(&guard, &[scene.draft(1, 0)]).await;
        let counts = db.store.finish_run(guard, at(NOW)).await.unwrap();
        assert_eq!(counts, Completeness { active: 2, billed: 2, held: 0, excused: 0 });
        assert_eq!(db.store.held_accounts(&scene.january, 10).await.unwrap(), []);
        let live = db.store.live_counts(at(NOW)).await.unwrap();
        assert_eq!((live.meters, live.installed_meters, live.accounts), (3, 2, 2));
        assert_eq!((live.cycles, live.bills_by_state["draft"], live.held), (2, 2, 0));
        assert_eq!(live.last_run.unwrap().state, "finished");
    });
}

#[test]
fn an_excused_account_counts_once() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        let account = scene.accounts[1].account;
        let holds = [Hold { account, reason: HoldReason::new("x", "y") }];
        let drafts = [scene.draft(0, 0)];
        let chunk = BillChunk { drafts: &drafts, holds: &holds, excused: &[] };
        db.store.write_bills(&guard, chunk, at(NOW)).await.unwrap();
        let excused = [Excused { account, reason: ExcuseReason::ClosedBefore }];
        let chunk = BillChunk { excused: &excused, ..BillChunk::default() };
        db.store.write_bills(&guard, chunk, at(NOW)).await.unwrap();
        let counts = db.store.finish_run(guard, at(NOW)).await.unwrap();
        assert_eq!(counts, Completeness { active: 2, billed: 1, held: 0, excused: 1 });
        let totals = db.store.cycle_totals(&scene.january).await.unwrap();
        assert_eq!(totals.excused["closed_before_cycle"], 1);
        assert!(totals.held.is_empty());
    });
}

#[test]
fn a_day_is_never_billed_twice() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        // A final bill for days the regular one covers.
        let twice = scene.draft(0, 0);
        let key = BillKey { kind: BillKind::Final, ..*twice.contents().key() };
        let twice = Draft::new(key, twice.contents().segments().to_vec()).unwrap();
        let report = scene.write(&guard, &[twice, scene.draft(1, 0)]).await;
        assert_eq!(report.written, 1);
        assert_eq!(report.days_billed_before, [scene.accounts[0].account]);
        let totals = db.store.cycle_totals(&scene.january).await.unwrap();
        assert_eq!(totals.bills, 2);
    });
}

#[test]
fn the_schema_keeps_bills_as_they_were() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        let cases = [
            (
                "INSERT INTO bills (id, account_id, cycle_id, kind, revision, state, total, run_id)
                 SELECT gen_random_uuid(), account_id, cycle_id, kind, 1, 'draft', total, run_id
                 FROM bills",
                "one_live_bill_per_account_cycle_and_kind",
            ),
            ("UPDATE bills SET total = 0", "a_bill_is_never_edited"),
            (
                "UPDATE bills SET state = 'cancelled', cancelled_on = now(), cancel_reason = 'x'",
                "a_bill_is_never_edited",
            ),
            ("DELETE FROM bills", "bills_stay"),
            ("UPDATE bill_segments SET total = 0", "segments_stay"),
            ("DELETE FROM charge_lines", "lines_stay"),
            (
                "INSERT INTO charge_lines SELECT bill_id, segment_no, 9, item, ledger_account,
                     agency, label_zh, label_en, currency, clause, tier, quantity, quantity_unit,
                     price, price_unit, proration_numerator, proration_denominator, exact, amount,
                     service_from, service_until, version_from, working
                 FROM charge_lines WHERE line_no = 1",
                "lines_add_up",
            ),
            (
                "INSERT INTO bill_segments (bill_id, segment_no, agreement_id, service_from,
                     service_until, version_id, version_hash, determinants, total)
                 SELECT bill_id, 9, agreement_id, service_from, service_until, version_id,
                     version_hash, determinants, 1 FROM bill_segments",
                "segments_add_up",
            ),
            (
                "INSERT INTO bill_segments (bill_id, segment_no, agreement_id, service_from,
                     service_until, version_id, version_hash, determinants, total)
                 SELECT bill_id, 9, agreement_id, service_from, service_until, version_id,
                     sha256('cheaper'), determinants, total FROM bill_segments",
                "bill_segments_version_id_version_hash_fkey",
            ),
            ("UPDATE tier_ledger SET quantity = 0", "tier_ledger_is_append_only"),
            ("DELETE FROM tier_ledger", "tier_ledger_is_append_only"),
            ("TRUNCATE tier_ledger", "tier_ledger_is_append_only"),
            (
                "INSERT INTO tier_ledger (household_id, item, window_from, window_until, quantity,
                     unit, bill_id, segment_no, append_no)
                 SELECT household_id, item, window_from, window_until, quantity, unit, bill_id,
                     segment_no, append_no FROM tier_ledger",
                "tier_usage_is_booked_once",
            ),
            (
                "UPDATE bill_runs SET state = 'finished', finished_at = now(), active = 2,
                     billed = 1, held = 0, excused = 0",
                "finished_run_leaves_nobody_out",
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
fn numbers_have_no_gaps_and_customers_hear_of_their_bill_once() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(1, 0)]).await;
        let issued = |on| db.store.issue_bills(&scene.january, "JM2026", on);
        assert_eq!(issued(day("2026-02-02")).await.unwrap(), 1);
        assert_eq!(issued(day("2026-02-02")).await.unwrap(), 0);
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        assert_eq!(issued(day("2026-02-03")).await.unwrap(), 1);
        let stored = db.store.bill_for("A1", &scene.january).await.unwrap().unwrap();
        let Bill::Issued(bill) = stored.bill else { panic!("{:?}", stored.bill) };
        assert_eq!(
            (bill.number().0.as_str(), bill.issued_on()),
            ("JM2026-00000002", day("2026-02-03"))
        );
        let notices: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&db.sql).await.unwrap();
        assert_eq!(notices, 2);

        // Cancelled, it makes room for its next revision.
        sqlx::query(
            "UPDATE bills SET state = 'cancelled', cancelled_on = '2026-02-04',
                 cancel_reason = 'bad_read' WHERE number = 'JM2026-00000002'",
        )
        .execute(&db.sql)
        .await
        .unwrap();
        let again = db.store.billable(&scene.january, None, 10).await.unwrap();
        assert_eq!((again[0].billed, again[0].revision), (false, 1));
        assert_eq!(scene.write(&guard, &[scene.draft(0, 1)]).await.written, 1);
    });
}

#[test]
fn the_next_cycle_opens_where_the_last_bill_ended() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let guard = scene.run().await;
        scene.write(&guard, &[scene.draft(0, 0)]).await;
        let february = db.store.cycle("B1", "2026-02").await.unwrap().unwrap();
        let ends = |accounts: Vec<BillableAccount>| -> Vec<(String, i64)> {
            let meters = accounts.into_iter().flat_map(|a| a.agreements).flat_map(|a| a.meters);
            meters
                .flat_map(|m| {
                    let number = m.number.clone();
                    m.billed_until.into_iter().map(move |read| (number.clone(), read.count))
                })
                .collect()
        };
        let next = db.store.billable(&february, None, 10).await.unwrap();
        assert_eq!(ends(next), [("M3".to_owned(), 24_000)]);
        let same = db.store.billable(&scene.january, None, 10).await.unwrap();
        assert_eq!(ends(same), []);
    });
}

#[test]
fn a_draft_of_another_cycle_is_refused() {
    with_database(|db| async move {
        let scene = scene(&db).await;
        let february = db.store.cycle("B1", "2026-02").await.unwrap().unwrap();
        let guard = start_again(&db.store, &february, basis()).await;
        let drafts = [scene.draft(0, 0)];
        let chunk = BillChunk { drafts: &drafts, ..BillChunk::default() };
        let error = db.store.write_bills(&guard, chunk, at(NOW)).await.unwrap_err();
        assert!(matches!(error, WriteBillsError::OtherCycle { .. }), "{error}");
    });
}
