//! ScaiSend's `/api/admin/domains`: sender domains and their DNS records.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Refusal;
use super::{Sandbox, locked};
use crate::address::Address;
use crate::config::ProviderKind;

/// Most domains.
const MAX_DOMAINS: usize = 200;
/// Domains that begin like this have no records in DNS.
const UNVERIFIED: &str = "unverified";
/// How a key of RSA-2048 begins and ends in base64; the sandbox signs nothing, so that what is between them is random.
const KEY: (&str, &str) = ("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA", "wIDAQAB");

/// A domain that was added.
pub(super) struct Domain {
    id: String,
    verified: bool,
    asked: Asked,
    public_key: String,
}

/// What can be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    domain: String,
    #[serde(default = "no_policy")]
    dmarc_policy: String,
    dmarc_rua_email: Option<String>,
}

fn no_policy() -> String {
    "none".to_owned()
}

impl Domain {
    fn records(&self) -> Value {
        let (domain, policy) = (&self.asked.domain, &self.asked.dmarc_policy);
        let reports = self.asked.dmarc_rua_email.as_ref().map(|address| format!("; rua=mailto:{address}"));
        let dmarc = format!("v=DMARC1; p={policy}{}", reports.unwrap_or_default());
        let dkim = format!("v=DKIM1; k=rsa; p={}", self.public_key);
        json!([
            { "type": "TXT", "name": format!("scaisend._domainkey.{domain}"), "value": dkim, "purpose": "DKIM" },
            { "type": "TXT", "name": domain, "value": "v=spf1 include:_spf.scaisend.example ~all", "purpose": "SPF" },
            { "type": "TXT", "name": format!("_dmarc.{domain}"), "value": dmarc, "purpose": "DMARC" },
        ])
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id, "domain": self.asked.domain, "verified": self.verified, "dkim_selector": "scaisend",
            "dmarc_policy": self.asked.dmarc_policy, "dmarc_rua_email": self.asked.dmarc_rua_email,
            "dns_records": self.records(),
        })
    }

    /// What a look into DNS finds.
    fn errors(&self) -> Vec<String> {
        let domain = &self.asked.domain;
        if !domain.starts_with(UNVERIFIED) {
            return Vec::new();
        }
        vec![
            format!("DKIM: no TXT record at scaisend._domainkey.{domain}"),
            format!("SPF: the TXT record at {domain} does not include _spf.scaisend.example"),
            format!("DMARC: no TXT record at _dmarc.{domain}"),
        ]
    }
}

/// `POST /api/admin/domains`.
pub(super) async fn add(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(sandbox.permit(&headers, "domains.write").and_then(|()| added(&sandbox, &body)))
}

/// `GET /api/admin/domains`.
pub(super) async fn list(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap) -> Response {
    answer(sandbox.permit(&headers, "domains.read").map(|()| {
        let domains = locked(&sandbox.domains);
        let shown: Vec<Value> = domains.iter().map(Domain::json).collect();
        (StatusCode::OK, json!({ "data": shown }))
    }))
}

/// `GET /api/admin/domains/{id}`.
pub(super) async fn show(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let permitted = sandbox.permit(&headers, "domains.read");
    answer(permitted.and_then(|()| sandbox.with_domain(&id, |domain| domain.json())))
}

/// `POST /api/admin/domains/{id}/verify`.
pub(super) async fn verify(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let look = |domain: &mut Domain| {
        let errors = domain.errors();
        domain.verified = errors.is_empty();
        let fine = domain.verified;
        json!({ "verified": fine, "dkim": fine, "spf": fine, "dmarc": fine, "errors": errors })
    };
    answer(sandbox.permit(&headers, "domains.write").and_then(|()| sandbox.with_domain(&id, look)))
}

fn answer(result: Result<(StatusCode, Value), Refusal>) -> Response {
    match result {
        Ok((status, json)) => (status, Json(json)).into_response(),
        Err(refusal) => refusal.response(ProviderKind::ScaiSend),
    }
}

fn added(sandbox: &Sandbox, body: &[u8]) -> Result<(StatusCode, Value), Refusal> {
    let mut asked: Asked = serde_json::from_slice(body).map_err(|error| Refusal::unusable(error.to_string()))?;
    asked.domain.make_ascii_lowercase();
    let probe = Address::parse(&format!("postmaster@{}", asked.domain));
    if !asked.domain.contains('.') || !probe.is_ok_and(|probe| probe.domain() == asked.domain) {
        return Err(Refusal::unusable("domain must be a domain like mail.example.com".to_owned()));
    }
    if !["none", "quarantine", "reject"].contains(&asked.dmarc_policy.as_str()) {
        return Err(Refusal::unusable("dmarc_policy is none, quarantine or reject".to_owned()));
    }
    if asked.dmarc_rua_email.as_ref().is_some_and(|address| Address::parse(address).is_err()) {
        return Err(Refusal::unusable("dmarc_rua_email must be an address".to_owned()));
    }
    let mut domains = locked(&sandbox.domains);
    if domains.iter().any(|known| known.asked.domain == asked.domain) {
        return Err(Refusal::new(StatusCode::CONFLICT, "conflict", "This domain is there already"));
    }
    if domains.len() >= MAX_DOMAINS {
        return Err(Refusal::unusable(format!("{MAX_DOMAINS} domains are enough for a sandbox")));
    }
    let random: String = (0..11).map(|_| Uuid::new_v4().simple().to_string()).collect();
    let middle = 392 - KEY.0.len() - KEY.1.len();
    let public_key = format!("{}{}{}", KEY.0, random.get(..middle).unwrap_or_default(), KEY.1);
    let domain = Domain { id: format!("dom_{}", Uuid::now_v7().simple()), verified: false, asked, public_key };
    let shown = domain.json();
    domains.push(domain);
    Ok((StatusCode::CREATED, shown))
}

impl Sandbox {
    fn with_domain(&self, id: &str, act: impl FnOnce(&mut Domain) -> Value) -> Result<(StatusCode, Value), Refusal> {
        let mut domains = locked(&self.domains);
        let domain = domains.iter_mut().find(|domain| domain.id == id);
        domain.map(|domain| (StatusCode::OK, act(domain))).ok_or_else(|| Refusal::not_found("Domain not found"))
    }
}
