//! The gateway's settings, checked before anything starts.
//!
//! In: one table of the settings file. Out: values that hold together, or which one does not.
//! Never here: defaults of other rooms.

use serde::Deserialize;
use spool::SpoolSettings;
use std::{net::SocketAddr, path::PathBuf};
use uplink::{BrokerAddress, PAYLOAD_BYTES_MAX, batch};

/// Settings of one CoAP gateway.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoapGatewaySettings {
    /// The gateway's name: it names the stream in topics and in the store, and no two running
    /// gateways may share it. 1 to 64 letters, digits, `-`, `_`, `.`.
    pub gateway: String,
    /// Where to listen, UDP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where uplinks wait until they are stored.
    pub spool: SpoolSettings,
    /// The broker: `mqtt://[user[:password]@]host[:port]`.
    pub mqtt_url: BrokerAddress,
    /// The longest payload taken; longer ones are answered 4.13.
    pub max_payload_bytes: usize,
    /// The most datagrams made durable together.
    pub group_max: usize,
    /// The most peers whose last messages are remembered.
    pub peers_max: usize,
    /// What the kernel may hold for us while the disk is busy.
    pub receive_buffer_bytes: usize,
    /// What a meter is told to wait when the spool cannot take its uplink (Max-Age of 5.03).
    pub busy_retry_s: u32,
    /// The size batches are filled to.
    pub batch_bytes: usize,
    /// How long a batch waits for more uplinks.
    pub linger_ms: u64,
    /// The most batches on their way beyond the watermark.
    pub window_batches: usize,
    /// Without progress of the watermark for this long, sending starts over from it.
    pub stall_ms: u64,
}

impl Default for CoapGatewaySettings {
    fn default() -> Self {
        Self {
            gateway: "gateway-1".to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 5683)),
            spool: SpoolSettings { dir: PathBuf::from("spool/gateway-1"), ..Default::default() },
            mqtt_url: BrokerAddress::default(),
            max_payload_bytes: 1024,
            group_max: 1024,
            peers_max: 100_000,
            receive_buffer_bytes: 4 << 20,
            busy_retry_s: 30,
            batch_bytes: 16 << 10,
            linger_ms: 20,
            window_batches: 256,
            stall_ms: 1500,
        }
    }
}

/// A setting that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number outside its range.
    #[error("coap-gateway {name} = {value} is outside {min}..={max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// As set.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// The gateway's name cannot stand in a topic.
    #[error("coap-gateway gateway = {0:?}: want 1 to 64 letters, digits, '-', '_', '.'")]
    Gateway(String),
}

impl CoapGatewaySettings {
    /// Whether the settings hold together.
    ///
    /// # Errors
    /// Names the first setting that does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !batch::is_gateway_name(&self.gateway) {
            return Err(SettingsError::Gateway(self.gateway.clone()));
        }
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        // A batch may pass its size by one record, and must still fit one publish.
        let batch_max = wide(batch::BATCH_BYTES_MAX / 2);
        for (name, value, min, max) in [
            ("max_payload_bytes", wide(self.max_payload_bytes), 16, wide(PAYLOAD_BYTES_MAX)),
            ("group_max", wide(self.group_max), 1, 65_536),
            ("peers_max", wide(self.peers_max), 2, 100_000_000),
            ("batch_bytes", wide(self.batch_bytes), 512, batch_max),
            ("linger_ms", self.linger_ms, 0, 10_000),
            ("window_batches", wide(self.window_batches), 1, 10_000),
            ("stall_ms", self.stall_ms, 50, 600_000),
        ] {
            if !(min..=max).contains(&value) {
                return Err(SettingsError::Range { name, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_hold_is_named() {
        let good = CoapGatewaySettings::default();
        assert_eq!(good.check(), Ok(()));
        let error = CoapGatewaySettings { stall_ms: 1, ..good.clone() }.check().unwrap_err();
        assert_eq!(error.to_string(), "coap-gateway stall_ms = 1 is outside 50..=600000");
        let error = CoapGatewaySettings { gateway: "a/b".to_owned(), ..good }.check().unwrap_err();
        assert!(error.to_string().contains("\"a/b\""), "{error}");
    }
}
