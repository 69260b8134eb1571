//! The story told by the simulators is consistent: what is sent says what the books must show.
//!
//! In: the utility of a seed. Out: its frames, read back by `uplink`. Never here: services.
#![cfg(test)]

use simulators::{Months, Utility, expected, play::all_days, registry_file};
use std::collections::BTreeSet;
use store_postgres::RegistryFile;

fn utility(seed: u64) -> Utility {
    Utility::new(seed, "2026-09".parse().unwrap())
}

#[test]
fn the_registry_is_a_whole_small_utility() {
    let file = registry_file(&utility(1));
    let text = serde_json::to_string(&file).unwrap();
    assert_eq!(RegistryFile::from_json(&text).unwrap(), file);
    assert_eq!((file.books.len(), file.accounts.len(), file.meters.len()), (2, 200, 201));
    let devices: BTreeSet<_> = file.meters.iter().flat_map(|meter| &meter.devices).collect();
    assert_eq!(devices.len(), 402, "no two meters share a name");
    let households = file.agreements.iter().filter(|a| a.household.is_some()).count();
    assert_eq!(households, 160);
    assert_eq!(file.installed_meters.iter().filter(|i| i.until.is_some()).count(), 1);
    let cycles: Vec<_> = file.books[0].cycles.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(cycles, ["2026-09", "2026-10"]);
}

#[test]
fn one_seed_tells_one_story() {
    let one = serde_json::to_string(&registry_file(&utility(1))).unwrap();
    assert_eq!(one, serde_json::to_string(&registry_file(&utility(1))).unwrap());
    assert_ne!(one, serde_json::to_string(&registry_file(&utility(2))).unwrap());
    let days = all_days(&utility(1));
    assert_eq!(expected(&utility(1), days.clone()), expected(&utility(1), days));
}

#[test]
fn the_books_add_up_over_any_cut_of_the_days() {
    let utility = utility(7);
    let days = all_days(&utility);
    assert_eq!(days, 0..62);
    let whole = expected(&utility, days);
    let (early, late) = (expected(&utility, 0..30), expected(&utility, 30..62));
    assert_eq!(early.stored + late.stored, whole.stored);
    assert_eq!(early.duplicates + late.duplicates, whole.duplicates);
    for (code, count) in &whole.rejected {
        let part = |expected: &simulators::Expected| {
            expected.rejected.get(code).copied().unwrap_or_default()
        };
        assert_eq!(part(&early) + part(&late), *count, "{code}");
    }
}

#[test]
fn the_story_has_everything_a_utility_meets() {
    let story = expected(&utility(1), 0..62);
    assert!((120_000..180_000).contains(&story.stored), "{} uplinks", story.stored);
    assert_eq!(story.stored_by_way.len(), 5);
    assert!(story.duplicates > 1000 && story.repeated_exchanges > 100);
    let codes: Vec<_> = story.rejected.iter().map(|(code, n)| (code.as_str(), *n)).collect();
    assert_eq!(
        codes,
        [
            ("checksum_mismatch", 3),
            ("malformed_json", 5),
            ("mic_mismatch", 6),
            ("seal_mismatch", 6),
            ("unknown_device", 15),
        ]
    );
    assert_eq!(story.rollovers.len(), 2);
    assert_eq!(story.swaps.len(), 1);
    let swap = &story.swaps[0];
    assert_eq!(story.meters[&swap.old_meter][2], None);
    assert_eq!(story.meters[&swap.new_meter][..2], [None, None]);
    let owed: Vec<_> = story.accounts.values().flatten().collect();
    assert_eq!(owed.len(), 400);
    assert!(
        owed.iter().any(|owed| owed.usage_m3.is_zero() && owed.amount_yuan.as_decimal().is_zero())
    );
    assert!(
        owed.iter().any(|owed| owed.usage_m3.is_zero() && !owed.amount_yuan.as_decimal().is_zero())
    );
    assert_eq!(story.totals.len(), 2);
}

#[test]
fn a_month_is_written_as_year_and_month() {
    for wrong in ["", "2026", "2026-13", "1999-01", "2026-09-01", "9999-12"] {
        assert!(wrong.parse::<Months>().is_err(), "{wrong}");
    }
    let months: Months = "2024-01".parse().unwrap();
    assert_eq!(months.bound_hours(), [0, 31 * 24, (31 + 29) * 24]);
    assert_eq!(months.instant(0).to_rfc3339(), "2023-12-31T16:00:00+00:00");
}
