//! What is known of each register's latest read: a bounded copy of what the store would answer.
//!
//! In: the store's latest accepted reads, and every read settled since. Out: the neighbour a read
//! is judged against, and whether a read may already be stored.
//! Never here: the truth; it may be thrown away at any time and asked for again.

use chrono::{DateTime, Utc};
use model::{MeterId, Register, RegisterRead};
use std::collections::HashMap;

/// What is known of one register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latest {
    register: Register,
    /// The latest accepted read.
    accepted: Option<RegisterRead>,
    /// The latest instant a read of any verdict is known to be stored for.
    newest: Option<DateTime<Utc>>,
}

impl Latest {
    /// The latest accepted read.
    pub(crate) fn accepted(&self) -> Option<&RegisterRead> {
        self.accepted.as_ref()
    }

    /// Whether a read at `at` may already be stored, as far as is known here: it is not later than
    /// the latest one.
    pub(crate) fn may_be_stored(&self, at: DateTime<Utc>) -> bool {
        self.newest.is_some_and(|newest| at <= newest)
    }

    /// Remembers a read that is stored, and whether it was accepted.
    pub(crate) fn note(&mut self, read: &RegisterRead, accepted: bool) {
        self.newest = self.newest.max(Some(read.measured_at));
        if accepted && self.accepted.is_none_or(|known| known.measured_at < read.measured_at) {
            self.accepted = Some(*read);
        }
    }
}

/// The latest reads of the meters heard lately.
#[derive(Debug, Default)]
pub struct Registers {
    meters: HashMap<MeterId, Vec<Latest>>,
    registers: usize,
}

impl Registers {
    /// Whether the meter's latest reads have been asked for.
    #[must_use]
    pub fn knows(&self, meter: MeterId) -> bool {
        self.meters.contains_key(&meter)
    }

    /// How many registers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registers
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.registers == 0
    }

    /// Forgets everything when more than `registers_max` are kept.
    pub fn bound(&mut self, registers_max: usize) {
        if self.registers > registers_max || self.meters.len() > registers_max {
            *self = Self::default();
        }
    }

    /// Takes in the store's answer for `meters`: their latest accepted reads, all of them.
    pub fn learn(
        &mut self,
        meters: &[MeterId],
        latest: impl IntoIterator<Item = (MeterId, RegisterRead)>,
    ) {
        for meter in meters {
            self.meters.entry(*meter).or_default();
        }
        for (meter, read) in latest {
            self.of(meter, read.register).note(&read, true);
        }
    }

    /// Whether a read at `at` may already be stored, as far as is known here.
    #[must_use]
    pub fn may_be_stored(&self, meter: MeterId, register: Register, at: DateTime<Utc>) -> bool {
        let known = self.meters.get(&meter).map_or(&[][..], Vec::as_slice);
        known.iter().any(|latest| latest.register == register && latest.may_be_stored(at))
    }

    /// What is known of a register, to be looked at and added to.
    pub(crate) fn of(&mut self, meter: MeterId, register: Register) -> &mut Latest {
        let known = self.meters.entry(meter).or_default();
        let at = known.iter().position(|latest| latest.register == register);
        let at = at.unwrap_or_else(|| {
            self.registers = self.registers.saturating_add(1);
            known.push(Latest { register, accepted: None, newest: None });
            known.len().saturating_sub(1)
        });
        #[expect(clippy::indexing_slicing, reason = "a position just found or just pushed")]
        &mut known[at]
    }
}
