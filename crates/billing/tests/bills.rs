//! Bills of whole accounts, from determinants to the text a clerk reads.
//!
//! In: schedules written here, golden quantities. Out: assertions on drafts, snapshots of texts.
//! Never here: services, files outside the repository.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use billing::{
    AgreementInput, Bill, BillInput, BillKey, BillKind, BillNumber, Draft, HoldReason, Labels,
    OutsortReason, TariffVersion, TierHolder, VersionRef, WindowUsed, draft_bill, explain,
    windows_of,
};
use chrono::{DateTime, NaiveDate, Utc};
use model::{
    AccountId, AgreementId, BillingDeterminant, DeterminantKind, Evidence, EvidenceRead,
    HouseholdId, MeterId, Money, Period, Quantity, ReadQuality, Register, ScheduleVersionId, Unit,
};
use proptest::prelude::*;
use rating::{Schedule, WindowUse};
use rust_decimal::Decimal;
use rust_decimal_macros::dec;
use std::collections::BTreeMap;

const BEIJING: &str = r#"
name = "beijing"
price_change = "by_days"
[[version]]
valid_from = "2014-05-01"
document = "test"
source = "golden W1"
usage_unit = "m3"
window = "year"
across_windows = "by_days"
[[version.item]]
id = "water"
ledger_account = "revenue.water"
label_zh = "水费"
label_en = "Water"
rule = "usage"
block = [{ until = "180", price = "2.07" }, { until = "260", price = "4.07" }, { price = "6.07" }]
[[version.item]]
id = "resource"
ledger_account = "agency.resource"
agency = true
label_zh = "水资源费"
label_en = "Resource fee"
rule = "usage"
price = "1.57"
[[version.item]]
id = "sewage"
ledger_account = "agency.sewage"
agency = true
label_zh = "污水处理费"
label_en = "Sewage"
rule = "usage"
price = "1.36"
"#;

const HARBIN: &str = r#"
name = "harbin"
price_change = "by_days"
[[version]]
valid_from = "2016-01-01"
document = "test"
source = "golden W2"
usage_unit = "m3"
window = { months = 12, from = "account" }
across_windows = "by_days"
[[version.item]]
id = "water"
ledger_account = "revenue.water"
label_zh = "水费"
label_en = "Water"
rule = "usage"
block = [{ until = "150", price = "2.40" }, { until = "250", price = "3.60" }, { price = "7.20" }]
"#;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn period(from: &str, until: &str) -> Period {
    Period::new(day(from), day(until)).unwrap()
}

fn version<'a>(
    schedule: &'a Schedule,
    id: u32,
    from: &str,
    until: Option<&str>,
) -> TariffVersion<'a> {
    let hash = [u8::try_from(id).unwrap(); 32];
    TariffVersion {
        reference: VersionRef { version: ScheduleVersionId::new(id), hash },
        from: day(from),
        until: until.map(day),
        schedule,
    }
}

fn usage(value: Decimal) -> BillingDeterminant {
    BillingDeterminant {
        kind: DeterminantKind::Usage,
        quantity: Quantity::new(value, Unit::CubicMetre),
        evidence: vec![Evidence::Given],
    }
}

fn agreement<'a>(schedule: &'a Schedule, service: Period, used: Decimal) -> AgreementInput<'a> {
    AgreementInput {
        agreement: AgreementId::new(11),
        household: Some(HouseholdId::new(5)),
        service,
        classes: Vec::new(),
        window_start: Some(day("2016-01-01")),
        determinants: vec![usage(used)],
        versions: vec![version(schedule, 1, "2014-01-01", None)],
    }
}

fn input<'a>(cycle: Period, agreements: Vec<AgreementInput<'a>>) -> BillInput<'a> {
    let key = BillKey { account: AccountId::new(1), cycle, kind: BillKind::Regular, revision: 0 };
    BillInput { key, agreements, window_used: Vec::new() }
}

fn total(draft: &Draft) -> Decimal {
    draft.contents().total().as_decimal()
}

/// The tier ledger as the store keeps it: rows appended by drafts, sums asked for by windows.
#[derive(Default)]
struct TierLedger(Vec<WindowUsed>);

impl TierLedger {
    fn append(&mut self, draft: &Draft) {
        for row in draft.contents().segments().iter().flat_map(|segment| &segment.tier_appends) {
            self.0.push(WindowUsed {
                holder: row.holder,
                used: WindowUse {
                    item: row.item.clone(),
                    window: row.window,
                    quantity: row.quantity,
                },
            });
        }
    }

    fn used(&self, agreement: &AgreementInput<'_>) -> Vec<WindowUsed> {
        let mut windows = windows_of(agreement).unwrap();
        for window in &mut windows {
            for row in &self.0 {
                if (row.holder, &row.used.item, row.used.window)
                    == (window.holder, &window.used.item, window.used.window)
                {
                    window.used.quantity =
                        window.used.quantity.checked_add(row.used.quantity).unwrap();
                }
            }
        }
        windows
    }
}

#[test]
fn golden_w1_a_year_billed_month_by_month_crosses_its_tiers_once() {
    let schedule = Schedule::parse(BEIJING).unwrap();
    let months = [10, 20, 15, 15, 20, 20, 25, 30, 35, 30, 40, 40];
    let bills = [50, 100, 75, 75, 100, 100, 125, 150, 195, 210, 280, 360];
    let mut ledger = TierLedger::default();
    let mut sum = Money::ZERO;
    for (month, (used, expected)) in (1..).zip(months.into_iter().zip(bills)) {
        let from = NaiveDate::from_ymd_opt(2026, month, 1).unwrap();
        let service = Period::new(from, from + chrono::Months::new(1)).unwrap();
        let monthly = agreement(&schedule, service, Decimal::from(used));
        let mut question = input(service, vec![monthly.clone()]);
        question.window_used = ledger.used(&monthly);
        let draft = draft_bill(&question).unwrap();
        assert_eq!(total(&draft), Decimal::from(expected), "month {month}");
        assert_eq!(draft_bill(&question).unwrap(), draft, "the same question, the same bill");
        ledger.append(&draft);
        sum = sum.checked_add(draft.contents().total()).unwrap();
    }
    assert_eq!(sum.to_string(), "1820.00");
}

#[test]
fn golden_h1_the_second_read_pays_only_what_is_left_of_the_first_tier() {
    let schedule = Schedule::parse(HARBIN).unwrap();
    let first = agreement(&schedule, period("2016-01-01", "2016-06-01"), dec!(140));
    let draft = draft_bill(&input(first.service, vec![first])).unwrap();
    assert_eq!(total(&draft), dec!(336.00));
    let mut ledger = TierLedger::default();
    ledger.append(&draft);
    let second = agreement(&schedule, period("2016-06-01", "2016-07-01"), dec!(30));
    let mut question = input(second.service, vec![second.clone()]);
    question.window_used = ledger.used(&second);
    let draft = draft_bill(&question).unwrap();
    assert_eq!(total(&draft), dec!(96.00));
    let lines: Vec<(Option<u8>, Decimal)> =
        draft.contents().lines().map(|line| (line.tier, line.quantity.value)).collect();
    assert_eq!(lines, [(Some(1), dec!(10)), (Some(2), dec!(20))]);
}

#[test]
fn golden_h6_two_meters_of_one_household_fill_one_window() {
    let schedule = Schedule::parse(HARBIN).unwrap();
    let service = period("2016-01-01", "2016-02-01");
    let first = agreement(&schedule, service, dec!(100));
    let mut second = agreement(&schedule, service, dec!(100));
    second.agreement = AgreementId::new(12);
    let together = draft_bill(&input(service, vec![first.clone(), second.clone()])).unwrap();
    assert_eq!(total(&together), dec!(540.00)); // 150 at 2.40, 50 at 3.60
    second.household = None;
    let apart = draft_bill(&input(service, vec![first, second])).unwrap();
    assert_eq!(total(&apart), dec!(480.00));
    let holders: Vec<TierHolder> =
        apart.contents().segments().iter().map(|part| part.tier_appends[0].holder).collect();
    let expected =
        [TierHolder::Household(HouseholdId::new(5)), TierHolder::Agreement(AgreementId::new(12))];
    assert_eq!(holders, expected);
}

#[test]
fn a_rate_version_that_changes_inside_the_period_parts_the_segment_by_days() {
    let old = Schedule::parse(BEIJING).unwrap();
    let new = Schedule::parse(&BEIJING.replace("\"2.07\"", "\"3.07\"")).unwrap();
    let service = period("2026-04-01", "2026-05-01");
    let mut changing = agreement(&old, service, dec!(30));
    changing.versions = vec![
        version(&new, 2, "2026-04-21", None),
        version(&old, 1, "2014-05-01", Some("2026-04-21")),
    ];
    let draft = draft_bill(&input(service, vec![changing.clone()])).unwrap();
    let segments = draft.contents().segments();
    let parts: Vec<(String, Decimal, u32)> = segments
        .iter()
        .map(|part| {
            let used = part.determinants[0].quantity.value;
            (part.service.to_string(), used, part.version.version.number())
        })
        .collect();
    assert_eq!(
        parts,
        [
            ("2026-04-01..2026-04-21".to_owned(), dec!(20), 1),
            ("2026-04-21..2026-05-01".to_owned(), dec!(10), 2)
        ]
    );
    assert_eq!(total(&draft), dec!(160)); // 20 × 5 + 10 × 6

    // The newer text decides how: at the price of the last day, or not at all.
    let at_end = BEIJING.replace("\"by_days\"\n[[version]]", "\"version_at_end\"\n[[version]]");
    let at_end = Schedule::parse(&at_end.replace("\"2.07\"", "\"3.07\"")).unwrap();
    changing.versions[0] = version(&at_end, 2, "2026-04-21", None);
    let draft = draft_bill(&input(service, vec![changing.clone()])).unwrap();
    assert_eq!(total(&draft), dec!(180));
    let refuse = BEIJING.replace("price_change = \"by_days\"", "price_change = \"refuse\"");
    let refuse = Schedule::parse(&refuse).unwrap();
    changing.versions[0] = version(&refuse, 2, "2026-04-21", None);
    let reason = draft_bill(&input(service, vec![changing])).unwrap_err();
    assert_eq!(reason.code(), "price_change_inside");
}

#[test]
fn what_cannot_be_billed_is_put_aside_with_its_reason() {
    let schedule = Schedule::parse(BEIJING).unwrap();
    let service = period("2026-04-01", "2026-05-01");
    type Change = fn(&mut AgreementInput<'_>);
    let cases: [(&str, Change); 4] = [
        ("missing_tariff", |a| a.versions[0].from = day("2026-04-02")),
        ("missing_tariff", |a| a.versions[0].until = Some(day("2026-04-30"))),
        ("negative_usage", |a| a.determinants[0].quantity.value = dec!(-1)),
        ("missing_determinant", |a| a.determinants.clear()),
    ];
    for (code, change) in cases {
        let mut wrong = agreement(&schedule, service, dec!(10));
        change(&mut wrong);
        let reason = draft_bill(&input(service, vec![wrong])).unwrap_err();
        assert_eq!(HoldReason::from(&reason).code, code, "{reason}");
    }
    assert_eq!(draft_bill(&input(service, Vec::new())), Err(OutsortReason::NoAgreement));
}

#[test]
fn a_bill_is_issued_once_and_cancelled_never_edited() {
    let schedule = Schedule::parse(BEIJING).unwrap();
    let service = period("2026-04-01", "2026-05-01");
    let agreement = agreement(&schedule, service, dec!(10));
    let draft = draft_bill(&input(service, vec![agreement])).unwrap();
    let contents = draft.contents().clone();
    let issued = draft.issue(BillNumber("B1-000001".to_owned()), day("2026-05-03"));
    assert_eq!(issued.contents(), &contents);
    let cancelled = issued.cancel("misread".to_owned(), day("2026-05-09"));
    assert_eq!(cancelled.issued().contents(), &contents);
    let next = cancelled.next_key().unwrap();
    assert_eq!(next.revision, 1);
    assert_ne!(next.id(), contents.id());
    assert!(explain(&Bill::Cancelled(cancelled), &Labels::default()).contains("misread"));
}

fn read(meter: u32, at: &str, count: i64, exponent: i8, quality: ReadQuality) -> EvidenceRead {
    EvidenceRead {
        meter: MeterId::new(meter),
        register: Register::VOLUME,
        measured_at: at.parse::<DateTime<Utc>>().unwrap(),
        count,
        exponent,
        unit: Unit::CubicMetre,
        quality,
    }
}

#[test]
fn a_clerk_can_follow_a_bill_with_a_rollover_a_swap_and_a_rate_change() {
    let old = Schedule::parse(BEIJING).unwrap();
    let new = Schedule::parse(&BEIJING.replace("\"2.07\"", "\"3.07\"")).unwrap();
    let service = period("2026-04-01", "2026-05-01");
    let mut changing = agreement(&old, service, dec!(25));
    changing.versions = vec![
        version(&old, 1, "2014-05-01", Some("2026-04-21")),
        version(&new, 2, "2026-04-21", None),
    ];
    changing.determinants[0].evidence = vec![
        Evidence::Reads {
            start: read(7, "2026-03-31T16:00:00Z", 99_998, 0, ReadQuality::Actual),
            end: read(7, "2026-04-15T02:30:00Z", 13, 0, ReadQuality::Manual),
            rolled_over: true,
            wraps_at: dec!(100000),
            multiplier: dec!(1),
        },
        Evidence::Reads {
            start: read(8, "2026-04-15T02:30:00Z", 1_250, -3, ReadQuality::Manual),
            end: read(8, "2026-04-30T15:00:00Z", 6_250, -3, ReadQuality::Actual),
            rolled_over: false,
            wraps_at: dec!(100000),
            multiplier: dec!(2),
        },
    ];
    changing.determinants.push(BillingDeterminant {
        kind: DeterminantKind::Persons,
        quantity: Quantity::new(dec!(4), Unit::Person),
        evidence: vec![Evidence::Registry { note: "4 since 2025-01-01".to_owned() }],
    });
    let mut question = input(service, vec![changing]);
    question.window_used = vec![WindowUsed {
        holder: TierHolder::Household(HouseholdId::new(5)),
        used: WindowUse {
            item: "water".into(),
            window: period("2026-01-01", "2027-01-01"),
            quantity: Quantity::new(dec!(170), Unit::CubicMetre),
        },
    }];
    let labels = Labels {
        account: Some("A-000123".to_owned()),
        cycle: Some("2026-04".to_owned()),
        meters: BTreeMap::from([
            (MeterId::new(7), "M-0007".to_owned()),
            (MeterId::new(8), "M-0008".to_owned()),
        ]),
        utc_offset_minutes: 480,
    };
    let draft = draft_bill(&question).unwrap();
    let issued = draft.issue(BillNumber("B1-000042".to_owned()), day("2026-05-03"));
    insta::assert_snapshot!(explain(&Bill::Issued(issued), &labels));
}

proptest! {
    #[test]
    fn splitting_a_year_never_changes_its_sum(litres in proptest::collection::vec(0i64..60_000, 12)) {
        let schedule = Schedule::parse(HARBIN).unwrap();
        let from = |month: u32| day("2016-01-01") + chrono::Months::new(month);
        let mut ledger = TierLedger::default();
        let mut exact = Money::ZERO;
        for (month, used) in (0..).zip(&litres) {
            let service = Period::new(from(month), from(month + 1)).unwrap();
            let monthly = agreement(&schedule, service, Decimal::new(*used, 3));
            let mut question = input(service, vec![monthly.clone()]);
            question.window_used = ledger.used(&monthly);
            let draft = draft_bill(&question).unwrap();
            let lines = Money::checked_sum(draft.contents().lines().map(|line| line.amount));
            prop_assert_eq!(lines.unwrap(), draft.contents().total());
            let ledgers = draft.contents().ledger_totals().iter().map(|part| part.amount);
            prop_assert_eq!(Money::checked_sum(ledgers).unwrap(), draft.contents().total());
            let lines = Money::checked_sum(draft.contents().lines().map(|line| line.exact));
            exact = exact.checked_add(lines.unwrap()).unwrap();
            ledger.append(&draft);
        }
        let whole = Period::new(from(0), from(12)).unwrap();
        let yearly = agreement(&schedule, whole, Decimal::new(litres.iter().sum(), 3));
        let draft = draft_bill(&input(whole, vec![yearly])).unwrap();
        let lines = Money::checked_sum(draft.contents().lines().map(|line| line.exact)).unwrap();
        prop_assert_eq!(exact, lines);
    }
}
