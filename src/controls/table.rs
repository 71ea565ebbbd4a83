//! Which header of which family asks for what: the one table that parsing, stripping and the documentation read.

use std::fmt;

use super::Control;

/// Whose headers these are. The order is the precedence where the account's own API has no say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// X-Sidepost-*: wins over all others.
    Sidepost,
    /// X-SMTPAPI.
    SendGrid,
    /// X-PM-*.
    Postmark,
    /// X-Mailgun-*.
    Mailgun,
    /// X-MC-*.
    Mandrill,
    /// X-MJ-*, X-Mailjet-*.
    Mailjet,
    /// X-Mailin-*.
    Brevo,
    /// X-SES-*.
    Ses,
    /// X-MSYS-API.
    SparkPost,
    /// X-MT-*.
    Mailtrap,
    /// Resend-Idempotency-Key.
    Resend,
}

/// What a header, or a member of its JSON, is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It asks for this.
    Sets(Control),
    /// It names recipients. They are compared with the envelope and never used (DESIGN promise 2).
    Recipients,
    /// It belongs to another row, which reads it.
    Part,
    /// Nothing that is known here.
    Unknown,
}

/// How the value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A text, or a number taken as one.
    Text,
    /// One text, or in JSON a list of them.
    Texts,
    /// Texts with commas between them.
    List,
    /// What stands before a `|`.
    BeforeBar,
    /// Visible ASCII without blanks, at most 256.
    Token,
    /// A text under the name that the header's own name ends with.
    Entry,
    /// `name=value, name=value`.
    Pairs,
    /// A JSON object of texts.
    Strings,
    /// A JSON object.
    Object,
    /// On or off.
    Switch,
    /// On if a list has a word that begins like this, else off.
    Listed(&'static str),
    /// `{"settings": {"enable": 1}}`.
    Filter,
    /// `{"settings": {"enable": 1, "template_id": "…"}}`.
    TemplateFilter,
    /// A point in time: Unix seconds, RFC 3339 or RFC 5322.
    Time,
    /// A whole number.
    Number,
    /// SendGrid's `sub` with its `section`.
    Substitutions,
    /// Mailgun's variables by address, for marks like `%recipient.name%`.
    ByRecipient,
    /// Not read.
    Opaque,
}

/// Which of several occurrences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The first.
    First,
    /// The last.
    Last,
    /// All.
    Every,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The family.
    pub family: Family,
    /// The header as its vendor writes it; with `*` at its end it means all names that begin so.
    pub header: &'static str,
    /// The member of the header's JSON, with dots; empty: the whole value.
    pub member: &'static str,
    /// How it is written.
    pub form: Form,
    /// Which occurrences count.
    pub repeat: Repeat,
    /// What it is about.
    pub meaning: Meaning,
}

const fn row(family: Family, header: &'static str, form: Form, meaning: Meaning) -> Row {
    Row { family, header, member: "", form, repeat: Repeat::Last, meaning }
}

const fn sets(family: Family, header: &'static str, form: Form, control: Control) -> Row {
    row(family, header, form, Meaning::Sets(control))
}

const fn every(family: Family, header: &'static str, form: Form, control: Control) -> Row {
    Row { repeat: Repeat::Every, ..sets(family, header, form, control) }
}

/// A member of one of the two headers that hold everything. Of several such headers the first counts.
const fn part(family: Family, member: &'static str, form: Form, meaning: Meaning) -> Row {
    let header = if matches!(family, SendGrid) { "X-SMTPAPI" } else { "X-MSYS-API" };
    Row { member, repeat: Repeat::First, ..row(family, header, form, meaning) }
}

const fn member(family: Family, member: &'static str, form: Form, control: Control) -> Row {
    part(family, member, form, Meaning::Sets(control))
}

const fn recipients(family: Family, member: &'static str) -> Row {
    part(family, member, Form::Opaque, Meaning::Recipients)
}

const fn unknown(family: Family, header: &'static str) -> Row {
    row(family, header, Form::Opaque, Meaning::Unknown)
}

use Control::{
    IdempotencyKey, KeepMessageId, Metadata, Pool, Sandbox, Schedule, Stream, Substitutions, Tag, Template,
    TemplateData, TrackClicks, TrackOpens, UnsubscribeGroup,
};
use Family::{Brevo, Mailgun, Mailjet, Mailtrap, Mandrill, Postmark, Resend, SendGrid, Ses, Sidepost, SparkPost};

/// All rows. Within a family the first row that says something wins.
pub const TABLE: &[Row] = &[
    sets(Sidepost, "X-Sidepost-Template", Form::Text, Template),
    sets(Sidepost, "X-Sidepost-Template-Data", Form::Object, TemplateData),
    every(Sidepost, "X-Sidepost-Tag", Form::Texts, Tag),
    every(Sidepost, "X-Sidepost-Category", Form::Texts, Tag),
    sets(Sidepost, "X-Sidepost-Metadata-*", Form::Entry, Metadata),
    sets(Sidepost, "X-Sidepost-Send-At", Form::Time, Schedule),
    sets(Sidepost, "X-Sidepost-Track-Opens", Form::Switch, TrackOpens),
    sets(Sidepost, "X-Sidepost-Track-Clicks", Form::Switch, TrackClicks),
    sets(Sidepost, "X-Sidepost-Sandbox", Form::Switch, Sandbox),
    sets(Sidepost, "X-Sidepost-Unsubscribe-Group", Form::Number, UnsubscribeGroup),
    sets(Sidepost, "X-Sidepost-Pool", Form::Text, Pool),
    sets(Sidepost, "X-Sidepost-Stream", Form::Text, Stream),
    sets(Sidepost, "X-Sidepost-Keep-Message-ID", Form::Switch, KeepMessageId),
    sets(Sidepost, "X-Sidepost-Idempotency-Key", Form::Token, IdempotencyKey),
    unknown(Sidepost, "X-Sidepost-*"),
    recipients(SendGrid, "to"),
    recipients(SendGrid, "filters.bcc"),
    member(SendGrid, "category", Form::Texts, Tag),
    member(SendGrid, "unique_args", Form::Strings, Metadata),
    member(SendGrid, "filters.templates", Form::TemplateFilter, Template),
    member(SendGrid, "dynamic_template_data", Form::Object, TemplateData),
    member(SendGrid, "sub", Form::Substitutions, Substitutions),
    part(SendGrid, "section", Form::Opaque, Meaning::Part),
    member(SendGrid, "ip_pool", Form::Text, Pool),
    member(SendGrid, "filters.opentrack", Form::Filter, TrackOpens),
    member(SendGrid, "filters.clicktrack", Form::Filter, TrackClicks),
    member(SendGrid, "send_at", Form::Time, Schedule),
    member(SendGrid, "asm_group_id", Form::Number, UnsubscribeGroup),
    sets(Postmark, "X-PM-Tag", Form::Texts, Tag),
    sets(Postmark, "X-PM-Metadata-*", Form::Entry, Metadata),
    sets(Postmark, "X-PM-Message-Stream", Form::Text, Stream),
    sets(Postmark, "X-PM-TrackOpens", Form::Switch, TrackOpens),
    sets(Postmark, "X-PM-TrackLinks", Form::Switch, TrackClicks),
    sets(Postmark, "X-PM-KeepID", Form::Switch, KeepMessageId),
    unknown(Postmark, "X-PM-*"),
    every(Mailgun, "X-Mailgun-Tag", Form::Texts, Tag),
    every(Mailgun, "X-Mailgun-Variables", Form::Strings, Metadata),
    sets(Mailgun, "X-Mailgun-Template-Name", Form::Text, Template),
    sets(Mailgun, "X-Mailgun-Template-Variables", Form::Object, TemplateData),
    sets(Mailgun, "X-Mailgun-Recipient-Variables", Form::ByRecipient, Substitutions),
    sets(Mailgun, "X-Mailgun-Sending-Ip-Pool", Form::Text, Pool),
    sets(Mailgun, "X-Mailgun-Track-Opens", Form::Switch, TrackOpens),
    sets(Mailgun, "X-Mailgun-Track-Clicks", Form::Switch, TrackClicks),
    sets(Mailgun, "X-Mailgun-Track", Form::Switch, TrackOpens),
    sets(Mailgun, "X-Mailgun-Track", Form::Switch, TrackClicks),
    sets(Mailgun, "X-Mailgun-Deliver-By", Form::Time, Schedule),
    sets(Mailgun, "X-Mailgun-Drop-Message", Form::Switch, Sandbox),
    unknown(Mailgun, "X-Mailgun-*"),
    row(Mandrill, "X-MC-BccAddress", Form::Opaque, Meaning::Recipients),
    every(Mandrill, "X-MC-Tags", Form::List, Tag),
    sets(Mandrill, "X-MC-Metadata", Form::Strings, Metadata),
    sets(Mandrill, "X-MC-Template", Form::BeforeBar, Template),
    every(Mandrill, "X-MC-MergeVars", Form::Object, TemplateData),
    sets(Mandrill, "X-MC-IpPool", Form::Text, Pool),
    sets(Mandrill, "X-MC-Subaccount", Form::Text, Stream),
    sets(Mandrill, "X-MC-Track", Form::Listed("opens"), TrackOpens),
    sets(Mandrill, "X-MC-Track", Form::Listed("clicks"), TrackClicks),
    sets(Mandrill, "X-MC-SendAt", Form::Time, Schedule),
    unknown(Mandrill, "X-MC-*"),
    sets(Mailjet, "X-Mailjet-Campaign", Form::Texts, Tag),
    sets(Mailjet, "X-MJ-EventPayload", Form::Entry, Metadata),
    sets(Mailjet, "X-MJ-CustomID", Form::Entry, Metadata),
    sets(Mailjet, "X-MJ-TemplateID", Form::Text, Template),
    sets(Mailjet, "X-MJ-Vars", Form::Object, TemplateData),
    sets(Mailjet, "X-Mailjet-TrackOpen", Form::Switch, TrackOpens),
    sets(Mailjet, "X-Mailjet-TrackClick", Form::Switch, TrackClicks),
    unknown(Mailjet, "X-MJ-*"),
    unknown(Mailjet, "X-Mailjet-*"),
    sets(Brevo, "X-Mailin-Tag", Form::Texts, Tag),
    sets(Brevo, "X-Mailin-custom", Form::Entry, Metadata),
    sets(Brevo, "X-Mailin-Template", Form::Text, Template),
    sets(Brevo, "X-Mailin-Parameter", Form::Object, TemplateData),
    unknown(Brevo, "X-Mailin-*"),
    unknown(Brevo, "sender.ip"),
    sets(Ses, "X-SES-MESSAGE-TAGS", Form::Pairs, Metadata),
    sets(Ses, "X-SES-CONFIGURATION-SET", Form::Text, Stream),
    sets(Ses, "X-SES-TENANT", Form::Text, Stream),
    unknown(Ses, "X-SES-*"),
    recipients(SparkPost, "cc"),
    recipients(SparkPost, "bcc"),
    recipients(SparkPost, "archive"),
    member(SparkPost, "campaign_id", Form::Texts, Tag),
    member(SparkPost, "metadata", Form::Strings, Metadata),
    member(SparkPost, "substitution_data", Form::Object, TemplateData),
    member(SparkPost, "options.ip_pool", Form::Text, Pool),
    member(SparkPost, "options.open_tracking", Form::Switch, TrackOpens),
    member(SparkPost, "options.click_tracking", Form::Switch, TrackClicks),
    member(SparkPost, "options.start_time", Form::Time, Schedule),
    member(SparkPost, "options.sandbox", Form::Switch, Sandbox),
    sets(Mailtrap, "X-MT-Category", Form::Texts, Tag),
    sets(Mailtrap, "X-MT-Custom-Variables", Form::Strings, Metadata),
    unknown(Mailtrap, "X-MT-*"),
    sets(Resend, "Resend-Idempotency-Key", Form::Token, IdempotencyKey),
];

impl Row {
    /// The beginning of the names that a `*` stands for.
    fn prefix(&self) -> Option<&'static str> {
        self.header.strip_suffix('*')
    }

    /// Whether a header of this name is meant; names have no case (RFC 5322 §1.2.2).
    fn is_for(&self, name: &str) -> bool {
        match self.prefix() {
            Some(prefix) => {
                name.len() > prefix.len() && name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix))
            }
            None => name.eq_ignore_ascii_case(self.header),
        }
    }

    /// Whether the value is JSON.
    pub(super) fn is_json(&self) -> bool {
        !self.member.is_empty() || matches!(self.form, Form::Strings | Form::Object | Form::ByRecipient)
    }

    /// The name under which [`Form::Entry`] files the value of this header.
    pub(super) fn entry<'n>(&self, name: &'n str) -> &'n str {
        match self.prefix() {
            Some(prefix) => name.get(prefix.len()..).unwrap_or(name),
            None => name.rsplit('-').next().unwrap_or(name),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            "" => f.write_str(self.header),
            member => write!(f, "{} {member}", self.header),
        }
    }
}

/// The rows for a header with their places in the table: those of its very name, else those of the longest prefix. None:
/// it is no control header.
pub fn rows(name: &str) -> Vec<(usize, &'static Row)> {
    let meant = || TABLE.iter().enumerate().filter(|(_, row)| row.is_for(name));
    let longest = meant().map(|(_, row)| row.prefix().map_or(usize::MAX, str::len)).max();
    meant().filter(|(_, row)| row.prefix().map_or(usize::MAX, str::len) == longest.unwrap_or(0)).collect()
}
