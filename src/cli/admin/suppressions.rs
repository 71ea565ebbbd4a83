//! `suppressions`: the addresses that are not sent to.

use clap::{Args, Subcommand};
use http::Method;

use super::transfer::{Export, Import};
use super::{AdminArgs, Failure, ListArgs, Target, WHERE, note, print_json};
use crate::address::Address;
use crate::cli::table::{Column, moment, or_dash, printable};
use crate::cli::{acts, one_of};
use crate::suppression::{Reason, Scope};
use crate::web::admin::wire::{Added, NewSuppression, Removed, SuppressionEntry};

/// List, add, remove, import and export the addresses that are not sent to
///
/// They are refused at RCPT with 550 5.7.1. They come from the providers' events, from the providers' answers, and from
/// you.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub struct Suppressions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List suppressed addresses, by address
    List(List),
    /// Put an address on the list
    Add(Add),
    /// Take an address off the list, so that it is sent to again
    Remove(Remove),
    /// Put the addresses of a file on the list: our own export, or a provider's
    Import(Import),
    /// Write the whole list
    Export(Export),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sidepost suppressions list --reason complaint\n  sidepost suppressions list --address ann@example.com --json"
)]
struct List {
    /// Of this address
    #[arg(long, value_name = "ADDRESS", value_parser = crate::cli::any_address)]
    address: Option<Address>,
    /// Of this scope: *, account:NAME or domain:mail.example.com
    #[arg(long)]
    scope: Option<Scope>,
    /// For this reason: bounce, complaint, unsubscribe, manual …
    #[arg(long, value_parser = one_of(Reason::ALL, Reason::name))]
    reason: Option<Reason>,
    #[command(flatten)]
    shown: ListArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sidepost suppressions add ann@example.com --note \"asked us by phone\"\n  sidepost suppressions add ann@example.com --scope account:main --until 30d"
)]
struct Add {
    /// The address
    #[arg(value_parser = crate::cli::any_address, allow_hyphen_values = true)]
    address: Address,
    /// Whose mail it gets no more: everybody's (*), account:NAME, or domain:mail.example.com (of MAIL FROM)
    #[arg(long, default_value = "*")]
    scope: Scope,
    /// Why: manual, bounce, complaint, unsubscribe …
    #[arg(long, default_value = "manual", value_parser = one_of(Reason::ALL, Reason::name))]
    reason: Reason,
    /// Until when: 30d, 2027-01-31, 2027-01-31T12:00:00Z [default: until it is removed]
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// What you know it from
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Events from before do not bring it back. Exit code 1: it was not on the list.\n\nExample:\n  sidepost suppressions remove ann@example.com"
)]
struct Remove {
    /// The address
    #[arg(value_parser = crate::cli::any_address, allow_hyphen_values = true)]
    address: Address,
    /// Of this scope only [default: of all]
    #[arg(long)]
    scope: Option<Scope>,
    /// Print a JSON object for each entry that was there
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

impl Suppressions {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::List(list) => list.run(),
            Action::Add(add) => add.run(),
            Action::Remove(remove) => remove.run(),
            Action::Import(import) => import.run(),
            Action::Export(export) => export.run(),
        }
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let target = Target::new("/api/suppressions")
            .with("address", self.address.as_ref().map(Address::as_str))
            .with("scope", self.scope.as_ref().map(ToString::to_string).as_deref())
            .with("reason", self.reason.map(Reason::name));
        let columns = [
            Column("ADDRESS", true),
            Column("SCOPE", true),
            Column("REASON", false),
            Column("SINCE", false),
            Column("UNTIL", false),
        ];
        self.shown.print(&target, "suppressions", &columns, |entry: &SuppressionEntry| {
            let until = entry.until.as_deref().map(moment);
            vec![
                entry.address.clone(),
                entry.scope.clone(),
                entry.reason.clone(),
                moment(&entry.since),
                or_dash(until.as_deref()),
            ]
        })
    }
}

impl Add {
    fn run(&self) -> Result<(), Failure> {
        acts();
        if self.address.local() == "*" {
            let domain = self.address.domain();
            note(&format!(
                "note: * is no pattern here, but a mailbox; smtp.recipients.deny = [\"*@{domain}\"] refuses all of them"
            ));
        }
        let new = NewSuppression {
            address: self.address.to_string(),
            scope: Some(self.scope.to_string()),
            reason: Some(self.reason.name().to_owned()),
            until: self.until.clone(),
            evidence: self.note.clone(),
            ..NewSuppression::default()
        };
        let added: Added = self.of.open()?.ask(&Method::POST, "/api/suppressions", Some(&new))?;
        warn_of(&added.unknown_accounts);
        if self.json {
            return print_json(&added);
        }
        let (address, scope) = (&self.address, whose(&self.scope.to_string()));
        if added.added == 0 {
            sayln!("{address} was on the list already; the longer time counts.");
        } else {
            sayln!("{address} is suppressed for {scope}: mail to it is refused with 550 5.7.1 from now on.");
        }
        Ok(())
    }
}

/// A scope in words.
fn whose(scope: &str) -> String {
    match scope.split_once(':') {
        Some(("account", name)) => format!("mail of the account {name}"),
        Some((_, domain)) => format!("mail from {domain}"),
        None => "all mail".to_owned(),
    }
}

pub(super) fn warn_of(accounts: &[String]) {
    if !accounts.is_empty() {
        note(&format!("note: the configuration has no account {}; is it a slip?", accounts.join(", ")));
    }
}

impl Remove {
    fn run(&self) -> Result<(), Failure> {
        acts();
        let target = Target::of("/api/suppressions", self.address.as_str());
        let target = target.with("scope", self.scope.as_ref().map(ToString::to_string).as_deref());
        let removed: Removed = self.of.open()?.ask(&Method::DELETE, &target.0, None::<&()>)?;
        if self.json {
            return removed.removed.iter().try_for_each(print_json);
        }
        for entry in &removed.removed {
            let evidence = if entry.evidence.is_empty() { String::new() } else { format!(": {}", entry.evidence) };
            let (since, scope) = (moment(&entry.since), whose(&entry.scope));
            let line = format!(
                "{} is off the list for {scope} (was: {} since {since}{evidence})",
                entry.address, entry.reason
            );
            sayln!("{}", printable(&line));
        }
        sayln!("It is sent to again. Events that came before now will not bring it back; a new one would.");
        let is_known =
            |entry: &SuppressionEntry| entry.source.starts_with("webhook:") || entry.source.starts_with("api:");
        if removed.removed.iter().any(is_known) {
            sayln!("The provider may have it on a list of its own, too, and drop the mail: take it off there as well.");
        }
        Ok(())
    }
}
