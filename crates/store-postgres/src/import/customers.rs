//! Imports customers, households, accounts and service agreements.
//!
//! In: sections of a registry file. Out: rows. Never here: prices, meters.

use super::{CHUNK, Import, ImportError, UNKNOWN_SERVICE_POINT, column};
use crate::{
    RegistryFile,
    registry_check::{EntryProblem, Section, wrong},
    store::doing,
};
use chrono::NaiveDate;

impl Import<'_> {
    pub(super) async fn customers(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.customers.chunks(CHUNK) {
            let numbers = column(chunk, |e| e.number.as_str());
            let names = column(chunk, |e| e.name.as_str());
            let bind = |sql| sqlx::query(sql).bind(&numbers).bind(&names);
            self.upsert(
                Section::Customers,
                chunk.len(),
                Some(bind(
                    "UPDATE customers t SET name = s.name
                     FROM unnest($1::text[], $2::text[]) AS s (number, name)
                     WHERE t.number = s.number AND t.name <> s.name",
                )),
                bind(
                    "INSERT INTO customers (number, name)
                     SELECT * FROM unnest($1::text[], $2::text[]) AS s (number, name)
                     WHERE NOT EXISTS (SELECT FROM customers t WHERE t.number = s.number)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn households(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.households.chunks(CHUNK) {
            let codes = column(chunk, |e| e.code.as_str());
            let insert = sqlx::query(
                "INSERT INTO households (code)
                 SELECT s.code FROM unnest($1::text[]) AS s (code)
                 WHERE NOT EXISTS (SELECT FROM households t WHERE t.code = s.code)",
            )
            .bind(&codes);
            self.upsert(Section::Households, chunk.len(), None, insert).await?;
        }
        let all: Vec<_> =
            file.households.iter().flat_map(|h| h.persons.iter().map(move |p| (h, p))).collect();
        for chunk in all.chunks(CHUNK) {
            let codes = column(chunk, |(h, _)| h.code.as_str());
            let froms = column(chunk, |(_, p)| p.from);
            let untils = column(chunk, |(_, p)| p.until);
            let persons = column(chunk, |(_, p)| i16::try_from(p.persons).unwrap_or(i16::MAX));
            let bind =
                |sql| sqlx::query(sql).bind(&codes).bind(&froms).bind(&untils).bind(&persons);
            self.upsert(
                Section::Persons,
                chunk.len(),
                Some(bind(
                    "UPDATE household_persons t SET until_day = s.until_day, persons = s.persons
                     FROM unnest($1::text[], $2::date[], $3::date[], $4::smallint[])
                         AS s (code, from_day, until_day, persons)
                     JOIN households h ON h.code = s.code
                     WHERE t.household_id = h.id AND t.from_day = s.from_day
                       AND (t.until_day, t.persons) IS DISTINCT FROM (s.until_day, s.persons)",
                )),
                bind(
                    "INSERT INTO household_persons (household_id, from_day, until_day, persons)
                     SELECT h.id, s.from_day, s.until_day, s.persons
                     FROM unnest($1::text[], $2::date[], $3::date[], $4::smallint[])
                         AS s (code, from_day, until_day, persons)
                     JOIN households h ON h.code = s.code
                     WHERE NOT EXISTS (SELECT FROM household_persons t
                         WHERE t.household_id = h.id AND t.from_day = s.from_day)",
                ),
            )
            .await?;
        }
        let keys = column(&file.households, |e| e.code.as_str());
        self.no_overlaps::<NaiveDate>(
            Section::Persons,
            "SELECT k.code, a.from_day, b.from_day
             FROM households k
             JOIN household_persons a ON a.household_id = k.id
             JOIN household_persons b ON b.household_id = k.id AND a.from_day < b.from_day
             WHERE k.code = ANY($1) AND (a.until_day IS NULL OR a.until_day > b.from_day)
             LIMIT 1",
            &keys,
        )
        .await
    }

    pub(super) async fn accounts(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.accounts.chunks(CHUNK) {
            let numbers = column(chunk, |e| e.number.as_str());
            let customers = column(chunk, |e| e.customer.as_str());
            let books = column(chunk, |e| e.book.as_str());
            self.known(
                Section::Accounts,
                "customer",
                "SELECT c FROM unnest($1::text[]) AS c
                 WHERE NOT EXISTS (SELECT FROM customers t WHERE t.number = c) LIMIT 1",
                &column(chunk, |e| (e.number.as_str(), e.customer.as_str())),
            )
            .await?;
            self.known(
                Section::Accounts,
                "book",
                "SELECT c FROM unnest($1::text[]) AS c
                 WHERE NOT EXISTS (SELECT FROM books t WHERE t.code = c) LIMIT 1",
                &column(chunk, |e| (e.number.as_str(), e.book.as_str())),
            )
            .await?;
            let bind = |sql| sqlx::query(sql).bind(&numbers).bind(&customers).bind(&books);
            self.upsert(
                Section::Accounts,
                chunk.len(),
                Some(bind(
                    "UPDATE accounts t SET customer_id = c.id, book_id = b.id
                     FROM unnest($1::text[], $2::text[], $3::text[]) AS s (number, customer, book)
                     JOIN customers c ON c.number = s.customer
                     JOIN books b ON b.code = s.book
                     WHERE t.number = s.number AND (t.customer_id, t.book_id) <> (c.id, b.id)",
                )),
                bind(
                    "INSERT INTO accounts (number, customer_id, book_id)
                     SELECT s.number, c.id, b.id
                     FROM unnest($1::text[], $2::text[], $3::text[]) AS s (number, customer, book)
                     JOIN customers c ON c.number = s.customer
                     JOIN books b ON b.code = s.book
                     WHERE NOT EXISTS (SELECT FROM accounts t WHERE t.number = s.number)",
                ),
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn agreements(&mut self, file: &RegistryFile) -> Result<(), ImportError> {
        for chunk in file.agreements.chunks(CHUNK) {
            let accounts = column(chunk, |e| e.account.as_str());
            let places = column(chunk, |e| e.service_point.as_str());
            let households = column(chunk, |e| e.household.as_deref());
            let schedules = column(chunk, |e| e.schedule.as_str());
            let classes = column(chunk, |e| e.class.as_str());
            let froms = column(chunk, |e| e.from);
            let untils = column(chunk, |e| e.until);
            let section = Section::Agreements;
            let unknown = [
                (
                    "account",
                    "SELECT c FROM unnest($1::text[]) AS c
                     WHERE NOT EXISTS (SELECT FROM accounts t WHERE t.number = c) LIMIT 1",
                    column(chunk, |e| (e.account.as_str(), e.account.as_str())),
                ),
                (
                    "service point",
                    UNKNOWN_SERVICE_POINT,
                    column(chunk, |e| (e.account.as_str(), e.service_point.as_str())),
                ),
                (
                    "schedule",
                    "SELECT c FROM unnest($1::text[]) AS c
                     WHERE NOT EXISTS (SELECT FROM rate_schedules t WHERE t.code = c) LIMIT 1",
                    column(chunk, |e| (e.account.as_str(), e.schedule.as_str())),
                ),
                (
                    "household",
                    "SELECT c FROM unnest($1::text[]) AS c
                     WHERE NOT EXISTS (SELECT FROM households t WHERE t.code = c) LIMIT 1",
                    chunk
                        .iter()
                        .filter_map(|e| e.household.as_deref().map(|h| (e.account.as_str(), h)))
                        .collect(),
                ),
            ];
            for (what, sql, entries) in unknown {
                self.known(section, what, sql, &entries).await?;
            }
            let other: Option<(String, String, String)> = sqlx::query_as(
                "SELECT s.account, s.schedule, s.place
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS s (account, schedule, place)
                 JOIN rate_schedules r ON r.code = s.schedule
                 JOIN service_points p ON p.code = s.place
                 WHERE r.commodity <> p.commodity LIMIT 1",
            )
            .bind(&accounts)
            .bind(&schedules)
            .bind(&places)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(doing("compare commodities"))?;
            if let Some((account, schedule, service_point)) = other {
                let problem = EntryProblem::Commodity { schedule, service_point };
                return Err(wrong(section, account, problem).into());
            }
            let bind = |sql| {
                sqlx::query(sql)
                    .bind(&accounts)
                    .bind(&places)
                    .bind(&households)
                    .bind(&schedules)
                    .bind(&classes)
                    .bind(&froms)
                    .bind(&untils)
            };
            self.upsert(
                section,
                chunk.len(),
                Some(bind(
                    "UPDATE service_agreements t
                     SET account_id = a.id, household_id = h.id, schedule_id = r.id,
                         class = s.class, until_day = s.until_day
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                         $6::date[], $7::date[])
                         AS s (account, place, household, schedule, class, from_day, until_day)
                     JOIN accounts a ON a.number = s.account
                     JOIN service_points p ON p.code = s.place
                     JOIN rate_schedules r ON r.code = s.schedule
                     LEFT JOIN households h ON h.code = s.household
                     WHERE t.service_point_id = p.id AND t.commodity = p.commodity
                       AND t.from_day = s.from_day
                       AND (t.account_id, t.household_id, t.schedule_id, t.class, t.until_day)
                         IS DISTINCT FROM (a.id, h.id, r.id, s.class, s.until_day)",
                )),
                bind(
                    "INSERT INTO service_agreements (account_id, service_point_id, commodity,
                         schedule_id, household_id, class, from_day, until_day)
                     SELECT a.id, p.id, p.commodity, r.id, h.id, s.class, s.from_day, s.until_day
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                         $6::date[], $7::date[])
                         AS s (account, place, household, schedule, class, from_day, until_day)
                     JOIN accounts a ON a.number = s.account
                     JOIN service_points p ON p.code = s.place
                     JOIN rate_schedules r ON r.code = s.schedule
                     LEFT JOIN households h ON h.code = s.household
                     WHERE NOT EXISTS (SELECT FROM service_agreements t
                         WHERE t.service_point_id = p.id AND t.commodity = p.commodity
                           AND t.from_day = s.from_day)",
                ),
            )
            .await?;
        }
        let keys = column(&file.agreements, |e| e.service_point.as_str());
        self.no_overlaps::<NaiveDate>(
            Section::Agreements,
            "SELECT k.code, a.from_day, b.from_day
             FROM service_points k
             JOIN service_agreements a ON a.service_point_id = k.id
             JOIN service_agreements b ON b.service_point_id = k.id AND b.commodity = a.commodity
                 AND a.from_day < b.from_day
             WHERE k.code = ANY($1) AND (a.until_day IS NULL OR a.until_day > b.from_day)
             LIMIT 1",
            &keys,
        )
        .await
    }
}
