//! Settings of ingest.
//!
//! In: the `[ingest]` section. Out: a value with defaults that work.
//! Never here: where the stores are (their own sections).

use serde::Deserialize;
use spool::SpoolSettings;
use std::{path::PathBuf, time::Duration};
use uplink::BrokerAddress;

/// How one ingest worker works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestSettings {
    /// Name of this worker: letters, digits, `-`, `_`, `.`. It names the MQTT sessions and the
    /// stream of uplinks others publish, so it must be unique and stay the same over restarts.
    pub worker: String,
    /// The broker: `mqtt://[user[:password]@]host[:port]`.
    pub mqtt_url: BrokerAddress,
    /// The gateways whose batches this worker takes, as topic levels; `+` is every gateway. Two
    /// workers must never take the same gateway.
    pub gateways: Vec<String>,
    /// Topic filters of uplinks others publish; empty = none. Two workers must not share one.
    pub subscriptions: Vec<String>,
    /// Where uplinks others publish are kept until they are stored.
    pub spool: SpoolSettings,
    /// The most uplinks of one load.
    pub batch_uplinks_max: usize,
    /// The most bytes of uplinks of one load; also what is held in memory when the store is away.
    pub batch_bytes_max: usize,
    /// How long a load waits for more uplinks after its first one.
    pub linger_ms: u64,
    /// How often gateways are told how far their stream is stored, also when nothing changes.
    pub watermark_interval_ms: u64,
    /// The largest MQTT packet taken. Must be more than the broker lets through, or a larger one
    /// would break the connection for ever.
    pub mqtt_packet_bytes_max: usize,
    /// Copies of an uplink (one frame heard by two gateways, a redelivered event) are recognised
    /// at most this many uplinks of a stream back …
    pub dedupe_window_uplinks: u32,
    /// … and at most this long back. Later ones are found in the store, by meter, register and
    /// instant.
    pub dedupe_window_s: u32,
    /// How many registers' latest reads are kept in memory; beyond it all are asked for anew.
    pub registers_known_max: usize,
    /// The first pause after the store refused a load; doubled each time.
    pub store_retry_first_ms: u64,
    /// The longest pause.
    pub store_retry_last_ms: u64,
    /// How long a shutdown may go on storing what has been taken in.
    pub drain_timeout_s: u64,
    /// What a read is worth.
    pub rules: vee::Rules,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            worker: "ingest-1".to_owned(),
            mqtt_url: BrokerAddress::default(),
            gateways: vec!["+".to_owned()],
            subscriptions: uplink::transport::SUBSCRIPTIONS
                .iter()
                .map(|filter| (*filter).to_owned())
                .collect(),
            spool: SpoolSettings { dir: PathBuf::from("ingest-spool"), ..SpoolSettings::default() },
            batch_uplinks_max: 20_000,
            batch_bytes_max: 16 << 20,
            linger_ms: 200,
            watermark_interval_ms: 500,
            mqtt_packet_bytes_max: 16 << 20,
            dedupe_window_uplinks: 16_384,
            dedupe_window_s: 900,
            registers_known_max: 1_000_000,
            store_retry_first_ms: 100,
            store_retry_last_ms: 10_000,
            drain_timeout_s: 10,
            rules: vee::Rules::default(),
        }
    }
}

/// Settings that contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A worker's or gateway's name that cannot stand in a topic.
    #[error("ingest.{key} {name:?}: want 1 to 64 letters, digits, '-', '_' or '.'")]
    Name {
        /// Which setting.
        key: &'static str,
        /// What it says.
        name: String,
    },
    /// A number that would stop all work.
    #[error("ingest.{key} must not be 0")]
    Zero {
        /// Which setting.
        key: &'static str,
    },
}

impl IngestSettings {
    /// Refuses, by name, what could never work.
    ///
    /// # Errors
    /// The first setting that could not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let named = |key, name: &str| {
            let fits = uplink::batch::is_gateway_name(name);
            if fits { Ok(()) } else { Err(SettingsError::Name { key, name: name.to_owned() }) }
        };
        named("worker", &self.worker)?;
        for gateway in self.gateways.iter().filter(|gateway| *gateway != "+") {
            named("gateways", gateway)?;
        }
        for (key, zero) in [
            ("batch_uplinks_max", self.batch_uplinks_max == 0),
            ("batch_bytes_max", self.batch_bytes_max == 0),
            ("watermark_interval_ms", self.watermark_interval_ms == 0),
            ("mqtt_packet_bytes_max", self.mqtt_packet_bytes_max == 0),
            ("registers_known_max", self.registers_known_max == 0),
            ("store_retry_first_ms", self.store_retry_first_ms == 0),
        ] {
            if zero {
                return Err(SettingsError::Zero { key });
            }
        }
        Ok(())
    }

    /// The stream of uplinks others publish. A gateway's stream has the gateway's name, which
    /// cannot contain a slash.
    #[must_use]
    pub fn own_stream(&self) -> String {
        format!("ingest/{}", self.worker)
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        assert_eq!(IngestSettings::default().check(), Ok(()));
        let settings = IngestSettings { worker: "a/b".to_owned(), ..Default::default() };
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with("ingest.worker \"a/b\""), "{error}");
        let settings = IngestSettings { batch_uplinks_max: 0, ..Default::default() };
        let error = settings.check().unwrap_err().to_string();
        assert_eq!(error, "ingest.batch_uplinks_max must not be 0");
        let settings = IngestSettings { gateways: vec!["#".to_owned()], ..Default::default() };
        assert!(settings.check().is_err());
    }
}
