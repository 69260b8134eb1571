//! Ingest: from messages on the broker to stored reads, without losing or repeating any.
//!
//! In: batches of our gateways, uplinks other systems publish, the registry snapshot. Out: reads,
//! events, raw uplinks and dead letters in the store; watermarks for gateways; acks.
//! Never here: Postgres, money, decoding of frames (see `uplink`), rules (see `vee`).
//!
//! # Invariants
//! - Every uplink ends exactly once, as stored, duplicate or rejected; the ledger of the store has
//!   the counts of each batch, written last.
//! - A gateway is told that something is stored only when it is; our own PUBACK to others goes out
//!   only when their uplink is in our spool.
//! - Nothing remembered in memory decides about an ending: keys are looked up in the store where
//!   they may be stored already. A kill at any moment gives the same books.
//!
//! Read [`pipeline`] first: it is the list of steps.

mod books;
mod error;
mod mqtt;
mod open;
pub mod pipeline;
mod platform_event;
mod receive;
mod record;
mod registers;
mod replay;
mod run;
mod settings;
mod settle;
mod stream;
mod watermarks;
mod window;
mod worker;

pub use books::{Books, Picture};
pub use error::IngestError;
pub use open::{Finding, Memory, Opened, Readable, Refusal};
pub use platform_event::{PlatformEvent, PlatformEventError, platform_events};
pub use record::{BODY_BYTES_MAX, ForeignMessage, Record};
pub use registers::Registers;
pub use replay::{ReplayError, Replayed, replay_dead_letters};
pub use run::{Summary, run, run_with_books};
pub use settings::{IngestSettings, SettingsError};
pub use settle::{Ending, Provenance, Settled};
pub use stream::{Offered, Stream};
pub use window::{Likeness, Reach, Window};
