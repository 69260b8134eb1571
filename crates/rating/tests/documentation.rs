//! `docs/rate-schedules.md` is what a rate clerk has: its schedules must load.
//!
//! In: the documentation. Out: proof that its whole schedules and its lines do what it says.
//! Never here: other documents.

use rating::{Schedule, ndjson};

const DOC: &str = include_str!("../../../docs/rate-schedules.md");

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    DOC.split("```").zip(DOC.split("```").skip(1)).enumerate().filter_map(
        move |(place, (_, block))| {
            let fence = fence.trim_start_matches('`').to_owned();
            (place % 2 == 0).then(|| block.strip_prefix(fence.as_str())).flatten()
        },
    )
}

#[test]
fn the_whole_schedules_of_the_documentation_load() {
    let whole: Vec<&str> = blocks("toml").filter(|block| block.contains("[[version]]")).collect();
    assert_eq!(whole.len(), 4, "whole schedules in the documentation");
    for text in whole {
        if let Err(error) = Schedule::parse(text) {
            assert_eq!(error.to_string(), "", "{text}");
        }
    }
}

#[test]
fn the_pieces_of_the_documentation_load_inside_an_item() {
    let before = "name = \"a\"\n[[version]]\nvalid_from = \"2020-01-01\"\ndocument = \"d\"\nsource = \"s\"\n\
                  usage_unit = \"kWh\"\nwindow = \"month\"\n[[version.item]]\nid = \"water\"\nledger_account = \"w\"\n\
                  rule = \"usage\"\nprice = 1\n[[version.item]]\nid = \"energy\"\nledger_account = \"w\"\nrule = \"usage\"\n\
                  price = 1\n[[version.item]]\nid = \"capacity\"\nledger_account = \"w\"\nrule = \"usage\"\nprice = 1\n";
    let pieces =
        blocks("toml").filter(|block| block.contains("rule = ") && !block.contains("[[version]]"));
    let mut seen = 0;
    for piece in pieces {
        let item = "[[version.item]]\nid = \"piece\"\nledger_account = \"p\"\n";
        let item = if piece.contains("[[version.item]]") { "" } else { item };
        if let Err(error) = Schedule::parse(&format!("{before}{item}{piece}")) {
            assert_eq!(error.to_string(), "", "{piece}");
        }
        seen += 1;
    }
    assert!(seen >= 7, "{seen} pieces");
}

#[test]
fn the_line_of_the_documentation_is_answered_as_it_says() {
    let text = blocks("toml").find(|block| block.contains("jingmen")).unwrap_or_default();
    let Ok(schedule) = Schedule::parse(text) else { return assert_eq!(text, "a schedule") };
    let line = r#"{"service":{"from":"2026-03-01","until":"2026-04-01"},"usage":"23"}"#;
    let answer = ndjson::rate_line(&schedule, line);
    for part in [
        r#""working":"20 m3 × 1.62 yuan/m3 = 32.40""#,
        r#""items":{"water":"39.69"},"total":"39.69""#,
        r#""tier_usage":[{"item":"water","window":{"from":"2026-03-01","until":"2026-04-01"},"quantity":"23"}]"#,
    ] {
        assert!(answer.contains(part), "{answer}");
    }
}
