//! Lists of suppressed addresses as files: our own export, and the providers', as CSV and as JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use csv::{ByteRecord, ReaderBuilder, Writer};
use serde_json::Value;

use crate::address::Address;
use crate::message::unix_seconds;
use crate::suppression::{Reason, Scope};
use crate::web::admin::wire::{NewSuppression, SuppressionEntry, time};

/// The columns of our own CSV.
const COLUMNS: [&str; 7] = ["address", "scope", "reason", "source", "since", "until", "evidence"];
/// Longest evidence that the API takes, in characters.
const LONGEST_EVIDENCE: usize = 1000;

/// Most characters of what is no address that are shown.
const SHOWN: usize = 80;

/// What is said of a row that goes on over others.
const UNCLOSED: &str = "a quote is opened here and closed nowhere near: what follows it is not read";

/// What columns and members are called, ours first, in any case; blanks and dashes count as underscores.
const ADDRESS: &[&str] = &["address", "email", "email_address", "recipient", "recipient_email", "e_mail"];
const SINCE: &[&str] = &["since", "created", "created_at", "timestamp", "date", "suppressed_at", "added_at"];
const EVIDENCE: &[&str] = &["evidence", "note", "comment", "description", "message"];
const KIND: &[&str] = &["bounce_type", "type", "kind", "event"];

/// What holds for rows that do not say it themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    pub scope: Option<Scope>,
    pub reason: Option<Reason>,
}

/// Where something stands in the file: `line 7`, `entry 7`.
pub(super) type Place = String;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// What can be put on the list.
    pub good: Vec<(Place, NewSuppression)>,
    /// What cannot be read, and why.
    pub bad: Vec<(Place, String)>,
    /// Entries whose time is over.
    pub over: usize,
    /// Entries that are on other pages of the provider's list.
    pub missing: usize,
}

/// The members of a row by their names.
type Fields = BTreeMap<String, String>;

/// Reads a file in whichever of the formats it is.
///
/// # Errors
/// A sentence, if it is in none of them.
pub(super) fn read(octets: &[u8], defaults: &Defaults, now: SystemTime) -> Result<Rows, String> {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let mut reader = Reader { defaults, now, rows: Rows::default() };
    match octets.trim_ascii_start().first() {
        None => {}
        Some(b'{' | b'[') => reader.json(octets)?,
        Some(_) => reader.csv(octets)?,
    }
    Ok(reader.rows)
}

struct Reader<'a> {
    defaults: &'a Defaults,
    now: SystemTime,
    rows: Rows,
}

impl Reader<'_> {
    /// One document (a list, an object with lists, one entry), else an object a line.
    fn json(&mut self, octets: &[u8]) -> Result<(), String> {
        match serde_json::from_slice::<Value>(octets) {
            Ok(Value::Array(list)) => self.list(&list, None),
            Ok(Value::Object(whole)) => {
                let lists = whole.iter().filter_map(|(name, list)| Some((name, list.as_array()?)));
                let lists: Vec<_> = lists.collect();
                if lists.is_empty() {
                    self.value("entry 1".to_owned(), &Value::Object(whole), None);
                    return Ok(());
                }
                let total = whole.get("total").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok());
                let found: usize = lists.iter().map(|(_, list)| list.len()).sum();
                self.rows.missing = total.unwrap_or_default().saturating_sub(found);
                for (name, list) in lists {
                    self.list(list, reason_of_list(name));
                }
            }
            Ok(_) => {}
            Err(whole) if octets.trim_ascii_start().starts_with(b"[") => {
                return Err(format!("it begins like JSON and is none: {whole}"));
            }
            Err(whole) => {
                let text = String::from_utf8_lossy(octets);
                let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
                let before = self.rows.good.len();
                for (number, line) in lines {
                    let place = format!("line {}", number + 1);
                    match serde_json::from_str::<Value>(line) {
                        Ok(value) => self.value(place, &value, None),
                        Err(error) => self.rows.bad.push((place, format!("is not JSON: {error}"))),
                    }
                }
                if self.rows.good.len() == before && self.rows.bad.len() > 1 {
                    return Err(format!(
                        "it begins like JSON and is neither one document ({whole}) nor an object a line"
                    ));
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, list: &[Value], reason: Option<Reason>) {
        for (number, value) in list.iter().enumerate() {
            self.value(format!("entry {}", number + 1), value, reason);
        }
    }

    /// An object, or an address alone.
    fn value(&mut self, place: Place, value: &Value, reason: Option<Reason>) {
        let fields = match value {
            Value::String(address) => Some(Fields::from([("address".to_owned(), address.clone())])),
            Value::Object(members) => Some(
                members
                    .iter()
                    .filter_map(|(name, value)| {
                        let text = match value {
                            Value::String(text) => text.clone(),
                            Value::Number(number) => number.to_string(),
                            _ => return None,
                        };
                        Some((plain(name), text))
                    })
                    .collect(),
            ),
            _ => None,
        };
        match fields {
            Some(fields) => self.row(place, &fields, reason),
            None => self.rows.bad.push((place, "is no object with an address".to_owned())),
        }
    }

    fn csv(&mut self, octets: &[u8]) -> Result<(), String> {
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(octets)).from_reader(octets);
        let (mut names, mut record, mut last) = (Vec::<String>::new(), ByteRecord::new(), Place::new());
        while reader.read_byte_record(&mut record).map_err(|e| format!("it cannot be read as CSV: {e}"))? {
            let place = format!("line {}", record.position().map_or(0, csv::Position::line));
            let cells: Vec<String> =
                record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
            if names.is_empty() {
                names = cells.iter().map(|cell| plain(cell)).collect();
                if names.iter().any(|name| ADDRESS.contains(&name.as_str())) {
                    continue;
                }
                // No header: a list of addresses, whichever column they are in.
                let at = cells.iter().position(|cell| cell.contains('@'));
                let at = at.ok_or("it is no CSV with a column \"email\" or \"address\", and no JSON")?;
                names = (0..cells.len()).map(|n| if n == at { "address".to_owned() } else { String::new() }).collect();
            }
            if cells.iter().all(String::is_empty) {
                continue;
            }
            let fields = names.iter().cloned().zip(cells).filter(|(name, _)| !name.is_empty()).collect();
            self.row(place.clone(), &fields, None);
            last = place;
        }
        if memchr::memchr_iter(b'"', octets).count() % 2 == 1 {
            // It is what the last row swallowed the rest of the file by.
            self.rows.good.retain(|(place, _)| *place != last);
            self.rows.bad.retain(|(place, _)| *place != last);
            self.rows.bad.push((last, UNCLOSED.to_owned()));
        }
        Ok(())
    }

    fn row(&mut self, place: Place, fields: &Fields, reason: Option<Reason>) {
        match self.entry(fields, reason) {
            Ok(Some(entry)) => self.rows.good.push((place, entry)),
            Ok(None) => self.rows.over += 1,
            Err(why) => self.rows.bad.push((place, why)),
        }
    }

    /// One entry; `None` if its time is over.
    fn entry(&self, fields: &Fields, of_list: Option<Reason>) -> Result<Option<NewSuppression>, String> {
        let first = |names: &[&str]| names.iter().find_map(|name| fields.get(*name).filter(|text| !text.is_empty()));
        let address = first(ADDRESS).ok_or("has no address")?;
        if address.contains('\n') {
            return Err(UNCLOSED.to_owned());
        }
        Address::from_words(address).map_err(|e| format!("{:?}: {e}", beginning(address)))?;
        let scope = first(&["scope"]).map(|text| text.parse::<Scope>()).transpose()?;
        let until = first(&["until"]).map(|text| moment(text)).transpose()?;
        if until.is_some_and(|until| until <= self.now) {
            return Ok(None);
        }
        let since = first(SINCE).map(|text| moment(text)).transpose()?;
        let (reason, words) = self.reason(fields, of_list);
        Ok(Some(NewSuppression {
            address: address.clone(),
            scope: scope.or_else(|| self.defaults.scope.clone()).map(|scope| scope.to_string()),
            reason: Some(reason.name().to_owned()),
            until: until.map(time),
            evidence: Some(words).filter(|words| !words.is_empty()),
            since: since.map(time),
            source: Some(
                first(&["source"]).filter(|text| is_source(text)).cloned().unwrap_or_else(|| "import".to_owned()),
            ),
        }))
    }

    /// The reason, and the evidence. What the providers call a reason is the words of the bounce.
    fn reason(&self, fields: &Fields, of_list: Option<Reason>) -> (Reason, String) {
        let text = |name: &str| fields.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let own = text("reason").and_then(|text| text.parse::<Reason>().ok());
        let kind = KIND.iter().find_map(|name| text(name).and_then(reason_of_kind));
        let bounced = text("status").map(|_| Reason::Bounce);
        let words = text("reason").filter(|_| own.is_none());
        let note = EVIDENCE.iter().find_map(|name| text(name));
        let status = text("status").filter(|status| words.is_none_or(|words| !words.contains(status)));
        let words: Vec<&str> = status.into_iter().chain(words).chain(note).collect();
        let reason = own.or(kind).or(self.defaults.reason).or(of_list).or(bounced).unwrap_or(Reason::Manual);
        (reason, words.join(" ").replace(char::is_control, " ").chars().take(LONGEST_EVIDENCE).collect())
    }
}

/// Enough of it to find it.
fn beginning(text: &str) -> String {
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

/// A name as it is looked for.
fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// The members that hold the lists of the providers' answers.
fn reason_of_list(name: &str) -> Option<Reason> {
    match plain(name).as_str() {
        "bounces" => Some(Reason::Bounce),
        "spam_reports" | "complaints" => Some(Reason::Complaint),
        "unsubscribes" | "global_unsubscribes" | "recipient_emails" => Some(Reason::Unsubscribe),
        "blocks" => Some(Reason::Blocked),
        "invalid_emails" => Some(Reason::Dropped),
        _ => None,
    }
}

/// The words of the providers' columns for the sort of an entry.
fn reason_of_kind(word: &str) -> Option<Reason> {
    match plain(word).as_str() {
        "hard" | "bounce" | "hard_bounce" | "bounced" | "bounced.hard" => Some(Reason::Bounce),
        "soft" | "soft_bounce" | "bounced.soft" => Some(Reason::SoftBounces),
        "block" | "blocked" => Some(Reason::Blocked),
        "complaint" | "complained" | "spam" | "spam_report" | "spamreport" => Some(Reason::Complaint),
        "unsubscribe" | "unsubscribed" | "group_unsubscribe" => Some(Reason::Unsubscribe),
        "invalid" | "dropped" => Some(Reason::Dropped),
        other => other.parse().ok(),
    }
}

/// The forms of a source that the API takes.
fn is_source(text: &str) -> bool {
    matches!(text, "operator" | "import") || text.starts_with("webhook:") || text.starts_with("api:")
}

/// A time as the providers write it: Unix seconds or milliseconds, RFC 3339, a date.
fn moment(text: &str) -> Result<SystemTime, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let seconds = match number {
        // Later than the year 5138 if it were seconds.
        Some(number) if number >= 1e11 => Some(number / 1000.0),
        Some(number) => Some(number),
        None => None,
    };
    let whole = text.trim_end_matches(" UTC");
    let whole = if whole.len() == 10 { format!("{whole}T00:00:00Z") } else { whole.to_owned() };
    let time = match seconds {
        Some(seconds) => {
            Duration::try_from_secs_f64(seconds.trunc()).ok().and_then(|span| UNIX_EPOCH.checked_add(span))
        }
        None => unix_seconds(&whole).and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
    };
    time.ok_or_else(|| format!("{text:?} is no time: neither Unix seconds nor like 2026-11-22T09:00:00Z"))
}

/// What stands between the cells of the first line.
fn delimiter(octets: &[u8]) -> u8 {
    let first = octets.split(|octet| matches!(octet, b'\n' | b'\r')).find(|line| !line.is_empty()).unwrap_or_default();
    let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

/// Writes entries as CSV; the header comes first.
pub(super) struct CsvOut(Writer<Vec<u8>>);

impl CsvOut {
    pub(super) fn new() -> Result<Self, String> {
        let mut writer = Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS).map_err(|e| e.to_string())?;
        Ok(Self(writer))
    }

    pub(super) fn write(&mut self, entry: &SuppressionEntry) -> Result<(), String> {
        let SuppressionEntry { address, scope, reason, source, since, until, evidence } = entry;
        let until = until.as_deref().unwrap_or_default();
        self.0.write_record([address, scope, reason, source, since, until, evidence]).map_err(|e| e.to_string())
    }

    /// What there is so far.
    pub(super) fn take(&mut self) -> Result<Vec<u8>, String> {
        self.0.flush().map_err(|e| e.to_string())?;
        let whole = std::mem::replace(&mut self.0, Writer::from_writer(Vec::new()));
        whole.into_inner().map_err(|e| e.to_string())
    }
}
