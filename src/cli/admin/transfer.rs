//! `suppressions import|export`: lists that come from a file, and go into one.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use http::Method;

use super::exchange::{self, CsvOut, Defaults};
use super::suppressions::warn_of;
use super::{AdminArgs, Client, Failure, Target, note, print_json};
use crate::cli::table::counted;
use crate::cli::{acts, one_of, read_input};
use crate::suppression::{Reason, Scope};
use crate::web::admin::wire::{Added, NewSuppression, SuppressionEntry};

/// Entries that are put on the list at a time.
const CHUNK: usize = 1000;
/// Largest file that is imported, in octets: some millions of addresses.
const LARGEST: u64 = 512 << 20;
/// Most lines of a file that are named, of those that cannot be read.
const NAMED: usize = 20;
/// So often a long import says how far it is.
const EACH: usize = 10_000;

#[derive(Debug, Args)]
#[command(
    after_help = "It reads CSV with a column \"email\" or \"address\" (and reason, created, status, scope, until, in any order), and JSON: the answers of GET /v3/suppression/bounces and its like, or our own export. What is on the list already stays. What has no end of its own ends like what an event of its sort would have put there: soft bounces and blocks after suppression.soft_bounce_expiry. Exit code 1: some lines could not be read; they are named, and all others are on the list; or the answer is one page of a longer list.\n\nExamples:\n  sidepost suppressions import bounces.csv --reason bounce --scope account:main\n  curl -H \"Authorization: Bearer $KEY\" \"$URL/v3/suppression/bounces?limit=500\" |\n    sidepost suppressions import -"
)]
pub(super) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// Why, for lines that do not say it
    #[arg(long, value_parser = one_of(Reason::ALL, Reason::name))]
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
pub(super) struct Export {
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

impl Import {
    pub(super) fn run(&self) -> Result<(), Failure> {
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
        name_all(&rows.bad);
        name_all(&rows.notes);
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
            return Err(Failure::new("there is no address in it; was there an error before?"));
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
            _ if bad > NAMED => {
                Err(Failure::new(format!("{bad} lines cannot be read; the first of them are named above")))
            }
            _ => Err(Failure::new(format!("{bad} lines cannot be read; they are named above"))),
        }
    }
}

/// Says where something is in the file, and what; of many, the first.
fn name_all(lines: &[(exchange::Place, String)]) {
    lines.iter().take(NAMED).for_each(|(place, why)| note(&format!("{place}: {why}")));
    if lines.len() > NAMED {
        note(&format!("and {} more like these", lines.len() - NAMED));
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
    pub(super) fn run(&self) -> Result<(), Failure> {
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
