//! Imports organisations, rate schedules with their versions, books with their cycles.
//!
//! In: sections of a registry file. Out: rows. Never here: what a schedule's text means.

use super::{CHUNK, Import, ImportError, UNKNOWN_ORGANISATION, column, rate_version_hash};
use crate::{
    RegistryFile,
    registry_check::{EntryProblem, Section, wrong},
    store::doing,
};
use chrono::NaiveDate;

impl Import<'_> {
    pub(super) async fn organisations(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.organisations.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let names = column(chunk, |e| e.name.as_str());
            let offsets = column(chunk, |e| e.utc_offset_minutes);
            let bind = |sql| sqlx::query(sql).bind(&codes).bind(&names).bind(&offsets);
            self.upsert(
                Section::Organisations,
                chunk.len(),
                Some(bind(
                    "UPDATE organisations t SET name = s.name, utc_offset_minutes = s.utc
                     FROM unnest($1::text[], $2::text[], $3::smallint[]) AS s (code, name, utc)
                     WHERE t.code = s.code
                       AND (t.name, t.utc_offset_minutes) IS DISTINCT FROM (s.name, s.utc)",
                )),
                bind(
                    "INSERT INTO organisations (code, name, utc_offset_minutes)
                     SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[]) AS s (code, name, utc)
                     WHERE NOT EXISTS (SELECT FROM organisations t WHERE t.code = s.code)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn schedules(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.schedules.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let organisations = column(chunk, |e| e.organisation.as_str());
            let names = column(chunk, |e| e.name.as_str());
            let commodities = column(chunk, |e| e.commodity.name());
            self.known(
                Section::Schedules,
                "organisation",
                UNKNOWN_ORGANISATION,
                &column(chunk, |e| (e.code.as_str(), e.organisation.as_str())),
            )
            .await?;
            let bind = |sql| {
                sqlx::query(sql).bind(&codes).bind(&organisations).bind(&names).bind(&commodities)
            };
            self.upsert(
                Section::Schedules,
                chunk.len(),
                Some(bind(
                    "UPDATE rate_schedules t
                     SET organisation_id = o.id, name = s.name, commodity = s.commodity
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                         AS s (code, organisation, name, commodity)
                     JOIN organisations o ON o.code = s.organisation
                     WHERE t.code = s.code AND (t.organisation_id, t.name, t.commodity)
                         IS DISTINCT FROM (o.id, s.name, s.commodity)",
                )),
                bind(
                    "INSERT INTO rate_schedules (code, organisation_id, name, commodity)
                     SELECT s.code, o.id, s.name, s.commodity
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                         AS s (code, organisation, name, commodity)
                     JOIN organisations o ON o.code = s.organisation
                     WHERE NOT EXISTS (SELECT FROM rate_schedules t WHERE t.code = s.code)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn schedule_versions(
        &mut self,
        file: &RegistryFile,
    ) -> Result<(), ImportError> {
        let all: Vec<_> = file
            .schedules
            .iter()
            .flat_map(|schedule| schedule.versions.iter().map(move |v| (schedule, v)))
            .collect();
        // Texts may be long: few per statement.
        for chunk in all.chunks(100) {
            let codes = column(chunk, |(s, _)| s.code.as_str());
            let froms = column(chunk, |(_, v)| v.from);
            let untils = column(chunk, |(_, v)| v.until);
            let documents = column(chunk, |(_, v)| v.document.as_str());
            let texts = column(chunk, |(_, v)| v.text.as_deref().unwrap_or_default());
            let hashes = column(&texts, |text| rate_version_hash(text).to_vec());
            let bind = |sql| {
                sqlx::query(sql)
                    .bind(&codes)
                    .bind(&froms)
                    .bind(&untils)
                    .bind(&documents)
                    .bind(&texts)
                    .bind(&hashes)
            };
            let active: Option<(String, NaiveDate)> = sqlx::query_as(
                "SELECT s.code, s.from_day
                 FROM unnest($1::text[], $2::date[], $3::date[], $4::text[], $5::text[])
                     AS s (code, from_day, until_day, document, text)
                 JOIN rate_schedules r ON r.code = s.code
                 JOIN rate_versions t ON t.schedule_id = r.id AND t.valid_from = s.from_day
                 WHERE t.state = 'active'
                   AND ((t.document, t.text) IS DISTINCT FROM (s.document, s.text)
                     OR (t.valid_until IS NOT NULL AND t.valid_until IS DISTINCT FROM s.until_day))
                 LIMIT 1",
            )
            .bind(&codes)
            .bind(&froms)
            .bind(&untils)
            .bind(&documents)
            .bind(&texts)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(doing("compare rate versions"))?;
            if let Some((code, from)) = active {
                let entry = format!("{code} from {from}");
                let section = Section::ScheduleVersions;
                return Err(wrong(section, entry, EntryProblem::ActiveVersion).into());
            }
            self.upsert(
                Section::ScheduleVersions,
                chunk.len(),
                Some(bind(
                    "UPDATE rate_versions t
                     SET valid_until = s.until_day, document = s.document, text = s.text,
                         hash = s.hash, state = 'active'
                     FROM unnest($1::text[], $2::date[], $3::date[], $4::text[], $5::text[],
                         $6::bytea[]) AS s (code, from_day, until_day, document, text, hash)
                     JOIN rate_schedules r ON r.code = s.code
                     WHERE t.schedule_id = r.id AND t.valid_from = s.from_day
                       AND (t.valid_until, t.document, t.hash, t.state)
                         IS DISTINCT FROM (s.until_day, s.document, s.hash, 'active')",
                )),
                bind(
                    "INSERT INTO rate_versions
                         (schedule_id, valid_from, valid_until, state, document, text, hash)
                     SELECT r.id, s.from_day, s.until_day, 'active', s.document, s.text, s.hash
                     FROM unnest($1::text[], $2::date[], $3::date[], $4::text[], $5::text[],
                         $6::bytea[]) AS s (code, from_day, until_day, document, text, hash)
                     JOIN rate_schedules r ON r.code = s.code
                     WHERE NOT EXISTS (SELECT FROM rate_versions t
                         WHERE t.schedule_id = r.id AND t.valid_from = s.from_day)",
                ),
            )
            .await?;
        }
        let keys = column(&file.schedules, |e| e.code.as_str());
        self.no_overlaps::<NaiveDate>(
            Section::ScheduleVersions,
            "SELECT k.code, a.valid_from, b.valid_from
             FROM rate_schedules k
             JOIN rate_versions a ON a.schedule_id = k.id
             JOIN rate_versions b ON b.schedule_id = k.id AND a.valid_from < b.valid_from
             WHERE k.code = ANY($1) AND a.state = 'active' AND b.state = 'active'
               AND (a.valid_until IS NULL OR a.valid_until > b.valid_from)
             LIMIT 1",
            &keys,
        )
        .await
    }

    pub(super) async fn books(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.books.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let organisations = column(chunk, |e| e.organisation.as_str());
            let names = column(chunk, |e| e.name.as_str());
            let days = column(chunk, |e| i16::from(e.read_day));
            self.known(
                Section::Books,
                "organisation",
                UNKNOWN_ORGANISATION,
                &column(chunk, |e| (e.code.as_str(), e.organisation.as_str())),
            )
            .await?;
            let bind =
                |sql| sqlx::query(sql).bind(&codes).bind(&organisations).bind(&names).bind(&days);
            self.upsert(
                Section::Books,
                chunk.len(),
                Some(bind(
                    "UPDATE books t SET organisation_id = o.id, name = s.name, read_day = s.day
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[])
                         AS s (code, organisation, name, day)
                     JOIN organisations o ON o.code = s.organisation
                     WHERE t.code = s.code AND (t.organisation_id, t.name, t.read_day)
                         IS DISTINCT FROM (o.id, s.name, s.day)",
                )),
                bind(
                    "INSERT INTO books (code, organisation_id, name, read_day)
                     SELECT s.code, o.id, s.name, s.day
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[])
                         AS s (code, organisation, name, day)
                     JOIN organisations o ON o.code = s.organisation
                     WHERE NOT EXISTS (SELECT FROM books t WHERE t.code = s.code)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn cycles(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        let all: Vec<_> = file
            .books
            .iter()
            .flat_map(|book| book.cycles.iter().map(move |cycle| (book, cycle)))
            .collect();
        for chunk in all.chunks(CHUNK) {
            let books = column(chunk, |(b, _)| b.code.as_str());
            let names = column(chunk, |(_, c)| c.name.as_str());
            let froms = column(chunk, |(_, c)| c.from);
            let untils = column(chunk, |(_, c)| c.until);
            let bind = |sql| sqlx::query(sql).bind(&books).bind(&names).bind(&froms).bind(&untils);
            self.upsert(
                Section::Cycles,
                chunk.len(),
                Some(bind(
                    "UPDATE cycles t SET from_day = s.from_day, until_day = s.until_day
                     FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
                         AS s (book, name, from_day, until_day)
                     JOIN books b ON b.code = s.book
                     WHERE t.book_id = b.id AND t.name = s.name
                       AND (t.from_day, t.until_day) IS DISTINCT FROM (s.from_day, s.until_day)",
                )),
                bind(
                    "INSERT INTO cycles (book_id, name, from_day, until_day)
                     SELECT b.id, s.name, s.from_day, s.until_day
                     FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
                         AS s (book, name, from_day, until_day)
                     JOIN books b ON b.code = s.book
                     WHERE NOT EXISTS (SELECT FROM cycles t
                         WHERE t.book_id = b.id AND t.name = s.name)",
                ),
            )
            .await?;
        }
        let keys = column(&file.books, |e| e.code.as_str());
        self.no_overlaps::<NaiveDate>(
            Section::Cycles,
            "SELECT k.code, a.from_day, b.from_day
             FROM books k
             JOIN cycles a ON a.book_id = k.id
             JOIN cycles b ON b.book_id = k.id AND b.id <> a.id AND a.from_day <= b.from_day
             WHERE k.code = ANY($1) AND a.until_day > b.from_day
             LIMIT 1",
            &keys,
        )
        .await
    }
}
