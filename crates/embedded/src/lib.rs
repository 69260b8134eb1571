//! Private servers for one machine: ClickHouse, Postgres, an MQTT broker.
//!
//! In: a data directory and an address or port. Out: a server at an address, as the real thing
//! would be; stopped when we stop, even by SIGKILL.
//! Never here: anything the product knows of meters or money. The only crate with unsafe code
//! (`clickhouse/ffi.rs`).
//!
//! [`clickhouse::serve`] serves within this process, one engine per process; [`postgres::start`]
//! and [`broker::start`] run Debian's programs as children.

pub mod broker;
pub mod clickhouse;
mod ports;
pub mod postgres;
mod process;
mod random;
mod user;

pub use process::{Running, StartError};
