//! Price changes, windows and customers that change under way.
//!
//! In: a schedule with two versions, periods on and over the change. Out: proof that the version
//! goes by service date and that each rule for a period over the change does what it is called.
//! Never here: golden bills.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests stop the test")]

use rating::{Schedule, ndjson};
use serde_json::Value;

fn schedule(price_change: &str, window: &str) -> Schedule {
    let version = |from: &str, capacity: u32, low: &str, high: &str| {
        format!(
            "[[version]]\nvalid_from = \"{from}\"\ndocument = \"d {from}\"\nsource = \"s\"\nusage_unit = \"m3\"\nwindow = {window}\n\
             [[version.item]]\nid = \"capacity\"\nledger_account = \"c\"\nrule = \"standing\"\nper = \"month\"\nprice = {capacity}\n\
             [[version.item]]\nid = \"once\"\nledger_account = \"c\"\nrule = \"standing\"\nper = \"bill\"\nprice = 3\n\
             [[version.item]]\nid = \"water\"\nledger_account = \"w\"\nrule = \"usage\"\n\
             block = [{{ until = 20, price = {low} }}, {{ price = {high} }}]\n"
        )
    };
    let text = format!(
        "name = \"c\"\nprice_change = \"{price_change}\"\n{}{}",
        version("2026-01-01", 30, "1", "2"),
        version("2026-04-21", 60, "10", "20"),
    );
    Schedule::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn answer(schedule: &Schedule, from: &str, until: &str, rest: &str) -> Value {
    let line = format!(r#"{{"service":{{"from":"{from}","until":"{until}"}},{rest}}}"#);
    serde_json::from_str(&ndjson::rate_line(schedule, &line)).unwrap()
}

#[test]
fn a_version_goes_by_service_date() {
    let schedule = schedule("refuse", "\"month\"");
    let before = answer(&schedule, "2026-03-01", "2026-04-01", r#""usage":1"#);
    let after = answer(&schedule, "2026-05-01", "2026-06-01", r#""usage":1"#);
    assert_eq!((&before["total"], &after["total"]), (&"34.00".into(), &"73.00".into()));
    assert_eq!(after["versions"][0]["document"], "d 2026-04-21");
    assert_ne!(before["versions"][0]["hash"], after["versions"][0]["hash"]);
}

#[test]
fn a_period_over_a_price_change_is_parted_as_the_schedule_says() {
    // 30 days, the change after 20: 30 m3 part into 20 and 10.
    let cases = [
        // 20/30 × 30 + 10/30 × 60 + 3 + 20×1 + 10×20: the second part climbs on in the month.
        ("by_days", "\"month\"", "263.00"),
        // Bounds of the bill part with it: 13.333 for 20 m3, 6.667 for 10 m3.
        ("by_days", "\"bill\"", "202.99"),
        ("version_at_start", "\"month\"", "73.00"),
        ("version_at_end", "\"month\"", "463.00"),
    ];
    for (rule, window, expected) in cases {
        let schedule = schedule(rule, window);
        let answer = answer(&schedule, "2026-04-01", "2026-05-01", r#""usage":30"#);
        assert_eq!(answer["total"], expected, "{rule} {window}: {answer}");
    }
    let refused =
        answer(&schedule("refuse", "\"month\""), "2026-04-01", "2026-05-01", r#""usage":30"#);
    assert_eq!(refused["error"]["code"], "price_change_inside", "{refused}");
}

#[test]
fn usage_outside_the_blocks_climbs_none() {
    let schedule = schedule("refuse", "\"month\"");
    let answer =
        answer(&schedule, "2026-03-01", "2026-04-01", r#""usage":50,"usage_outside_tiers":30"#);
    assert_eq!(answer["items"]["water"], "50.00", "{answer}");
    assert_eq!(answer["lines"][2]["clause"], "outside the blocks");
    assert_eq!(answer["tier_usage"][0]["quantity"], "20");
}

#[test]
fn a_season_inside_a_period_is_refused() {
    let text = r#"
name = "s"
[[version]]
valid_from = "2020-01-01"
document = "d"
source = "s"
usage_unit = "m3"
[[version.item]]
id = "water"
ledger_account = "w"
rule = "usage"
case = [{ when = { months = [6, 7, 8] }, price = 3 }, { price = 2 }]
"#;
    let schedule = Schedule::parse(text).unwrap();
    let total = |from, until| answer(&schedule, from, until, r#""usage":10"#)["total"].clone();
    assert_eq!(total("2026-06-01", "2026-09-01"), "30.00");
    assert_eq!(total("2026-09-01", "2027-06-01"), "20.00");
    for (from, until) in [("2026-05-20", "2026-06-20"), ("2026-01-01", "2027-01-01")] {
        let refused = answer(&schedule, from, until, r#""usage":10"#);
        assert_eq!(refused["error"]["code"], "season_inside", "{refused}");
    }
}

#[test]
fn a_session_carries_the_windows_of_each_account() {
    let schedule = schedule("refuse", "\"year\"");
    let mut session = ndjson::Session::new(&schedule);
    let mut water = |line: &str| {
        let answer: Value = serde_json::from_str(&session.rate_line(line)).unwrap();
        answer["items"]["water"].clone()
    };
    let january = r#""service":{"from":"2026-01-01","until":"2026-02-01"}"#;
    let february = r#""service":{"from":"2026-02-01","until":"2026-03-01"}"#;
    assert_eq!(water(&format!(r#"{{"account":"A",{january},"usage":15}}"#)), "15.00");
    assert_eq!(water(&format!(r#"{{"account":"B",{january},"usage":5}}"#)), "5.00");
    assert_eq!(water(&format!(r#"{{"account":"A",{february},"usage":10}}"#)), "15.00");
    assert_eq!(water(&format!(r#"{{"account":"B",{february},"usage":10}}"#)), "10.00");
    // What a line says itself goes before, and is remembered.
    assert_eq!(
        water(&format!(r#"{{"account":"C",{january},"usage":0,"window_used":20}}"#)),
        "0.00"
    );
    assert_eq!(water(&format!(r#"{{"account":"C",{february},"usage":1}}"#)), "2.00");
    // Without an account nothing is carried.
    assert_eq!(water(&format!(r#"{{{february},"usage":10}}"#)), "10.00");
}

#[test]
fn windows_are_known_before_rating() {
    let schedule = schedule("refuse", "{ months = 12, from = \"account\" }");
    let version = &schedule.versions()[0];
    assert_eq!(version.tiered_items().collect::<Vec<_>>(), ["water"]);
    assert_eq!(version.asks_for(), [model::DeterminantKind::Usage]);
    let march = model::Period::new("2026-03-01".parse().unwrap(), "2026-04-01".parse().unwrap());
    let start = Some("2025-09-15".parse().unwrap());
    let windows = version.windows(march.clone().unwrap(), start).unwrap();
    assert_eq!(windows[0].window.to_string(), "2025-09-15..2026-09-15");
    let error = version.windows(march.unwrap(), None).unwrap_err();
    assert_eq!(error.code(), "missing_window_start");
}
