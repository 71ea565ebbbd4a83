//! `webhooks`: where the provider sends its events.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::secret_file::{OutArgs, SecretFile};
use super::{Account, SetupArgs, note, print_json};
use crate::cli::table::{columns, printable, yes_or_no};
use crate::cli::{Failure, USAGE, was_read};
use crate::provider::setup::reading::{self, Made, Webhook};
use crate::provider::setup::{self, Id, Task};
use crate::secret::Secret;

/// Register, list and renew the provider's webhooks, whose events tell what became of mails
#[derive(Debug, Args)]
#[command(
    after_help = "The provider sends events (bounces, complaints, unsubscribes) to the address that is registered, and signs them with a secret that it tells once; sidepost believes no others.\n\nNexusProMail: with the account's API key; `register` is the only call that it documents.\nScaiSend: with a token (SCAISEND_JWT), else with the account's API key, if that has webhooks.read and webhooks.write."
)]
pub struct Webhooks {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a webhook and print its signing secret, which is shown this once
    Register(Register),
    /// List the webhooks, and whether their events arrive
    List(List),
    /// Delete a webhook: its events are sent no more
    Delete(One),
    /// Give a webhook a new signing secret; the old one is void at once
    Rotate(Rotate),
    /// Switch a webhook on again: ScaiSend switches it off after 10 failures in a row
    Enable(One),
}

/// A new webhook.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sidepost webhooks register --url https://mail.example.com/webhooks/main --out /run/secrets/webhook\n\nThe secret then goes into providers.NAME.webhook_secrets, or its file into webhook_secrets_file. Each registration gets every event: delete the ones that are not needed any more."
)]
struct Register {
    /// Where the provider sends the events: sidepost's webhook receiver, as the internet sees it, with the path
    /// /webhooks/ACCOUNT
    #[arg(long, value_name = "URL", value_parser = setup::webhook_url)]
    url: String,
    /// Which events, in the provider's words, or * for all of ScaiSend's [default: those that sidepost makes use of]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    events: Vec<String>,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    of: SetupArgs,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    of: SetupArgs,
}

#[derive(Debug, Args)]
struct One {
    /// The webhook's id, as `list` shows it
    #[arg(value_parser = super::id)]
    id: Id,
    #[command(flatten)]
    of: SetupArgs,
}

/// A new secret.
#[derive(Debug, Args)]
#[command(
    after_help = "The old secret signs nothing more from this moment. Put the new one beside it into providers.NAME.webhook_secrets at once, and restart the relay: what arrives until then is refused, and ScaiSend sends it again for about four hours."
)]
struct Rotate {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    out: OutArgs,
}

impl Webhooks {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        crate::cli::acts();
        match &self.action {
            Action::Register(register) => register.run(),
            Action::List(list) => list.run(),
            Action::Delete(one) => one.delete(),
            Action::Rotate(rotate) => rotate.run(),
            Action::Enable(one) => one.enable(),
        }
    }
}

impl Register {
    fn run(&self) -> Result<(), Failure> {
        let account = self.of.account(|kind| !setup::events(kind).is_empty())?;
        let events = setup::events_or_default(account.settings.kind, &self.events)
            .map_err(|text| Failure::new(text).with_code(USAGE))?;
        let call = account.prepare(Task::RegisterWebhook { url: self.url.clone(), events: events.clone() })?;
        let file = self.out.open()?;
        let made = reading::webhook_secret(&call.json()?);
        let about = [("account", json!(account.name)), ("url", json!(self.url)), ("events", json!(events))];
        hand_over(&self.of, &account, &made, file, &about)?;
        let path = format!("/webhooks/{}", account.name);
        let uri: Option<http::Uri> = self.url.parse().ok();
        if uri.is_none_or(|uri| !uri.path().ends_with(&path)) {
            note(&format!(
                "Note: sidepost receives the events of this account at the path {path}; see that the URL leads there."
            ));
        }
        Ok(())
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let account = self.of.account(|kind| setup::offers(kind, &Task::ListWebhooks))?;
        let listed = reading::webhooks(&account.ask(Task::ListWebhooks)?);
        if self.of.json {
            return print_json(&json!({ "webhooks": listed.items, "total": listed.total }));
        }
        if listed.items.is_empty() {
            sayln!("The account {} has no webhook; `sidepost webhooks register` makes one.", account.name);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = listed.items.iter().map(row).collect();
        say!("{}", columns(&["ID", "EVENTS SENT", "FAILURES", "LAST TAKEN", "URL", "EVENTS"], &rows));
        for off in listed.items.iter().filter(|webhook| webhook.enabled == Some(false)) {
            sayln!("\n{} is switched off: mend its receiver, then `sidepost webhooks enable {}`.", off.id, off.id);
        }
        let shown = listed.items.len() as u64;
        if let Some(total) = listed.total.filter(|total| *total > shown) {
            sayln!("\nThese are the first {shown} of {total}.");
        }
        Ok(())
    }
}

fn row(webhook: &Webhook) -> Vec<String> {
    let sent = yes_or_no(webhook.enabled);
    let failures = webhook.failures.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let last = webhook.last_success_at.clone().unwrap_or_else(|| "-".to_owned());
    vec![webhook.id.clone(), sent.to_owned(), failures, last, webhook.url.clone(), webhook.events.join(",")]
}

impl One {
    fn account(&self, task: &Task) -> Result<Account, Failure> {
        self.of.account(|kind| setup::offers(kind, task))
    }

    fn delete(&self) -> Result<(), Failure> {
        let task = Task::DeleteWebhook(self.id.clone());
        self.account(&task)?.prepare(task)?.send()?;
        self.done("deleted", "is deleted; its secret can leave webhook_secrets")
    }

    fn enable(&self) -> Result<(), Failure> {
        let task = Task::EnableWebhook(self.id.clone());
        self.account(&task)?.prepare(task)?.send()?;
        self.done("enabled", "is switched on")
    }

    fn done(&self, word: &str, sentence: &str) -> Result<(), Failure> {
        let id = self.id.as_str();
        if self.of.json {
            return print_json(&Value::Object([(word.to_owned(), json!(id))].into_iter().collect()));
        }
        sayln!("{id} {sentence}.");
        Ok(())
    }
}

impl Rotate {
    fn run(&self) -> Result<(), Failure> {
        let (id, of) = (&self.one.id, &self.one.of);
        let task = Task::RotateSecret(id.clone());
        let account = self.one.account(&task)?;
        let call = account.prepare(task)?;
        let file = self.out.open()?;
        note(&format!("The old secret of {} is void from the moment that the new one is made.", id.as_str()));
        let mut made = reading::webhook_secret(&call.json()?);
        made.id = Some(id.as_str().to_owned());
        hand_over(of, &account, &made, file, &[("account", json!(account.name))])?;
        if !of.json {
            sayln!(
                "Do it now: events signed with the new secret are refused until it is there. ScaiSend sends them again after\n1, 5, 15, 60 and 120 minutes. Keep the old one in the list until the running relay has the new one."
            );
        }
        Ok(())
    }
}

/// What to do when the secret was printed to nobody.
const ONCE: &str = "the secret was in it, and is not shown again; `sidepost webhooks rotate` makes a new one";

/// Prints what was made. The secret goes into the file, if there is one, else it is printed: this once.
fn hand_over(
    of: &SetupArgs,
    account: &Account,
    made: &Made,
    file: Option<SecretFile>,
    about: &[(&str, Value)],
) -> Result<(), Failure> {
    let mut about: Map<String, Value> = about.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if let Some(id) = &made.id {
        about.insert("id".to_owned(), json!(id));
    }
    let Some(secret) = &made.secret else {
        // Nobody knows which part of it is the secret, and it is shown only once.
        sayln!("{}", printable(&made.answer));
        let text = "no field of the answer is known to be the signing secret; the whole answer is printed above";
        return Err(Failure::new(text));
    };
    let (key, value) = kept(secret, file);
    about.insert(key.to_owned(), json!(&value));
    if of.json {
        print_json(&about)?;
        return if key == "secret" { was_read(ONCE) } else { Ok(()) };
    }
    let text = |value: &Value| match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        value => value.as_str().unwrap_or_default().to_owned(),
    };
    for name in ["id", "account", "url", "events", key] {
        if let Some(value) = about.get(name) {
            sayln!("{name:<12} {}", text(value));
        }
    }
    sayln!("{}", where_it_goes(&account.name, key, &value));
    if key == "secret" { was_read(ONCE) } else { Ok(()) }
}

/// What to do with a webhook's secret.
fn where_it_goes(account: &str, key: &str, value: &str) -> String {
    let setting = if key == "secret" {
        format!("The secret is shown this once. Put it into providers.{account}.webhook_secrets")
    } else {
        format!(
            "The secret is in {value} (mode 0600). Name that in providers.{account}.webhook_secrets_file (one a line)"
        )
    };
    format!(
        "\n{setting}, and restart the relay, which\nbelieves the events that are signed with it. Old and new secrets can stand there beside each other."
    )
}

/// Where the secret is now: the name of the field that says so, and what it says.
pub(super) fn kept(secret: &Secret, file: Option<SecretFile>) -> (&'static str, String) {
    match file.map(|file| file.keep(secret)) {
        Some(Ok(path)) => ("secret_file", path),
        Some(Err(text)) => {
            note(&text);
            ("secret", secret.expose().to_owned())
        }
        None => ("secret", secret.expose().to_owned()),
    }
}
