//! Issues a cycle's drafts: gap-free numbers, and a word to the customer in the outbox.
//!
//! In: a cycle whose run has finished. Out: how many bills got a number.
//! Never here: delivery, due dates (see `receivables`).

use crate::{Cycle, DatabaseError, Store, store::doing};
use chrono::NaiveDate;

impl Store {
    /// Gives every draft of the cycle the next number of `series` (`JM2026`), by account number,
    /// and puts a notice into the outbox; all in one transaction, so no number is lost or used
    /// twice (R094). Issuing again issues what is still a draft.
    ///
    /// # Errors
    /// When Postgres is away; then nothing was issued.
    pub async fn issue_bills(
        &self,
        cycle: &Cycle,
        series: &str,
        issued_on: NaiveDate,
    ) -> Result<u64, DatabaseError> {
        let issuing = || doing(format!("issue the bills of {} {}", cycle.book_code, cycle.name));
        let mut tx = self.pool.begin().await.map_err(issuing())?;
        sqlx::query(
            "INSERT INTO bill_number_series (name, next_number) VALUES ($1, 1)
             ON CONFLICT DO NOTHING",
        )
        .bind(series)
        .execute(&mut *tx)
        .await
        .map_err(issuing())?;
        // The row's lock is the queue for this series.
        let next: i64 = sqlx::query_scalar(
            "SELECT next_number FROM bill_number_series WHERE name = $1 FOR UPDATE",
        )
        .bind(series)
        .fetch_one(&mut *tx)
        .await
        .map_err(issuing())?;
        let issued = sqlx::query(
            "UPDATE bills b SET state = 'issued', issued_on = $3,
                 number = $2 || '-' || lpad(($4 + n.position)::text,
                     greatest(8, length(($4 + n.position)::text)), '0')
             FROM (SELECT d.id, row_number() OVER (ORDER BY a.number, d.kind) - 1 AS position
                   FROM bills d JOIN accounts a ON a.id = d.account_id
                   WHERE d.cycle_id = $1 AND d.state = 'draft') AS n
             WHERE b.id = n.id",
        )
        .bind(i64::from(cycle.id))
        .bind(series)
        .bind(issued_on)
        .bind(next)
        .execute(&mut *tx)
        .await
        .map_err(issuing())?
        .rows_affected();
        sqlx::query("UPDATE bill_number_series SET next_number = next_number + $2 WHERE name = $1")
            .bind(series)
            .bind(i64::try_from(issued).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await
            .map_err(issuing())?;
        sqlx::query(
            "INSERT INTO outbox (kind, account_id, bill_id, payload, created_on)
             SELECT 'bill_issued', account_id, id,
                 jsonb_build_object('number', number, 'total', total::text), $2
             FROM bills WHERE cycle_id = $1 AND state = 'issued'
             ON CONFLICT DO NOTHING",
        )
        .bind(i64::from(cycle.id))
        .bind(issued_on)
        .execute(&mut *tx)
        .await
        .map_err(issuing())?;
        tx.commit().await.map_err(issuing())?;
        Ok(issued)
    }
}
