//! The gateway as meters, the broker and the kernel see it.
//!
//! In: real sockets, a real broker (`TIDEMARK_TEST_MQTT_URL`), the real `coap-client-notls`.
//! Out: what was answered is in the spool and reaches ingest. Never here: a real ingest.
#![cfg(test)]

mod coap;
mod kill;
mod mqtt;
mod support;
