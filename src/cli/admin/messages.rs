//! `messages`: what became of a mail.

use clap::{Args, Subcommand};

use super::{AdminArgs, Failure, ListArgs, Target, WHERE, print_json, story};
use crate::address::Address;
use crate::cli::table::{Column, moment, or_dash};
use crate::web::admin::wire::{MessageEntry, MessageWhole, ProviderMessages};

/// Tell what became of a mail
///
/// Did my mail arrive? The log of messages (one line for each recipient, kept for state.keep_messages), what the provider
/// reported, and what it says when it is asked.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub struct Messages {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List recipients of mails, the newest first
    List(List),
    /// Tell all that is known of one mail
    Show(Show),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sidepost messages list --recipient ann@example.com\n  sidepost messages list --since 2h --outcome suppressed\n  sidepost messages list --recipient ann@example.com --at-provider"
)]
struct List {
    /// To this address
    #[arg(long, visible_alias = "to", value_name = "ADDRESS", value_parser = crate::cli::any_address)]
    recipient: Option<Address>,
    /// From this address (MAIL FROM)
    #[arg(long, visible_alias = "from", value_name = "ADDRESS", value_parser = crate::cli::any_address)]
    sender: Option<Address>,
    /// With this id, the relay's or the provider's
    #[arg(long)]
    id: Option<String>,
    /// By this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// With this outcome: accepted, or a name out of `sidepost replies`
    #[arg(long)]
    outcome: Option<String>,
    /// Not before: a time, a date, or so long ago: 2026-11-22T09:00:00Z, 2026-11-22, 2d, 12h
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Before
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// The provider's own list instead (ScaiSend), which also knows what this log forgot; by recipient only
    #[arg(long, requires = "recipient", conflicts_with_all = ["sender", "id", "outcome", "since", "until", "all"])]
    at_provider: bool,
    #[command(flatten)]
    shown: ListArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The first lines say what became of it; below is how it came to that, and what the provider says now.\n\nExample:\n  sidepost messages show 0193a1f0c0de7000a000000000000001"
)]
struct Show {
    /// The relay's id, as in the reply and in the log, or the provider's
    id: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

impl Messages {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::List(list) if list.at_provider => list.at_provider(),
            Action::List(list) => list.run(),
            Action::Show(show) => show.run(),
        }
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let target = Target::new("/api/messages")
            .with("recipient", self.recipient.as_ref().map(Address::as_str))
            .with("sender", self.sender.as_ref().map(Address::as_str))
            .with("id", self.id.as_deref())
            .with("account", self.account.as_deref())
            .with("outcome", self.outcome.as_deref())
            .with("since", self.since.as_deref())
            .with("until", self.until.as_deref());
        let columns = [Column("TIME", false), Column("STATE", false), Column("RECIPIENT", true), Column("ID", false)];
        self.shown.print(&target, "messages", &columns, |line: &MessageEntry| {
            let last = line.last_event.as_ref().map(|event| event.kind.clone());
            vec![
                moment(&line.at),
                last.unwrap_or_else(|| line.outcome.clone()),
                line.recipient.clone(),
                line.id.clone(),
            ]
        })
    }

    fn at_provider(&self) -> Result<(), Failure> {
        let target = Target::new("/api/provider/messages")
            .with("to_email", self.recipient.as_ref().map(Address::as_str))
            .with("account", self.account.as_deref());
        let answer: ProviderMessages = self.shown.of.open()?.get(&target.0)?;
        let columns = ["CREATED", "STATUS", "ID", "SUBJECT"].map(|name| Column(name, name == "SUBJECT"));
        let messages = answer.messages.get(..self.shown.most()).unwrap_or(&answer.messages);
        let rows = self.shown.show(messages, |message| {
            vec![
                or_dash(message.created.as_deref().map(moment).as_deref()),
                message.status.clone(),
                message.id.clone(),
                or_dash(message.subject.as_deref()),
            ]
        })?;
        self.shown.finish(&columns, &rows, messages.len() < answer.messages.len());
        Ok(())
    }
}

impl Show {
    fn run(&self) -> Result<(), Failure> {
        let target = Target::of("/api/messages", &self.id);
        let whole: MessageWhole = self.of.open()?.get(&target.0)?;
        if self.json {
            return print_json(&whole);
        }
        say!("{}", story::tell(&whole));
        Ok(())
    }
}
