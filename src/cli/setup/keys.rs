//! `keys`: an API key that can do what a sender needs and no more.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::secret_file::OutArgs;
use super::webhooks::kept;
use super::{SetupArgs, print_json};
use crate::cli::table::printable;
use crate::cli::{Failure, was_read};
use crate::provider::setup::reading;
use crate::provider::setup::{self, NewKey, Task};

/// Make an API key that can send and no more (ScaiSend)
#[derive(Debug, Args)]
#[command(after_help = "This takes a token, in the variable SCAISEND_JWT or in --token-file: keys may not make keys.")]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, this once, or put it into a file
    Create(Create),
}

/// A new key.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sidepost keys create --name transactional-prod --environment live --out /run/secrets/scaisend-key\n\nMake a second one with --environment test for CI: what is sent with it is never delivered."
)]
struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// live delivers; test takes mail and never delivers it
    #[arg(long, value_parser = PossibleValuesParser::new(["live", "test"]))]
    environment: String,
    /// What it may do. For sending mail.send is enough; mail.schedule is for mails that ask for a time, suppressions.read,
    /// webhooks.read, webhooks.write and stats.read for those commands
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "mail.send", value_parser = NonEmptyStringValueParser::new())]
    scopes: Vec<String>,
    /// Until when, as 2027-01-31 or 2027-01-31T12:00:00Z [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<String>,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    of: SetupArgs,
}

/// A day or a moment, as a moment (RFC 3339).
fn time(text: &str) -> Result<String, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let parsed = humantime::parse_rfc3339(&whole);
    match parsed {
        Ok(time) if time <= SystemTime::now() => Err("is over; the key would be good for nothing".to_owned()),
        Ok(_) => Ok(whole),
        Err(_) => Err("is no time like 2027-01-31 or 2027-01-31T12:00:00Z".to_owned()),
    }
}

impl Keys {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        crate::cli::acts();
        match &self.action {
            Action::Create(create) => create.run(),
        }
    }
}

/// What to do when the key was printed to nobody.
const ONCE: &str =
    "the key was in it, and is not shown again; delete it in ScaiSend's admin pages, and make another one";

impl Create {
    fn run(&self) -> Result<(), Failure> {
        let task = Task::CreateKey(NewKey {
            name: self.name.clone(),
            environment: self.environment.clone(),
            scopes: self.scopes.clone(),
            expires_at: self.expires_at.clone(),
        });
        let account = self.of.account(|kind| setup::offers(kind, &task))?;
        let call = account.prepare(task)?;
        let file = self.out.open()?;
        let made = reading::api_key(&call.json()?);
        let Some(key) = &made.secret else {
            sayln!("{}", printable(&made.answer));
            return Err(Failure::new(
                "no field of the answer is known to be the key; the whole answer is printed above",
            ));
        };
        let (field, value) = kept(key, file);
        if self.of.json {
            let field = if field == "secret" { "api_key" } else { "api_key_file" };
            let scopes = &self.scopes;
            let about = [("id", json!(made.id)), ("name", json!(self.name)), ("environment", json!(self.environment))];
            let rest = [("scopes", json!(scopes)), (field, json!(value))];
            print_json(&about.into_iter().chain(rest).collect::<BTreeMap<&str, Value>>())?;
            return if field == "api_key" { was_read(ONCE) } else { Ok(()) };
        }
        if field == "secret" {
            sayln!(
                "{value}\n\nThis is the key, shown this once. Store it in a file that only sidepost may read (mode 0600), in your secrets folder,\nand name that: providers.{}.api_key_file = \"/run/secrets/scaisend-key\". Next time --out FILE does it.",
                account.name
            );
            return was_read(ONCE);
        }
        sayln!(
            "The key is in {value} (mode 0600). Name it in the configuration:\n\n[providers.{}]\nkind = \"scaisend\"\napi_key_file = \"{value}\"",
            account.name
        );
        Ok(())
    }
}
