//! `suppressions`: the addresses that are not sent to.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;

use super::exchange::{self, CsvOut, Defaults};
use super::{AdminArgs, Client, Failure, ListArgs, Target, WHERE, note, print_json};
use crate::address::Address;
use crate::cli::table::{Column, counted, moment, or_dash, printable};
use crate::cli::{acts, read_input};
use crate::suppression::{Reason, Scope};
use crate::web::admin::wire::{Added, NewSuppression, Removed, SuppressionEntry};

/// Entries that are put on the list at a time.
const CHUNK: usize = 1000;
/// Largest file that is imported, in octets: some millions of addresses.
const LARGEST: u64 = 512 << 20;
/// So often a long import says how far it is.
const EACH: usize = 10_000;

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
    #[arg(long)]
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
    #[arg(long, default_value = "manual")]
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

#[derive(Debug, Args)]
#[command(
    after_help = "It reads CSV with a column \"email\" or \"address\" (and reason, created, status, scope, until, in any order), and JSON: the answers of GET /v3/suppression/bounces and its like, or our own export. What is on the list already stays. What has no end of its own ends like what an event of its sort would have put there: soft bounces and blocks after suppression.soft_bounce_expiry. Exit code 1: some lines could not be read; they are named, and all others are on the list; or the answer is one page of a longer list.\n\nExamples:\n  sidepost suppressions import bounces.csv --reason bounce --scope account:main\n  curl -H \"Authorization: Bearer $KEY\" \"$URL/v3/suppression/bounces?limit=500\" |\n    sidepost suppressions import -"
)]
struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// Why, for lines that do not say it
    #[arg(long)]
    reason: Option<Reason>,
    /// Whose mail, for lines that do not say it [default: *]
    #[arg(long)]
    scope: Option<Scope>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sidepost suppressions export --format json backup.jsonl")]
struct Export {
    /// The file [default: standard output]
    file: Option<PathBuf>,
    /// csv, or json: one object a line
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Json,
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

fn warn_of(accounts: &[String]) {
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

impl Import {
    fn run(&self) -> Result<(), Failure> {
        acts();
        let octets = read_input(&self.file, LARGEST)
            .map_err(|e| Failure::new(format!("{} cannot be read: {e}", self.file.display())))?;
        let defaults = Defaults { scope: self.scope.clone(), reason: self.reason };
        let rows = exchange::read(&octets, &defaults, SystemTime::now());
        let mut rows = rows.map_err(|e| Failure::new(format!("{}: {e}", self.file.display())))?;
        let good = std::mem::take(&mut rows.good);
        let found = good.len();
        let mut done = Done::default();
        if !self.dry_run && found > 0 {
            let client = self.of.open()?;
            for chunk in good.chunks(CHUNK) {
                let before = done.count();
                let sent = done.send(&client, chunk, &mut rows.bad);
                sent.map_err(|failure| {
                    Failure::new(format!(
                        "{}\n{} of {found} are on the list; import the file again, what is there already does no harm",
                        failure.message,
                        done.count()
                    ))
                })?;
                if found > EACH && done.count() / EACH > before / EACH {
                    note(&format!("{} of {found}", done.count()));
                }
            }
        }
        warn_of(&done.unknown);
        rows.over += done.over;
        rows.bad.iter().for_each(|(place, why)| note(&format!("{place}: {why}")));
        let bad = rows.bad.len();
        if self.json {
            print_json(
                &serde_json::json!({ "found": found, "added": done.added, "known": done.known, "over": rows.over, "bad": bad, "dry_run": self.dry_run }),
            )?;
        } else if self.dry_run {
            sayln!("{} would be put on the list", counted(found, "address", "addresses"));
        } else {
            let all = counted(done.count(), "address is", "addresses are");
            sayln!("{all} on the list now: {} new, {} known before", done.added, done.known);
        }
        if found + bad + rows.over == 0 {
            note("there is no address in the file");
        }
        if rows.over > 0 {
            let over = counted(rows.over, "entry was", "entries were");
            note(&format!("{over} left out: the time of it is over"));
        }
        if rows.missing > 0 {
            return Err(Failure::new(format!(
                "the list has {} more than this page of it: import the other pages, too (limit=500&offset=500 and so on)",
                counted(rows.missing, "entry", "entries")
            )));
        }
        match bad {
            0 => Ok(()),
            1 => Err(Failure::new("1 line cannot be read; it is named above")),
            _ => Err(Failure::new(format!("{bad} lines cannot be read; they are named above"))),
        }
    }
}

/// How far an import is.
#[derive(Debug, Default)]
struct Done {
    added: usize,
    known: usize,
    over: usize,
    unknown: Vec<String>,
}

impl Done {
    fn count(&self) -> usize {
        self.added + self.known
    }

    /// Puts a part on the list. Should the relay find fault with it, half by half: one bad line is to spoil no other.
    fn send(
        &mut self,
        client: &Client,
        rows: &[(exchange::Place, NewSuppression)],
        bad: &mut Vec<(exchange::Place, String)>,
    ) -> Result<(), Failure> {
        let entries: Vec<&NewSuppression> = rows.iter().map(|(_, entry)| entry).collect();
        let (status, answer) = client.call(&Method::POST, "/api/suppressions", Some(&entries))?;
        let failure = match client.read::<Added>(status, &answer) {
            Ok(added) => {
                self.added += added.added;
                self.known += added.known;
                self.over += added.over;
                self.unknown.extend(added.unknown_accounts);
                self.unknown.sort_unstable();
                self.unknown.dedup();
                return Ok(());
            }
            Err(failure) => failure,
        };
        match rows {
            [(place, _)] if status == 400 => {
                bad.push((place.clone(), failure.message));
                Ok(())
            }
            _ if status == 400 || status == 413 => {
                let (one, other) = rows.split_at(rows.len() / 2);
                self.send(client, one, bad)?;
                self.send(client, other, bad)
            }
            _ => Err(failure),
        }
    }
}

impl Export {
    fn run(&self) -> Result<(), Failure> {
        let client = self.of.open()?;
        let as_json = self.json || self.format == Format::Json;
        let mut out = Out::open(self.file.as_ref())?;
        let wrong = |e: String| Failure::new(e);
        let mut csv = CsvOut::new().map_err(wrong)?;
        let mut count = 0;
        client.pages(
            &Target::new("/api/suppressions"),
            "suppressions",
            usize::MAX,
            |page: Vec<SuppressionEntry>| {
                count += page.len();
                let mut octets = Vec::new();
                for entry in &page {
                    if as_json {
                        serde_json::to_writer(&mut octets, entry).map_err(|e| Failure::new(e.to_string()))?;
                        octets.push(b'\n');
                    } else {
                        csv.write(entry).map_err(wrong)?;
                    }
                }
                if !as_json {
                    octets = csv.take().map_err(wrong)?;
                }
                out.write(&octets)
            },
        )?;
        if out.finish()? {
            sayln!("{} in the file", counted(count, "entry is", "entries are"));
        }
        Ok(())
    }
}

/// Where an export goes. A file is written beside the one that is there, and takes its place when it is whole.
enum Out {
    Standard,
    File { path: PathBuf, beside: Option<PathBuf>, file: File },
}

impl Out {
    fn open(file: Option<&PathBuf>) -> Result<Self, Failure> {
        let Some(path) = file.filter(|file| file.as_os_str() != "-") else { return Ok(Self::Standard) };
        let wrong = |error| Failure::new(format!("{} cannot be written: {error}", path.display()));
        let path = path.canonicalize().unwrap_or_else(|_| path.clone());
        let there = std::fs::metadata(&path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return Ok(Self::File { file: File::create(&path).map_err(wrong)?, path, beside: None });
        }
        let beside = path.with_added_extension("new");
        let file = File::create(&beside).map_err(wrong)?;
        if let Some(there) = there {
            file.set_permissions(there.permissions()).map_err(wrong)?;
        }
        Ok(Self::File { path, beside: Some(beside), file })
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Standard => {
                say!("{}", String::from_utf8_lossy(octets));
                Ok(())
            }
            Self::File { path, file, .. } => {
                let path = path.display();
                file.write_all(octets).map_err(|e| Failure::new(format!("{path} cannot be written: {e}")))
            }
        }
    }

    /// The whole is there; whether it is in a file.
    fn finish(mut self) -> Result<bool, Failure> {
        let Self::File { path, beside, file } = &mut self else { return Ok(false) };
        if let Some(whole) = beside {
            let done = file.sync_all().and_then(|()| std::fs::rename(whole, &path));
            done.map_err(|e| Failure::new(format!("{} cannot be written: {e}", path.display())))?;
            *beside = None;
        }
        Ok(true)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Self::File { beside: Some(part), .. } = self {
            let _ = std::fs::remove_file(part);
        }
    }
}
