//! The registry as ingest needs it: every meter with its devices, keys and places.
//!
//! In: rows, the master key. Out: `model::RegistrySnapshot`, and a number that tells when it is
//! out of date. Never here: customers, money.
//!
//! Four streams ordered by meter are merged in one read-only transaction: memory holds the
//! snapshot itself and one row of each stream, so a million meters are no matter.

use crate::{
    DatabaseError, MasterKey, Store,
    keys::{Purpose, UnsealError},
    store::doing,
};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use model::{
    DeviceKeyParseError, EmptyPeriod, IdOutOfRange, InstalledMeter, InstantPeriod, LorawanSession,
    MeterEntry, MeterId, RegistrySnapshot, SecretKey, ServicePointId, SnapshotError, UnknownUnit,
};
use rust_decimal::Decimal;
use sqlx::{Row, postgres::PgRow};

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ReadSnapshotError {
    /// Postgres refused or is away.
    #[error("read the registry")]
    Database(#[from] DatabaseError),
    /// A device key does not open.
    #[error("open the {purpose} key of meter {meter}")]
    Key {
        /// Which meter, by its number.
        meter: String,
        /// Which of its keys.
        purpose: String,
        /// Why not.
        source: UnsealError,
    },
    /// A row holds something this program does not know.
    #[error("read the registry: meter {meter}")]
    Row {
        /// Which meter, by its number.
        meter: String,
        /// What is in the way.
        source: RowError,
    },
    /// Two meters claim one device.
    #[error("read the registry")]
    Contradiction(#[from] SnapshotError),
}

/// A stored value that does not fit the trade's types.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// An id outside `0..=u32::MAX`.
    #[error(transparent)]
    Id(#[from] IdOutOfRange),
    /// A unit nobody knows.
    #[error(transparent)]
    Unit(#[from] UnknownUnit),
    /// A commodity nobody knows.
    #[error(transparent)]
    Commodity(#[from] model::UnknownCommodity),
    /// A name nobody knows.
    #[error("{column} is {value:?}")]
    Name {
        /// Which column.
        column: &'static str,
        /// What it says.
        value: String,
    },
    /// A device name nobody can read.
    #[error(transparent)]
    Device(#[from] DeviceKeyParseError),
    /// A period that does not end after it starts.
    #[error(transparent)]
    Period(#[from] EmptyPeriod),
    /// A small number outside its range.
    #[error("{column} is out of range")]
    Range {
        /// Which column.
        column: &'static str,
    },
    /// A column that cannot be decoded.
    #[error("a column cannot be decoded")]
    Column(#[from] sqlx::Error),
}

struct Building {
    number: String,
    dev_addr: Option<u32>,
    nwk_s_key: Option<SecretKey>,
    app_s_key: Option<SecretKey>,
    entry: MeterEntry,
}

impl Store {
    /// How often the registry has changed, as far as ingest is concerned. Cheap: one row. When
    /// the number differs from the one read before the last [`Store::snapshot`], take a new one.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn snapshot_version(&self) -> Result<u64, DatabaseError> {
        let version: i64 = sqlx::query_scalar("SELECT version FROM registry_version")
            .fetch_one(&self.pool)
            .await
            .map_err(doing("read the registry version"))?;
        Ok(u64::try_from(version).unwrap_or_default())
    }

    /// Every meter with its devices, opened keys and places, as of one instant.
    ///
    /// # Errors
    /// When Postgres is away, a key does not open under `master`, or a row makes no sense; the
    /// error names the meter.
    pub async fn snapshot(
        &self,
        master: &MasterKey,
    ) -> Result<RegistrySnapshot, ReadSnapshotError> {
        let mut tx = self.pool.begin().await.map_err(doing("begin reading the registry"))?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .execute(&mut *tx)
            .await
            .map_err(doing("begin reading the registry"))?;
        let mut meters: Vec<Building> = Vec::new();
        {
            let mut rows = sqlx::query(
                "SELECT t.id, t.number, t.lorawan_dev_addr, m.profile, m.register_digits,
                     m.register_exponent, m.register_unit, m.hourly_max, m.pulse_weight
                 FROM meters t JOIN meter_models m ON m.id = t.model_id
                 ORDER BY t.id",
            )
            .fetch(&mut *tx);
            while let Some(row) = rows.try_next().await.map_err(doing("read the meters"))? {
                let number: String = row.try_get("number").map_err(doing("read the meters"))?;
                meters.push(meter(&row, &number).map_err(|source| row_error(&number, source))?);
            }
        }
        {
            let mut rows =
                sqlx::query("SELECT meter_id, device FROM meter_devices ORDER BY meter_id, device")
                    .fetch(&mut *tx);
            let mut cursor = Cursor::over(&mut meters);
            while let Some(row) = rows.try_next().await.map_err(doing("read the devices"))? {
                let Some(building) = cursor.of(&row)? else { continue };
                let device: String = row.try_get("device").map_err(doing("read the devices"))?;
                let device = device
                    .parse()
                    .map_err(|source: DeviceKeyParseError| row_error(&building.number, source))?;
                building.entry.devices.push(device);
            }
        }
        {
            let mut rows = sqlx::query(
                "SELECT meter_id, purpose, master_key_id, nonce, sealed
                 FROM device_keys ORDER BY meter_id, purpose",
            )
            .fetch(&mut *tx);
            let mut cursor = Cursor::over(&mut meters);
            while let Some(row) = rows.try_next().await.map_err(doing("read the device keys"))? {
                let Some(building) = cursor.of(&row)? else { continue };
                key(&row, building, master)?;
            }
        }
        {
            let mut rows = sqlx::query(
                "SELECT meter_id, service_point_id, from_at, until_at
                 FROM installed_meters ORDER BY meter_id, from_at",
            )
            .fetch(&mut *tx);
            let mut cursor = Cursor::over(&mut meters);
            while let Some(row) = rows.try_next().await.map_err(doing("read the places"))? {
                let Some(building) = cursor.of(&row)? else { continue };
                let place = place(&row).map_err(|source| row_error(&building.number, source))?;
                building.entry.installed.push(place);
            }
        }
        tx.commit().await.map_err(doing("end reading the registry"))?;
        Ok(RegistrySnapshot::new(meters.into_iter().map(Building::finish).collect())?)
    }
}

impl Building {
    fn finish(self) -> MeterEntry {
        let lorawan = match (self.dev_addr, self.nwk_s_key, self.app_s_key) {
            (Some(dev_addr), Some(nwk_s_key), Some(app_s_key)) => {
                Some(LorawanSession { dev_addr, nwk_s_key, app_s_key })
            }
            _ => None,
        };
        MeterEntry { lorawan, ..self.entry }
    }
}

/// Walks the meters along with a stream ordered by meter.
struct Cursor<'a> {
    rest: std::iter::Peekable<std::slice::IterMut<'a, Building>>,
}

impl<'a> Cursor<'a> {
    fn over(meters: &'a mut [Building]) -> Self {
        Self { rest: meters.iter_mut().peekable() }
    }

    /// The meter a row belongs to.
    fn of(&mut self, row: &PgRow) -> Result<Option<&mut Building>, DatabaseError> {
        let id: i64 = row.try_get("meter_id").map_err(doing("read a meter id"))?;
        while self.rest.next_if(|building| i64::from(building.entry.meter) < id).is_some() {}
        Ok(self
            .rest
            .peek_mut()
            .filter(|building| i64::from(building.entry.meter) == id)
            .map(|building| &mut **building))
    }
}

fn row_error(meter: &str, source: impl Into<RowError>) -> ReadSnapshotError {
    ReadSnapshotError::Row { meter: meter.to_owned(), source: source.into() }
}

fn meter(row: &PgRow, number: &str) -> Result<Building, RowError> {
    let small = |column: &'static str| -> Result<i16, RowError> { Ok(row.try_get(column)?) };
    let unit: &str = row.try_get("register_unit")?;
    let dev_addr: Option<i64> = row.try_get("lorawan_dev_addr")?;
    let dev_addr = dev_addr
        .map(u32::try_from)
        .transpose()
        .map_err(|_| RowError::Range { column: "lorawan_dev_addr" })?;
    let hourly_max: Decimal = row.try_get("hourly_max")?;
    let entry = MeterEntry {
        meter: MeterId::try_from(row.try_get::<i64, _>("id")?)?,
        devices: Vec::new(),
        profile: row.try_get("profile")?,
        key: None,
        lorawan: None,
        register_digits: u8::try_from(small("register_digits")?)
            .map_err(|_| RowError::Range { column: "register_digits" })?,
        register_exponent: i8::try_from(small("register_exponent")?)
            .map_err(|_| RowError::Range { column: "register_exponent" })?,
        register_unit: unit.parse()?,
        hourly_max,
        pulse_weight: row.try_get("pulse_weight")?,
        installed: Vec::new(),
    };
    Ok(Building { number: number.to_owned(), dev_addr, nwk_s_key: None, app_s_key: None, entry })
}

fn key(row: &PgRow, building: &mut Building, master: &MasterKey) -> Result<(), ReadSnapshotError> {
    let read = || doing("read the device keys");
    let name: &str = row.try_get("purpose").map_err(read())?;
    let Some(purpose) = Purpose::by_name(name) else { return Ok(()) };
    let under: &str = row.try_get("master_key_id").map_err(read())?;
    let nonce: &[u8] = row.try_get("nonce").map_err(read())?;
    let sealed: &[u8] = row.try_get("sealed").map_err(read())?;
    let key = master.unseal(&building.number, purpose, under, nonce, sealed).map_err(|source| {
        ReadSnapshotError::Key { meter: building.number.clone(), purpose: name.to_owned(), source }
    })?;
    match purpose {
        Purpose::Uplink => building.entry.key = Some(key),
        Purpose::NwkSKey => building.nwk_s_key = Some(key),
        Purpose::AppSKey => building.app_s_key = Some(key),
    }
    Ok(())
}

fn place(row: &PgRow) -> Result<InstalledMeter, RowError> {
    let from: DateTime<Utc> = row.try_get("from_at")?;
    Ok(InstalledMeter {
        service_point: ServicePointId::try_from(row.try_get::<i64, _>("service_point_id")?)?,
        during: InstantPeriod::new(from, row.try_get("until_at")?)?,
    })
}
