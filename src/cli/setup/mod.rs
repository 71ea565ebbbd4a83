//! Setting the provider up: which account, which credential, one call, and what to do when it is not done.

pub mod domains;
pub mod keys;
mod secret_file;
pub mod stats;
pub mod webhooks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{ConfigArgs, Failure, USAGE, note};
use crate::app;
use crate::config::layers::{Accounts, Layers, Problem};
use crate::config::{Provider, ProviderKind};
use crate::files::read_small;
use crate::provider::setup::reading;
use crate::provider::setup::refusal::{self, HOW_TO_GET_A_TOKEN};
use crate::provider::setup::{self, Credential, Id, Task};
use crate::provider::{Request, Response};
use crate::relay::http::TransportError;
use crate::secret::Secret;

/// As long as the vendor's own client waits: to check a domain, the API has to ask DNS.
const PATIENCE: Duration = Duration::from_secs(30);
/// The variable that ScaiSend's guide keeps the token in.
const TOKEN_VARIABLE: &str = "SCAISEND_JWT";
/// The variable that makes an account of ScaiSend.
const KEY_VARIABLE: &str = "SCAISEND_API_KEY";

/// Which account is set up, and with whose right.
#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// For which account of the configuration, if it has several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// For the account of this API
    #[arg(long, value_name = "KIND", value_parser = super::one_of(&ProviderKind::ALL, ProviderKind::name))]
    provider: Option<ProviderKind>,
    /// A file with ScaiSend's token, the JWT of a person [default: the variable SCAISEND_JWT]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// An id as an argument.
fn id(text: &str) -> Result<Id, String> {
    Id::parse(text)
}

/// An account, and what can be shown to its API.
struct Account {
    name: String,
    settings: Provider,
    token: Option<Secret>,
    /// Whether the token was named, and is not only there.
    token_given: bool,
    /// Why the account has no key.
    keyless: Vec<Problem>,
}

/// A call that is ready to be made.
struct Call<'a> {
    account: &'a Account,
    task: Task,
    request: Request,
    used: Credential,
    shown: Secret,
}

impl SetupArgs {
    /// The account; of several the one whose API has such a call.
    fn account(&self, offers: impl Fn(ProviderKind) -> bool) -> Result<Account, Failure> {
        let layers = self.config.layers();
        let token = self.token(&layers)?;
        let Accounts { mut accounts, mut keyless } =
            layers.accounts().map_err(|problems| Failure::config(&problems))?;
        let may_be_made = self.account.is_none() && token.is_some() && offers(ProviderKind::ScaiSend);
        if may_be_made && !self.fitting(&accounts).any(|(_, account)| offers(account.kind)) {
            Accounts { accounts, keyless } = without_key(layers)?;
        }
        let (name, settings) = self.pick(&accounts, offers)?;
        keyless.retain(|problem| problem.key.starts_with(&format!("providers.{name}.")));
        Ok(Account { name, settings, token, token_given: self.token_file.is_some(), keyless })
    }

    fn fitting<'a>(
        &'a self,
        accounts: &'a BTreeMap<String, Provider>,
    ) -> impl Iterator<Item = (&'a String, &'a Provider)> {
        accounts.iter().filter(|(name, account)| {
            self.account.as_ref().is_none_or(|wanted| wanted == *name)
                && self.provider.is_none_or(|kind| kind == account.kind)
        })
    }

    fn pick(
        &self,
        accounts: &BTreeMap<String, Provider>,
        offers: impl Fn(ProviderKind) -> bool,
    ) -> Result<(String, Provider), Failure> {
        let all: Vec<_> = self.fitting(accounts).collect();
        let able: Vec<_> = all.iter().copied().filter(|(_, account)| offers(account.kind)).collect();
        let found = if able.is_empty() { &all } else { &able };
        if let [(name, account)] = found.as_slice() {
            return Ok(((*name).clone(), (*account).clone()));
        }
        let names: Vec<&str> = accounts.keys().map(String::as_str).collect();
        let unknown = self.account.as_ref().filter(|name| !accounts.contains_key(*name));
        let text = if let (Some(name), false) = (unknown, names.is_empty()) {
            format!("there is no account {name}; there are: {}", names.join(", "))
        } else if names.is_empty() {
            format!(
                "no account: set NEXUSPROMAIL_API_KEY or {KEY_VARIABLE}, name a file with --config; or, for ScaiSend, a token is enough: {HOW_TO_GET_A_TOKEN}"
            )
        } else {
            format!("name one account of the configuration with --account: {}", names.join(", "))
        };
        Err(Failure::new(text).with_code(USAGE))
    }

    /// Out of the file, else out of the variable; never out of an argument, which every process on the machine can read.
    fn token(&self, layers: &Layers) -> Result<Option<Secret>, Failure> {
        let wrong = |text: String| Failure::new(text).with_code(USAGE);
        let (text, origin) = if let Some(path) = &self.token_file {
            let origin = path.display().to_string();
            let text = read_small(path).map_err(|e| wrong(format!("the token cannot be read: {origin}: {e}")))?;
            (text, origin)
        } else {
            let mut variables = layers.environment.iter().filter(|(name, _)| name == TOKEN_VARIABLE);
            let text = variables.next().map(|(_, text)| text.clone()).unwrap_or_default();
            if text.trim().is_empty() {
                return Ok(None);
            }
            (text, format!("the variable {TOKEN_VARIABLE}"))
        };
        let text = text.trim();
        if text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic()) {
            let what = "there is no token, or there are blanks and other characters in it that no token has";
            return Err(wrong(format!("{origin}: {what}; put in the token alone, without \"Bearer\"")));
        }
        Ok(Some(Secret::new(text)))
    }
}

/// The accounts with one of ScaiSend that has no key yet, where `SCAISEND_API_URL` says: to get the first one, one has a
/// token and nothing else.
fn without_key(mut layers: Layers) -> Result<Accounts, Failure> {
    layers.environment.push((KEY_VARIABLE.to_owned(), "none".to_owned()));
    let mut found = layers.accounts().map_err(|problems| Failure::config(&problems))?;
    for account in found.accounts.values_mut().filter(|account| account.kind == ProviderKind::ScaiSend) {
        account.api_key = account.api_key.take().filter(|key| key.expose() != "none");
    }
    Ok(found)
}

impl Account {
    /// Makes sure that there is such a call and the credential for it.
    fn prepare(&self, task: Task) -> Result<Call<'_>, Failure> {
        let request = setup::request(&self.settings, &task).map_err(Failure::new)?;
        if self.token_given && task.credential(self.settings.kind) == Credential::Key {
            let text = "--token-file is for ScaiSend: this API takes the account's key; leave it out";
            return Err(Failure::new(text).with_code(USAGE));
        }
        let (used, shown) = match (task.credential(self.settings.kind), &self.token) {
            (Credential::Token | Credential::Either, Some(token)) => (Credential::Token, token),
            (Credential::Token, None) => {
                let text = format!("an API key may not do this, it takes a person's token: {HOW_TO_GET_A_TOKEN}");
                return Err(Failure::new(text).with_code(USAGE));
            }
            (Credential::Key | Credential::Either, _) => (Credential::Key, self.key()?),
        };
        Ok(Call {
            account: self,
            request: Request { api_key: Some(shown.clone()), ..request },
            task,
            used,
            shown: shown.clone(),
        })
    }

    fn key(&self) -> Result<&Secret, Failure> {
        self.settings.api_key.as_ref().ok_or_else(|| match self.keyless.as_slice() {
            [] => {
                Failure::new(format!("the account {} has no API key: give it api_key_file", self.name)).with_code(USAGE)
            }
            problems => Failure::config(problems),
        })
    }

    /// One call whose answer is JSON.
    fn ask(&self, task: Task) -> Result<Value, Failure> {
        self.prepare(task)?.json()
    }
}

impl Call<'_> {
    /// Makes the call.
    fn send(&self) -> Result<Response, Failure> {
        let url = &self.request.url;
        let answer = app::ask(&self.account.settings, &self.request, PATIENCE);
        let response = answer.map_err(|error| match error {
            TransportError::NotSent { detail, .. } => Failure::new(format!(
                "{url} cannot be reached: {detail}; see base_url (and ca_file) of the account {}",
                self.account.name
            )),
            TransportError::Lost { detail } => {
                Failure::new(format!("no answer from {url}: {detail}; it may have been done all the same: look at the list before you try again"))
            }
        })?;
        if refusal::is_done(&response) {
            return Ok(response);
        }
        let kind = self.account.settings.kind;
        Err(Failure::new(refusal::sentence(kind, &self.task, self.used, &self.shown, &response)))
    }

    /// Makes the call, and reads its answer.
    fn json(&self) -> Result<Value, Failure> {
        reading::json(&self.send()?).map_err(Failure::new)
    }
}

/// JSON as the output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
    sayln!("{text}");
    Ok(())
}
