//! `render`: what would a mail become? The tool that answers "why does my mail look like that".

mod setup;

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::account::AccountArgs;
use super::{Failure, REFUSED, USAGE, read_input};
use crate::address::Address;
use crate::config::Unsupported;
use crate::controls::{Control, Controls};
use crate::envelope::Envelope;
use crate::message::Message;
use crate::outcome::{Cause, Kind, Row, TABLE};
use crate::plan::{Plan, Terms, prepare, role_of};
use crate::provider::{self, Batch, Request};
use crate::reply::Enhanced;
use setup::Setup;

/// Largest file that is read, in octets; no relay takes such a mail.
const LARGEST: u64 = 512 << 20;

/// Print the exact API requests that a mail becomes, who gets it as what, and what is lost
///
/// Sends nothing and shows no key. Needs no configuration; with --config or --set it renders as that one would. Exit code
/// 65: the mail would be refused.
#[derive(Debug, Args)]
pub struct Render {
    /// The mail as a file, or - for standard input
    #[arg(value_name = "FILE.eml")]
    file: PathBuf,
    /// The envelope's sender (MAIL FROM) [default: the address in From]
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    from: Option<Address>,
    /// An envelope recipient (RCPT TO); several are allowed [default: the addresses in To and Cc]
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    rcpt: Vec<Address>,
    /// Who has logged in, for rules about that
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    #[command(flatten)]
    of: AccountArgs,
    /// What to do with what the API has no field for: refuse or degrade (unsupported)
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    unsupported: Option<Unsupported>,
    /// That the API takes addresses outside ASCII (utf8_addresses)
    #[arg(long)]
    utf8_addresses: bool,
    /// The From of a mail that has none (sender.default)
    #[arg(long, value_name = "MAILBOX")]
    default_from: Option<String>,
    /// What headers may ask for (controls.allow), with commas between, or "all" [default: the configuration's default]
    #[arg(long, value_name = "NAMES", value_parser = allowed)]
    controls: Option<Allowed>,
    /// One JSON object, for scripts
    #[arg(long)]
    json: bool,
}

/// The value of `--controls`.
#[derive(Debug, Clone)]
struct Allowed(Vec<Control>);

fn allowed(text: &str) -> Result<Allowed, String> {
    match text {
        "all" => Ok(Allowed(Control::ALL.to_vec())),
        names => {
            names.split(',').filter(|name| !name.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Allowed)
        }
    }
}

/// What the client would be told.
struct Refused {
    code: u16,
    enhanced: Enhanced,
    text: String,
}

impl Refused {
    fn new(code: u16, enhanced: Enhanced, text: String) -> Self {
        Self { code, enhanced, text }
    }
}

/// What a mail becomes.
struct Rendered {
    plan: Plan,
    requests: Vec<Request>,
    recipients: Vec<(Address, &'static str, usize)>,
}

fn policy(text: &str) -> Result<Unsupported, String> {
    match text {
        "refuse" => Ok(Unsupported::Refuse),
        "degrade" => Ok(Unsupported::Degrade),
        _ => Err("refuse or degrade".to_owned()),
    }
}

impl Render {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let raw = self.read()?;
        match self.render(raw)? {
            Ok(rendered) => {
                if self.json {
                    sayln!("{:#}", rendered.to_json());
                } else {
                    rendered.print();
                }
                Ok(())
            }
            Err(Refused { code, enhanced, text }) => {
                if self.json {
                    let refused = json!({"code": code, "enhanced": enhanced.to_string(), "text": text});
                    sayln!("{:#}", json!({ "refused": refused }));
                } else {
                    sayln!("Refused: {code} {enhanced} {text}");
                }
                Err(Failure::new("").with_code(REFUSED))
            }
        }
    }

    /// The mail. A file with bare line feeds is read as the mail it was before it was saved.
    fn read(&self) -> Result<Bytes, Failure> {
        let wrong = |e| Failure::new(format!("{} cannot be read: {e}", self.file.display())).with_code(USAGE);
        let mut raw = read_input(&self.file, LARGEST).map_err(wrong)?;
        if memchr::memmem::find(&raw, b"\r\n").is_none() {
            raw = raw.split(|b| *b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
        }
        Ok(raw.into())
    }

    fn render(&self, raw: Bytes) -> Result<Result<Rendered, Refused>, Failure> {
        let setup = self.setup()?;
        // Whom the headers name; a mail that cannot be read is refused below, whoever would get it.
        let shown = Message::parse(raw.clone()).unwrap_or_default();
        let envelope = self.envelope(&shown)?;
        if let Some(refused) = setup.refusal(&raw, &envelope) {
            return Ok(Err(refused));
        }
        let refused = |cause: Cause| {
            let cause = cause.told_by(&setup.account.replies);
            Refused::new(cause.row.code, cause.row.enhanced, format!("{}: {}", cause.row.says, cause.detail))
        };
        Ok(rendered(raw, &envelope, &setup).map_err(refused))
    }

    fn envelope(&self, message: &Message) -> Result<Envelope, Failure> {
        let mut recipients: Vec<Address> = Vec::new();
        let shown = || message.to.iter().chain(&message.cc).map(|m| m.address.clone()).collect();
        for recipient in if self.rcpt.is_empty() { shown() } else { self.rcpt.clone() } {
            if !recipients.contains(&recipient) {
                recipients.push(recipient);
            }
        }
        if recipients.is_empty() {
            return Err(
                Failure::new("the mail names nobody in To or Cc; say who gets it with --rcpt ADDRESS").with_code(USAGE)
            );
        }
        let reverse_path = self.from.clone().or_else(|| message.from.first().map(|m| m.address.clone()));
        Ok(Envelope { reverse_path, recipients, principal: self.principal.clone(), ..Envelope::default() })
    }
}

fn rendered(raw: Bytes, envelope: &Envelope, setup: &Setup) -> Result<Rendered, Cause> {
    let provider = provider::build(&setup.account);
    let limits = provider.limits();
    let terms = Terms {
        limits: &limits,
        fanout: setup.account.fanout,
        unsupported: setup.account.unsupported,
        utf8_addresses: setup.account.utf8_addresses,
        apart: false,
    };
    let (message, plan) = prepare(raw, envelope, envelope, &setup.policies, terms)?;
    let mut rendered = Rendered { requests: Vec::new(), recipients: Vec::new(), plan };
    for (number, batch) in rendered.plan.batches.iter().enumerate() {
        // What is sent has an id; what is only shown has none.
        let marker = provider.marks().then(|| "(the id that the mail gets)".into());
        let as_sent = Batch { marker, ..batch.clone() };
        rendered.requests.push(provider.request(&message, &rendered.plan.controls, &as_sent)?);
        for recipient in batch.recipients() {
            rendered.recipients.push((recipient.clone(), role_of(recipient, &message).0.name(), number));
        }
    }
    Ok(rendered)
}

impl Rendered {
    fn to_json(&self) -> Value {
        let request = |r: &Request| {
            let mut headers = serde_json::Map::new();
            headers.insert("Content-Type".into(), "application/json".into());
            headers.extend(r.headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
            json!({"method": r.method.as_str(), "url": r.url, "headers": headers, "body": body_of(r)})
        };
        let recipients = self.recipients.iter();
        json!({
            "requests": self.requests.iter().map(request).collect::<Vec<_>>(),
            "recipients": recipients.map(|(a, role, n)| json!({"address": a.as_str(), "role": role, "request": n})).collect::<Vec<_>>(),
            "losses": self.plan.losses.iter().map(|loss| loss.what.as_str()).collect::<Vec<_>>(),
            "controls": self.plan.controls.to_json(),
        })
    }

    fn print(&self) {
        for (number, request) in self.requests.iter().enumerate() {
            sayln!("Request {number}: {} {}\n{:#}\n", request.method, request.url, without_contents(body_of(request)));
        }
        sayln!("Recipients");
        for (address, role, number) in &self.recipients {
            let note = if *role == "bcc" { " (in the envelope only; shown to nobody else)" } else { "" };
            sayln!("  {address:<40} {role:<4} request {number}{note}");
        }
        sayln!("\nLosses");
        if self.plan.losses.is_empty() {
            sayln!("  none");
        }
        for loss in &self.plan.losses {
            sayln!("  {}", loss.what);
        }
        self.print_controls();
        sayln!("\nReplies\n  250 2.0.0    the API took the mail");
        for row in TABLE.iter().filter(|row| is_told(row)) {
            sayln!("  {} {:<8} {}", row.code, row.enhanced.to_string(), row.when);
        }
    }
}

impl Rendered {
    fn print_controls(&self) {
        let controls = self.plan.controls.to_json();
        let obeyed = controls.as_object().into_iter().flatten().filter(|(name, _)| *name != "ignored");
        sayln!("\nControls");
        for (name, value) in obeyed {
            sayln!("  {name:<20} {value}");
        }
        for ignored in &self.plan.controls.ignored {
            sayln!("  not obeyed: {} {}", ignored.header, ignored.why);
        }
        if self.plan.controls == Controls::default() {
            sayln!("  none");
        }
    }
}

/// Whether a mail that can be rendered may get this reply, from an account with a key of its own.
fn is_told(row: &Row) -> bool {
    use Kind::{BadLogin, NotAscii, Overloaded, Pending, Unsent, Unsupported};
    !matches!(row.kind, Unsent | Unsupported | NotAscii | Overloaded | Pending | BadLogin)
}

/// The body as JSON again, for showing.
fn body_of(request: &Request) -> Value {
    serde_json::from_slice(&request.body.to_vec()).unwrap_or(Value::Null)
}

/// The body for people: of each attachment the beginning of its content and how long it is.
fn without_contents(mut body: Value) -> Value {
    for attachment in body.get_mut("attachments").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(Value::String(content)) = attachment.get_mut("content") else { continue };
        if let Some(begin) = content.get(..60) {
            *content = format!("{begin}… ({} characters of base64; --json shows all)", content.len());
        }
    }
    body
}
