//! Lists of suppressed addresses as files: our own export, and the providers', as CSV and as JSON.

use std::borrow::Cow;
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

/// What columns and members are called, ours first; of a name its letters and digits count, in any case.
const ADDRESS: &[&str] = &["address", "email", "emailaddress", "recipient", "recipientemail"];
const SINCE: &[&str] = &["since", "created", "createdat", "timestamp", "date", "suppressedat", "addedat", "bouncedat"];
const EVIDENCE: &[&str] = &["evidence", "note", "comment", "description", "message", "error"];
const KIND: &[&str] = &["bouncetype", "suppressionreason", "type", "kind", "event"];
const STATUS: &[&str] = &["status", "code"];

/// What makes a spreadsheet take a cell for a formula. The evidence is the words of whoever refused a mail.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

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
    /// What was taken, and is not all as it says.
    pub notes: Vec<(Place, String)>,
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
    if octets.starts_with(b"\xff\xfe") || octets.starts_with(b"\xfe\xff") {
        return Err("it is in UTF-16 (\"Unicode text\"); save it as \"CSV UTF-8\"".to_owned());
    }
    let mut reader = Reader { defaults, now, rows: Rows::default(), total: 0, paged: 0 };
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
    /// How long the provider says that its list is, and how much of it has come: it may be in pages.
    total: usize,
    paged: usize,
}

impl Reader<'_> {
    /// Documents, one after the other: lists, objects with lists, entries. If that breaks off, an object a line.
    fn json(&mut self, octets: &[u8]) -> Result<(), String> {
        let mut documents = serde_json::Deserializer::from_slice(octets).into_iter::<Value>();
        let (mut whole, mut line) = (Vec::new(), (1, 0));
        while let Some(document) = documents.next() {
            match document {
                Ok(document) => {
                    let end = documents.byte_offset();
                    line.0 += newlines(octets.get(line.1..end).unwrap_or_default());
                    line.1 = end;
                    whole.push((format!("line {}", line.0), document));
                }
                Err(error) if octets.trim_ascii_start().starts_with(b"[") => {
                    return Err(format!("it begins like JSON and is none: {error}"));
                }
                Err(error) => return self.json_lines(octets, &error),
            }
        }
        for (place, document) in whole {
            self.document(place, document);
        }
        Ok(())
    }

    fn document(&mut self, place: Place, document: Value) {
        let is_entry = |whole: &serde_json::Map<_, _>| whole.keys().any(|name| ADDRESS.contains(&plain(name).as_str()));
        let whole = match document {
            Value::Array(list) => return self.list(&list, None),
            Value::Object(whole) if !is_entry(&whole) && whole.values().any(Value::is_array) => whole,
            entry => return self.value(place, &entry, None),
        };
        let before = self.found();
        for (name, list) in whole.iter().filter_map(|(name, list)| Some((name, list.as_array()?))) {
            self.list(list, reason_of_list(name));
        }
        // Mailgun's way; it names one on the last page, too.
        let next = ["paging", "_metadata"].iter().find_map(|paging| whole.get(*paging)?.get("next")?.as_str());
        if self.found() > before && next.is_some_and(|next| !next.is_empty()) {
            self.rows.notes.push((place, "it names a next page: import that, too, until one is empty".to_owned()));
        }
        let total = whole.get("total").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok());
        self.total = self.total.max(total.unwrap_or_default());
        self.paged += self.found() - before;
        self.rows.missing = self.total.saturating_sub(self.paged);
    }

    /// How many entries there were so far, good or not.
    fn found(&self) -> usize {
        self.rows.good.len() + self.rows.bad.len() + self.rows.over
    }

    fn json_lines(&mut self, octets: &[u8], whole: &serde_json::Error) -> Result<(), String> {
        let text = String::from_utf8_lossy(octets);
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("line {}", number + 1);
            match serde_json::from_str::<Value>(line) {
                Ok(value) => self.document(place, value),
                Err(error) => self.rows.bad.push((place, format!("is not JSON: {error}"))),
            }
        }
        if self.rows.good.is_empty() && self.rows.bad.len() > 1 {
            return Err(format!("it begins like JSON and is neither one document ({whole}) nor an object a line"));
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
                record.iter().map(|cell| unguarded(String::from_utf8_lossy(cell).trim()).to_owned()).collect();
            if names.is_empty() {
                names = cells.iter().map(|cell| plain(cell)).collect();
                if names.iter().any(|name| ADDRESS.contains(&name.as_str())) {
                    continue;
                }
                // No header: a list of addresses, whichever column they are in.
                let at = cells.iter().position(|cell| cell.contains('@'));
                let at = at.ok_or("it is no CSV with a column \"email\" or \"address\", and no JSON")?;
                if cells.len() > 1 {
                    let why = "there are no names of columns: of each line only the address is read";
                    self.rows.notes.push((place.clone(), why.to_owned()));
                }
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
        match self.entry(&place, fields, reason) {
            Ok(Some(entry)) => self.rows.good.push((place, entry)),
            Ok(None) => self.rows.over += 1,
            Err(why) => self.rows.bad.push((place, why)),
        }
    }

    /// One entry; `None` if its time is over.
    fn entry(
        &mut self,
        place: &Place,
        fields: &Fields,
        of_list: Option<Reason>,
    ) -> Result<Option<NewSuppression>, String> {
        let all =
            |names: &'static [&str]| names.iter().filter_map(|name| fields.get(*name)).filter(|text| !text.is_empty());
        let first = |names: &'static [&str]| all(names).next();
        // Where there are several, the street is none.
        let address = all(ADDRESS).find(|it| it.contains('@')).or_else(|| first(ADDRESS)).ok_or("has no address")?;
        if address.contains('\n') {
            return Err(UNCLOSED.to_owned());
        }
        if address.contains(char::REPLACEMENT_CHARACTER) {
            return Err(format!("{:?} is not in UTF-8; save the file as \"CSV UTF-8\"", beginning(address)));
        }
        Address::from_words(address).map_err(|e| format!("{:?}: {e}", beginning(address)))?;
        let scope = first(&["scope"]).map(|text| text.parse::<Scope>()).transpose()?;
        let until = first(&["until"]).map(|text| moment(text)).transpose()?;
        if until.is_some_and(|until| until <= self.now) {
            return Ok(None);
        }
        // An address that nobody knows since when is bad is to be protected all the same.
        let past = |text: &String| match moment(text) {
            Ok(since) if since > self.now => Err(format!("{text:?} is yet to come")),
            read => read,
        };
        let since = first(SINCE).and_then(|text| match past(text) {
            Ok(since) => Some(since),
            Err(why) => {
                self.rows.notes.push((place.clone(), format!("{why}; it is on the list since now")));
                None
            }
        });
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
        let own = text("reason").and_then(|text| text.parse::<Reason>().ok().or_else(|| reason_of_kind(text)));
        let kind = KIND.iter().find_map(|name| text(name).and_then(reason_of_kind));
        // A code of SMTP's; other lists have other states.
        let code = STATUS.iter().find_map(|name| text(name)).filter(|code| code.starts_with(['4', '5']));
        let bounced = code.map(|_| Reason::Bounce);
        let words = text("reason").filter(|_| own.is_none());
        let note = EVIDENCE.iter().find_map(|name| text(name));
        let status = code.filter(|status| words.is_none_or(|words| !words.contains(status)));
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
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn newlines(octets: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', octets).count()
}

/// The members that hold the lists of the providers' answers.
fn reason_of_list(name: &str) -> Option<Reason> {
    match plain(name).as_str() {
        "bounces" => Some(Reason::Bounce),
        "spamreports" | "complaints" => Some(Reason::Complaint),
        "unsubscribes" | "globalunsubscribes" | "recipientemails" => Some(Reason::Unsubscribe),
        "blocks" => Some(Reason::Blocked),
        "invalidemails" => Some(Reason::Dropped),
        _ => None,
    }
}

/// The words of the providers' columns for the sort of an entry.
fn reason_of_kind(word: &str) -> Option<Reason> {
    match plain(word).as_str() {
        "hard" | "bounce" | "hardbounce" | "bounced" | "bouncedhard" => Some(Reason::Bounce),
        "soft" | "softbounce" | "bouncedsoft" => Some(Reason::SoftBounces),
        "block" | "blocked" => Some(Reason::Blocked),
        "complaint" | "complained" | "spam" | "spamreport" | "spamcomplaint" | "spamnotification" => {
            Some(Reason::Complaint)
        }
        "unsubscribe" | "unsubscribed" | "groupunsubscribe" => Some(Reason::Unsubscribe),
        "invalid" | "dropped" => Some(Reason::Dropped),
        "manualsuppression" => Some(Reason::Manual),
        _ => Reason::ALL.iter().copied().find(|reason| plain(reason.name()) == plain(word)),
    }
}

/// The forms of a source that the API takes.
fn is_source(text: &str) -> bool {
    matches!(text, "operator" | "import") || text.starts_with("webhook:") || text.starts_with("api:")
}

/// A time as the providers write it: Unix seconds or milliseconds, RFC 3339, RFC 5322, a date (`2026-11-22`, `20261122`).
fn moment(text: &str) -> Result<SystemTime, String> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    let seconds = match text.parse::<f64>().ok().filter(|_| is_number) {
        // Later than the year 5138 if it were seconds.
        Some(number) if number >= 1e11 => Some(number / 1000.0),
        Some(number) if number >= 1e8 => Some(number),
        // Eight digits are a date; what is less is no time at all (before 1973).
        _ => None,
    };
    let since = |seconds: Duration| UNIX_EPOCH.checked_add(seconds);
    let time = match (seconds, text.as_bytes()) {
        (Some(seconds), _) => Duration::try_from_secs_f64(seconds.trunc()).ok().and_then(since),
        (None, [_, _, _, _, b'-', _, _, b'-', _, _]) => date(text),
        (None, _) if is_number => text
            .get(..4)
            .zip(text.get(4..6))
            .zip(text.get(6..))
            .and_then(|((year, month), day)| date(&format!("{year}-{month}-{day}"))),
        (None, _) => {
            let whole = unix_seconds(text).or_else(|| unix_seconds(text.trim_end_matches(" UTC")));
            whole.map(Duration::from_secs).and_then(since)
        }
    };
    time.ok_or_else(|| format!("{text:?} is no time: neither Unix seconds nor like 2026-11-22T09:00:00Z"))
}

fn date(text: &str) -> Option<SystemTime> {
    unix_seconds(&format!("{text}T00:00:00Z")).and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}

/// What stands between the cells of the first line.
fn delimiter(octets: &[u8]) -> u8 {
    let first = octets.split(|octet| matches!(octet, b'\n' | b'\r')).find(|line| !line.is_empty()).unwrap_or_default();
    let count = |delimiter: u8| memchr::memchr_iter(delimiter, first).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

/// Whether a spreadsheet would take a cell for a formula, but for the apostrophes before it.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('\'').starts_with(FORMULA)
}

/// A cell that is text to a spreadsheet.
fn guarded(cell: &str) -> Cow<'_, str> {
    if is_formula(cell) { format!("'{cell}").into() } else { cell.into() }
}

/// What was in a cell before it was guarded.
fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| is_formula(rest)).unwrap_or(cell)
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
        let evidence = guarded(evidence);
        self.0.write_record([address, scope, reason, source, since, until, &*evidence]).map_err(|e| e.to_string())
    }

    /// What there is so far.
    pub(super) fn take(&mut self) -> Result<Vec<u8>, String> {
        self.0.flush().map_err(|e| e.to_string())?;
        let whole = std::mem::replace(&mut self.0, Writer::from_writer(Vec::new()));
        whole.into_inner().map_err(|e| e.to_string())
    }
}
