//! A bill's working in words, for the clerk at the counter and the customer in front of it.
//!
//! In: a bill, names for its ids. Out: text, Chinese and English side by side.
//! Never here: rating anew; everything printed is what the bill itself keeps.

use crate::{Bill, Contents, Segment};
use chrono::{DateTime, FixedOffset, Utc};
use model::{BillingDeterminant, DeterminantKind, Evidence, EvidenceRead, MeterId, ReadQuality};
use rust_decimal::Decimal;
use std::{collections::BTreeMap, fmt, fmt::Write as _};

/// What ids are called in the utility, and its local time.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The account number (户号); the id stands in.
    pub account: Option<String>,
    /// What the cycle is called.
    pub cycle: Option<String>,
    /// Meter numbers (表号); ids stand in.
    pub meters: BTreeMap<MeterId, String>,
    /// Local time, minutes east of UTC.
    pub utc_offset_minutes: i32,
}

/// The whole working of a bill: both reads of every meter, the usage arithmetic, every charge
/// line's working, subtotals by ledger account, the total (R004, R111).
#[must_use]
pub fn explain(bill: &Bill, labels: &Labels) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let explanation = Explanation { bill, labels };
    if explanation.write(&mut text).is_err() {
        text.push_str("\n(incomplete)\n");
    }
    text
}

struct Explanation<'a> {
    bill: &'a Bill,
    labels: &'a Labels,
}

impl Explanation<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let contents = self.bill.contents();
        self.header(out, contents)?;
        for segment in contents.segments() {
            self.segment(out, segment)?;
        }
        writeln!(out, "\n科目 Ledger accounts")?;
        for part in contents.ledger_totals() {
            writeln!(out, "  {:<40} {:>14}", part.ledger_account, part.amount.to_string())?;
        }
        writeln!(out, "  {:<38} {:>14}", "应缴 Total", contents.total().to_string())
    }

    fn header(&self, out: &mut String, contents: &Contents) -> fmt::Result {
        let key = contents.key();
        writeln!(out, "账单 Bill       {}", contents.id())?;
        let account = self.labels.account.clone().unwrap_or_else(|| key.account.to_string());
        writeln!(out, "户号 Account    {account}")?;
        let name = self.labels.cycle.as_ref().map_or_else(String::new, |name| format!("{name}, "));
        let (cycle, days) = (key.cycle, key.cycle.days());
        writeln!(out, "周期 Cycle      {name}{cycle} ({days} 天 days)")?;
        let kind = match key.kind {
            crate::BillKind::Regular => "常规 regular",
            crate::BillKind::Final => "销户 final",
        };
        writeln!(out, "类别 Kind       {kind}, revision {}", key.revision)?;
        match self.bill {
            Bill::Draft(_) => writeln!(out, "状态 Status     草稿 draft"),
            Bill::Issued(issued) => writeln!(
                out,
                "状态 Status     已开 issued, 编号 number {}, {}",
                issued.number().0,
                issued.issued_on()
            ),
            Bill::Cancelled(cancelled) => writeln!(
                out,
                "状态 Status     已作废 cancelled {}: {} (编号 number {}, {})",
                cancelled.cancelled_on(),
                cancelled.reason(),
                cancelled.issued().number().0,
                cancelled.issued().issued_on()
            ),
        }
    }

    fn segment(&self, out: &mut String, segment: &Segment) -> fmt::Result {
        let (service, days) = (segment.service, segment.service.days());
        writeln!(
            out,
            "\n合同 Agreement {}, 用期 service {service} ({days} 天 days)",
            segment.agreement
        )?;
        write!(out, "  价格版本 rate version {}, sha256 ", segment.version.version)?;
        for byte in segment.version.hash.iter().take(6) {
            write!(out, "{byte:02x}")?;
        }
        writeln!(out, "…")?;
        for determinant in &segment.determinants {
            self.determinant(out, segment, determinant)?;
        }
        writeln!(out, "  计费 Charges")?;
        for line in &segment.lines {
            let (zh, en) = (&line.item.label_zh, &line.item.label_en);
            let tier = line.tier.map_or_else(String::new, |tier| format!(" 第{tier}级"));
            write!(out, "    {zh} {en} ·{tier} {}", line.clause)?;
            if line.service != segment.service {
                write!(out, " ({})", line.service)?;
            }
            if line.item.agency {
                write!(out, " · 代征 collected for others")?;
            }
            writeln!(out, "\n      {}", line.working)?;
        }
        writeln!(out, "  {:<38} {:>14}", "小计 Subtotal", segment.total.to_string())
    }

    fn determinant(
        &self,
        out: &mut String,
        segment: &Segment,
        determinant: &BillingDeterminant,
    ) -> fmt::Result {
        let name = chinese(determinant.kind);
        writeln!(out, "  {name} {}: {}", determinant.kind, determinant.quantity)?;
        let mut parts: Vec<Decimal> = Vec::new();
        for evidence in &determinant.evidence {
            match evidence {
                Evidence::Reads { start, end, rolled_over, wraps_at, multiplier } => {
                    let usage =
                        self.reads(out, [start, end], *rolled_over, *wraps_at, *multiplier)?;
                    parts.extend(usage);
                }
                Evidence::Registry { note } => writeln!(out, "    档案 registry: {note}")?,
                Evidence::Given => writeln!(out, "    外部提供 given from outside")?,
            }
        }
        if parts.len() > 1 {
            let sum: Option<Decimal> =
                parts.iter().try_fold(Decimal::ZERO, |sum, part| sum.checked_add(*part));
            let terms: Vec<String> =
                parts.iter().map(|part| part.normalize().to_string()).collect();
            if let Some(sum) = sum {
                writeln!(out, "    合计 sum  {} = {}", terms.join(" + "), sum.normalize())?;
            }
        }
        if let Some(share) = segment.share.filter(|_| crate::split::adds_up(determinant.kind)) {
            writeln!(
                out,
                "    价格调整，按天数分摊 rate change, parted by days: {} of {} days → {}",
                share.days, share.of_days, determinant.quantity
            )?;
        }
        Ok(())
    }

    /// The two reads of a meter and what follows from them; the usage, where it can be shown.
    fn reads(
        &self,
        out: &mut String,
        [start, end]: [&EvidenceRead; 2],
        rolled_over: bool,
        wraps_at: Decimal,
        multiplier: Decimal,
    ) -> Result<Option<Decimal>, fmt::Error> {
        let meter = self.labels.meters.get(&start.meter).cloned();
        let meter = meter.unwrap_or_else(|| start.meter.to_string());
        writeln!(out, "    表 meter {meter}, {}", start.register)?;
        for (name, read) in [("起度 start", start), ("止度 end  ", end)] {
            writeln!(
                out,
                "      {name}  {}  {:>16}  {}",
                self.local(read.measured_at),
                read.value().to_string(),
                quality(read.quality)
            )?;
        }
        let shown = |read: &EvidenceRead| {
            read.value().to_quantity().ok().map(|quantity| quantity.value.normalize())
        };
        let (Some(from), Some(to)) = (shown(start), shown(end)) else { return Ok(None) };
        let unit = start.unit;
        let wrap = if rolled_over { wraps_at } else { Decimal::ZERO };
        let Some(delta) = to.checked_add(wrap).and_then(|top| top.checked_sub(from)) else {
            return Ok(None);
        };
        if rolled_over {
            let remark = "走字过圈 register rolled over";
            writeln!(
                out,
                "      {to} + {wrap} − {from} = {} {unit}  ({remark})",
                delta.normalize()
            )?;
        } else {
            writeln!(out, "      {to} − {from} = {} {unit}", delta.normalize())?;
        }
        if multiplier == Decimal::ONE {
            return Ok(Some(delta));
        }
        let Some(usage) = delta.checked_mul(multiplier) else { return Ok(None) };
        let (delta, multiplier) = (delta.normalize(), multiplier.normalize());
        let total = usage.normalize();
        writeln!(out, "      × 倍率 multiplier: {delta} × {multiplier} = {total} {unit}")?;
        Ok(Some(usage))
    }

    fn local(&self, at: DateTime<Utc>) -> String {
        let offset = self
            .labels
            .utc_offset_minutes
            .checked_mul(60)
            .and_then(FixedOffset::east_opt)
            .unwrap_or_else(|| chrono::Offset::fix(&Utc));
        at.with_timezone(&offset).format("%Y-%m-%d %H:%M:%S %:z").to_string()
    }
}

const fn quality(quality: ReadQuality) -> &'static str {
    match quality {
        ReadQuality::Actual => "实抄 actual",
        ReadQuality::Suspect => "存疑 suspect",
        ReadQuality::Estimated => "估抄 estimated",
        ReadQuality::Manual => "人工 manual",
        ReadQuality::Edited => "修正 edited",
    }
}

const fn chinese(kind: DeterminantKind) -> &'static str {
    match kind {
        DeterminantKind::Usage => "用量",
        DeterminantKind::UsageSharp => "尖段用量",
        DeterminantKind::UsagePeak => "峰段用量",
        DeterminantKind::UsageFlat => "平段用量",
        DeterminantKind::UsageValley => "谷段用量",
        DeterminantKind::UsageDeepValley => "深谷用量",
        DeterminantKind::UsageOutsideTiers => "不计阶梯用量",
        DeterminantKind::ReactiveUsage => "无功用量",
        DeterminantKind::ReactiveReverse => "反向无功",
        DeterminantKind::MaximumDemand => "最大需量",
        DeterminantKind::ContractedCapacity => "合同容量",
        DeterminantKind::MeterCalibre => "口径",
        DeterminantKind::Persons => "人口",
        DeterminantKind::PlannedPerPerson => "人均计划用量",
        DeterminantKind::PreviousAverage => "往年平均用量",
        DeterminantKind::Quota => "计划用量",
        DeterminantKind::Dwellings => "户数",
        DeterminantKind::Meters => "表数",
    }
}
