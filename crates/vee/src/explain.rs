//! What a rule that spoke means, in a sentence for the clerk who decides.
//!
//! In: a rule, its parameters, a language. Out: one sentence.
//! Never here: the read itself (the page shows it beside the sentence), HTML.

use crate::Rules;
use model::VeeRule;

/// A language people read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// What it means that `rule` spoke, with the limits it was set to.
#[must_use]
pub fn explain(rule: VeeRule, rules: &Rules, language: Language) -> String {
    let (zh, en) = match rule {
        VeeRule::FutureTime => {
            let s = rules.future_time.tolerance_s;
            (
                format!("抄表时间晚于接收时间超过{s}秒：表计时钟不可信"),
                format!("measured more than {s} s after it arrived: the meter's clock is wrong"),
            )
        }
        VeeRule::AbsurdTime => {
            let d = rules.absurd_time.older_than_d;
            (
                format!("抄表时间早于接收时间超过{d}天：表计时钟未校准"),
                format!("measured more than {d} days before it arrived: the clock was never set"),
            )
        }
        VeeRule::BeforeInstallation => (
            "抄表时间早于装表时间".to_owned(),
            "measured before the meter was installed".to_owned(),
        ),
        VeeRule::AfterRemoval => {
            ("抄表时间晚于拆表时间".to_owned(), "measured after the meter was removed".to_owned())
        }
        VeeRule::BackwardsRegister => (
            "示数低于先前示数，且不能用翻转解释".to_owned(),
            "lower than an earlier read, and no rollover explains it".to_owned(),
        ),
        VeeRule::Rollover => (
            "示数超过最大位数后从零重新计数（翻转）".to_owned(),
            "the register passed its last digit and began again".to_owned(),
        ),
        VeeRule::TooManyDigits => {
            ("示数位数超过登记的表位数".to_owned(), "more digits than the register has".to_owned())
        }
        VeeRule::Spike => {
            let p = rules.spike.margin_percent;
            (
                format!("用量超过表计最大流量的{p}%"),
                format!("more in the time than {p} % of what the meter can pass"),
            )
        }
        VeeRule::Conflict => (
            "同一表计、同一寄存器、同一时刻已有不同示数".to_owned(),
            "another value is stored for the same meter, register and instant".to_owned(),
        ),
        VeeRule::NegativeValue => {
            ("示数为负".to_owned(), "negative on a register that only counts up".to_owned())
        }
        VeeRule::UnitMismatch => (
            "单位与表计档案不符".to_owned(),
            "the unit is not the one the meter is registered with".to_owned(),
        ),
        VeeRule::MeterFault => {
            ("表计自报计量故障".to_owned(), "the meter reports a measuring fault".to_owned())
        }
        VeeRule::Late => {
            let hours = rules.late.older_than_s / 3600;
            (
                format!("抄表后超过{hours}小时才到达"),
                format!("arrived more than {hours} h after it was measured"),
            )
        }
        VeeRule::NoMeterTime => (
            "报文无有效时钟，以接收时间代替".to_owned(),
            "the frame has no usable clock; the time of reception stands in".to_owned(),
        ),
    };
    match language {
        Language::Zh => zh,
        Language::En => en,
    }
}
