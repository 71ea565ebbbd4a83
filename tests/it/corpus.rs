//! Mails of many origins against what a careful reader expects of them: `tests/corpus`, or the folder that
//! `SIDEPOST_CORPUS` names. Every difference needs a line in `tests/corpus/decisions.txt`, and every line a difference.
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use encodify::base64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sidepost::address::{Address, Alphabet};
use sidepost::config::decode::{default_account, default_controls};
use sidepost::config::{Fanout, ProviderKind, Unsupported};
use sidepost::envelope::Envelope;
use sidepost::message::{Attachment, Mailbox, Message};
use sidepost::plan::{Policies, Terms, prepare};
use sidepost::provider;
use sidepost::sender::SenderPolicy;

/// Tags of mails that may be refused: SMTP does not carry them, or nobody writes them.
const REFUSABLE: &[&str] =
    &["bare-lf", "bare-cr", "nul", "attack", "no-headers", "broken-headers", "no-newline", "long-lines"];

/// One field of one mail, compared.
struct Check {
    /// `text`, `attachments[1].filename`, `headers.x-mailer`.
    field: String,
    /// `agreed`, `majority` or `judged`.
    status: String,
    holds: bool,
    expected: String,
    found: String,
}

/// The comparison of one mail.
#[derive(Default)]
struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Adds a field unless nothing reasonable can be expected of it.
    fn add(&mut self, field: &str, expected: &Value, found: String, holds: impl FnOnce(&Value) -> bool) {
        let status = expected["status"].as_str().unwrap().to_owned();
        if status != "unscored" {
            let holds = holds(expected);
            self.checks.push(Check { field: field.to_owned(), status, holds, expected: shown(expected), found });
        }
    }
}

fn corpus() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    std::env::var_os("SIDEPOST_CORPUS").map_or(own, PathBuf::from)
}

/// (mail, field) -> (what we give, why). A mail `*` means any.
fn decisions() -> BTreeMap<(String, String), (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/decisions.txt");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut decisions = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let [mail, field, given, why] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}")
        };
        let before = decisions.insert((mail.to_owned(), field.to_owned()), (given.to_owned(), why.to_owned()));
        assert!(before.is_none() && why.len() > 10, "twice, or without a reason: {line}");
    }
    decisions
}

fn shown(expected: &Value) -> String {
    let value = ["value", "values", "count", "sha256"].iter().map(|key| &expected[*key]).find(|v| !v.is_null());
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string).chars().take(300).collect()
}

/// The value and the tolerated variants. One with damaged characters where the value has none is tolerated for damaged
/// text only, not for one that reads wrong.
fn variants<'a>(expected: &'a Value, found: &str) -> impl Iterator<Item = &'a Value> {
    let damaged = |value: &Value| value.to_string().contains('\u{fffd}');
    let tolerated = damaged(&expected["value"]) || found.contains('\u{fffd}');
    let also = expected["also_ok"].as_array().into_iter().flatten();
    std::iter::once(&expected["value"]).chain(also.filter(move |value| tolerated || !damaged(value)))
}

/// C1 controls as windows-1252 has them, which is what their authors meant.
fn c1(c: char) -> char {
    const WINDOWS: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    match u32::from(c) {
        code @ 0x80..0xa0 => WINDOWS.chars().nth(code as usize - 0x80).unwrap(),
        _ => c,
    }
}

/// A line for comparing: one blank for each run of white space and controls, one U+FFFD for a run of them.
fn line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(c1) {
        let c = if c.is_whitespace() || c.is_ascii_control() { ' ' } else { c };
        if !(matches!(c, ' ' | '\u{fffd}') && out.ends_with(c)) {
            out.push(c);
        }
    }
    out.trim().to_owned()
}

/// A body for comparing: no white space at all.
fn key(text: &str) -> String {
    line(text).chars().filter(|c| !matches!(c, ' ' | '\u{feff}')).collect()
}

fn hex(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"))
}

/// Where the expectation has U+FFFD, the readable fragments count.
fn same_line(expected: &str, found: &str) -> bool {
    let (expected, found) = (line(expected), line(found));
    expected == found || expected.contains('\u{fffd}') && expected.split('\u{fffd}').all(|part| found.contains(part))
}

/// Domains compare without case; a local part without domain may have got one.
fn same_address(expected: &str, found: &str) -> bool {
    match expected.rsplit_once('@') {
        // A domain in any script is compared in its ASCII form.
        Some((local, domain)) => {
            let canonical = Address::parse_in(Alphabet::Utf8, &format!("x@{}", domain.to_lowercase()));
            let domain = canonical.map_or_else(|_| domain.to_ascii_lowercase(), |address| address.domain().to_owned());
            found == format!("{local}@{domain}")
        }
        None => found.rsplit_once('@').is_some_and(|(local, _)| local == expected),
    }
}

fn same_mailboxes(expected: &Value, found: &[Mailbox]) -> bool {
    let empty = Vec::new();
    let expected = expected.as_array().unwrap_or(&empty);
    let same = |(expected, found): (&Value, &Mailbox)| {
        same_address(expected["email"].as_str().unwrap(), found.address.as_str())
            && expected["name"].as_str().is_none_or(|name| same_line(name, found.name.as_deref().unwrap_or_default()))
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

/// Whether a body is the parts of the expectation in order.
fn same_body(expected: &Value, kind: &str, found: Option<&str>) -> bool {
    let whole = json!([{ "kind": kind, "value": expected }]);
    let parts = if expected.is_string() { &whole } else { expected };
    let empty = Vec::new();
    let parts = parts.as_array().unwrap_or(&empty);
    let body = key(found.unwrap_or_default());
    if let ([part], Some(body)) = (&parts[..], found)
        && part["kind"] == kind
    {
        let body = key(body);
        if let Some(hash) = part["key_sha256"].as_str() {
            return hex(body.as_bytes()) == hash;
        }
        let value = key(part["value"].as_str().unwrap());
        return value == body || value.contains('\u{fffd}') && fragments_in(&value, &body, 0).is_some();
    }
    if parts.is_empty() {
        return body.is_empty();
    }
    // What tags and references of HTML hide is all that a text in it may miss.
    let readable = key(&found.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
    let mut at = Some(0);
    for part in parts {
        let value = part["value"].as_str().unwrap_or_default();
        at = match part["kind"].as_str().unwrap() {
            "html-as-text" => at,
            "text-as-html" => at.filter(|_| value.split_whitespace().all(|word| readable.contains(&key(word)))),
            _ => at.and_then(|at| fragments_in(&key(value), &body, at)),
        };
    }
    at.is_some()
}

/// The offset in `body` after the fragments of `value`, which must occur there in order from `at` on.
fn fragments_in(value: &str, body: &str, mut at: usize) -> Option<usize> {
    for fragment in value.split('\u{fffd}') {
        at += body[at..].find(fragment)? + fragment.len();
    }
    Some(at)
}

fn compare(expected: &Value, message: &Message) -> Report {
    let mut report = Report::default();
    let expect = &expected["expect"];
    let boxes = |list: &[Mailbox]| format!("{:?}", list.iter().map(|m| (&m.name, &m.address)).collect::<Vec<_>>());
    let mut mailboxes = |field: &str, found: &[Mailbox]| {
        report.add(field, &expect[field], boxes(found), |e| {
            // Of several From addresses an API takes the first.
            let first = field == "from" && e["value"].as_array().is_some_and(|all| all.len() > found.len());
            variants(e, &boxes(found)).any(|value| same_mailboxes(value, found))
                || first
                    && !found.is_empty()
                    && same_mailboxes(&e["value"].as_array().unwrap()[..1].into(), &found[..1])
        });
    };
    mailboxes("from", &message.from);
    mailboxes("sender", message.sender.as_slice());
    mailboxes("to", &message.to);
    mailboxes("cc", &message.cc);
    mailboxes("reply_to", &message.reply_to);
    let subject = message.subject.as_deref().unwrap_or_default();
    report.add("subject", &expect["subject"], subject.to_owned(), |e| {
        variants(e, subject).any(|value| same_line(value.as_str().unwrap_or_default(), subject))
    });
    for (field, body) in [("text", &message.text), ("html", &message.html)] {
        let body = body.as_deref().cloned();
        report.add(field, &expect[field], body.clone().unwrap_or_else(|| "nothing".to_owned()), |e| {
            let found = body.as_deref().unwrap_or_default();
            variants(e, found).any(|value| value != "as-attachment" && same_body(value, field, body.as_deref()))
        });
    }
    compare_attachments(&mut report, &expect["attachments"], &message.attachments);
    compare_headers(&mut report, &expect["headers"], message);
    report
}

fn compare_attachments(report: &mut Report, expected: &Value, found: &[Attachment]) {
    let types: Vec<&str> = found.iter().map(|a| a.content_type.as_str()).collect();
    report.add("attachments", expected, format!("{types:?}"), |e| e["count"] == found.len());
    let items = expected["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if expected["count"] != found.len() {
        return;
    }
    for (i, (expected, found)) in items.iter().zip(found).enumerate() {
        let mut check = |field: &str, given: &str, same: &dyn Fn(&Value) -> bool| {
            let place = format!("attachments[{i}].{field}");
            report.add(&place, &expected[field], given.to_owned(), |e| variants(e, given).any(same));
        };
        let name = |value: &Value| value.as_str().is_none_or(|name| same_line(name, &found.filename));
        check("filename", &found.filename, &name);
        let media = found.content_type.split(';').next().unwrap_or_default();
        check("type", media, &|value| value == media);
        let disposition = if found.inline { "inline" } else { "attachment" };
        check("disposition", disposition, &|value| value == disposition);
        let id = found.content_id.as_deref().unwrap_or_default();
        check("content_id", id, &|value| value.as_str().unwrap_or_default() == id);
        let octets = found.content.decode();
        report.add(&format!("attachments[{i}].content"), &expected["content"], hex(&octets), |e| {
            let also = e["also_sha256"].as_array().into_iter().flatten();
            std::iter::once(&e["sha256"]).chain(also).any(|sum| *sum == hex(&octets))
                || e["sha256_lf"] == lf_hash(&octets)
        });
    }
}

/// The hash that does not see the line ends of a text nor what white space follows it.
fn lf_hash(octets: &[u8]) -> String {
    let lines: Vec<&[u8]> =
        octets.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    hex(lines.join(&b'\n').trim_ascii_end())
}

fn compare_headers(report: &mut Report, expected: &Value, message: &Message) {
    for (name, expected) in expected.as_object().unwrap() {
        let mut found: Vec<&str> = message
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        let is_id = name == "message-id";
        found.extend(message.message_id.as_deref().filter(|_| is_id));
        report.add(&format!("headers.{name}"), expected, format!("{found:?}"), |e| {
            let values: Vec<&str> = e["values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
            // A mail has one id.
            let values = if is_id { &values[..1] } else { &values[..] };
            values.len() == found.len() && values.iter().zip(&found).all(|(e, f)| same_line(e, f))
        });
    }
    let named = |name: &&(String, String)| ["bcc", "x-bcc"].iter().any(|bcc| name.0.eq_ignore_ascii_case(bcc));
    assert!(!message.headers.iter().any(|header| named(&header)), "a Bcc field is passed on");
}

/// The message as the relay has it, which knows the envelope: mailboxes without a domain get one.
fn completed(mut message: Message, envelope: &Value) -> Message {
    let address = |text: &Value| Address::parse(text.as_str().unwrap_or_default()).ok();
    let reverse_path = address(&envelope["mail_from"]).or_else(|| Address::parse("app@app.example.com").ok());
    // Whom the header names without a domain gets mail in the corpus only under a domain.
    let mut recipients: Vec<Address> = envelope["rcpt_to"].as_array().unwrap().iter().filter_map(address).collect();
    let bare = message.bare.iter().filter_map(|bare| Address::parse(&format!("{}@app.example.com", bare.local)).ok());
    recipients.extend(bare);
    if message.from.is_empty() {
        message.from.extend(message.bare_from(reverse_path.as_ref()));
    }
    message.complete(reverse_path.as_ref(), &recipients);
    message
}

/// `attachments[3].filename` -> `attachment.filename`, `headers.x-a` -> `headers`.
fn family(field: &str) -> String {
    match field.split_once('.') {
        Some(("headers", _)) => "headers".to_owned(),
        Some((_, inner)) => format!("attachment.{inner}"),
        None => field.to_owned(),
    }
}

/// What is counted for a family of fields, by status: how many, and how many hold.
type Rates = BTreeMap<String, BTreeMap<String, (u32, u32)>>;

fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole)
}

fn print_rates(rates: &Rates) {
    println!("{:24} {:>22} {:>22} {:>22}", "field", "agreed", "majority", "judged");
    let mut all = (0, 0);
    for (family, by_status) in rates {
        let cell = |status: &str| match by_status.get(status) {
            Some((count, hold)) => format!("{hold}/{count} {:.2} %", percent(*hold, *count)),
            None => "-".to_owned(),
        };
        println!("{family:24} {:>22} {:>22} {:>22}", cell("agreed"), cell("majority"), cell("judged"));
        for (count, hold) in by_status.values() {
            all = (all.0 + count, all.1 + hold);
        }
    }
    println!("all: {} of {} fields, {:.2} %", all.1, all.0, percent(all.1, all.0));
}

/// The names of the mails; none, with a word, where the corpus is not (a package comes without it).
fn names(folder: &Path) -> Vec<String> {
    let Ok(mails) = fs::read_dir(folder.join("mail")) else {
        println!("no corpus in {}: passed over", folder.display());
        return Vec::new();
    };
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut names: Vec<String> = mails.filter_map(|mail| stem(mail.unwrap().path())).collect();
    names.sort();
    names
}

fn expectation(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(format!("expected/{name}.json"))).unwrap()).unwrap()
}

/// What is read also arrives: the payload has every body, attachment and header field of the message, fields in order.
#[test]
fn payloads_say_what_was_read() {
    let folder = corpus();
    for name in names(&folder) {
        let raw = Bytes::from(fs::read(folder.join(format!("mail/{name}.eml"))).unwrap());
        let expected = expectation(&folder, &name);
        let address = |text: &Value| Address::parse(text.as_str().unwrap_or_default()).ok();
        let mut envelope = Envelope { reverse_path: Address::parse("app@example.com").ok(), ..Envelope::default() };
        envelope.recipients = expected["envelope"]["rcpt_to"].as_array().unwrap().iter().filter_map(address).collect();
        let provider = provider::build(&default_account(ProviderKind::SendGrid));
        let limits = provider.limits();
        let (fanout, unsupported) = (Fanout::Auto, Unsupported::Degrade);
        let terms = Terms { limits: &limits, fanout, unsupported, utf8_addresses: true, apart: false };
        let policies = Policies { sender: SenderPolicy::default(), controls: default_controls() };
        let Ok((message, plan)) = prepare(raw, &envelope, &envelope, &policies, terms) else { continue };
        for batch in &plan.batches {
            let Ok(request) = provider.request(&message, &plan.controls, batch) else { continue };
            assert_says(&name, &message, &request.body.to_vec());
        }
    }
}

fn assert_says(name: &str, message: &Message, payload: &[u8]) {
    let json: Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(json["from"]["email"], message.from[0].address.as_str(), "{name}");
    let of_kind = |kind: &str| json["content"].as_array().unwrap().iter().find(|part| part["type"] == kind);
    for (kind, body) in [("text/plain", &message.text), ("text/html", &message.html)] {
        let Some(body) = body.as_ref().filter(|body| !body.is_empty()) else { continue };
        assert_eq!(of_kind(kind).unwrap()["value"], body.as_str(), "{name}");
    }
    let attachments = json["attachments"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(attachments.len(), message.attachments.len(), "{name}");
    for (sent, read) in attachments.iter().zip(&message.attachments) {
        let octets = base64::STANDARD.decode(sent["content"].as_str().unwrap()).unwrap();
        assert_eq!(octets, read.content.decode(), "{name}");
        assert_eq!((&sent["filename"], &sent["type"]), (&json!(read.filename), &json!(read.content_type)), "{name}");
    }
    let text = String::from_utf8_lossy(payload);
    let mut at = text.find("\"headers\":{").unwrap_or_default();
    let mut seen = HashSet::new();
    let fields = message.headers.iter().filter(|(name, value)| !value.is_empty() && seen.insert(name.to_lowercase()));
    for (field, value) in fields {
        let member = format!("{}:", json!(field));
        at += text[at..].find(&member).unwrap_or_else(|| panic!("{name}: {field} is not in its place"));
        let sent = json["headers"][field].as_str().unwrap();
        assert!(sent.contains(value.as_str()) && !sent.contains(char::is_control), "{name}: {field}");
    }
}

#[test]
fn the_corpus_is_read_as_expected_or_as_decided() {
    let folder = corpus();
    let names = names(&folder);
    if names.is_empty() {
        return;
    }
    let decisions = decisions();
    let (mut rates, mut used, mut undecided) = (Rates::new(), HashSet::new(), Vec::new());
    let (mut clean, mut left_out) = (0, 0);
    for name in &names {
        let raw = fs::read(folder.join(format!("mail/{name}.eml"))).unwrap();
        let expected = expectation(&folder, name);
        assert_eq!(hex(&raw), expected["sha256"].as_str().unwrap(), "{name} is not as it was: line ends?");
        let checks = match Message::parse(raw.into()) {
            Ok(message) => compare(&expected, &completed(message, &expected["envelope"])).checks,
            Err(refusal) => {
                let tags = expected["tags"].as_array().unwrap();
                assert!(tags.iter().any(|tag| REFUSABLE.contains(&tag.as_str().unwrap())), "{name}: {refusal}");
                continue;
            }
        };
        let by_rule = |check: &Check| {
            let rule = ("*".to_owned(), check.field.clone());
            (!check.holds && decisions.contains_key(&rule)).then_some(rule)
        };
        clean += usize::from(checks.iter().all(|check| check.holds || by_rule(check).is_some()));
        for check in checks {
            if let Some(rule) = by_rule(&check) {
                left_out += 1;
                used.insert(rule);
                continue;
            }
            let slot = rates.entry(family(&check.field)).or_default().entry(check.status.clone()).or_default();
            *slot = (slot.0 + 1, slot.1 + u32::from(check.holds));
            if check.holds {
                continue;
            }
            let decision = (name.clone(), check.field.clone());
            match decisions.get(&decision) {
                Some((given, why)) => {
                    println!("{name} {} ({}): {given}; {why}", check.field, check.status);
                    used.insert(decision);
                }
                None => undecided.push(format!(
                    "{name} | {} ({})\n  expected {}\n  found    {}",
                    check.field, check.status, check.expected, check.found
                )),
            }
        }
    }
    println!("{} mails, {clean} without any difference; {left_out} fields are left out by a rule", names.len());
    print_rates(&rates);
    let here: BTreeSet<&str> = names.iter().map(String::as_str).chain(["*"]).collect();
    let stale: Vec<_> = decisions.keys().filter(|key| here.contains(key.0.as_str()) && !used.contains(*key)).collect();
    assert!(undecided.is_empty(), "differences without a line in decisions.txt:\n{}", undecided.join("\n"));
    assert!(stale.is_empty(), "decisions about differences that are none any more: {stale:#?}");
}
