//! What rating is asked: the determinants of one service period and the state of its windows.
//!
//! In: quantities from `determinants`, the tier ledger, the registry. Out: one value to rate.
//! Never here: prices, where the numbers came from.

use chrono::NaiveDate;
use model::{BillingDeterminant, DeterminantKind, Period, Quantity};

/// The determinants of one service period, at most one quantity per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Determinants {
    by_kind: [Option<Quantity>; DeterminantKind::ALL.len()],
}

impl Determinants {
    /// None given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The quantity of `kind`, if it is given.
    #[must_use]
    pub fn get(&self, kind: DeterminantKind) -> Option<Quantity> {
        self.by_kind.get(kind as usize).copied().flatten()
    }

    /// Gives `kind`; a second value replaces the first.
    pub fn set(&mut self, kind: DeterminantKind, quantity: Quantity) {
        if let Some(place) = self.by_kind.get_mut(kind as usize) {
            *place = Some(quantity);
        }
    }

    /// The same with `kind` given.
    #[must_use]
    pub fn with(mut self, kind: DeterminantKind, quantity: Quantity) -> Self {
        self.set(kind, quantity);
        self
    }

    /// What is given, in the order of [`DeterminantKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (DeterminantKind, Quantity)> + '_ {
        DeterminantKind::ALL
            .iter()
            .zip(&self.by_kind)
            .filter_map(|(kind, quantity)| quantity.map(|quantity| (*kind, quantity)))
    }
}

impl FromIterator<(DeterminantKind, Quantity)> for Determinants {
    fn from_iter<I: IntoIterator<Item = (DeterminantKind, Quantity)>>(given: I) -> Self {
        given.into_iter().fold(Self::new(), |all, (kind, quantity)| all.with(kind, quantity))
    }
}

impl<'a> FromIterator<&'a BillingDeterminant> for Determinants {
    fn from_iter<I: IntoIterator<Item = &'a BillingDeterminant>>(given: I) -> Self {
        given.into_iter().map(|determinant| (determinant.kind, determinant.quantity)).collect()
    }
}

/// What an item has already used of one window before the service period: a row (or the sum of
/// rows) of the tier ledger, and what rating asks to append to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowUse {
    /// The item's id in the schedule: `water`.
    pub item: std::sync::Arc<str>,
    /// The window the blocks count in; its first day identifies it in the ledger.
    pub window: Period,
    /// How much of it.
    pub quantity: Quantity,
}

/// Everything one rating needs besides the rate version (R004, R014, R015).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatingInput {
    /// The days of service that are rated.
    pub service: Period,
    /// The numbers the schedule asks for.
    pub determinants: Determinants,
    /// What is already used of the windows this period touches. A window that is not listed is
    /// unused; entries of other items and other windows are passed over.
    pub window_used: Vec<WindowUse>,
    /// Where windows counted "from the account" begin: the book's or account's start day.
    pub window_start: Option<NaiveDate>,
    /// The classes of the customer (`household`, `low_income`, `shared_meter`) that a schedule's
    /// cases ask for.
    pub classes: Vec<String>,
}

impl RatingInput {
    /// A period with its determinants; nothing used yet, no classes.
    #[must_use]
    pub const fn new(service: Period, determinants: Determinants) -> Self {
        Self {
            service,
            determinants,
            window_used: Vec::new(),
            window_start: None,
            classes: Vec::new(),
        }
    }
}
