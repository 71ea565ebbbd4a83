//! The merged tree becomes values: defaults stand in for what is wrong, and every unknown key is found.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use serde_path_to_error::Segment;

use super::layers::{DEFAULTS, Problem};
use super::{Config, ProviderKind};
use crate::controls::Policy;
use crate::route::Route;

/// The defaults as a tree.
pub fn defaults() -> Json {
    toml::from_str(DEFAULTS).unwrap_or_default()
}

/// Where the default for a key is whose path holds a name of the operator's. Accounts have their defaults in one place for
/// all; the lists of principals look like the one for everybody.
pub(super) fn default_path(path: &str) -> String {
    default_steps(&path.split('.').collect::<Vec<_>>()).join(".")
}

/// The same in steps: the names of principals and accounts may have dots.
fn default_steps<'a>(steps: &[&'a str]) -> Vec<&'a str> {
    match steps {
        ["providers", _, key @ ..] if !key.is_empty() => [&["provider_defaults"], key].concat(),
        ["smtp", "senders", "principals", _, ..] => vec!["smtp", "senders", "allow"],
        _ => steps.to_vec(),
    }
}

pub(super) fn lookup<'a>(tree: &'a Json, path: &str) -> Option<&'a Json> {
    follow(tree, &path.split('.').collect::<Vec<_>>())
}

fn follow<'a>(tree: &'a Json, steps: &[&str]) -> Option<&'a Json> {
    steps.iter().try_fold(tree, |node, step| match node {
        Json::Array(items) => items.get(step.parse::<usize>().ok()?),
        node => node.get(step),
    })
}

fn follow_mut<'a>(tree: &'a mut Json, steps: &[&str]) -> Option<&'a mut Json> {
    steps.iter().try_fold(tree, |node, step| match node {
        Json::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        node => node.get_mut(step),
    })
}

pub(super) fn accounts(tree: &mut Json) -> impl Iterator<Item = (&String, &mut serde_json::Map<String, Json>)> {
    let providers = tree.get_mut("providers").and_then(Json::as_object_mut).into_iter().flatten();
    providers.filter_map(|(name, account)| Some((name, account.as_object_mut()?)))
}

pub(super) fn inherit_provider_defaults(tree: &mut Json) {
    let defaults = tree.get("provider_defaults").and_then(Json::as_object).cloned().unwrap_or_default();
    for (_, account) in accounts(tree) {
        for (key, value) in &defaults {
            account.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Decodes the tree as far as it goes: a wrong value is reported and replaced by its default, so that the next one is
/// found as well.
pub(super) fn decode(tree: &mut Json, problems: &mut Vec<Problem>) -> Option<Config> {
    let defaults = defaults();
    for (name, account) in accounts(tree) {
        if ProviderKind::ALL.iter().any(|kind| kind.name() == name) {
            // An account that is called after its API need not say it twice.
            account.entry("kind").or_insert_with(|| name.as_str().into());
        }
        if !account.contains_key("kind") {
            let all = ProviderKind::ALL.map(ProviderKind::name).join(", ");
            problems.push(Problem::new(format!("providers.{name}"), format!("kind is missing; it is one of {all}")));
            account.insert("kind".into(), ProviderKind::ScaiSend.name().into());
        }
    }
    let mut unknown = BTreeSet::new();
    let mut decoded = None;
    for _ in 0..100 {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&*tree, &mut track);
        let result = serde_ignored::deserialize(deserializer, |path| {
            unknown.insert(path.to_string());
        });
        match result {
            Ok(config) => {
                decoded = Some(config);
                break;
            }
            Err(error) => {
                let steps = steps(&track.path());
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                let default = default_at(&defaults, tree, &steps);
                problems.push(Problem::new(steps.join("."), explain(&steps, &error, default.as_ref())));
                stand_in(tree, &steps, default)?;
            }
        }
    }
    unknown.remove("provider_defaults");
    problems.extend(unknown.iter().map(|path| unknown_key(path, &defaults)));
    decoded
}

fn steps(path: &serde_path_to_error::Path) -> Vec<String> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key: name } | Segment::Enum { variant: name } => name.clone(),
        Segment::Unknown => "?".to_owned(),
    };
    path.iter().map(step).collect()
}

/// Puts the default in place of a wrong value. An item of a list that has no default takes the list with it.
fn stand_in(tree: &mut Json, steps: &[&str], default: Option<Json>) -> Option<()> {
    let (last, surroundings) = steps.split_last()?;
    let (steps, default) = match default {
        Some(default) => (steps, default),
        None if follow(tree, surroundings)?.is_array() => (surroundings, Json::Array(Vec::new())),
        // A member that need not be there.
        None => return follow_mut(tree, surroundings)?.as_object_mut()?.remove(*last).map(|_| ()),
    };
    *follow_mut(tree, steps)? = default;
    Some(())
}

/// What stands in for a wrong value: its default; for an item of a list, the first of the default list.
fn default_at(defaults: &Json, tree: &Json, steps: &[&str]) -> Option<Json> {
    let (last, surroundings) = steps.split_last()?;
    if follow(tree, surroundings).is_some_and(Json::is_array) {
        return follow(defaults, &default_steps(surroundings))?.as_array()?.first().cloned();
    }
    match *last {
        "kind" => Some(ProviderKind::ScaiSend.name().into()),
        "api_key" => Some("unread".into()),
        _ => follow(defaults, &default_steps(steps)).cloned(),
    }
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(parent, _)| parent)
}

/// serde's sentence, with the default as an example of how to write it. Never with the value of a secret.
fn explain(steps: &[&str], error: &serde_json::Error, default: Option<&Json>) -> String {
    match (steps, default) {
        _ if is_secret(&steps.join(".")) => "a secret must be a text in quotes".to_owned(),
        (["providers"] | ["providers", _], _) => {
            "an account is a section: [providers.NAME] with kind and api_key_file".to_owned()
        }
        // The error lists all names; one of the default's says nothing.
        (["controls", "allow", ..], _) | (_, None) => error.to_string(),
        (_, Some(default)) => format!("{error}; the default is {default}"),
    }
}

/// Whether the value at this path, or in the list there, is nobody's business.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('.');
    [".api_key", ".webhook_secrets", "web.token", "webhooks.forward_secret"].iter().any(|secret| key.ends_with(secret))
        || key.starts_with("smtp.auth.users.")
}

fn unknown_key(path: &str, defaults: &Json) -> Problem {
    let wanted = default_path(path);
    let mut found = Vec::new();
    leaves(defaults, "", &mut found);
    let account = ["kind", "api_key", "api_key_file"].map(|key| format!("provider_defaults.{key}"));
    // What a route may have is nowhere in the defaults: there is none.
    let at = path.rsplit_once('.').filter(|_| path.starts_with("routes.")).map(|(route, _)| route);
    let route = at.into_iter().flat_map(|at| Route::KEYS.map(|key| format!("{at}.{key}")));
    let mut known: BTreeSet<String> = found.into_iter().map(|(key, _)| key).chain(account).chain(route).collect();
    known.extend(known.clone().iter().map(|key| parent(key).to_owned()));
    // A section that does not exist: what is in it may be right.
    let section = path.split('.').next().unwrap_or_default();
    if defaults.get(section).is_none() {
        known = defaults.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        known.remove("provider_defaults");
    }
    let wanted = if defaults.get(section).is_none() { section.to_owned() } else { wanted };
    let near = |key: &str| strsim::jaro_winkler(key, &wanted);
    let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    let hint = best.filter(|key| near(key) > 0.8).map(|key| match key.strip_prefix("provider_defaults.") {
        Some(key) if path.starts_with("providers.") => format!("; did you mean {}.{key}?", parent(path)),
        _ => format!("; did you mean {key}?"),
    });
    Problem::new(path, format!("unknown key{}", hint.unwrap_or_default()))
}

/// The leaves of a tree with their paths; a list is a leaf.
pub(super) fn leaves<'a>(tree: &'a Json, path: &str, found: &mut Vec<(String, &'a Json)>) {
    match tree {
        Json::Object(members) => {
            for (key, value) in members {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        leaf => found.push((path.to_owned(), leaf)),
    }
}

/// The settings of an account of this kind when nothing else is said; for `render`, which needs no configuration.
#[allow(clippy::expect_used, clippy::missing_panics_doc)] // config/default.toml is compiled in, and tests read it.
pub fn default_account(kind: ProviderKind) -> super::Provider {
    let mut settings = defaults().get_mut("provider_defaults").map(Json::take).unwrap_or_default();
    if let Some(settings) = settings.as_object_mut() {
        settings.insert("kind".into(), kind.name().into());
    }
    serde_json::from_value(settings).expect("the compiled-in defaults are complete")
}

/// What headers may ask for when nothing else is said.
#[allow(clippy::expect_used, clippy::missing_panics_doc)] // As above.
pub fn default_controls() -> Policy {
    let controls = defaults().get_mut("controls").map(Json::take).unwrap_or_default();
    serde_json::from_value(controls).expect("the compiled-in defaults are complete")
}
