//! What a mail's headers ask of the API: families of header fields -> `Controls`; they are stripped from what is sent.

mod fit;
mod forms;
mod reading;
pub mod table;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::address::Address;
use crate::message::Message;
use crate::outcome::Cause;
use reading::Reading;
use table::Family;

macro_rules! controls {
    ($($control:ident $name:literal $what:literal;)*) => {
        /// What a header can ask for; the names are those of `[controls] allow`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Control { $(#[doc = $what] $control),* }

        impl Control {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$control),*];

            /// The name in the configuration and in `render`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$control => $name),* }
            }

            /// What it asks for.
            pub fn what(self) -> &'static str {
                match self { $(Self::$control => $what),* }
            }
        }
    };
}

controls! {
    Template         "template"          "a template of the provider's instead of the mail's own body";
    TemplateData     "template-data"     "the data for that template";
    Substitutions    "substitutions"     "marks in subject and body, and what is to stand there";
    Tag              "tag"               "categories, for statistics";
    Metadata         "metadata"          "names and values that come back in webhooks";
    Schedule         "schedule"          "when it is to be sent";
    TrackOpens       "track-opens"       "whether opening is tracked";
    TrackClicks      "track-clicks"      "whether links are tracked";
    Sandbox          "sandbox"           "checked and not delivered";
    UnsubscribeGroup "unsubscribe-group" "which list an unsubscribe is from";
    Pool             "pool"              "the IP addresses to send from";
    Stream           "stream"            "the message stream, configuration set or subaccount";
    KeepMessageId    "keep-message-id"   "the mail's own Message-ID";
    IdempotencyKey   "idempotency-key"   "a key under which the mail is taken once";
}

impl Control {
    /// The one whose permission this needs: data without its template is nothing.
    #[must_use]
    pub fn permission(self) -> Self {
        if self == Self::TemplateData { Self::Template } else { self }
    }

    /// Whether people would get another mail than was meant if it were left out.
    fn matters(self) -> bool {
        matches!(self, Self::Sandbox | Self::Substitutions)
    }
}

impl FromStr for Control {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().copied().filter(|control| control.permission() == *control);
        if let Some(control) = known().find(|control| control.name() == text) {
            return Ok(control);
        }
        let near = |control: &Self| strsim::jaro_winkler(control.name(), text);
        let best = known().max_by(|a, b| near(a).total_cmp(&near(b))).filter(|best| near(best) > 0.7);
        let hint = best.map(|best| format!("; did you mean {:?}?", best.name())).unwrap_or_default();
        let names: Vec<&str> = known().map(Self::name).collect();
        Err(format!("{text:?} is no control{hint} (there are {})", names.join(", ")))
    }
}

impl<'de> Deserialize<'de> for Control {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `[controls]`: what mail headers may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Policy {
    /// The controls that are obeyed; the headers of all others are stripped and logged.
    pub allow: Vec<Control>,
    /// A value that cannot be read.
    pub invalid: Stance,
    /// A control that the API has no field or not enough room for.
    pub unsupported: Stance,
    /// Recipients that a control header names and RCPT does not.
    pub recipients: Stance,
}

impl Policy {
    /// Whether a control is obeyed.
    pub fn allows(&self, control: Control) -> bool {
        self.allow.contains(&control.permission())
    }
}

/// What becomes of a mail whose control is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stance {
    /// It is refused, naming the header.
    Refuse,
    /// It goes without; the log names the header.
    Ignore,
}

/// Which controls an API has fields for, and how much goes into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The fields, by control.
    pub fields: &'static [(Control, &'static str)],
    /// The family of headers that is the API's own.
    pub family: Option<Family>,
    /// Most tags.
    pub tags: usize,
    /// Most characters of a tag.
    pub tag_chars: usize,
    /// Most octets of all metadata as JSON.
    pub metadata: usize,
    /// How template ids begin.
    pub template_prefix: &'static str,
}

impl Capacity {
    /// An API without a field for any control.
    pub const NONE: Self = Self { fields: &[], family: None, tags: 0, tag_chars: 0, metadata: 0, template_prefix: "" };

    /// The API's field for a control.
    pub fn field(&self, control: Control) -> Option<&'static str> {
        self.fields.iter().find(|(known, _)| *known == control).map(|(_, field)| *field)
    }
}

/// The value of a control.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// A text: one line.
    Text(String),
    /// Texts, one line each.
    Texts(Vec<String>),
    /// Yes or no.
    Switch(bool),
    /// A number, or a time in Unix seconds.
    Number(u64),
    /// Names and values.
    Map(Map<String, Value>),
}

impl Setting {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Texts(texts) => texts.iter().all(String::is_empty),
            Self::Map(map) => map.is_empty(),
            Self::Switch(_) | Self::Number(_) => false,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Texts(texts) => json!(texts),
            Self::Switch(on) => json!(on),
            Self::Number(number) => json!(number),
            Self::Map(map) => json!(map),
        }
    }
}

/// A control header, or a member of one, that was not obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The header as the mail writes it, and the member: `X-SMTPAPI filters.footer`. Never its value.
    pub header: String,
    /// Why, as the end of a sentence about it.
    pub why: String,
}

/// What a mail asks of its API, as far as it is obeyed: the API has a field for each, and room in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Controls {
    settings: BTreeMap<Control, Setting>,
    /// What is not obeyed.
    pub ignored: Vec<Ignored>,
}

impl Controls {
    /// Takes the control headers out of `message` and reads them. With a template the mail's own body goes as well: the
    /// APIs take one of the two. `recipients` are all of the envelope.
    ///
    /// # Errors
    /// `BadContent` for a value that cannot be read and for recipients that the envelope does not have, `Unsupported`
    /// for what the API has no field for; each as far as the policy says so, and always where people would get another
    /// mail than was meant.
    pub fn take(
        message: &mut Message,
        recipients: &[Address],
        policy: &Policy,
        vendor: &str,
        capacity: &Capacity,
    ) -> Result<Self, Cause> {
        let fields = std::mem::take(&mut message.headers);
        let (asking, rest): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| is_control(name));
        message.headers = rest;
        if asking.is_empty() {
            return Ok(Self::default());
        }
        let mut reading = Reading::new(policy, vendor, capacity, recipients);
        reading.read(&asking)?;
        let controls = reading.fit(message)?;
        if controls.text(Control::Template).is_some() {
            (message.text, message.html) = (None, None);
        }
        Ok(controls)
    }

    /// The controls that are obeyed. A sandbox that is switched off is none.
    pub fn obeyed(&self) -> impl Iterator<Item = Control> {
        let off = |control| control == Control::Sandbox && self.switch(control) == Some(false);
        self.settings.keys().copied().filter(move |control| !off(*control))
    }

    /// A control that is a text.
    pub fn text(&self, control: Control) -> Option<&str> {
        match self.settings.get(&control)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A control that is a list of texts.
    pub fn texts(&self, control: Control) -> &[String] {
        match self.settings.get(&control) {
            Some(Setting::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// A control that is on or off.
    pub fn switch(&self, control: Control) -> Option<bool> {
        match self.settings.get(&control)? {
            Setting::Switch(on) => Some(*on),
            _ => None,
        }
    }

    /// A control that is a number or a time.
    pub fn number(&self, control: Control) -> Option<u64> {
        match self.settings.get(&control)? {
            Setting::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A control that maps names to values.
    pub fn map(&self, control: Control) -> Option<&Map<String, Value>> {
        match self.settings.get(&control)? {
            Setting::Map(map) => Some(map),
            _ => None,
        }
    }

    /// What is obeyed, by name, and under `ignored` what is not; for `render`.
    pub fn to_json(&self) -> Value {
        let settings = self.settings.iter().map(|(control, setting)| (control.name().to_owned(), setting.to_json()));
        let mut all: Map<String, Value> = settings.collect();
        if !self.ignored.is_empty() {
            let ignored = self.ignored.iter().map(|one| json!({"header": one.header, "why": one.why}));
            all.insert("ignored".to_owned(), ignored.collect());
        }
        all.into()
    }
}

/// Whether a header asks something of an API. Such a header is never sent on: readers have no use for it, and it tells
/// them what was meant for the provider.
pub fn is_control(name: &str) -> bool {
    !table::rows(name).is_empty()
}
