//! `/api/suppressions`: the list of addresses that must not be sent to.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use serde_json::Value;
use tracing::info;

use super::query::{self, Parameters};
use super::wire::{Added, NewSuppression, Removed, SuppressionEntry, SuppressionPage};
use super::{Admin, Refusal, body};
use crate::address::Address;
use crate::reply::steers;
use crate::store::SuppressionQuery;
use crate::suppression::{Reason, Scope, Suppression};

/// The list that its cursors are of.
const LIST: &str = "suppressions";
/// Most entries of one call.
const MOST: usize = 10_000;
/// Longest evidence, in characters.
const LONGEST_EVIDENCE: usize = 1000;
/// Most addresses that the log names of one call.
const NAMED: usize = 5;

/// `GET /api/suppressions`.
pub(super) async fn list(State(admin): State<Arc<Admin>>, uri: Uri) -> Result<Json<SuppressionPage>, Refusal> {
    let asked = Parameters::of(&uri, &["address", "scope", "reason", "after", "limit"])?;
    let page = admin.store.suppressions(SuppressionQuery {
        address: asked.address("address")?.map(|address| admin.policy.key(&address)),
        scope: asked.value("scope")?,
        reason: asked.value("reason")?,
        after: asked.after(LIST)?,
        limit: asked.limit()?,
    });
    let page = page.await?;
    let next = query::next(LIST, page.next);
    Ok(Json(SuppressionPage { suppressions: page.items.iter().map(Into::into).collect(), next }))
}

/// `POST /api/suppressions`: one entry or a list; all of it or nothing.
pub(super) async fn add(State(admin): State<Arc<Admin>>, request: Request) -> Result<Json<Added>, Refusal> {
    Parameters::of(request.uri(), &[])?;
    let new = match body::<Value>(request).await? {
        Value::Array(list) => list,
        one => vec![one],
    };
    if new.len() > MOST {
        return Err(Refusal::wrong(format!("there are more than {MOST} entries; send them in parts")));
    }
    let (now, single) = (SystemTime::now(), new.len() == 1);
    let entries = new.into_iter().enumerate().map(|(place, one)| {
        read(&admin, one, now)
            .map_err(|e| if single { e } else { Refusal::wrong(format!("entry {}: {}", place + 1, e.message)) })
    });
    let entries = entries.collect::<Result<Vec<(Address, Suppression)>, Refusal>>()?;
    let all = entries.len();
    let entries: Vec<_> =
        entries.into_iter().filter(|(_, entry)| entry.until.is_none_or(|until| until > now)).collect();
    let shown: Vec<String> = entries.iter().take(NAMED).map(|(address, _)| admin.journal.show(address)).collect();
    let entries: Vec<Suppression> = entries.into_iter().map(|(_, entry)| entry).collect();
    let unknown_accounts = admin.unknown(&entries);
    let count = entries.len();
    let added = admin.store.suppress(entries).await?;
    info!(
        entries = count,
        added,
        addresses = shown.join(", "),
        "an operator put addresses on the list of suppressed ones"
    );
    Ok(Json(Added { added, known: count.saturating_sub(added), over: all.saturating_sub(count), unknown_accounts }))
}

/// `DELETE /api/suppressions/{address}`.
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<Removed>, Refusal> {
    let asked = Parameters::of(&uri, &["scope"])?;
    let Path(address) = path?;
    let (address, scope) = (query::address(&address)?, asked.value::<Scope>("scope")?);
    let removed = admin.store.lift(&admin.policy.key(&address), scope.clone(), SystemTime::now()).await?;
    if removed.is_empty() {
        let of = scope.map(|scope| format!(" for {scope}")).unwrap_or_default();
        let message = format!(
            "{address} is not on the list{of}, and events that came before now will not put it there; `sidepost suppressions list` shows what is"
        );
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    let scopes: Vec<String> = removed.iter().map(|entry| entry.scope.to_string()).collect();
    info!(
        address = admin.journal.show(&address),
        scopes = scopes.join(", "),
        "an operator took an address off the list of suppressed ones"
    );
    Ok(Json(Removed { removed: removed.iter().map(SuppressionEntry::from).collect() }))
}

impl Admin {
    /// The accounts that entries name and nobody has.
    fn unknown(&self, entries: &[Suppression]) -> Vec<String> {
        let mut unknown: Vec<String> = Vec::new();
        for entry in entries {
            if let Scope::Account(name) = &entry.scope
                && !self.accounts.contains_key(name)
                && !unknown.contains(name)
            {
                unknown.push(name.clone());
            }
        }
        unknown
    }
}

fn read(admin: &Admin, json: Value, now: SystemTime) -> Result<(Address, Suppression), Refusal> {
    let new: NewSuppression = serde_json::from_value(json).map_err(|e| Refusal::wrong(e.to_string()))?;
    let wrong = |field: &str, e: String| Refusal::wrong(format!("{field}: {e}"));
    let address = query::address(&new.address)?;
    let scope = new.scope.as_deref().unwrap_or("*").parse::<Scope>().map_err(|e| wrong("scope", e))?;
    let reason =
        new.reason.as_deref().map_or(Ok(Reason::Manual), str::parse::<Reason>).map_err(|e| wrong("reason", e))?;
    let until = new.until.as_deref().map(|text| query::future(text, now)).transpose().map_err(|e| wrong("until", e))?;
    let since = new.since.as_deref().map(|text| query::past(text, now)).transpose().map_err(|e| wrong("since", e))?;
    let (since, source) = (since.unwrap_or(now).min(now), source(new.source).map_err(|e| wrong("source", e))?);
    // What a provider's list says holds as long as it would, had an event said it.
    let expiry = admin.policy.expiry(reason).filter(|_| source == "import");
    let entry = Suppression {
        address: admin.policy.key(&address),
        scope,
        reason,
        source,
        since,
        until: until.or(expiry.map(|expiry| since + expiry)),
        evidence: evidence(new.evidence.unwrap_or_default())?,
    };
    Ok((address, entry))
}

fn source(named: Option<String>) -> Result<String, String> {
    let Some(named) = named else { return Ok("operator".to_owned()) };
    let of_account =
        |kind: &str| named.strip_prefix(kind).is_some_and(|account| !account.is_empty() && account.len() <= 100);
    if named == "operator" || named == "import" || of_account("webhook:") || of_account("api:") {
        return Ok(named);
    }
    Err(format!("{named:?} is none of operator, import, webhook:ACCOUNT and api:ACCOUNT"))
}

/// It is shown in terminals and logs: a line of printable text.
fn evidence(text: String) -> Result<String, Refusal> {
    if text.chars().count() > LONGEST_EVIDENCE {
        return Err(Refusal::wrong(format!("evidence: must be at most {LONGEST_EVIDENCE} characters")));
    }
    Ok(if text.contains(steers) { text.replace(steers, " ") } else { text })
}
