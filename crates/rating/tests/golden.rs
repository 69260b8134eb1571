//! The golden tariffs and worked bills, rated through the same line of JSON the command line uses.
//!
//! In: schedules of `tests/schedules` and `deploy/schedules`, expected results written here and
//! held against the shared golden cases where those lie beside the repository. Out: proof.
//! Never here: results taken from our own engine.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests stop the test"
)]

use rating::{Schedule, ndjson};
use rust_decimal::Decimal;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};

fn schedule(name: &str) -> Schedule {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let own = root.join(format!("tests/schedules/{name}.toml"));
    let shipped = root.join(format!("../../deploy/schedules/{name}.toml"));
    let text = fs::read_to_string(&own).or_else(|_| fs::read_to_string(&shipped));
    Schedule::parse(&text.unwrap_or_else(|_| panic!("no schedule {name}")))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn answer(schedule: &Schedule, line: &str) -> Value {
    let answer: Value = serde_json::from_str(&ndjson::rate_line(schedule, line)).unwrap();
    assert!(answer.get("error").is_none(), "{line}: {answer}");
    let sum: Decimal =
        answer["lines"].as_array().unwrap().iter().map(|line| decimal(&line["amount"])).sum();
    assert_eq!(sum, decimal(&answer["total"]), "lines add up to the total: {answer}");
    answer
}

fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

/// The shared cases by id; empty in a clone without them.
fn shared() -> BTreeMap<String, Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/cases.json");
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    cases.into_iter().map(|case| (case["id"].as_str().unwrap().to_owned(), case)).collect()
}

const MARCH: &str = r#""service":{"from":"2026-03-01","until":"2026-04-01"}"#;

/// id, schedule, the rest of the line after the service, what is looked at, expected.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("W1-180", "beijing-household-2014", r#""usage":"180""#, "total", "900.00"),
    ("W1-181", "beijing-household-2014", r#""usage":"181""#, "total", "907.00"),
    ("W1-260", "beijing-household-2014", r#""usage":"260""#, "total", "1460.00"),
    ("W1-261", "beijing-household-2014", r#""usage":"261""#, "total", "1469.00"),
    ("W1-300", "beijing-household-2014", r#""usage":"300""#, "total", "1820.00"),
    ("W2-H1a", "harbin-2016", r#""usage":"140","window_start":"2026-01-15""#, "total", "336.00"),
    ("W2-H1b", "harbin-2016", r#""usage":"30","window_used":"140","window_start":"2026-01-15""#, "total", "96.00"),
    ("W2-H4", "harbin-2016", r#""usage":"50","window_used":"160","persons":"6","window_start":"2026-01-15""#, "total", "156.00"),
    ("W3-18", "jingmen-household-2011", r#""usage":"18""#, "total", "29.16"),
    ("W3-20", "jingmen-household-2011", r#""usage":"20""#, "total", "32.40"),
    ("W3-23", "jingmen-household-2011", r#""usage":"23""#, "total", "39.69"),
    ("W3-25", "jingmen-household-2011", r#""usage":"25""#, "total", "44.55"),
    ("W3-30", "jingmen-household-2011", r#""usage":"30""#, "total", "60.75"),
    ("W3-6p40-lineHU", "jingmen-household-2011", r#""usage":"40","persons":6"#, "total", "74.93"),
    ("W4-6p45", "yidu", r#""usage":"45","persons":6"#, "total", "117.05"),
    ("W4-8p45", "yidu", r#""usage":"45","persons":8"#, "total", "92.65"),
    ("W4-low12", "yidu", r#""usage":"12","class":"low_income""#, "total", "13.90"),
    ("W5-35", "shenzhen-household-2022", r#""usage":"35""#, "total", "184.82"),
    ("W5-22", "shenzhen-household-2022", r#""usage":"22""#, "total", "91.52"),
    ("W5-coll10p60", "shenzhen-household-2022", r#""usage":"60","persons":10,"class":["collective"]"#, "total", "264.00"),
    ("W5-mixed35", "shenzhen-household-2022", r#""usage":"35","class":"shared_meter""#, "total", "162.75"),
    ("W8-40", "zhaoqing", r#""usage":"40""#, "total", "88.20"),
    ("W10-HK12", "hong-kong", r#""usage":"12","window_start":"2026-01-10""#, "total", "0.00"),
    ("W10-HK43", "hong-kong", r#""usage":"43","window_start":"2026-01-10""#, "total", "128.96"),
    ("W10-HK62", "hong-kong", r#""usage":"62","window_start":"2026-01-10""#, "total", "251.51"),
    ("W10-HK70", "hong-kong", r#""usage":"70","window_start":"2026-01-10""#, "total", "323.91"),
    ("W12-2part-res", "two-part-persons", r#""usage":"9","persons":4,"planned_per_person":"3.2""#, "total", "20.49"),
    ("W12-2part-zero", "two-part-persons", r#""usage":"0","persons":4,"planned_per_person":"3.2""#, "total", "3.84"),
    ("W12-2part-nonres", "two-part-average", r#""usage":"620","previous_average":"500""#, "total", "1452.00"),
    ("W13-quota", "over-quota", r#""usage":"170","quota":"100""#, "total", "930.00"),
    ("W14-mixuse", "mixed-use", r#""usage":"100""#, "total", "185.66"),
    ("F2-HDWD8", "hdwd", r#""usage":"8""#, "total", "60.03"),
    ("F2-HDWD6", "hdwd", r#""usage":"6""#, "total", "47.69"),
    ("F5-OWRS2", "owrs", r#""usage":"27.3","meter_calibre":"15.875""#, "total", "152.281"),
    ("F5-OWRS1", "owrs", r#""usage":"388","meter_calibre":"76.2","class":"commercial""#, "total", "1632.16"),
    ("F6-DIGIT10", "digit", r#""usage":"10""#, "total", "20"),
    ("F6-DIGIT25", "digit", r#""usage":"25""#, "total", "85"),
    ("F6-DIGIT31", "digit", r#""usage":"31""#, "total", "137"),
    ("(minimum)", "digit", r#""usage":"25","class":"minimum""#, "total", "100"),
    ("(minimum reached)", "digit", r#""usage":"31","class":"minimum""#, "total", "137"),
    ("E1-240", "beijing-electricity", r#""usage":"240""#, "total", "117.19"),
    ("E1-241", "beijing-electricity", r#""usage":"241""#, "total", "117.73"),
    ("E1-400", "beijing-electricity", r#""usage":"400""#, "total", "203.32"),
    ("E1-401", "beijing-electricity", r#""usage":"401""#, "total", "204.11"),
    ("E1-450", "beijing-electricity", r#""usage":"450""#, "total", "242.74"),
    ("E2-flat3000", "zhejiang-electricity", r#""usage":"3000""#, "total", "1626.00"),
    ("E2-tou3000", "zhejiang-electricity", r#""usage_peak":"1800","usage_valley":"1200","class":"time_of_use""#, "total", "1380.00"),
    ("E2-tou5000", "zhejiang-electricity", r#""usage_peak":"3000","usage_valley":"2000","class":"time_of_use""#, "total", "2442.00"),
    ("E4", "industry", r#""usage":"40000","reactive_usage":"39670","class":"e4""#, "total", "13140"),
    ("E5", "industry", r#""usage":"40000","reactive_usage":"25000","reactive_reverse":"-5000","contracted_capacity":"500""#, "power-factor", "750.00"),
    ("E6", "exam-energy", r#""usage":"42268","reactive_usage":"17716","class":"adjusted""#, "power-factor", "-63.40"),
    ("E7-seg1", "exam-energy", r#""usage":"6203""#, "total", "3101.5"),
    ("E7-adj", "times-of-use", r#""usage":"36000","usage_peak":"8000","usage_valley":"6000","reactive_usage":"16200""#, "power-factor", "-27.9"),
    ("E10-cy08", "fujian-2025-08", r#""usage_sharp":"27531","usage_peak":"81516","usage_flat":"104580","usage_valley":"77487","reactive_usage":"36472","reactive_reverse":"8051","contracted_capacity":"1260""#, "total", "207711.15"),
];

#[test]
fn the_golden_bills_come_out_to_the_fen() {
    let shared = shared();
    for (id, name, determinants, look_at, expected) in CASES {
        let expected: Decimal = expected.parse().unwrap();
        if let Some(case) = shared.get(*id) {
            assert_eq!(decimal(&case["expected"]), expected, "{id} as shared");
        }
        let answer = answer(&schedule(name), &format!("{{{MARCH},{determinants}}}"));
        let found = if *look_at == "total" { &answer["total"] } else { &answer["items"][look_at] };
        assert_eq!(decimal(found), expected, "{id}: {answer}");
        // The parts of a bill, where they are published too.
        let parts = shared.get(*id).and_then(|case| case["parts"].as_object()).cloned();
        for (item, part) in parts.unwrap_or_default() {
            assert_eq!(decimal(&answer["items"][&item]), decimal(&part), "{id} {item}: {answer}");
        }
    }
}

#[test]
fn every_shared_case_that_is_about_rating_is_covered() {
    let elsewhere = [
        // Told below, with several bills or settings each.
        "W1-path",
        "W2-H2",
        "W3-6p40-lineHE",
        "W3-6p40-totHU",
        "W3-6p40-totHE",
        "W4-price",
        "E1-450-line",
        "F1-UK",
        "P1",
        "P2",
        "P4",
        "E7",
        "E9",
        "R2-truedelta",
        "R2-rebill",
        // Deltas, factors, wrong published values, late fees and readings: other rooms.
        "W15-master",
        "F6-bug25",
        "F6-bug31",
        "P3",
        "E4-a",
        "E4-b",
    ];
    for id in shared().keys() {
        let other_room = ["L", "R", "E3-"].iter().any(|family| id.starts_with(family));
        let told = CASES.iter().any(|case| case.0 == id);
        assert!(told || other_room || elsewhere.contains(&id.as_str()), "{id} has no test");
    }
}

#[test]
fn beijings_months_add_up_to_its_year() {
    let schedule = schedule("beijing-household-2014");
    let mut session = ndjson::Session::new(&schedule);
    let usages = [10, 20, 15, 15, 20, 20, 25, 30, 35, 30, 40, 40];
    let bills = [
        "50.00", "100.00", "75.00", "75.00", "100.00", "100.00", "125.00", "150.00", "195.00",
        "210.00", "280.00", "360.00",
    ];
    let mut sum = Decimal::ZERO;
    for (month, (usage, bill)) in (1..).zip(usages.iter().zip(bills)) {
        let (year, next) = if month == 12 { (2027, 1) } else { (2026, month + 1) };
        let line = format!(
            r#"{{"account":"A1","service":{{"from":"2026-{month:02}-01","until":"{year}-{next:02}-01"}},"usage":{usage}}}"#
        );
        let answer: Value = serde_json::from_str(&session.rate_line(&line)).unwrap();
        assert_eq!(answer["total"], bill, "month {month}: {answer}");
        sum += decimal(&answer["total"]);
    }
    assert_eq!(sum.to_string(), "1820.00");
}

#[test]
fn harbins_missed_boundary_splits_as_published() {
    let schedule = schedule("harbin-2016");
    let line = r#"{"service":{"from":"2025-11-01","until":"2026-05-01"},"usage":"60",
        "window_start":"2025-01-15","window_used":"160"}"#;
    let answer = answer(&schedule, line);
    assert_eq!(answer["total"], "168.00", "{answer}");
    let quantities: Vec<&str> = answer["tier_usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["quantity"].as_str().unwrap())
        .collect();
    assert_eq!(quantities, ["20", "40"]);
}

#[test]
fn harbins_people_stretch_every_bound_by_a_constant_step() {
    let schedule = schedule("harbin-2016");
    let line = format!(r#"{{{MARCH},"usage":"450","persons":10,"window_start":"2026-01-15"}}"#);
    let answer = answer(&schedule, &line);
    let quantities: Vec<&str> = answer["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["quantity"].as_str().unwrap())
        .collect();
    assert_eq!(quantities, ["300", "100", "50"]);
}

#[test]
fn rounding_happens_where_and_how_the_schedule_says() {
    let text = include_str!("../../../deploy/schedules/jingmen-household-2011.toml");
    let cases = [
        ("line", "half_up", "74.93"),
        ("line", "half_even", "74.92"),
        ("item", "half_up", "74.93"),
        ("item", "half_even", "74.92"),
        ("total", "half_up", "74.93"),
        ("total", "half_even", "74.92"),
        ("total", "down", "74.92"),
        ("line", "up", "74.93"),
    ];
    for (at, mode, expected) in cases {
        let rule = format!(
            "usage_unit = \"m3\"\nrounding = {{ places = 2, mode = \"{mode}\", at = \"{at}\" }}"
        );
        let schedule = Schedule::parse(&text.replace("usage_unit = \"m3\"", &rule)).unwrap();
        let answer = answer(&schedule, &format!(r#"{{{MARCH},"usage":40,"persons":6}}"#));
        assert_eq!(answer["total"], expected, "{mode} at {at}: {answer}");
    }
}

#[test]
fn a_price_of_three_decimals_was_rounded_half_up_by_yidu_itself() {
    let exact: Decimal = "2.925".parse().unwrap();
    assert_eq!(model::Rounding::FEN_HALF_UP.apply_decimal(exact).to_string(), "2.93");
}

#[test]
fn standing_parts_are_due_by_days() {
    let cases = [
        ("bournemouth-2020", "2026-01-01", "2026-04-01", r#""usage":45"#, "55.17"),
        ("capacity", "2026-06-01", "2026-06-19", r#""contracted_capacity":315"#, "1890.00"),
        ("capacity", "2026-06-19", "2026-07-01", r#""contracted_capacity":400"#, "1600.00"),
        (
            "capacity",
            "2026-06-01",
            "2026-06-16",
            r#""maximum_demand":50,"class":"demand""#,
            "50.00",
        ),
        ("capacity", "2026-06-01", "2026-07-01", r#""contracted_capacity":100"#, "1000.00"),
        ("capacity", "2026-01-31", "2026-02-28", r#""contracted_capacity":100"#, "1000.00"),
        (
            "two-part-calibre-demo",
            "2026-02-01",
            "2026-03-01",
            r#""usage":0,"meter_calibre":25"#,
            "16.00",
        ),
        (
            "two-part-calibre-demo",
            "2026-02-01",
            "2026-02-15",
            r#""usage":10,"meter_calibre":25"#,
            "40.00",
        ),
    ];
    for (name, from, until, determinants, expected) in cases {
        let line = format!(r#"{{"service":{{"from":"{from}","until":"{until}"}},{determinants}}}"#);
        let answer = answer(&schedule(name), &line);
        assert_eq!(answer["total"], expected, "{name} {from}: {answer}");
    }
}

#[test]
fn the_lines_of_a_bill_show_their_working() {
    let line = r#"{"service":{"from":"2026-01-01","until":"2026-04-01"},"usage":45}"#;
    let bill = answer(&schedule("bournemouth-2020"), line);
    let workings: Vec<&str> =
        bill["lines"].as_array().unwrap().iter().map(|l| l["working"].as_str().unwrap()).collect();
    assert_eq!(
        workings,
        ["45 m3 × 1.0685 GBP/m3 = 48.0825 → 48.08", "1 × 28.76 GBP × 90/365 = 7.091506… → 7.09",]
    );
    let line = format!(r#"{{{MARCH},"usage":23}}"#);
    let bill = answer(&schedule("jingmen-household-2011"), &line);
    assert_eq!(bill["lines"][0]["working"], "20 m3 × 1.62 yuan/m3 = 32.40");
    assert_eq!(bill["lines"][1]["clause"], "block 2 of 3");
}

#[test]
fn block_bounds_stretch_with_the_days_of_the_bill() {
    // 45 days: 150 and 450 (Oracle); 500 kWh = 150×1 + 300×2 + 50×3; 6 % on top.
    let line = r#"{"service":{"from":"2026-03-01","until":"2026-04-15"},"usage":500}"#;
    let answer = answer(&schedule("scaled-bounds"), line);
    let quantities: Vec<&str> = answer["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["quantity"].as_str().unwrap())
        .collect();
    assert_eq!(quantities, ["150", "300", "50", "6"]);
    assert_eq!(answer["items"]["vat"], "54.00");
    assert_eq!(answer["lines"][3]["working"], "6 % of 900 yuan = 54.00");
}

#[test]
fn two_segments_of_a_swap_make_one_exam_bill() {
    let first = answer(&schedule("exam-energy"), &format!(r#"{{{MARCH},"usage":6203}}"#));
    let line = format!(
        r#"{{{MARCH},"usage":36000,"usage_peak":8000,"usage_valley":6000,"reactive_usage":16200}}"#
    );
    let second = answer(&schedule("times-of-use"), &line);
    let sum = decimal(&first["total"]) + decimal(&second["total"]);
    assert_eq!(sum, "21673.60".parse().unwrap(), "{second}");
}

#[test]
fn an_estimate_is_settled_by_the_difference_or_over_a_doubled_window() {
    let schedule = schedule("jingmen-household-2011");
    let month = |from: &str, until: &str, usage: u32| {
        let line =
            format!(r#"{{"service":{{"from":"{from}","until":"{until}"}},"usage":{usage}}}"#);
        decimal(&answer(&schedule, &line)["total"])
    };
    let difference = month("2026-01-01", "2026-02-01", 15) + month("2026-02-01", "2026-03-01", 25);
    assert_eq!(difference.to_string(), "68.85");
    assert_eq!(month("2026-01-01", "2026-03-01", 40).to_string(), "64.80");
}

#[test]
fn every_schedule_of_the_tests_and_of_deploy_loads() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for folder in ["tests/schedules", "../../deploy/schedules"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).unwrap();
                let schedule = Schedule::parse(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
                assert_eq!(path.file_stem().unwrap().to_str(), Some(schedule.name()));
            }
        }
    }
}
