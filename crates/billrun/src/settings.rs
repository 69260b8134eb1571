//! Settings of bill runs.
//!
//! In: the `[billrun]` section. Out: checked values with defaults that work.
//! Never here: which cycle to bill.

use serde::Deserialize;

/// How bills are run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BillrunSettings {
    /// How far a read may lie from the boundary it stands for, in hours (R039).
    pub read_tolerance_h: u16,
    /// Accounts read, rated and written together, in one transaction.
    pub accounts_per_chunk: u32,
    /// Chunks in the works at once: one is written while the next ones are read and rated.
    pub chunks_ahead: u8,
}

impl Default for BillrunSettings {
    fn default() -> Self {
        Self { read_tolerance_h: 24, accounts_per_chunk: 2_000, chunks_ahead: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        assert_eq!(toml::from_str::<BillrunSettings>("").unwrap(), BillrunSettings::default());
        assert!(toml::from_str::<BillrunSettings>("tolerance = 1").is_err());
    }
}
