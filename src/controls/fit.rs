//! From what a mail asks for to what its API has fields for, and room.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::reading::{Reading, Wish};
use super::{Control, Controls, Setting};
use crate::message::Message;
use crate::outcome::{Cause, Kind};

type Chosen = BTreeMap<Control, Wish>;

/// Longest mark in a text that is looked at, in characters.
const MARK: usize = 100;

impl Reading<'_> {
    /// One setting for each control that the API has a field for, cut to its limits.
    pub(super) fn fit(mut self, message: &Message) -> Result<Controls, Cause> {
        let mut chosen = self.choose();
        self.fit_template(&mut chosen, message)?;
        self.fit_substitutions(&mut chosen)?;
        let mut settings = BTreeMap::new();
        for (control, wish) in chosen {
            if self.capacity.field(control).is_none() {
                self.without_field(control, &wish)?;
                continue;
            }
            let setting = match wish.setting {
                Setting::Texts(tags) => Setting::Texts(self.fit_tags(tags, &wish.header)?),
                Setting::Map(all) if control == Control::Metadata => {
                    Setting::Map(self.fit_metadata(all, &wish.header)?)
                }
                other => other,
            };
            settings.insert(control, setting);
        }
        Ok(Controls { settings, ignored: self.ignored })
    }

    /// The winner for each control.
    fn choose(&mut self) -> Chosen {
        let mut chosen = Chosen::new();
        for wish in self.ranked() {
            match chosen.get_mut(&wish.control) {
                None => {
                    chosen.insert(wish.control, wish);
                }
                Some(winner) => {
                    if !winner.merge(&wish) {
                        self.ignore(&wish.header, format!("gives way to {}", winner.header));
                    }
                }
            }
        }
        chosen
    }

    fn without_field(&mut self, control: Control, wish: &Wish) -> Result<(), Cause> {
        let why = format!("asks for {}, and {} has no field for it", control.name(), self.vendor);
        match wish.setting {
            // What is not asked for is not missed.
            Setting::Switch(false) if control == Control::Sandbox => Ok(()),
            _ if control.matters() => Err(Cause::new(Kind::Unsupported, format!("{} {why}", wish.header))),
            _ => self.unsupported(&wish.header, &why),
        }
    }

    /// A template that is asked for and not used must not leave an empty mail behind; data without a template are
    /// nothing.
    fn fit_template(&mut self, chosen: &mut Chosen, message: &Message) -> Result<(), Cause> {
        let (prefix, has_field) = (self.capacity.template_prefix, self.capacity.field(Control::Template).is_some());
        let mut foreign = None;
        if let Some(Wish { setting: Setting::Text(id), header, .. }) = chosen.get(&Control::Template)
            && has_field
            && !id.starts_with(prefix)
        {
            let why = format!("names no template of {}, whose ids begin with {prefix}", self.vendor);
            let header = header.clone();
            self.invalid(&header, &why)?;
            chosen.remove(&Control::Template);
            foreign = Some(format!("it {why}"));
        }
        if has_field && chosen.contains_key(&Control::Template) {
            return Ok(());
        }
        let blank = |body: &Option<Arc<String>>| body.as_ref().is_none_or(|text| text.trim().is_empty());
        if let Some(header) = self.template.as_ref().filter(|_| blank(&message.text) && blank(&message.html)) {
            let unused =
                || if has_field { "controls.allow lacks it".to_owned() } else { format!("{} has none", self.vendor) };
            let why = foreign.unwrap_or_else(unused);
            let detail = format!("{header} asks for a template, and the mail has no body of its own; {why}");
            return Err(Cause::new(Kind::Unsupported, detail));
        }
        if let Some(header) = self.named_by_a_mark(message) {
            let what = "has data for marks in the mail's own text, and nobody would fill them in";
            return Err(Cause::new(Kind::Unsupported, format!("{header} {what}")));
        }
        if let Some(data) = chosen.remove(&Control::TemplateData) {
            self.ignore(&data.header, "has data for a template, and none is used");
        }
        Ok(())
    }

    /// The header whose data a mark in subject or body asks for: other vendors fill in a mail's own text as well, in
    /// marks like `*|NAME|*` (Mandrill), `{{var:name}}` (Mailjet), `{{params.NAME}}` (Brevo) and `{{name}}`.
    fn named_by_a_mark(&self, message: &Message) -> Option<&String> {
        let bodies = [&message.text, &message.html].into_iter().flatten().map(Arc::as_ref);
        let marks = message.subject.iter().chain(bodies).flat_map(|text| {
            ["*|", "{{"]
                .into_iter()
                .flat_map(move |open| text.match_indices(open).filter_map(|(at, _)| text.get(at + 2..)))
        });
        let name = |mark: &str| {
            // Of each mark so much and no more: a text of nothing but brackets has as many marks as octets.
            let mark: String = mark.chars().take(MARK).collect();
            let mark = mark.trim_start_matches(['{', ' ']);
            let mark = mark.strip_prefix("var:").or_else(|| mark.strip_prefix("params.")).unwrap_or(mark);
            let name: String = mark.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
            name.to_ascii_lowercase()
        };
        if self.data.is_empty() {
            return None;
        }
        marks.map(name).find_map(|name| self.data.get(&name))
    }

    /// A template of the kind that the APIs have today takes data by name; marks in the mail's own text have a field of
    /// their own. Either holds one value for all recipients of a mail.
    fn fit_substitutions(&mut self, chosen: &mut Chosen) -> Result<(), Cause> {
        let Some(Wish { setting: Setting::Map(marks), header, .. }) = chosen.get(&Control::Substitutions) else {
            return Ok(());
        };
        if marks.values().any(Value::is_array) {
            let why = "has values that differ by recipient; send each recipient a mail of its own";
            return Err(Cause::new(Kind::Unsupported, format!("{header} {why}")));
        }
        if !chosen.contains_key(&Control::Template) || self.capacity.field(Control::TemplateData).is_none() {
            return Ok(());
        }
        let Some(marks) = chosen.remove(&Control::Substitutions) else { return Ok(()) };
        let marks = marks.with_bare_names(Control::TemplateData);
        match chosen.get_mut(&Control::TemplateData) {
            // Data that are meant for a template know better than marks that are meant for a text.
            Some(data) => {
                if !data.merge(&marks) {
                    self.ignore(&marks.header, format!("gives way to {}", data.header));
                }
            }
            None => {
                chosen.insert(Control::TemplateData, marks);
            }
        }
        Ok(())
    }

    /// The first tags that fit, each once and no longer than it may be.
    fn fit_tags(&mut self, tags: Vec<String>, header: &str) -> Result<Vec<String>, Cause> {
        let (vendor, most, longest) = (self.vendor, self.capacity.tags, self.capacity.tag_chars);
        let mut fitting: Vec<String> = Vec::new();
        let (mut cut, mut dropped) = (0_usize, 0_usize);
        for tag in tags {
            let short: String = tag.chars().take(longest).collect();
            cut += usize::from(short.len() < tag.len());
            if short.is_empty() || fitting.contains(&short) {
                continue;
            }
            if fitting.len() < most { fitting.push(short) } else { dropped += 1 }
        }
        if dropped > 0 {
            self.unsupported(header, &format!("has {dropped} tags more than the {most} that {vendor} takes"))?;
        }
        if cut > 0 {
            self.unsupported(header, &format!("has tags of more than the {longest} characters that {vendor} takes"))?;
        }
        Ok(fitting)
    }

    /// As many names, in their order, as fit.
    fn fit_metadata(&mut self, all: Map<String, Value>, header: &str) -> Result<Map<String, Value>, Cause> {
        let most = self.capacity.metadata;
        let mut octets = 2;
        let (fitting, rest): (Map<_, _>, Map<_, _>) = all.into_iter().partition(|(name, value)| {
            // `"name":value,`
            let with = octets + Value::from(name.as_str()).to_string().len() + value.to_string().len() + 2;
            if with <= most {
                octets = with;
            }
            with <= most
        });
        if !rest.is_empty() {
            let vendor = self.vendor;
            let names = rest.len();
            self.unsupported(header, &format!("has {names} names more than the {most} octets that {vendor} takes"))?;
        }
        Ok(fitting)
    }
}
