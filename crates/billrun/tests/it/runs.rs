//! What a run bills, holds and excuses; what killing and repeating it changes: nothing.
//!
//! In: the small utility. Out: verdicts on reports, bills and their words.
//! Never here: how databases are made.

use crate::support::{at, request, with_utility};
use billrun::{RunError, RunRequest};
use model::clock::Clock;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};
use store_postgres::{RunBasis, StartedRun};
use tokio_util::sync::CancellationToken;

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

#[test]
fn every_account_is_billed_held_or_excused_and_a_second_run_changes_nothing() {
    with_utility(async |utility| {
        let january = request("2026-01", "2026-02-02 00:00");
        let report = utility.run(&january).await.unwrap();
        assert!(report.balances(), "{report}");
        assert_eq!(report.exit_code(), 3);
        let c = report.completeness;
        assert_eq!((c.active, c.billed, c.held, c.excused), (12, 5, 5, 2), "{report}");
        let held = [
            ("held_reads", 1),
            ("implausible_usage", 1),
            ("missing_tariff", 1),
            ("no_meter", 1),
            ("read_outside_tolerance", 1),
        ];
        assert_eq!(report.held, counts(&held));
        let excused = [("closed_before_cycle", 1), ("no_agreement", 1)];
        assert_eq!(report.excused, counts(&excused));

        let bills = utility.bills("2026-01").await;
        let totals: Vec<(&str, &str)> =
            bills.iter().map(|(account, (_, total))| (account.as_str(), total.as_str())).collect();
        let expected = [
            ("A01", "29.16"), // 18 × 1.62
            ("A02", "24.30"), // rollover: 15 × 1.62
            ("A03", "27.54"), // swap: (10 + 7) × 1.62
            ("A04", "42.00"), // 6.00 + 10 × 2 × 1.80
            ("A09", "11.34"), // from the 11th on: 7 × 1.62
        ];
        assert_eq!(totals, expected);

        let again = utility.run(&january).await.unwrap();
        assert_eq!(again.newly_billed, 0);
        assert_eq!(utility.bills("2026-01").await, bills);
        assert_eq!((again.completeness, again.sum_of_bills), (c, report.sum_of_bills));
    });
}

#[test]
fn a_clerk_reads_the_rollover_and_the_swap_from_the_stored_bill() {
    with_utility(async |utility| {
        utility.run(&request("2026-01", "2026-02-02 00:00")).await.unwrap();
        let text = billrun::explain_account(&utility.money, "A02", "2026-01").await.unwrap();
        for part in ["A02", "M2", "2026-01-31 22:00:00 +08:00", "13 + 100000 − 99998 = 15 m3"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let text = billrun::explain_account(&utility.money, "A03", "2026-01").await.unwrap();
        for part in ["40 − 30 = 10 m3", "8 − 1 = 7 m3", "10 + 7 = 17", "17 m3 × 1.62"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let nobody = billrun::explain_account(&utility.money, "A99", "2026-01").await.unwrap_err();
        assert_eq!(nobody.to_string(), "account A99 has no bill in cycle 2026-01");
    });
}

#[test]
fn february_goes_on_where_january_ended_in_tiers_and_in_reads() {
    with_utility(async |utility| {
        utility.run(&request("2026-01", "2026-02-02 00:00")).await.unwrap();
        // Nearer to the boundary, but stored after January was billed: it must not be lost.
        utility.read("M1", "2026-02-01 00:00", 19_500, "2026-02-10 00:00").await;
        utility.read("M1", "2026-02-28 23:00", 29_000, "2026-03-01 00:10").await;
        utility.run(&request("2026-02", "2026-03-02 00:00")).await.unwrap();
        let bills = utility.bills("2026-02").await;
        // 10 m3 on top of 18: 2 × 1.62 + 5 × 2.43 + 3 × 3.24.
        assert_eq!(bills["A01"].1, "25.11");
        let text = billrun::explain_account(&utility.money, "A01", "2026-02").await.unwrap();
        assert!(text.contains("29 − 19 = 10 m3"), "{text}");
    });
}

#[test]
fn a_held_account_is_billed_once_its_read_is_there_and_the_cutoff_lets_it_count() {
    with_utility(async |utility| {
        let january = request("2026-01", "2026-02-02 00:00");
        let first = utility.run(&january).await.unwrap();
        utility.read("M5", "2026-01-31 21:00", 4_000, "2026-02-03 00:00").await;
        let same_cutoff = utility.run(&january).await.unwrap();
        assert_eq!(same_cutoff.completeness, first.completeness, "stored after the cutoff");
        let later = utility.run(&request("2026-01", "2026-02-04 00:00")).await.unwrap();
        assert_eq!(later.newly_billed, 1);
        assert_eq!(later.completeness.held, first.completeness.held - 1);
        assert!(later.balances());
        assert_eq!(utility.bills("2026-01").await["A05"].1, "6.48");
    });
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    with_utility(async |utility| {
        let january = request("2026-01", "2026-02-02 00:00");
        let dry = RunRequest { dry_run: true, ..january.clone() };
        let would = utility.run(&dry).await.unwrap();
        assert!(utility.bills("2026-01").await.is_empty());
        let did = utility.run(&january).await.unwrap();
        assert_eq!(would.completeness, did.completeness);
        assert_eq!((&would.held, &would.excused), (&did.held, &did.excused));
        assert_eq!((&would.items, would.sum_of_bills), (&did.items, did.sum_of_bills));
        assert_eq!(would.newly_billed, did.newly_billed);
        let after = utility.run(&dry).await.unwrap();
        assert_eq!((after.completeness, after.newly_billed), (did.completeness, 0));
    });
}

#[test]
fn a_run_stopped_after_any_page_is_finished_by_starting_it_again() {
    let mut whole = BTreeMap::new();
    with_utility(async |utility| {
        utility.run(&request("2026-01", "2026-02-02 00:00")).await.unwrap();
        whole = utility.bills("2026-01").await;
    });
    with_utility(async |utility| {
        let started = request("2026-01", "2026-02-02 00:00");
        // Every start is stopped after one more page; 12 accounts are 4 pages.
        for pages in 0..4_u64 {
            let stop = CancellationToken::new();
            let told = AtomicU64::new(0);
            let report = utility
                .run_until(&started, &stop, &|_| {
                    if told.fetch_add(1, Ordering::Relaxed) == pages {
                        stop.cancel();
                    }
                })
                .await
                .unwrap();
            assert!(report.interrupted);
            assert_eq!(report.exit_code(), 1);
        }
        // What arrived since does not count: the run keeps the cutoff it began with.
        utility.read("M5", "2026-01-31 21:00", 4_000, "2026-02-03 00:00").await;
        let report = utility.run(&request("2026-01", "2026-02-05 00:00")).await.unwrap();
        assert!(report.balances() && !report.interrupted, "{report}");
        assert!(report.books[0].resumed);
        assert_eq!(report.books[0].cutoff, at("2026-02-02 00:00"));
        assert_eq!(utility.bills("2026-01").await, whole);
    });
}

#[test]
fn a_run_that_dies_in_the_middle_leaves_the_cycle_free_and_its_bills_right() {
    let mut whole = BTreeMap::new();
    with_utility(async |utility| {
        utility.run(&request("2026-01", "2026-02-02 00:00")).await.unwrap();
        whole = utility.bills("2026-01").await;
    });
    with_utility(async |utility| {
        let january = request("2026-01", "2026-02-02 00:00");
        for pages in 0..4_u64 {
            let (died, mut dies) = tokio::sync::mpsc::unbounded_channel();
            let told = AtomicU64::new(0);
            let stop = CancellationToken::new();
            let tell = |_| {
                if told.fetch_add(1, Ordering::Relaxed) == pages {
                    died.send(()).unwrap();
                }
            };
            let run = utility.run_until(&january, &stop, &tell);
            // The future is dropped wherever it is: connections close, locks go.
            tokio::select! {
                biased;
                _ = dies.recv() => {}
                report = run => { report.unwrap(); }
            }
        }
        let report = loop {
            match utility.run(&january).await {
                Err(RunError::Busy { .. }) => tokio::task::yield_now().await,
                ended => break ended.unwrap(),
            }
        };
        assert!(report.balances(), "{report}");
        assert_eq!(utility.bills("2026-01").await, whole);
    });
}

#[test]
fn a_second_start_while_one_runs_says_so_and_leaves() {
    with_utility(async |utility| {
        let cycle = utility.cycle("2026-01").await;
        let basis = RunBasis { cutoff: at("2026-02-02 00:00"), rates_hash: [7; 32] };
        let now = Clock::Fixed(at("2026-02-02 00:00")).now();
        let StartedRun::Started(guard) = utility.money.start_run(&cycle, basis, now).await.unwrap()
        else {
            panic!("nobody else runs this cycle");
        };
        let second = utility.run(&request("2026-01", "2026-02-02 00:00")).await.unwrap_err();
        assert!(matches!(second, RunError::Busy { since: Some(_), .. }), "{second}");
        assert!(second.to_string().starts_with("cycle 2026-01 of book B1 is being billed"));
        drop(guard);
    });
}

#[test]
fn a_request_that_cannot_be_met_names_the_book_and_the_cycle() {
    with_utility(async |utility| {
        let unknown = utility.run(&request("2026-07", "2026-08-02 00:00")).await.unwrap_err();
        assert_eq!(unknown.to_string(), "there is no cycle \"2026-07\" of B1");
        let mut anywhere = request("2026-07", "2026-08-02 00:00");
        anywhere.books.clear();
        let unknown = utility.run(&anywhere).await.unwrap_err();
        assert_eq!(unknown.to_string(), "there is no cycle \"2026-07\" of any book");
        let early = utility.run(&request("2026-02", "2026-02-28 23:00")).await.unwrap_err();
        assert!(matches!(early, RunError::CycleNotOver { .. }), "{early}");
    });
}
