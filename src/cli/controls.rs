//! `controls`: which headers ask for what, and into which field of the API it goes.

use clap::Args;

use super::Failure;
use crate::config::ProviderKind;
use crate::config::decode::{default_account, default_controls};
use crate::controls::Control;
use crate::controls::table::{Family, Meaning, Row, TABLE};
use crate::provider;

/// Print which headers of a mail ask the API for what: templates, tags, metadata, tracking
#[derive(Debug, Args)]
pub struct Controls {
    /// As a Markdown table, as in the README
    #[arg(long)]
    markdown: bool,
}

impl Controls {
    #[allow(clippy::unnecessary_wraps)] // Commands have one shape.
    pub(super) fn run(&self) -> Result<(), Failure> {
        say!("{}", if self.markdown { markdown() } else { plain() });
        Ok(())
    }
}

/// The headers of the rows that `pick` picks, as their vendors write them, each once.
fn headers(pick: impl Fn(&Row) -> bool) -> Vec<String> {
    let mut headers: Vec<String> = TABLE.iter().filter(|row| pick(row)).map(ToString::to_string).collect();
    headers.dedup();
    headers
}

/// Own and other headers of a control.
fn headers_of(control: Control) -> [Vec<String>; 2] {
    let about = |row: &Row| row.meaning == Meaning::Sets(control);
    [
        headers(|row| about(row) && row.family == Family::Sidepost),
        headers(|row| about(row) && row.family != Family::Sidepost),
    ]
}

/// The APIs that have a field for a control, with the field; those with the same field together.
fn fields(control: Control) -> Vec<(String, &'static str)> {
    let mut fields: Vec<(String, &'static str)> = Vec::new();
    for kind in ProviderKind::ALL {
        let limits = provider::build(&default_account(kind)).limits();
        let Some(field) = limits.controls.field(control) else { continue };
        match fields.iter_mut().find(|(_, known)| *known == field) {
            Some((vendors, _)) => vendors.push_str(&format!(", {}", limits.vendor)),
            None => fields.push((limits.vendor.to_owned(), field)),
        }
    }
    fields
}

/// The table of the README.
fn markdown() -> String {
    let policy = default_controls();
    let code = |texts: Vec<String>| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let cell = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let mut out =
        String::from("| control | sidepost\'s header | other vendors\' headers | field |\n|---|---|---|---|\n");
    for control in Control::ALL {
        let off = if policy.allows(*control) { "" } else { " (off)" };
        let [own, others] = headers_of(*control);
        let fields =
            fields(*control).iter().map(|(vendors, field)| format!("`{field}` ({vendors})")).collect::<Vec<_>>();
        out.push_str(&format!(
            "| {}{off}: {} | {} | {} | {} |\n",
            control.name(),
            control.what(),
            cell(code(own)),
            cell(code(others)),
            cell(fields.join(", "))
        ));
    }
    out
}

fn plain() -> String {
    let policy = default_controls();
    let mut out = String::new();
    for control in Control::ALL {
        let off = if policy.allows(*control) { "" } else { " (not in controls.allow by default)" };
        out.push_str(&format!("{}: {}{off}\n", control.name(), control.what()));
        for header in headers_of(*control).into_iter().flatten() {
            out.push_str(&format!("    {header}\n"));
        }
        for (vendors, field) in fields(*control) {
            out.push_str(&format!("    -> {field} ({vendors})\n"));
        }
    }
    let named = headers(|row| row.meaning == Meaning::Recipients);
    out.push_str(&format!("never obeyed, because only RCPT TO decides who gets mail: {}\n", named.join(", ")));
    let unknown = headers(|row| row.meaning == Meaning::Unknown && row.family != Family::Sidepost);
    out.push_str(&format!("taken out of the mail and logged: all other {}\n", unknown.join(", ")));
    out
}
