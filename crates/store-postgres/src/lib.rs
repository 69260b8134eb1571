//! The registry and the money side in Postgres.
//!
//! In: registry files, bills worked out elsewhere. Out: registry snapshots, what a cycle has to
//! bill, bills with their working, live counts. The schema keeps the promises (`migrations/`).
//! Never here: reads (see `store-clickhouse`), prices and rounding (see `rating`), pages.

mod import;
mod keys;
mod registry_check;
mod registry_file;
mod settings;
mod snapshot;
mod store;

pub use import::{ImportError, ImportReport, SectionReport, rate_version_hash};
pub use keys::{MasterKey, MasterKeyError, UnsealError};
pub use registry_check::{EntryError, EntryProblem, Section};
pub use registry_file::{
    AccountEntry, AgreementEntry, BookEntry, CustomerEntry, CycleEntry, FILE_BYTES_MAX, HexAddress,
    HexKey, HouseholdEntry, InstalledMeterEntry, LorawanEntry, MeterModelEntry, NotHex,
    OrganisationEntry, PersonsEntry, RegisteredMeter, RegistryFile, RegistryFileError,
    ScheduleEntry, ScheduleVersionEntry, ServicePointEntry,
};
pub use settings::PostgresSettings;
pub use snapshot::{ReadSnapshotError, RowError};
pub use store::{ConnectError, DatabaseError, MigrationError, Store};
