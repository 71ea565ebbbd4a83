//! From control headers to what they ask for: which occurrence counts, what may be asked, whose word wins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::table::{Family, Form, Meaning, Repeat, Row, TABLE, rows};
use super::{Capacity, Control, Ignored, Policy, Setting, Stance, forms};
use crate::address::Address;
use crate::message::one_line;
use crate::outcome::{Cause, Kind};

/// What one header, or one member of it, asks for.
pub(super) struct Wish {
    pub(super) control: Control,
    pub(super) setting: Setting,
    /// The header it is from, for the log.
    pub(super) header: String,
    row: usize,
    family: Family,
}

/// The headers of one mail, being read.
pub(super) struct Reading<'a> {
    pub(super) policy: &'a Policy,
    pub(super) vendor: &'a str,
    pub(super) capacity: &'a Capacity,
    recipients: &'a [Address],
    wishes: Vec<Wish>,
    /// The header that asks for a template, allowed or not.
    pub(super) template: Option<String>,
    /// The names of template data in lower case, and the headers that they are from, allowed or not.
    pub(super) data: BTreeMap<String, String>,
    pub(super) ignored: Vec<Ignored>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(policy: &'a Policy, vendor: &'a str, capacity: &'a Capacity, recipients: &'a [Address]) -> Self {
        Self {
            policy,
            vendor,
            capacity,
            recipients,
            wishes: Vec::new(),
            template: None,
            data: BTreeMap::new(),
            ignored: Vec::new(),
        }
    }

    /// Reads all control headers, each name once with all its values.
    pub(super) fn read(&mut self, fields: &[(String, String)]) -> Result<(), Cause> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in fields {
            if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            names.push(name);
            let values = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let values: Vec<&str> = values.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty()).collect();
            self.read_header(name, &values)?;
        }
        Ok(())
    }

    fn read_header(&mut self, name: &str, values: &[&str]) -> Result<(), Cause> {
        let rows = rows(name);
        let repeat = rows.first().map_or(Repeat::Every, |(_, row)| row.repeat);
        let counted = match (repeat, values) {
            (Repeat::First, [first, ..]) => std::slice::from_ref(first),
            (Repeat::Last, [.., last]) => std::slice::from_ref(last),
            _ => values,
        };
        if counted.len() < values.len() {
            let which = if repeat == Repeat::First { "first" } else { "last" };
            self.ignore(name, format!("occurs {} times, and the {which} counts", values.len()));
        }
        counted.iter().try_for_each(|value| self.read_value(name, value, &rows))
    }

    /// One value under all its rows: one, or those of the members of its JSON.
    fn read_value(&mut self, name: &str, value: &str, rows: &[(usize, &'static Row)]) -> Result<(), Cause> {
        let json = rows.iter().any(|(_, row)| row.is_json());
        let root = if json { serde_json::from_str(value) } else { Ok(Value::from(value)) };
        let Ok(root) = root else {
            // What is not allowed need not be right.
            if let [(_, Row { meaning: Meaning::Sets(control), .. })] = rows
                && !self.policy.allows(*control)
            {
                self.ignore(name, NOT_ALLOWED);
                return Ok(());
            }
            return self.invalid(name, "is not valid JSON");
        };
        let by_member = rows.iter().any(|(_, row)| !row.member.is_empty());
        if by_member && !root.is_object() {
            return self.invalid(name, "is not a JSON object");
        }
        for (place, row) in rows {
            self.read_row(*place, row, name, &root)?;
        }
        let strangers = if by_member { strangers(&root, rows) } else { Vec::new() };
        strangers.iter().try_for_each(|member| self.unsupported(&format!("{name} {member}"), NOT_KNOWN))
    }

    fn read_row(&mut self, place: usize, row: &Row, name: &str, root: &Value) -> Result<(), Cause> {
        let path = row.member.split('.').filter(|step| !step.is_empty());
        let Some(value) = path.into_iter().try_fold(root, |value, step| value.get(step)) else { return Ok(()) };
        let header = if row.member.is_empty() { name.to_owned() } else { format!("{name} {}", row.member) };
        match row.meaning {
            Meaning::Part => Ok(()),
            Meaning::Unknown if row.family == Family::Sidepost => self.invalid(&header, &own_mistake(name)),
            Meaning::Unknown => self.unsupported(&header, NOT_KNOWN),
            Meaning::Recipients => self.compare_recipients(&header, value),
            Meaning::Sets(control) => {
                self.wish(control, header, forms::read(row, name, value, root, self.recipients), (place, row))
            }
        }
    }

    fn wish(
        &mut self,
        control: Control,
        header: String,
        read: Result<Option<Setting>, &'static str>,
        (place, row): (usize, &Row),
    ) -> Result<(), Cause> {
        match (control, &read) {
            (Control::Template, Ok(Some(_))) => self.template = Some(header.clone()),
            (Control::TemplateData, Ok(Some(Setting::Map(data)))) => {
                self.data.extend(data.keys().map(|name| (name.to_ascii_lowercase(), header.clone())));
            }
            _ => {}
        }
        if !self.policy.allows(control) {
            let asks = matches!(&read, Ok(Some(setting)) if !matches!(setting, Setting::Switch(false)));
            if asks && control.matters() {
                let why = format!("asks for {}, and controls.allow lacks it", control.name());
                return Err(Cause::new(Kind::Unsupported, format!("{header} {why}")));
            }
            self.ignore(&header, NOT_ALLOWED);
            return Ok(());
        }
        match read {
            Ok(Some(setting)) => self.wishes.push(Wish { control, setting, header, row: place, family: row.family }),
            Ok(None) => {}
            Err(why) => return self.invalid(&header, why),
        }
        Ok(())
    }

    /// A list of recipients in a header is never used: RCPT alone says who gets mail, or a form on a web page that lets
    /// a line end through could send to anybody. But whom the program meant to write to by such a list, and not by RCPT,
    /// would get nothing while the program is told 250. So it is refused, unless RCPT has them all.
    fn compare_recipients(&mut self, header: &str, value: &Value) -> Result<(), Cause> {
        let known = |address: &Address| self.recipients.iter().any(|recipient| recipient.reads_like(address));
        let strangers = forms::addresses(value).iter().filter(|a| !a.as_ref().is_some_and(known)).count();
        if strangers == 0 {
            return Ok(());
        }
        let why =
            format!("names recipients ({strangers}) that RCPT TO does not, and only RCPT TO decides who gets mail");
        match self.policy.recipients {
            Stance::Refuse => Err(Cause::new(Kind::BadContent, format!("{header} {why}"))),
            Stance::Ignore => {
                self.ignore(header, why);
                Ok(())
            }
        }
    }

    pub(super) fn ignore(&mut self, header: &str, why: impl Into<String>) {
        // A mail may have a thousand such headers, and a log line is for reading.
        if self.ignored.len() < MAX_IGNORED {
            // The name of a member is whatever the mail's JSON says.
            let header = one_line(&header.chars().take(MAX_NAME).collect::<String>());
            self.ignored.push(Ignored { header, why: why.into() });
        }
    }

    /// A value that cannot be read.
    pub(super) fn invalid(&mut self, header: &str, why: &str) -> Result<(), Cause> {
        if self.policy.invalid == Stance::Refuse {
            return Err(Cause::new(Kind::BadContent, format!("{header} {why}")));
        }
        self.ignore(header, why);
        Ok(())
    }

    /// What nothing is known of, or the API has no room for.
    pub(super) fn unsupported(&mut self, header: &str, why: &str) -> Result<(), Cause> {
        if self.policy.unsupported == Stance::Refuse {
            return Err(Cause::new(Kind::Unsupported, format!("{header} {why}")));
        }
        self.ignore(header, why);
        Ok(())
    }

    /// The wishes, whose word counts first: sidepost's own, then the family of the API, then the table's order.
    pub(super) fn ranked(&mut self) -> Vec<Wish> {
        let mut wishes = std::mem::take(&mut self.wishes);
        let rank = |family: Family| match family {
            Family::Sidepost => 0,
            own if Some(own) == self.capacity.family => 1,
            _ => 2,
        };
        wishes.sort_by_key(|wish| (rank(wish.family), wish.row));
        wishes
    }
}

impl Wish {
    /// The same names without the signs around them (`%name%`, `-name-`), for another control.
    pub(super) fn with_bare_names(self, control: Control) -> Self {
        let bare = |name: &str| name.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let setting = match self.setting {
            Setting::Map(map) => Setting::Map(
                map.into_iter().map(|(name, value)| (bare(&name), value)).filter(|(n, _)| !n.is_empty()).collect(),
            ),
            other => other,
        };
        Self { control, setting, ..self }
    }

    /// Takes another wish for the same control in, as far as it does not contradict. False: it loses something by that.
    ///
    /// Metadata of all families is merged: a name that one of them gives is none of the other's business. Tags and
    /// template data are of one family, or a program that says the same thing to two vendors would say it twice.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let same_family = self.family == other.family;
        match (&mut self.setting, &other.setting) {
            (Setting::Map(mine), Setting::Map(theirs)) if same_family || self.control == Control::Metadata => {
                // Of one header the later value wins, of several rows or families the first.
                merge_maps(mine, theirs, self.control, same_family && self.row == other.row)
            }
            (Setting::Texts(mine), Setting::Texts(theirs)) if same_family => {
                mine.extend(theirs.iter().cloned());
                true
            }
            (mine, theirs) => mine == theirs,
        }
    }
}

/// Enters names and values; false if one of them meets another value under its name and does not replace it.
fn merge_maps(mine: &mut Map<String, Value>, theirs: &Map<String, Value>, control: Control, replace: bool) -> bool {
    // Header names have no case, so names that come from them have none either.
    let fold = |name: &str| if control == Control::Metadata { name.to_ascii_lowercase() } else { name.to_owned() };
    let known: BTreeMap<String, String> = mine.keys().map(|name| (fold(name), name.clone())).collect();
    let mut all = true;
    for (name, value) in theirs {
        match known.get(&fold(name)) {
            Some(known) if replace => {
                mine.remove(known);
            }
            Some(known) => {
                all &= mine.get(known) == Some(value);
                continue;
            }
            None => {}
        }
        mine.insert(name.clone(), value.clone());
    }
    all
}

const NOT_ALLOWED: &str = "is not in controls.allow";
const NOT_KNOWN: &str = "asks for something that sidepost does not know";
const MAX_IGNORED: usize = 50;
const MAX_NAME: usize = 100;

/// Our own family has no unknown members: it must be a slip.
fn own_mistake(name: &str) -> String {
    let own = TABLE.iter().filter(|row| row.family == Family::Sidepost && row.form != Form::Opaque);
    let near = |row: &&Row| strsim::jaro_winkler(&row.header.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let best = own.max_by(|a, b| near(a).total_cmp(&near(b))).filter(|row| near(row) > 0.95);
    let hint = best.map(|row| format!("; did you mean {}?", row.header)).unwrap_or_default();
    format!("is no header of sidepost's{hint}")
}

/// The members of the JSON that no row is about; of those that hold members with rows, the members.
fn strangers(root: &Value, rows: &[(usize, &'static Row)]) -> Vec<String> {
    let none = Map::new();
    let mut strangers = Vec::new();
    for (name, value) in root.as_object().unwrap_or(&none) {
        let inside = format!("{name}.");
        if rows.iter().any(|(_, row)| row.member == name) {
            continue;
        }
        match value.as_object().filter(|_| rows.iter().any(|(_, row)| row.member.starts_with(&inside))) {
            Some(members) => {
                let members = members.keys().map(|member| format!("{inside}{member}"));
                strangers.extend(members.filter(|member| rows.iter().all(|(_, row)| row.member != member)));
            }
            None => strangers.push(name.clone()),
        }
    }
    strangers
}
