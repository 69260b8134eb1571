//! The settings file: one section per room, unknown keys refused, every unit in its name.
//!
//! In: a TOML file and three variables. Out: one checked `Settings`, or what is wrong where.
//! Never here: defaults of a room; each room has its own beside its settings.

use anyhow::{Context, Result, bail};
use billrun::BillrunSettings;
use coap_gateway::CoapGatewaySettings;
use ingest::IngestSettings;
use serde::Deserialize;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use store_clickhouse::ClickhouseSettings;
use store_postgres::{MasterKey, PostgresSettings};
use uplink::BrokerAddress;
use web_console::ConsoleSettings;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Local time of the utility: minutes east of UTC. China: 480.
    pub(crate) utc_offset_minutes: i32,
    /// Where the meters of the registry come from.
    pub(crate) registry: RegistrySettings,
    /// Readings.
    pub(crate) clickhouse: ClickhouseSettings,
    /// Registry, bills.
    pub(crate) postgres: PostgresSettings,
    /// The CoAP role.
    pub(crate) coap_gateway: CoapGatewaySettings,
    /// The ingest role.
    pub(crate) ingest: IngestSettings,
    /// Bill runs.
    pub(crate) billrun: BillrunSettings,
    /// The console role.
    pub(crate) console: ConsoleSettings,
    /// Where each role shows its metrics.
    pub(crate) metrics: MetricsSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            utc_offset_minutes: 480,
            registry: RegistrySettings::default(),
            clickhouse: ClickhouseSettings::default(),
            postgres: PostgresSettings::default(),
            coap_gateway: CoapGatewaySettings::default(),
            ingest: IngestSettings::default(),
            billrun: BillrunSettings::default(),
            console: ConsoleSettings::default(),
            metrics: MetricsSettings::default(),
        }
    }
}

/// The registry as ingest sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistrySettings {
    /// File with the key that encrypts meter keys at rest: 64 hexadecimal digits.
    pub(crate) master_key_file: PathBuf,
    /// Name of that key, stored beside what it encrypts.
    pub(crate) master_key_id: String,
    /// How often ingest asks whether the registry changed.
    pub(crate) refresh_interval_s: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            master_key_file: PathBuf::from("master_key"),
            master_key_id: "k1".to_owned(),
            refresh_interval_s: 2,
        }
    }
}

/// Where each role answers `/metrics` and `/healthz`; the console answers them itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsSettings {
    /// Of the CoAP role; nowhere when missing.
    pub(crate) coap_gateway_listen: Option<SocketAddr>,
    /// Of the ingest role; nowhere when missing.
    pub(crate) ingest_listen: Option<SocketAddr>,
}

impl Settings {
    /// The settings in `file`, or the defaults; `CLICKHOUSE_URL`, `DATABASE_URL` and `MQTT_URL` go
    /// before both.
    ///
    /// # Errors
    /// Names the file, and in it the key, or the variable.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self> {
        let mut settings = match file {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("read the settings {}", path.display()))?;
                Self::parse(&text).with_context(|| format!("settings {}", path.display()))?
            }
            None => Self::default(),
        };
        if let Some(url) = variable("CLICKHOUSE_URL")? {
            set_clickhouse_url(&mut settings.clickhouse, &url).context("CLICKHOUSE_URL")?;
        }
        if let Some(url) = variable("DATABASE_URL")? {
            settings.postgres.url = url;
        }
        if let Some(url) = variable("MQTT_URL")? {
            let broker: BrokerAddress = url.parse().context("MQTT_URL")?;
            settings.coap_gateway.mqtt_url = broker.clone();
            settings.ingest.mqtt_url = broker;
        }
        settings.check()?;
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            // The error's own print shows the whole line, which may hold a password.
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or_default().matches('\n').count();
            let key = text.lines().nth(line).and_then(|line| line.split_once('='));
            let key = key.map_or(String::new(), |(key, _)| format!(", {}", key.trim()));
            anyhow::anyhow!("line {}{key}: {}", line + 1, error.message())
        })
    }

    /// What the rooms say of their settings.
    fn check(&self) -> Result<()> {
        if !(-1440..=1440).contains(&self.utc_offset_minutes) {
            bail!("utc_offset_minutes = {}: want -1440 to 1440", self.utc_offset_minutes);
        }
        if self.registry.refresh_interval_s == 0 {
            bail!("registry.refresh_interval_s must not be 0");
        }
        self.coap_gateway.check()?;
        self.ingest.check()?;
        Ok(())
    }

    /// The key that opens meter keys, from its file.
    pub(crate) fn master_key(&self) -> Result<MasterKey> {
        let path = &self.registry.master_key_file;
        let hex = fs::read_to_string(path)
            .with_context(|| format!("read registry.master_key_file {}", path.display()))?;
        MasterKey::from_hex(&self.registry.master_key_id, hex.trim())
            .with_context(|| format!("registry.master_key_file {}", path.display()))
    }
}

/// Takes `http://[user[:password]@]host[:port][/database]` apart, as such variables are written.
fn set_clickhouse_url(settings: &mut ClickhouseSettings, text: &str) -> Result<()> {
    let mut url = url::Url::parse(text).context("not a URL")?;
    if !url.username().is_empty() {
        settings.user = Some(url.username().to_owned());
        settings.password = url.password().map(str::to_owned);
    }
    let database = url.path().trim_matches('/').to_owned();
    if !database.is_empty() {
        settings.database = database;
    }
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        bail!("want http://[user[:password]@]host[:port][/database]");
    }
    url.set_path("");
    settings.url = url.as_str().trim_end_matches('/').to_owned();
    Ok(())
}

fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(error @ env::VarError::NotUnicode(_)) => Err(error).context(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_ship_load_and_are_the_defaults_spelt_out() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/tidemark.toml");
        let text = fs::read_to_string(shipped).unwrap();
        let shipped = Settings::parse(&text).unwrap();
        shipped.check().unwrap();
        // Addresses are those of compose.yaml; everything else is the default, spelt out.
        let mut expected = Settings::default();
        expected.registry.master_key_file = shipped.registry.master_key_file.clone();
        expected.postgres.url.clone_from(&shipped.postgres.url);
        expected.clickhouse.url.clone_from(&shipped.clickhouse.url);
        expected.coap_gateway.mqtt_url = shipped.coap_gateway.mqtt_url.clone();
        expected.coap_gateway.spool.dir.clone_from(&shipped.coap_gateway.spool.dir);
        expected.ingest.mqtt_url.clone_from(&shipped.ingest.mqtt_url);
        expected.ingest.spool.dir.clone_from(&shipped.ingest.spool.dir);
        expected.console.listen = shipped.console.listen;
        expected.metrics = shipped.metrics.clone();
        assert_eq!(format!("{shipped:#?}"), format!("{expected:#?}"));
    }

    #[test]
    fn a_clickhouse_url_may_name_user_and_database() {
        let mut settings = ClickhouseSettings::default();
        set_clickhouse_url(&mut settings, "http://me:hush@db:8123/water").unwrap();
        let ClickhouseSettings { url, database, user, password, .. } = settings;
        assert_eq!((url.as_str(), database.as_str()), ("http://db:8123", "water"));
        assert_eq!((user.as_deref(), password.as_deref()), (Some("me"), Some("hush")));
        let mut settings = ClickhouseSettings::default();
        set_clickhouse_url(&mut settings, "http://127.0.0.1:8123").unwrap();
        assert_eq!(settings, ClickhouseSettings::default());
        assert!(set_clickhouse_url(&mut settings, "db:8123").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_without_its_password() {
        let text = "[ingest]\nworker = 'w'\nmqtt_url = 'mqtts://me:geheim@broker'\n";
        let error = format!("{:#}", Settings::parse(text).unwrap_err());
        assert_eq!(
            error,
            "line 3, mqtt_url: not a broker address: no mqtt:// before it; want \
             mqtt://[user[:password]@]host[:port], without TLS"
        );
        let error = Settings::parse("[clickhouse]\npassword = 'geheim' 7").unwrap_err();
        assert!(!format!("{error:#}").contains("geheim"), "{error:#}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for (text, named) in [
            ("linger = 5", "linger"),
            ("[ingest]\nlinger = 5", "linger"),
            ("[coap_gateway]\nlisten = 5683", "listen"),
            ("utc_offset_minutes = 'east'", "utc_offset_minutes"),
        ] {
            let error = format!("{:#}", Settings::parse(text).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
