//! `events`: what the providers reported, and working through it again.

use clap::{Args, Subcommand};
use http::Method;

use super::{AdminArgs, Failure, ListArgs, Target, WHERE, note, print_json};
use crate::cli::one_of;
use crate::cli::table::{Column, counted, moment, or_dash, printable};
use crate::feedback::EventKind;
use crate::web::admin::wire::{EventEntry, EventWhole, Replay, Replayed};

/// List what the providers reported, and work through it again
///
/// What the providers' webhooks reported, as it is kept for state.keep_events.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub struct Events {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List events, the newest first
    List(List),
    /// Show one event as it came
    Show(Show),
    /// Work through events again, after a change of [suppression] say; what they did already they do not do twice
    Replay(ReplayArgs),
}

/// Which events.
#[derive(Debug, Clone, Args)]
struct Which {
    /// Received before: a time, a date, or so long ago
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// By this account's webhook
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Of this sort: bounced.hard, complained, delivered …
    #[arg(long, value_name = "KIND", value_parser = one_of(EventKind::ALL, EventKind::name))]
    kind: Option<EventKind>,
    /// About this address
    #[arg(long, visible_alias = "to", value_name = "ADDRESS")]
    recipient: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sidepost events list --kind bounced.hard --since 2d\n  sidepost events list --recipient ann@example.com --json"
)]
struct List {
    /// Received not before: a time, a date, or so long ago: 2026-11-22T09:00:00Z, 2026-11-22, 2d, 12h
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// About this message of the provider's
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shown: ListArgs,
}

#[derive(Debug, Args)]
struct Show {
    /// Its number, as `list` shows it
    number: u64,
    /// As a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "What came is read anew; what an event did before is not done twice, and whom an operator\n\
                  took off the list since stays off.\n\n\
                  Examples:\n  sidepost events replay --since 2d\n  sidepost events replay --since 2026-11-20 --kind complained --dry-run")]
struct ReplayArgs {
    /// Received not before: a time, a date, or so long ago: 2026-11-22T09:00:00Z, 2026-11-22, 2d, 12h
    #[arg(long, value_name = "WHEN")]
    since: String,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// As a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    of: AdminArgs,
}

impl Events {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::List(list) => list.run(),
            Action::Show(show) => show.run(),
            Action::Replay(replay) => replay.run(),
        }
    }
}

impl Which {
    fn target(&self, since: Option<&str>) -> Target {
        Target::new("/api/events")
            .with("since", since)
            .with("until", self.until.as_deref())
            .with("account", self.account.as_deref())
            .with("kind", self.kind.map(EventKind::name))
            .with("recipient", self.recipient.as_deref())
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let target = self.which.target(self.since.as_deref()).with("message_id", self.message_id.as_deref());
        let columns = [
            Column("NUMBER", false),
            Column("RECEIVED", false),
            Column("KIND", false),
            Column("ACCOUNT", true),
            Column("RECIPIENT", true),
            Column("MESSAGE", true),
        ];
        self.shown.print(&target, "events", &columns, |event: &EventEntry| {
            vec![
                event.number.to_string(),
                moment(&event.received),
                event.kind.clone(),
                event.account.clone(),
                or_dash(event.recipient.as_deref()),
                or_dash(event.message_id.as_deref()),
            ]
        })
    }
}

impl Show {
    fn run(&self) -> Result<(), Failure> {
        let event: EventWhole = self.of.open()?.get(&format!("/api/events/{}", self.number))?;
        if self.json {
            return print_json(&event);
        }
        let EventWhole { event, raw } = event;
        let word =
            if event.word == event.kind { String::new() } else { format!(" (the provider's word: {})", event.word) };
        let row = |name: &str, value: String| sayln!("{name:<12}{}", printable(&value));
        row("event", format!("{} {}{word}", event.number, event.kind));
        row("happened", moment(&event.at));
        row("received", format!("{} by the webhook of {}", moment(&event.received), event.account));
        row("processed", if event.processed { "yes" } else { "not yet" }.to_owned());
        row("event id", event.event_id);
        row("message", or_dash(event.message_id.as_deref()));
        row("recipient", or_dash(event.recipient.as_deref()));
        row("reason", or_dash(event.reason.as_deref()));
        sayln!("\n{}", printable(raw.trim_end()));
        Ok(())
    }
}

impl ReplayArgs {
    fn run(&self) -> Result<(), Failure> {
        let client = self.of.open()?;
        let events = if self.dry_run {
            let mut events = 0;
            client.pages(&self.which.target(Some(&self.since)), "events", usize::MAX, |page: Vec<EventEntry>| {
                events += page.len();
                Ok(())
            })?;
            events
        } else {
            let replay = Replay {
                since: self.since.clone(),
                until: self.which.until.clone(),
                account: self.which.account.clone(),
                kind: self.which.kind.map(|kind| kind.name().to_owned()),
                recipient: self.which.recipient.clone(),
            };
            client.ask::<Replayed>(&Method::POST, "/api/events/replay", Some(&replay))?.events
        };
        if self.json {
            return print_json(&Replayed { events });
        }
        match (self.dry_run, client.is_stopped()) {
            (true, _) => sayln!("{} would be worked through again", counted(events, "event", "events")),
            (false, false) => sayln!("{} worked through again", counted(events, "event is", "events are")),
            (false, true) => {
                sayln!("{} will be worked through again when the relay runs", counted(events, "event", "events"));
            }
        }
        if events == 0 {
            note("there is none that fits; `sidepost events list` shows those that there are");
        }
        Ok(())
    }
}
