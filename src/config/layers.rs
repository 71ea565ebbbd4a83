//! Where configuration values come from: defaults, file, environment, flags; and every mistake with its source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Source};
use serde_json::Value as Json;

use super::decode::{
    accounts, decode, default_path, defaults, inherit_provider_defaults, is_secret, leaves, lookup, parent,
};
use super::{Config, Provider, ProviderKind, rules};
use crate::files::read_small;
use crate::password;
use crate::secret::Secret;

/// The lowest layer, and the manual.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");
/// The file that is read when no other is named and it is there.
pub const SYSTEM_FILE: &str = "/etc/sidepost/sidepost.toml";
const PREFIX: &str = "SIDEPOST_";

/// What the layers above the defaults are made from.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A configuration file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// `--set KEY=VALUE`.
    pub flags: Vec<String>,
}

/// A valid configuration, and the origin of each value.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// `key`, value as TOML (secrets hidden), origin; for `check`.
    pub effective: Vec<(String, String, String)>,
}

/// The accounts, whatever else there is.
#[derive(Debug)]
pub struct Accounts {
    /// By their names; one whose key cannot be used has none.
    pub accounts: BTreeMap<String, Provider>,
    /// What is wrong with their keys.
    pub keyless: Vec<Problem>,
}

/// What there is before anybody has decided whether it will do.
struct Draft {
    figment: Figment,
    tree: Json,
    config: Option<Config>,
    problems: Vec<Problem>,
}

/// One mistake: which key, what is wrong and what to do, and where the value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, or the file.
    pub key: String,
    /// A sentence with the fix.
    pub message: String,
    /// Where the value came from; empty when nothing was given.
    pub origin: String,
}

impl Problem {
    /// A problem whose origin is filled in later.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), origin: String::new() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        if self.origin.is_empty() { Ok(()) } else { write!(f, " (from {})", self.origin) }
    }
}

impl Layers {
    /// The layers of this process: its environment, and the file that is named or lies at its usual place.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        // A variable that is not UTF-8 is nobody's setting of ours.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let environment: Vec<(String, String)> = std::env::vars_os().filter_map(text).collect();
        let named = || {
            environment
                .iter()
                .find(|(name, path)| name == "SIDEPOST_CONFIG" && !path.is_empty())
                .map(|(_, path)| PathBuf::from(path))
        };
        let usual = || Some(PathBuf::from(SYSTEM_FILE)).filter(|path| path.exists());
        let file = file.or_else(named).or_else(usual);
        Self { file, environment, flags }
    }

    /// Reads everything, or reports every mistake at once.
    ///
    /// # Errors
    /// All problems found, none of them fatal for the search for others.
    pub fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let Draft { figment, tree, config, problems } = self.read()?;
        match config {
            Some(config) if problems.is_empty() => Ok(Loaded { config, effective: effective(&tree, &figment) }),
            _ => Err(problems),
        }
    }

    /// Reads everything, with all that is wrong.
    fn read(&self) -> Result<Draft, Vec<Problem>> {
        let mut problems = Vec::new();
        let figment = self.merge(&mut problems);
        let is_whole = problems.is_empty();
        let mut tree: Json = match figment.extract() {
            Ok(tree) => tree,
            Err(error) => {
                return Err(error.into_iter().map(|e| Problem::new(e.path.join("."), e.kind.to_string())).collect());
            }
        };
        inherit_provider_defaults(&mut tree);
        read_files(&mut tree, &figment, &mut problems);
        look_at_files(&tree, &mut problems);
        let config = decode(&mut tree, &mut problems);
        // Of a file that cannot be read, all that is missing is no mistake.
        if let Some(config) = config.as_ref().filter(|_| is_whole) {
            // Where a default stands in for a wrong value (or for an item of a list), a rule that it breaks is no second one.
            let broken = rules::check(config);
            let known = |rule: &Problem| problems.iter().any(|at| at.key == rule.key || parent(&at.key) == rule.key);
            let new: Vec<Problem> = broken.into_iter().filter(|rule| !known(rule)).collect();
            problems.extend(new);
        }
        for problem in problems.iter_mut().filter(|p| p.origin.is_empty()) {
            problem.origin = origin(&figment, &problem.key).unwrap_or_default();
        }
        Ok(Draft { figment, tree, config, problems })
    }

    fn merge(&self, problems: &mut Vec<Problem>) -> Figment {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = &self.file {
            match read_file(path) {
                Ok(file) => figment = figment.merge(file),
                Err(problem) => problems.push(problem),
            }
        }
        let defaults = defaults();
        let settings = self.environment.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?;
            Some((path.to_ascii_lowercase().replace("__", "."), value, format!("environment variable {name}")))
        });
        for (path, value, origin) in settings {
            // It is easily left over in a template, and would open what the secret closes.
            if value.is_empty() && is_secret(&path) && is_set(&figment, &path) {
                let message = "the variable is empty, and would take the place of the one that is set; unset it, or give it a value";
                problems.push(Problem { origin: origin.clone(), ..Problem::new(&path, message) });
            }
            figment = figment.merge(One::new(&path, value, origin, &defaults));
        }
        problems.extend(self.environment.iter().filter_map(|(name, _)| slip(name, &defaults)));
        for flag in &self.flags {
            match flag.split_once('=') {
                Some((path, value)) => {
                    figment = figment.merge(One::new(path, value, format!("--set {path}"), &defaults));
                }
                None => problems
                    .push(Problem::new("--set", format!("{flag:?} has no '='; write --set smtp.max_recipients=50"))),
            }
        }
        self.vendor_variables(figment, &defaults)
    }

    /// The names of the vendors' own guides. A key goes to the accounts of its kind that have none; without any account
    /// it makes one.
    fn vendor_variables(&self, mut figment: Figment, defaults: &Json) -> Figment {
        let variable = |name: &str| {
            let found = self.environment.iter().find(|(n, value)| n == name && !value.is_empty());
            found.map(|(name, value)| (value.clone(), format!("environment variable {name}")))
        };
        let providers: Dict = figment.extract_inner("providers").unwrap_or_default();
        for (kind, prefix) in [(ProviderKind::NexusProMail, "NEXUSPROMAIL"), (ProviderKind::ScaiSend, "SCAISEND")] {
            let (key, file) = (variable(&format!("{prefix}_API_KEY")), variable(&format!("{prefix}_API_KEY_FILE")));
            let Some((field, (key, key_origin))) = key.map(|k| ("api_key", k)).or(file.map(|f| ("api_key_file", f)))
            else {
                continue;
            };
            let mut names = accounts_without(&providers, kind, "api_key");
            if providers.is_empty() {
                names.push(kind.name().to_owned());
            }
            for name in names {
                let path = |field: &str| format!("providers.{name}.{field}");
                figment = figment.merge(One::new(&path(field), &key, key_origin.clone(), defaults));
                let has_url = figment.find_value(&path("base_url")).is_ok();
                if let (false, Some((url, origin))) = (has_url, variable(&format!("{prefix}_API_URL"))) {
                    figment = figment.merge(One::new(&path("base_url"), &url, origin, defaults));
                }
            }
        }
        figment = self.webhook_secrets(figment, defaults);
        let given: String = figment.extract_inner("sender.default").unwrap_or_default();
        if let (true, Some((email, origin))) = (given.is_empty(), variable("FROM_EMAIL")) {
            let name = variable("FROM_NAME").map(|(name, _)| name).unwrap_or_default();
            figment = figment.merge(One::new("sender.default", &format!("{name} <{email}>"), origin, defaults));
        }
        figment
    }
}

impl Layers {
    /// The webhook secrets of the vendors' guides go to the accounts of their kind that have none.
    fn webhook_secrets(&self, mut figment: Figment, defaults: &Json) -> Figment {
        let providers: Dict = figment.extract_inner("providers").unwrap_or_default();
        for (kind, name) in
            [(ProviderKind::NexusProMail, "WEBHOOK_SECRET"), (ProviderKind::ScaiSend, "SCAISEND_WEBHOOK_SECRET")]
        {
            let found = self.environment.iter().find(|(n, value)| n == name && !value.is_empty());
            let Some((_, secret)) = found else { continue };
            for account in accounts_without(&providers, kind, "webhook_secrets") {
                let path = format!("providers.{account}.webhook_secrets");
                figment = figment.merge(One::new(&path, secret, format!("environment variable {name}"), defaults));
            }
        }
        figment
    }
}

/// Whether there is a secret, or a file for it, in the layers so far.
fn is_set(figment: &Figment, path: &str) -> bool {
    let text = |path: &str| figment.extract_inner::<Json>(path).is_ok_and(|value| !matches!(value.as_str(), Some("")));
    text(path) || text(&format!("{path}_file"))
}

/// A variable that spells a key with one underscore where two belong. (Others that begin alike are left alone: Kubernetes
/// makes some for a service called sidepost.)
fn slip(name: &str, defaults: &Json) -> Option<Problem> {
    let rest = name.strip_prefix(PREFIX).filter(|rest| !rest.contains("__"))?.to_ascii_lowercase();
    let mut known = Vec::new();
    leaves(defaults, "", &mut known);
    let (key, _) = known.into_iter().find(|(key, _)| key.replace('.', "_") == rest)?;
    let right = format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"));
    Some(Problem::new(name, format!("unknown variable; did you mean {right}?")))
}

/// The accounts of a kind that do not name a secret themselves.
fn accounts_without(providers: &Dict, kind: ProviderKind, secret: &str) -> Vec<String> {
    let lacks = |name: &str, account: &Dict| {
        account.get("kind").and_then(Value::as_str).unwrap_or(name) == kind.name()
            && !account.contains_key(secret)
            && !account.contains_key(&format!("{secret}_file"))
    };
    let found = providers.iter().filter(|(name, account)| account.as_dict().is_some_and(|a| lacks(name, a)));
    found.map(|(name, _)| name.clone()).collect()
}

fn read_file(path: &Path) -> Result<figment::providers::Data<Toml>, Problem> {
    let shown = path.display().to_string();
    let wrong =
        |message: String| Problem { key: shown.clone(), message, origin: "the command line or SIDEPOST_CONFIG".into() };
    let text = read_small(path).map_err(|e| wrong(format!("the configuration file cannot be read: {e}")))?;
    // The parser's own sentence shows the line, which may hold a key.
    text.parse::<toml::Table>()
        .map_err(|e| wrong(format!("not valid TOML{}: {}", place_of(&text, &e), e.message().replace('\n', "; "))))?;
    Ok(Toml::file_exact(path))
}

/// Where in the text an error is, in words.
fn place_of(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(" at line {}, column {column}", before.matches('\n').count() + 1)
}

/// A single value with a name for where it came from: one layer of its own, so that provenance tells which variable.
struct One {
    path: String,
    value: Value,
    origin: String,
}

impl One {
    /// The text takes the type that the defaults have at that path; figment's own reading of environment values would turn
    /// the key `007` into 7, and print secrets in its errors.
    fn new(path: &str, text: &str, origin: String, defaults: &Json) -> Self {
        Self { path: path.to_owned(), value: typed(text, lookup(defaults, &default_path(path))), origin }
    }
}

impl figment::Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.path, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn typed(text: &str, like: Option<&Json>) -> Value {
    match like {
        Some(Json::Number(_)) => text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Some(Json::Bool(_)) => text.trim().parse::<bool>().map_or_else(|_| text.into(), Value::from),
        Some(Json::Array(_)) => {
            let list = format!("list = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("list"));
            match list.map(Value::serialize) {
                Some(Ok(list)) => list,
                _ => text.split(',').map(|item| Value::from(item.trim())).collect::<Vec<_>>().into(),
            }
        }
        // Quotes as in the file are none of the text's own.
        _ => text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).into(),
    }
}

/// `api_key_file` becomes `api_key`, and so on, and `ca_file` is looked at: nothing is found missing later.
fn read_files(tree: &mut Json, figment: &Figment, problems: &mut Vec<Problem>) {
    for (name, account) in accounts(tree) {
        let section = format!("providers.{name}");
        if let Some(Json::String(path)) = account.get("ca_file").filter(|path| *path != "")
            && let Err(error) = read_small(path)
        {
            problems.push(Problem::new(format!("{section}.ca_file"), format!("{path} cannot be read: {error}")));
        }
        read_secret(account, &section, "api_key", figment, problems);
        read_secret(account, &section, "webhook_secrets", figment, problems);
    }
    for (section, field) in [("web", "token"), ("webhooks", "forward_secret")] {
        if let Some(members) = tree.get_mut(section).and_then(Json::as_object_mut) {
            read_secret(members, section, field, figment, problems);
        }
    }
}

/// The file in `FIELD_file` becomes `FIELD`. Of a secret and its file the one from the higher layer counts; both from one
/// place are a mistake. Where it is a list, the file's lines are added to it: the old and the new one may stand in either.
fn read_secret(
    members: &mut serde_json::Map<String, Json>,
    section: &str,
    field: &str,
    figment: &Figment,
    problems: &mut Vec<Problem>,
) {
    let of_file = format!("{field}_file");
    let Some(file) = members.remove(&of_file) else { return };
    let layer = |field: &str| figment.find_metadata(&format!("{section}.{field}")).map(layer_of);
    let (own, named) = (layer(field), layer(&of_file));
    let listed = match members.get(field) {
        Some(Json::Array(listed)) => Some(listed.clone()),
        _ => None,
    };
    if listed.is_none() && own.is_some() && own == named {
        problems.push(Problem::new(
            format!("{section}.{of_file}"),
            format!("{field} is given as well; remove one of them"),
        ));
    }
    if listed.is_none() && own.is_some() && own >= named {
        return;
    }
    let read = match &file {
        Json::String(path) if path.is_empty() => Err("names no file; unset it, or write a path".to_owned()),
        Json::String(path) => match read_small(path) {
            // Who names a file wants what is in it: no secret would be another configuration.
            Ok(text) if text.trim().is_empty() => Err(format!("{path} is empty")),
            Ok(text) => Ok(text),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        },
        _ => Err("must be the path of a file, in quotes".to_owned()),
    };
    // A secret that could not be read has something in its place, so that its absence is not a second mistake.
    let secret = read.unwrap_or_else(|message| {
        problems.push(Problem::new(format!("{section}.{of_file}"), message));
        "unread".to_owned()
    });
    let lines = secret.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let value = match listed {
        Some(listed) => listed.into_iter().chain(lines.map(Json::from)).collect(),
        None => secret.trim().into(),
    };
    members.insert(field.to_owned(), value);
}

/// The files of `[smtp]`, which are read later: nothing is found missing then, and no user's line wrong.
fn look_at_files(tree: &Json, problems: &mut Vec<Problem>) {
    for key in ["smtp.tls.cert", "smtp.tls.key", "smtp.tls.client_ca", "smtp.auth.users_file"] {
        let Some(path) = lookup(tree, key).and_then(Json::as_str).filter(|path| !path.is_empty()) else { continue };
        match read_small(path) {
            Err(error) => problems.push(Problem::new(key, format!("{path} cannot be read: {error}"))),
            Ok(text) if key.ends_with("users_file") => {
                let wrong = password::parse_users(&text).err().into_iter().flatten();
                problems.extend(wrong.map(|message| Problem::new(key, format!("{path}: {message}"))));
            }
            Ok(_) => {}
        }
    }
}

/// The height of the layer that a value came from.
fn layer_of(metadata: &Metadata) -> u8 {
    match (&metadata.source, metadata.name.as_ref()) {
        (Some(_), _) => 1,
        (None, name) if name.starts_with("environment") => 2,
        (None, name) if name.starts_with("--set") => 3,
        _ => 0,
    }
}

fn effective(tree: &Json, figment: &Figment) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    leaves(tree, "", &mut found);
    // That there is none is no secret, and stars would look like one.
    let is_set = |value: &Json| value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty());
    let shown = |key: &str, value: &Json| {
        if is_secret(key) && is_set(value) { "\"********\"".to_owned() } else { value.to_string() }
    };
    let rows = found.into_iter().filter(|(key, _)| !key.starts_with("provider_defaults."));
    rows.map(|(key, value)| {
        (key.clone(), shown(&key, value), origin(figment, &key).unwrap_or_else(|| "default".into()))
    })
    .collect()
}

/// Where the value at `path` came from; for a list item, or for a key that is missing, where its surroundings came from.
fn origin(figment: &Figment, path: &str) -> Option<String> {
    let file_form = format!("{path}_file");
    let inherited = default_path(path);
    // The nearest of what surrounds it: a list of sections is known as a whole only.
    let around = std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(around, _)| around));
    // Of a secret and its file the one from the higher layer counts.
    let height = |path: &str| figment.find_metadata(path).map(layer_of);
    let file_first = is_secret(path) && height(&file_form) > height(path);
    let (one, other) = if file_first { (file_form.as_str(), path) } else { (path, file_form.as_str()) };
    let places = [one, other, &inherited].into_iter().chain(around);
    let metadata = places.into_iter().find_map(|place| figment.find_metadata(place))?;
    match &metadata.source {
        Some(Source::File(file)) => Some(file.display().to_string()),
        _ if metadata.name.starts_with("environment") || metadata.name.starts_with("--set") => {
            Some(metadata.name.to_string())
        }
        _ => None,
    }
}

impl Layers {
    /// One value alone, without asking whether the rest is valid.
    ///
    /// # Errors
    /// What is wrong with this value, or with the file.
    pub fn value<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, Problem> {
        let mut problems = Vec::new();
        let figment = self.merge(&mut problems);
        if let Some(problem) = problems.pop() {
            return Err(problem);
        }
        figment.extract_inner(key).map_err(|error| Problem {
            origin: origin(&figment, key).unwrap_or_default(),
            ..Problem::new(key, error.kind.to_string())
        })
    }

    /// `web.token`, or what is in its file; empty: none.
    ///
    /// # Errors
    /// What is wrong with `[web]`, or with the file.
    pub fn web_token(&self) -> Result<Secret, Problem> {
        let mut problems = Vec::new();
        let figment = self.merge(&mut problems);
        let mut tree: Json = figment.extract().unwrap_or_default();
        if let Some(web) = tree.get_mut("web").and_then(Json::as_object_mut) {
            read_secret(web, "web", "token", &figment, &mut problems);
        }
        let token = lookup(&tree, "web.token").and_then(Json::as_str).unwrap_or_default();
        problems.into_iter().next().map_or_else(|| Ok(Secret::new(token)), Err)
    }

    /// The accounts alone: setting a provider up comes before there is a key, and may be done on another machine than the
    /// relay's.
    ///
    /// # Errors
    /// All problems of the accounts besides, and of the file.
    pub fn accounts(&self) -> Result<Accounts, Vec<Problem>> {
        let Draft { config, problems, .. } = self.read()?;
        let Some(config) = config else { return Err(problems) };
        let (keys, mut others): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(|p| is_about_key(&p.key));
        let sections = defaults();
        // Not of the accounts as a whole (that there is none, or that no route uses one), nor of what comes of setting up.
        let counts = |key: &str| match key.split_once('.') {
            Some(("providers", rest)) => rest.contains('.') && !rest.contains(".webhook_secrets"),
            Some(("provider_defaults", _)) => true,
            Some((section, _)) => sections.get(section).is_none(),
            None => sections.get(key).is_none(),
        };
        others.retain(|problem| counts(&problem.key));
        if !others.is_empty() {
            return Err(others);
        }
        let mut accounts = config.providers;
        for (name, account) in &mut accounts {
            if keys.iter().any(|problem| problem.key.starts_with(&format!("providers.{name}.api_key"))) {
                account.api_key = None;
            }
        }
        Ok(Accounts { accounts, keyless: keys })
    }
}

fn is_about_key(key: &str) -> bool {
    key.starts_with("providers.") && (key.ends_with(".api_key") || key.ends_with(".api_key_file"))
}
