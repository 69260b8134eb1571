//! A page of accounts, up to the point where everything a bill needs of the meters is known.
//!
//! In: billable accounts, the rate versions, the read store. Out: per account its usage, or that
//! it is billed already, excused, or put aside.
//! Never here: prices, writing.

use crate::{
    assemble::{Undetermined, billing_register, determine, usage_question},
    bounds::{Wanted, read_bounds, second_look},
    tariffs::Tariffs,
};
use billing::{BillKey, BillKind, Excused, Hold, HoldReason};
use chrono::{DateTime, TimeDelta, Utc};
use determinants::UsageQuestion;
use model::{BillingDeterminant, Period};
use std::sync::Arc;
use store_clickhouse::QueryError;
use store_postgres::{BillableAccount, BillableAgreement};

/// What holds for every account of a cycle.
#[derive(Clone)]
pub(crate) struct CycleRules {
    pub(crate) cycle: Period,
    pub(crate) utc_offset_minutes: i32,
    pub(crate) tolerance: TimeDelta,
    pub(crate) cutoff: DateTime<Utc>,
    pub(crate) tariffs: Arc<Tariffs>,
}

/// An account before rating.
pub(crate) enum Prepared {
    /// A live bill is there already.
    Billed,
    /// Rightly without a bill.
    Excused(Excused),
    /// Put aside.
    Held(Hold),
    /// Ready to be rated.
    Ready(Ready),
}

/// An account whose usage is known.
pub(crate) struct Ready {
    pub(crate) key: BillKey,
    pub(crate) agreements: Vec<(BillableAgreement, BillingDeterminant)>,
}

/// Asks the read store for a whole page at once, then determines account by account. Accounts
/// whose reads do not suffice get a second, closer look.
pub(crate) async fn prepare(
    accounts: Vec<BillableAccount>,
    rules: &CycleRules,
    reads: &store_clickhouse::Store,
) -> Result<Vec<Prepared>, QueryError> {
    let mut wanted = Wanted::default();
    let mut asked = Vec::with_capacity(accounts.len());
    for account in accounts {
        let questions = if account.billed || account.excuse.is_some() {
            Ok(Vec::new())
        } else {
            questions_of(&account, rules)
        };
        for (agreement, question) in account.agreements.iter().zip(questions.iter().flatten()) {
            let boundaries = determinants::boundaries(question);
            wanted.add(billing_register(agreement.commodity), &boundaries);
        }
        asked.push((account, questions));
    }
    let found = read_bounds(reads, &wanted, rules.tolerance, rules.cutoff).await?;
    let mut prepared = Vec::with_capacity(asked.len());
    for (account, questions) in asked {
        let id = account.account;
        if account.billed {
            prepared.push(Prepared::Billed);
            continue;
        }
        if let Some(reason) = account.excuse {
            prepared.push(Prepared::Excused(Excused { account: id, reason }));
            continue;
        }
        let mut questions = match questions {
            Ok(questions) => questions,
            Err(reason) => {
                prepared.push(Prepared::Held(Hold { account: id, reason }));
                continue;
            }
        };
        for question in &mut questions {
            for meter in question.installed.iter().map(|segment| segment.meter) {
                question.reads.extend(found.get(&meter).into_iter().flatten().copied());
            }
        }
        prepared.push(match usages(&account, questions, rules, reads).await? {
            Ok(usages) => {
                let kind = BillKind::Regular;
                let revision = account.revision;
                let key = BillKey { account: id, cycle: rules.cycle, kind, revision };
                let agreements = account.agreements.into_iter().zip(usages).collect();
                Prepared::Ready(Ready { key, agreements })
            }
            Err(why) => Prepared::Held(Hold { account: id, reason: why.into() }),
        });
    }
    Ok(prepared)
}

fn questions_of(
    account: &BillableAccount,
    rules: &CycleRules,
) -> Result<Vec<UsageQuestion>, HoldReason> {
    account
        .agreements
        .iter()
        .map(|agreement| {
            let versions = rules.tariffs.versions(agreement.schedule);
            usage_question(agreement, &versions, rules.utc_offset_minutes, rules.tolerance)
        })
        .collect()
}

/// The usage of every agreement, or why one of them has none: nothing is billed in part.
async fn usages(
    account: &BillableAccount,
    questions: Vec<UsageQuestion>,
    rules: &CycleRules,
    reads: &store_clickhouse::Store,
) -> Result<Result<Vec<BillingDeterminant>, Undetermined>, QueryError> {
    let mut usages = Vec::with_capacity(questions.len());
    for (agreement, mut question) in account.agreements.iter().zip(questions) {
        let usage = match determine(&question) {
            Err(Undetermined::NoRead(_)) => {
                let register = billing_register(agreement.commodity);
                let boundaries = determinants::boundaries(&question);
                let around =
                    second_look(reads, register, &boundaries, rules.tolerance, rules.cutoff)
                        .await?;
                question.reads.extend(around);
                determine(&question)
            }
            first @ (Ok(_) | Err(Undetermined::Implausible(_))) => first,
        };
        match usage {
            Ok(usage) => usages.push(usage),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(usages))
}
