//! Commodities: what a utility delivers.
//!
//! In: names. Out: one of five. Never here: units (see `quantity`), prices.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What is delivered at a service point and priced by a rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commodity {
    /// Drinking water (and the sewage that follows it).
    Water,
    /// Electricity.
    Electricity,
    /// Gas.
    Gas,
    /// Heat.
    Heat,
    /// Cold.
    Cold,
}

impl Commodity {
    /// Every commodity there is.
    pub const ALL: &[Commodity] = &[
        Commodity::Water,
        Commodity::Electricity,
        Commodity::Gas,
        Commodity::Heat,
        Commodity::Cold,
    ];

    /// The name in files, tables and output: `water`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Water => "water",
            Self::Electricity => "electricity",
            Self::Gas => "gas",
            Self::Heat => "heat",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Commodity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A commodity name nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown commodity {0:?}")]
pub struct UnknownCommodity(pub String);

impl FromStr for Commodity {
    type Err = UnknownCommodity;
    fn from_str(text: &str) -> Result<Self, UnknownCommodity> {
        Commodity::ALL
            .iter()
            .copied()
            .find(|commodity| commodity.name() == text)
            .ok_or_else(|| UnknownCommodity(text.to_owned()))
    }
}
