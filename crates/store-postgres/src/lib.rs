//! The registry and the money side in Postgres.
//!
//! In: registry files, bills worked out elsewhere. Out: registry snapshots, what a cycle has to
//! bill, bills with their working, live counts. The schema keeps the promises (`migrations/`).
//! Never here: reads (see `store-clickhouse`), prices and rounding (see `rating`), pages.
//!
//! The way of a bill run: [`Store::cycle`], [`Store::rate_versions`] and [`rates_hash`],
//! [`Store::start_run`], then page by page [`Store::billable`], [`Store::tier_usage`],
//! [`Store::write_bills`]; at the end [`Store::finish_run`], [`Store::cycle_totals`],
//! [`Store::issue_bills`].

mod copy;
mod cycles;
mod import;
mod issue;
mod keys;
mod read_bills;
mod registry_check;
mod registry_file;
mod report;
mod runs;
mod settings;
mod snapshot;
mod store;
mod write_bills;

pub use cycles::{
    BillableAccount, BillableAgreement, BillableHousehold, BillableMeter, Cycle, CycleError,
    RateVersion, rates_hash,
};
pub use import::{ImportError, ImportReport, SectionReport, rate_version_hash};
pub use keys::{MasterKey, MasterKeyError, UnsealError};
pub use read_bills::{BillSummary, ReadBillError, StoredBill};
pub use registry_check::{EntryError, EntryProblem, Section};
pub use registry_file::{
    AccountEntry, AgreementEntry, BookEntry, CustomerEntry, CycleEntry, FILE_BYTES_MAX, HexAddress,
    HexKey, HouseholdEntry, InstalledMeterEntry, LorawanEntry, MeterModelEntry, NotHex,
    OrganisationEntry, PersonsEntry, RegisteredMeter, RegistryFile, RegistryFileError,
    ScheduleEntry, ScheduleVersionEntry, ServicePointEntry,
};
pub use report::{CycleTotals, HeldAccount, ItemSum, LiveCounts};
pub use runs::{FinishRunError, Run, RunBasis, RunGuard, RunId, RunSummary, StartedRun};
pub use settings::PostgresSettings;
pub use snapshot::{ReadSnapshotError, RowError};
pub use store::{ConnectError, DatabaseError, MigrationError, Store};
pub use write_bills::{BillChunk, WriteBillsError, WriteReport};
