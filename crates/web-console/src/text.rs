//! Every word of the console, in Chinese and in English.
//!
//! In: a language. Out: the words. Never here: numbers, markup.

use serde::{Deserialize, Serialize};

/// A language of the console; Chinese first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh-CN")]
    Chinese,
    /// English.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// The BCP 47 tag: `zh-CN`, `en`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// The language a browser asks for, by its `Accept-Language` header.
    #[must_use]
    pub fn preferred(accept_language: &str) -> Self {
        let first = accept_language.split([',', ';']).next().unwrap_or_default().trim();
        if first.to_ascii_lowercase().starts_with("en") { Self::English } else { Self::Chinese }
    }
}

macro_rules! words {
    ($($name:ident: $chinese:literal, $english:literal;)*) => {
        /// The words of the first page.
        #[derive(Debug, Clone, Copy)]
        pub struct Words { $(pub(crate) $name: &'static str,)* }

        impl Words {
            /// The words in one language.
            #[must_use]
            pub const fn of(language: Language) -> &'static Self {
                match language {
                    Language::Chinese => &Words { $($name: $chinese,)* },
                    Language::English => &Words { $($name: $english,)* },
                }
            }
        }
    };
}

words! {
    title: "潮痕 · 运营总览", "Tidemark · operations";
    tagline: "智能抄表与计费", "smart-meter ingestion and billing";
    other_language: "English", "中文";
    ingest_now: "实时采集", "Ingest now";
    received: "收到", "received";
    stored: "入库", "stored";
    duplicate: "重复", "duplicate";
    rejected: "拒收", "rejected";
    residue: "账目差额", "residue";
    residue_why: "收到 − 入库 − 重复 − 拒收；必须为 0", "received − stored − duplicate − rejected; must read 0";
    balanced: "账目相符", "balanced";
    unbalanced: "账目不符", "does not balance";
    per_second: "每秒", "per second";
    reads: "读数", "reads";
    refused_by_reason: "拒收原因", "Refused by reason";
    reason: "原因", "reason";
    uplinks: "上行报文", "uplinks";
    none_refused: "没有拒收的报文", "nothing was refused";
    streams: "数据流", "Streams";
    stream: "数据流", "stream";
    next_sequence: "下一序号", "next sequence";
    fleet: "档案", "Registry";
    accounts: "户数", "accounts";
    meters: "表计", "meters";
    books: "抄表册", "books";
    billing: "计费", "Billing";
    cycle: "周期", "cycle";
    book: "抄表册", "book";
    active: "应计费", "active";
    billed: "已出账", "billed";
    held: "待处理", "held";
    excused: "免出账", "excused";
    amount: "金额（元）", "amount (yuan)";
    complete: "齐全", "complete";
    incomplete: "未完成", "not complete";
    no_cycles: "还没有抄表周期", "no cycle yet";
    live: "实时", "live";
    stale: "连接中断，正在重连", "connection lost, reconnecting";
    store_away: "数据库暂时不可用", "a database is away";
    as_of: "截至", "as of";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_its_language_and_chinese_otherwise() {
        for (asked, given) in [
            ("en-GB,en;q=0.9", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("", Language::Chinese),
            ("fr", Language::Chinese),
        ] {
            assert_eq!(Language::preferred(asked), given, "{asked}");
        }
    }
}
