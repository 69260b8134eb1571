//! Codecs: payload bytes to reads, events and facts, and back.
//!
//! In: one payload in clear. Out: what it says. Each codec is tables of fields and one walker.
//! Never here: transports, keys other than the native seal's, registry look-ups.

pub mod cjt188;
pub mod mbus;
pub mod native;
