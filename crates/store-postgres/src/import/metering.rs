//! Imports service points, meter models, meters with devices and keys, installed meters.
//!
//! In: sections of a registry file. Out: rows, keys sealed. Never here: plain keys in a statement.

use super::{CHUNK, Import, ImportError, UNKNOWN_SERVICE_POINT, column};
use crate::{
    MasterKey, RegistryFile,
    keys::Purpose,
    registry_check::{EntryProblem, Section, wrong},
    store::doing,
};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row;

impl Import<'_> {
    pub(super) async fn service_points(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.service_points.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let commodities = column(chunk, |e| e.commodity.name());
            let addresses = column(chunk, |e| e.address.as_str());
            let bind = |sql| sqlx::query(sql).bind(&codes).bind(&commodities).bind(&addresses);
            self.upsert(
                Section::ServicePoints,
                chunk.len(),
                Some(bind(
                    "UPDATE service_points t SET commodity = s.commodity, address = s.address
                     FROM unnest($1::text[], $2::text[], $3::text[]) AS s (code, commodity, address)
                     WHERE t.code = s.code
                       AND (t.commodity, t.address) <> (s.commodity, s.address)",
                )),
                bind(
                    "INSERT INTO service_points (code, commodity, address)
                     SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
                         AS s (code, commodity, address)
                     WHERE NOT EXISTS (SELECT FROM service_points t WHERE t.code = s.code)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn meter_models(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.meter_models.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let profiles = column(chunk, |e| e.profile.as_str());
            let digits = column(chunk, |e| i16::from(e.register_digits));
            let exponents = column(chunk, |e| i16::from(e.register_exponent));
            let units = column(chunk, |e| e.register_unit.symbol());
            let calibres = column(chunk, |e| e.calibre_mm.map(i32::from));
            let most = column(chunk, |e| e.hourly_max);
            let pulses: Vec<Option<Decimal>> = column(chunk, |e| e.pulse_weight);
            let bind = |sql| {
                sqlx::query(sql)
                    .bind(&codes)
                    .bind(&profiles)
                    .bind(&digits)
                    .bind(&exponents)
                    .bind(&units)
                    .bind(&calibres)
                    .bind(&most)
                    .bind(&pulses)
            };
            self.upsert(
                Section::MeterModels,
                chunk.len(),
                Some(bind(
                    "UPDATE meter_models t
                     SET profile = s.profile, register_digits = s.digits,
                         register_exponent = s.exponent, register_unit = s.unit,
                         calibre_mm = s.calibre, hourly_max = s.most, pulse_weight = s.pulse
                     FROM unnest($1::text[], $2::text[], $3::smallint[], $4::smallint[], $5::text[],
                         $6::int[], $7::numeric[], $8::numeric[])
                         AS s (code, profile, digits, exponent, unit, calibre, most, pulse)
                     WHERE t.code = s.code
                       AND (t.profile, t.register_digits, t.register_exponent, t.register_unit,
                            t.calibre_mm, t.hourly_max, t.pulse_weight)
                         IS DISTINCT FROM (s.profile, s.digits, s.exponent, s.unit, s.calibre,
                            s.most, s.pulse)",
                )),
                bind(
                    "INSERT INTO meter_models (code, profile, register_digits, register_exponent,
                         register_unit, calibre_mm, hourly_max, pulse_weight)
                     SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::smallint[],
                         $5::text[], $6::int[], $7::numeric[], $8::numeric[])
                         AS s (code, profile, digits, exponent, unit, calibre, most, pulse)
                     WHERE NOT EXISTS (SELECT FROM meter_models t WHERE t.code = s.code)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn meters(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.meters.chunks(CHUNK) {
            let numbers = column(chunk, |e| e.number.as_str());
            let models = column(chunk, |e| e.model.as_str());
            let addresses =
                column(chunk, |e| e.lorawan.as_ref().map(|session| i64::from(session.dev_addr.0)));
            self.known(
                Section::Meters,
                "meter model",
                "SELECT c FROM unnest($1::text[]) AS c
                 WHERE NOT EXISTS (SELECT FROM meter_models t WHERE t.code = c) LIMIT 1",
                &column(chunk, |e| (e.number.as_str(), e.model.as_str())),
            )
            .await?;
            let bind = |sql| sqlx::query(sql).bind(&numbers).bind(&models).bind(&addresses);
            self.upsert(
                Section::Meters,
                chunk.len(),
                Some(bind(
                    "UPDATE meters t SET model_id = m.id, lorawan_dev_addr = s.address
                     FROM unnest($1::text[], $2::text[], $3::bigint[]) AS s (number, model, address)
                     JOIN meter_models m ON m.code = s.model
                     WHERE t.number = s.number
                       AND (t.model_id, t.lorawan_dev_addr) IS DISTINCT FROM (m.id, s.address)",
                )),
                bind(
                    "INSERT INTO meters (number, model_id, lorawan_dev_addr)
                     SELECT s.number, m.id, s.address
                     FROM unnest($1::text[], $2::text[], $3::bigint[]) AS s (number, model, address)
                     JOIN meter_models m ON m.code = s.model
                     WHERE NOT EXISTS (SELECT FROM meters t WHERE t.number = s.number)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn devices(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        // First everything that leaves, so that a device may move from one meter to another.
        for chunk in file.meters.chunks(CHUNK) {
            let numbers = column(chunk, |e| e.number.as_str());
            let devices: Vec<(&str, String)> = pairs(chunk);
            let owners = column(&devices, |(meter, _)| *meter);
            let names = column(&devices, |(_, device)| device.as_str());
            let removed = sqlx::query(
                "DELETE FROM meter_devices d USING meters m
                 WHERE m.id = d.meter_id AND m.number = ANY($1)
                   AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS s (meter, device)
                       WHERE s.meter = m.number AND s.device = d.device)",
            )
            .bind(&numbers)
            .bind(&owners)
            .bind(&names);
            let removed = self.run("take away device names", removed).await?;
            self.report.section(Section::Devices).removed += removed;
        }
        for chunk in file.meters.chunks(CHUNK) {
            let devices: Vec<(&str, String)> = pairs(chunk);
            let owners = column(&devices, |(meter, _)| *meter);
            let names = column(&devices, |(_, device)| device.as_str());
            let bind = |sql| sqlx::query(sql).bind(&owners).bind(&names);
            let taken = bind(
                "SELECT d.device, m.number
                 FROM unnest($1::text[], $2::text[]) AS s (meter, device)
                 JOIN meter_devices d ON d.device = s.device
                 JOIN meters m ON m.id = d.meter_id
                 WHERE m.number <> s.meter LIMIT 1",
            )
            .try_map(|row: sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?)))
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(doing("look up device names"))?;
            if let Some((device, meter)) = taken {
                let device: String = device;
                let problem = EntryProblem::DeviceTaken { meter };
                return Err(wrong(Section::Devices, device, problem).into());
            }
            self.upsert(
                Section::Devices,
                devices.len(),
                None,
                bind(
                    "INSERT INTO meter_devices (device, meter_id)
                     SELECT s.device, m.id
                     FROM unnest($1::text[], $2::text[]) AS s (meter, device)
                     JOIN meters m ON m.number = s.meter
                     WHERE NOT EXISTS (SELECT FROM meter_devices d WHERE d.device = s.device)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn keys(
        &mut self,
        file: &RegistryFile,
        master: &MasterKey,
    ) -> Result<(), ImportError> {
        for chunk in file.meters.chunks(CHUNK) {
            let numbers = column(chunk, |e| e.number.as_str());
            let mut owners = Vec::new();
            let mut purposes = Vec::new();
            let mut nonces = Vec::new();
            let mut sealed = Vec::new();
            for entry in chunk {
                let session = entry.lorawan.as_ref();
                let given = [
                    (Purpose::Uplink, entry.key.as_ref()),
                    (Purpose::NwkSKey, session.map(|s| &s.nwk_s_key)),
                    (Purpose::AppSKey, session.map(|s| &s.app_s_key)),
                ];
                for (purpose, key) in given {
                    let Some(key) = key else { continue };
                    let row = master.seal(&entry.number, purpose, &key.0).ok_or_else(|| {
                        wrong(Section::Keys, &entry.number, EntryProblem::NotSealed)
                    })?;
                    owners.push(entry.number.as_str());
                    purposes.push(purpose.name());
                    nonces.push(row.nonce.to_vec());
                    sealed.push(row.bytes);
                }
            }
            let removed = sqlx::query(
                "DELETE FROM device_keys k USING meters m
                 WHERE m.id = k.meter_id AND m.number = ANY($1)
                   AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS s (meter, purpose)
                       WHERE s.meter = m.number AND s.purpose = k.purpose)",
            )
            .bind(&numbers)
            .bind(&owners)
            .bind(&purposes);
            let removed = self.run("take away device keys", removed).await?;
            self.report.section(Section::Keys).removed += removed;
            let bind = |sql| {
                sqlx::query(sql)
                    .bind(&owners)
                    .bind(&purposes)
                    .bind(&nonces)
                    .bind(&sealed)
                    .bind(master.id())
            };
            self.upsert(
                Section::Keys,
                owners.len(),
                Some(bind(
                    "UPDATE device_keys t
                     SET master_key_id = $5, nonce = s.nonce, sealed = s.sealed
                     FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
                         AS s (meter, purpose, nonce, sealed)
                     JOIN meters m ON m.number = s.meter
                     WHERE t.meter_id = m.id AND t.purpose = s.purpose
                       AND (t.master_key_id, t.nonce, t.sealed) <> ($5, s.nonce, s.sealed)",
                )),
                bind(
                    "INSERT INTO device_keys (meter_id, purpose, master_key_id, nonce, sealed)
                     SELECT m.id, s.purpose, $5, s.nonce, s.sealed
                     FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
                         AS s (meter, purpose, nonce, sealed)
                     JOIN meters m ON m.number = s.meter
                     WHERE NOT EXISTS (SELECT FROM device_keys t
                         WHERE t.meter_id = m.id AND t.purpose = s.purpose)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn installed_meters(
        &mut self,
        file: &RegistryFile,
    ) -> Result<(), ImportError> {
        for chunk in file.installed_meters.chunks(CHUNK) {
            let meters = column(chunk, |e| e.meter.as_str());
            let places = column(chunk, |e| e.service_point.as_str());
            let froms = column(chunk, |e| e.from);
            let untils = column(chunk, |e| e.until);
            let multipliers = column(chunk, |e| e.multiplier);
            let openings = column(chunk, |e| e.opening_count);
            let closings = column(chunk, |e| e.closing_count);
            self.known(
                Section::InstalledMeters,
                "meter",
                "SELECT c FROM unnest($1::text[]) AS c
                 WHERE NOT EXISTS (SELECT FROM meters t WHERE t.number = c) LIMIT 1",
                &column(chunk, |e| (e.meter.as_str(), e.meter.as_str())),
            )
            .await?;
            self.known(
                Section::InstalledMeters,
                "service point",
                UNKNOWN_SERVICE_POINT,
                &column(chunk, |e| (e.meter.as_str(), e.service_point.as_str())),
            )
            .await?;
            let bind = |sql| {
                sqlx::query(sql)
                    .bind(&meters)
                    .bind(&places)
                    .bind(&froms)
                    .bind(&untils)
                    .bind(&multipliers)
                    .bind(&openings)
                    .bind(&closings)
            };
            self.upsert(
                Section::InstalledMeters,
                chunk.len(),
                Some(bind(
                    "UPDATE installed_meters t
                     SET service_point_id = p.id, until_at = s.until_at,
                         multiplier = s.multiplier, opening_count = s.opening,
                         closing_count = s.closing
                     FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[],
                         $5::numeric[], $6::bigint[], $7::bigint[])
                         AS s (meter, place, from_at, until_at, multiplier, opening, closing)
                     JOIN meters m ON m.number = s.meter
                     JOIN service_points p ON p.code = s.place
                     WHERE t.meter_id = m.id AND t.from_at = s.from_at
                       AND (t.service_point_id, t.until_at, t.multiplier, t.opening_count,
                            t.closing_count)
                         IS DISTINCT FROM (p.id, s.until_at, s.multiplier, s.opening, s.closing)",
                )),
                bind(
                    "INSERT INTO installed_meters (meter_id, service_point_id, from_at, until_at,
                         multiplier, opening_count, closing_count)
                     SELECT m.id, p.id, s.from_at, s.until_at, s.multiplier, s.opening, s.closing
                     FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[],
                         $5::numeric[], $6::bigint[], $7::bigint[])
                         AS s (meter, place, from_at, until_at, multiplier, opening, closing)
                     JOIN meters m ON m.number = s.meter
                     JOIN service_points p ON p.code = s.place
                     WHERE NOT EXISTS (SELECT FROM installed_meters t
                         WHERE t.meter_id = m.id AND t.from_at = s.from_at)",
                ),
            )
            .await?;
        }
        let keys = column(&file.installed_meters, |e| e.meter.as_str());
        self.no_overlaps::<DateTime<Utc>>(
            Section::InstalledMeters,
            "SELECT k.number, a.from_at, b.from_at
             FROM meters k
             JOIN installed_meters a ON a.meter_id = k.id
             JOIN installed_meters b ON b.meter_id = k.id AND a.from_at < b.from_at
             WHERE k.number = ANY($1) AND (a.until_at IS NULL OR a.until_at > b.from_at)
             LIMIT 1",
            &keys,
        )
        .await
    }
}

fn pairs(chunk: &[crate::RegisteredMeter]) -> Vec<(&str, String)> {
    chunk
        .iter()
        .flat_map(|e| e.devices.iter().map(|device| (e.number.as_str(), device.to_string())))
        .collect()
}
