//! What a send request says of its mails, read leniently: a refused request is shown on the page too.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::ProviderKind;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Party {
    /// The address.
    pub email: String,
    /// The display name, or nothing.
    pub name: String,
}

/// An attachment without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The file name.
    pub filename: String,
    /// The media type.
    #[serde(rename = "type")]
    pub media_type: String,
    /// Decoded size in octets.
    pub size: usize,
    /// Shown inside the HTML rather than beside it.
    pub inline: bool,
}

/// One mail: the whole of a NexusProMail request, or one personalization.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Who sends.
    pub from: Party,
    /// Who gets it, and is shown.
    pub to: Vec<Party>,
    /// Who gets a copy, and is shown.
    pub cc: Vec<Party>,
    /// Who gets a copy, and is not shown.
    pub bcc: Vec<Party>,
    /// The subject.
    pub subject: String,
    /// The categories.
    pub categories: Vec<String>,
    /// The custom arguments.
    pub custom_args: Map<String, Value>,
    /// The template that stands for the body, or nothing.
    pub template: String,
    /// The attachments.
    pub attachments: Vec<Attachment>,
}

impl Summary {
    /// Every address the mail goes to, in the order to, cc, bcc.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).map(|party| party.email.as_str())
    }

    /// The same with the place of each: the list, and the number in it.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        let lists = [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)];
        lists
            .into_iter()
            .flat_map(|(list, all)| all.iter().enumerate().map(move |(n, one)| (list, n, one.email.as_str())))
    }

    /// About the memory it takes.
    pub fn octets(&self) -> usize {
        let parties: usize = self.recipients().map(|email| email.len() + 64).sum();
        let attachments: usize =
            self.attachments.iter().map(|one| one.filename.len() + one.media_type.len() + 64).sum();
        let arguments: usize = self.custom_args.keys().map(|name| name.len() + 128).sum();
        parties + attachments + arguments + self.subject.len() + self.template.len() + 512
    }
}

/// The mails of a request, in its order. There is always one: a request without personalizations is shown as well.
pub fn summaries(api: ProviderKind, payload: &Value) -> Vec<Summary> {
    if api == ProviderKind::NexusProMail {
        return vec![Summary { to: vec![party(payload.get("to"))], ..shared(payload) }];
    }
    let shared = shared(payload);
    let mails: Vec<_> = list(payload.get("personalizations")).map(|one| personalized(&shared, one)).collect();
    if mails.is_empty() { vec![shared] } else { mails }
}

fn shared(payload: &Value) -> Summary {
    Summary {
        from: party(payload.get("from")),
        subject: text(payload.get("subject")),
        template: text(payload.get("template_id")),
        categories: list(payload.get("categories")).map(|one| text(Some(one))).collect(),
        custom_args: arguments(payload),
        attachments: list(payload.get("attachments")).map(attachment).collect(),
        ..Summary::default()
    }
}

fn personalized(shared: &Summary, personalization: &Value) -> Summary {
    let parties = |field| list(personalization.get(field)).map(|one| party(Some(one))).collect();
    Summary {
        to: parties("to"),
        cc: parties("cc"),
        bcc: parties("bcc"),
        from: personalization.get("from").map_or_else(|| shared.from.clone(), |from| party(Some(from))),
        subject: personalization.get("subject").map_or_else(|| shared.subject.clone(), |one| text(Some(one))),
        custom_args: shared.custom_args.clone().into_iter().chain(arguments(personalization)).collect(),
        ..shared.clone()
    }
}

fn arguments(of: &Value) -> Map<String, Value> {
    of.get("custom_args").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn attachment(value: &Value) -> Attachment {
    let content = value.get("content").and_then(Value::as_str).unwrap_or_default();
    Attachment {
        filename: text(value.get("filename")),
        media_type: value.get("type").map_or_else(|| "application/octet-stream".to_owned(), |one| text(Some(one))),
        size: content.trim_end_matches('=').len() / 4 * 3 + content.trim_end_matches('=').len() % 4 * 3 / 4,
        inline: value.get("disposition").and_then(Value::as_str) == Some("inline"),
    }
}

fn party(value: Option<&Value>) -> Party {
    let field = |name| text(value.and_then(|value| value.get(name)));
    Party { email: field("email"), name: field("name") }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}
