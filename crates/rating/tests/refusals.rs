//! What a schedule file or a line may not say, and how it is told.
//!
//! In: files and lines with one thing wrong each. Out: proof that the place is named and that
//! nothing is passed over in silence.
//! Never here: bills that come out.

use rating::{Schedule, ndjson};
use serde_json::Value;

const GOOD: &str = r#"
name = "a"
price_change = "refuse"
[[version]]
valid_from = "2020-01-01"
document = "d"
source = "s"
usage_unit = "m3"
window = "year"
[[version.item]]
id = "water"
ledger_account = "revenue.water"
rule = "usage"
block = [
    { from = 0, until = 180, price = "2.07" },
    { from = 180, until = 260, price = "4.07" },
    { from = 260, price = "6.07" },
]
[[version.item]]
id = "tax"
ledger_account = "tax"
rule = "percentage"
percent = 6
of = ["water"]
"#;

#[test]
fn a_schedule_with_one_thing_wrong_is_refused_at_that_place() {
    // What is replaced, with what, the code, the path, a part of the message.
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        ("name = \"a\"", "name = ", "syntax", "", "line 2"),
        ("name = \"a\"", "", "missing", "", "\"name\""),
        ("name = \"a\"", "name = \"A b\"", "out_of_range", "name", "a-z"),
        ("name = \"a\"", "name = \"a\"\nnmae = 1", "unknown_key", "nmae", "what can stand here"),
        ("\"refuse\"", "\"guess\"", "not_one_of", "price_change", "by_days"),
        ("document = \"d\"", "", "missing", "version[0]", "\"document\""),
        ("\"2020-01-01\"", "\"2020-02-30\"", "not_a_date", "version[0].valid_from", "is not a day"),
        (
            "\"2020-01-01\"",
            "2020-01-01T00:00:00Z",
            "not_a_date",
            "version[0].valid_from",
            "is not a day",
        ),
        (
            "document = \"d\"",
            "document = \"d\"\nvalid_until = \"2019-01-01\"",
            "out_of_range",
            "version[0].valid_until",
            "after valid_from",
        ),
        ("\"m3\"", "\"bucket\"", "out_of_range", "version[0].usage_unit", "not a unit"),
        ("window = \"year\"", "", "contradiction", "version[0].item[0]", "need a window"),
        (
            "window = \"year\"",
            "window = { months = 12 }",
            "missing",
            "version[0].window",
            "\"from\"",
        ),
        (
            "window = \"year\"",
            "window = { months = 5, from = \"calendar\" }",
            "out_of_range",
            "version[0].window.from",
            "divide the year",
        ),
        (
            "window = \"year\"",
            "window = \"year\"\nacross_windows = \"somehow\"",
            "not_one_of",
            "version[0].across_windows",
            "ends_in",
        ),
        (
            "window = \"year\"",
            "window = \"year\"\nrounding = { at = \"bill\" }",
            "not_one_of",
            "version[0].rounding.at",
            "total",
        ),
        (
            "window = \"year\"",
            "window = \"year\"\nassume = { person = 4 }",
            "unknown_key",
            "version[0].assume.person",
            "persons",
        ),
        (
            "rule = \"usage\"",
            "rule = \"blocks\"",
            "not_one_of",
            "version[0].item[0].rule",
            "time_of_use",
        ),
        (
            "rule = \"usage\"",
            "rule = \"usage\"\nprice = 1",
            "contradiction",
            "version[0].item[0]",
            "exactly one of",
        ),
        (
            "rule = \"usage\"",
            "rule = \"usage\"\nseason = 1",
            "unknown_key",
            "version[0].item[0].season",
            "means nothing",
        ),
        (
            "until = 260",
            "until = 180",
            "out_of_range",
            "version[0].item[0].block[1].until",
            "above 180",
        ),
        (
            "from = 260",
            "from = 261",
            "contradiction",
            "version[0].item[0].block[2].from",
            "must be 260",
        ),
        (
            "from = 180, until = 260",
            "from = 180",
            "missing",
            "version[0].item[0].block[1]",
            "\"until\"",
        ),
        (
            "from = 260,",
            "from = 260, until = 900,",
            "contradiction",
            "version[0].item[0].block[2].until",
            "no price",
        ),
        ("\"4.07\"", "\"4,07\"", "not_exact", "version[0].item[0].block[1].price", "plain decimal"),
        ("\"4.07\"", "4.07e1", "not_exact", "version[0].item[0].block[1].price", "exponent"),
        ("\"4.07\"", "nan", "not_exact", "version[0].item[0].block[1].price", "plain decimal"),
        ("\"4.07\"", "-4.07", "out_of_range", "version[0].item[0].block[1].price", "negative"),
        ("\"4.07\"", "[1]", "wrong_kind", "version[0].item[0].block[1].price", "not a list"),
        (
            "until = 260",
            "until = { persons = 1 }",
            "contradiction",
            "version[0].item[0].block[1].until",
            "per_person",
        ),
        (
            "until = 260",
            "until = { per_dwelling = 1, persons_over = 2 }",
            "contradiction",
            "version[0].item[0].block[1].until",
            "persons_over",
        ),
        (
            "of = [\"water\"]",
            "of = [\"tax\"]",
            "unknown_reference",
            "version[0].item[1].of[0]",
            "above this one",
        ),
        (
            "of = [\"water\"]",
            "of = [\"water\", \"water\"]",
            "duplicate",
            "version[0].item[1].of[1]",
            "twice",
        ),
        ("id = \"tax\"", "id = \"water\"", "duplicate", "version[0].item[1]", "already"),
        (
            "rule = \"percentage\"",
            "rule = \"percentage\"\nwhen = {}",
            "contradiction",
            "version[0].item[1].when",
            "says nothing",
        ),
        (
            "rule = \"percentage\"",
            "rule = \"percentage\"\nwindow = \"year\"",
            "unknown_key",
            "version[0].item[1].window",
            "means nothing",
        ),
    ];
    assert!(Schedule::parse(GOOD).is_ok());
    for (old, new, code, path, part) in cases {
        assert!(GOOD.contains(old), "{old} is not in the good schedule");
        let error = Schedule::parse(&GOOD.replacen(old, new, 1)).expect_err(new);
        assert_eq!((error.code(), error.path.as_str()), (*code, *path), "{new}: {error}");
        assert!(error.to_string().contains(part), "{new}: {error}");
    }
}

#[test]
fn versions_that_would_both_be_in_force_are_refused() {
    let twice = format!(
        "{GOOD}{}",
        GOOD.split_once("[[version]]").map(|(_, v)| format!("[[version]]{v}")).unwrap()
    );
    let error = Schedule::parse(&twice).unwrap_err();
    assert_eq!((error.code(), error.path.as_str()), ("duplicate", "version[1]"), "{error}");
}

#[test]
fn the_hash_of_a_version_is_over_what_it_says_not_how_it_is_laid_out() {
    let hash = |text: &str| *Schedule::parse(text).unwrap().versions()[0].hash();
    let same = GOOD.replace("price = \"2.07\"", "price = 2.070").replace(
        "usage_unit = \"m3\"\nwindow = \"year\"",
        "# a note\nwindow = \"year\"\n\nusage_unit = 'm3'",
    );
    assert_eq!(hash(GOOD), hash(&same));
    for (old, new) in
        [("2.07", "2.08"), ("\"refuse\"", "\"by_days\""), ("\"a\"", "\"b\""), ("\"d\"", "\"e\"")]
    {
        assert_ne!(hash(GOOD), hash(&GOOD.replacen(old, new, 1)), "{old} → {new}");
    }
}

#[test]
fn a_line_with_one_thing_wrong_is_answered_with_its_place() {
    let schedule = Schedule::parse(GOOD).unwrap();
    let service = r#""service":{"from":"2026-03-01","until":"2026-04-01"}"#;
    let cases: &[(&str, &str, &str)] = &[
        ("", "json", ""),
        ("[1]", "json", ""),
        (r#"{"usage":1}"#, "missing", "service"),
        (r#"{"service":{"from":"2026-03-01"},"usage":1}"#, "missing", "service.until"),
        (
            r#"{"service":{"from":"2026-03-01","until":"2026-03-01"},"usage":1}"#,
            "empty_period",
            "service",
        ),
        (
            r#"{"service":{"from":"1.3.2026","until":"2026-04-01"},"usage":1}"#,
            "not_a_date",
            "service.from",
        ),
        (r#"{SERVICE,"usage":"1e3"}"#, "not_exact", "usage"),
        (r#"{SERVICE,"usage":1,"usage":2}"#, "json", ""),
        (r#"{SERVICE,"usgae":1}"#, "unknown_key", "usgae"),
        (r#"{SERVICE}"#, "missing_determinant", "usage"),
        (r#"{SERVICE,"usage":1,"window_used":{"watr":1}}"#, "unknown_key", "window_used.watr"),
        (r#"{SERVICE,"usage":1,"window_used":{"water":"x"}}"#, "not_exact", "window_used.water"),
        (r#"{SERVICE,"usage":-5,"window_used":"4"}"#, "negative_use", "usage"),
        (
            r#"{SERVICE,"usage":5,"usage_outside_tiers":6}"#,
            "absurd_determinant",
            "usage_outside_tiers",
        ),
        (r#"{"service":{"from":"2019-12-01","until":"2020-01-01"},"usage":1}"#, "no_version", ""),
        (
            r#"{"service":{"from":"2025-12-20","until":"2026-01-20"},"usage":1}"#,
            "across_windows",
            "",
        ),
        (r#"{SERVICE,"usage":1,"class":7}"#, "wrong_kind", "class"),
    ];
    for (line, code, path) in cases {
        let line = line.replace("SERVICE", service);
        let answer: Value = serde_json::from_str(&ndjson::rate_line(&schedule, &line)).unwrap();
        assert_eq!(answer["error"]["code"], *code, "{line}: {answer}");
        assert_eq!(answer["error"]["path"], *path, "{line}: {answer}");
    }
    let answer = ndjson::rate_line(&schedule, &format!(r#"{{"id":[7,"x"],{service},"usage":1}}"#));
    assert!(answer.starts_with(r#"{"id":[7,"x"],"schedule":"a""#), "{answer}");
}

#[test]
fn a_customer_no_case_fits_is_refused_and_not_billed_nothing() {
    let text = GOOD.replacen(
        "block = [",
        "[[version.item.case]]\nwhen = { persons_from = 5 }\nblock = [",
        1,
    );
    let schedule = Schedule::parse(&text).unwrap();
    let line = r#"{"service":{"from":"2026-03-01","until":"2026-04-01"},"usage":1,"persons":4}"#;
    let answer: Value = serde_json::from_str(&ndjson::rate_line(&schedule, line)).unwrap();
    assert_eq!(answer["error"]["code"], "no_case", "{answer}");
}

#[test]
fn usage_of_a_time_without_a_price_is_refused() {
    let text = r#"
name = "t"
[[version]]
valid_from = "2020-01-01"
document = "d"
source = "s"
usage_unit = "kWh"
[[version.item]]
id = "energy"
ledger_account = "revenue"
rule = "time_of_use"
prices = { peak = 1, valley = 0.5 }
"#;
    let schedule = Schedule::parse(text).unwrap();
    let service = r#""service":{"from":"2026-03-01","until":"2026-04-01"}"#;
    for (given, code) in [
        (r#""usage_peak":1,"usage_valley":1,"usage_sharp":1"#, "no_time_of_use_price"),
        (r#""usage_peak":1"#, "missing_determinant"),
        (r#""usage_peak":1,"usage_valley":1,"usage":90"#, "times_of_use_do_not_add_up"),
    ] {
        let line = format!("{{{service},{given}}}");
        let answer: Value = serde_json::from_str(&ndjson::rate_line(&schedule, &line)).unwrap();
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
}
