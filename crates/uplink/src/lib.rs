//! Bytes to reads: transports, codecs and device profiles.
//!
//! In: what meters, network servers and platforms send. Out: envelopes, then register reads and
//! meter events; and the other way round, the same frames encoded for simulators and commands.
//! Never here: sockets, files, databases, the wall clock, whether a read is believed, money.

pub mod batch;
mod envelope;

pub use envelope::{
    ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, Network, PAYLOAD_BYTES_MAX, Radio,
    SOURCE_BYTES_MAX,
};
