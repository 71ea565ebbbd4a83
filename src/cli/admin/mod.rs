//! The way to a relay's memory: through the admin API of a running one, or on the file of one that is stopped.

pub mod events;
mod exchange;
pub mod messages;
mod story;
pub mod suppressions;
mod transfer;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::table::{self, Column};
use super::{ConfigArgs, Failure, USAGE, note};
use crate::app;
use crate::config::layers::{Layers, Problem};
use crate::files::read_small;
use crate::network::reachable;
use crate::provider::{Payload, Request};
use crate::relay::http::{HttpTransport, Transport, TransportError};
use crate::secret::Secret;
use crate::store::{self, Place, Store};
use crate::suppression::Policy;
use crate::web::admin::Admin;
use crate::web::admin::wire::ErrorBody;

/// The end of the help of all of them.
const WHERE: &str = "On a running relay it works through the admin API (web.listen, web.token), on a stopped one in its file (state.url).";
/// Longest wait for somebody who listens.
const KNOCK: Duration = Duration::from_secs(3);
/// Longest wait for an answer: the relay may have to ask the provider, and to write long lists.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest answer, in octets.
const MAX_ANSWER: usize = 64 << 20;
/// Entries that are asked for at a time; the API's own limit.
const PAGE: usize = 500;

/// Which relay.
#[derive(Debug, Clone, Args)]
struct AdminArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The running relay's web address [default: web.listen; or, if no relay has it open, the file of state.url]
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
    /// A file with the relay's web.token [default: web.token of the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How many entries are shown, and how.
#[derive(Debug, Clone, Args)]
struct ListArgs {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// One JSON object a line, with everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: AdminArgs,
}

/// Where calls go.
enum Way {
    /// To a running relay.
    Relay { base: String, transport: Box<HttpTransport> },
    /// To the file of a stopped one.
    File(Box<Admin>),
}

/// Makes calls of the admin API.
struct Client {
    runtime: Runtime,
    way: Way,
}

impl AdminArgs {
    /// The running relay, if there is one; else its file. A file that nobody has open has no relay, whoever else listens
    /// where it would.
    fn open(&self) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(format!("the runtime cannot start: {e}")))?;
        let layers = self.config.layers();
        let wrong = |problem: Problem| Failure::config(&[problem]);
        if let Some(url) = &self.url {
            let url = url.trim_end_matches('/');
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Failure::new(format!("--url {url} is not like http://127.0.0.1:8025")).with_code(USAGE));
            }
            return Ok(Client { runtime, way: self.relay(url.to_owned(), &layers)? });
        }
        let listen = reachable(layers.value("web.listen").map_err(wrong)?);
        let state: store::Settings = layers.value("state").map_err(wrong)?;
        let is_heard = || listen.port() != 0 && TcpStream::connect_timeout(&listen, KNOCK).is_ok();
        if Store::is_open(&state.url) != Some(false) && is_heard() {
            return Ok(Client { runtime, way: self.relay(format!("http://{listen}"), &layers)? });
        }
        let policy: Policy = layers.value("suppression").map_err(wrong)?;
        // The store has tasks of its own, perhaps.
        let inside = runtime.enter();
        let admin = stopped(&layers, listen, &state, policy)?;
        drop(inside);
        Ok(Client { runtime, way: Way::File(Box::new(admin)) })
    }

    fn relay(&self, base: String, layers: &Layers) -> Result<Way, Failure> {
        let token = match &self.token_file {
            Some(path) => {
                let text = read_small(path).map_err(|e| {
                    Failure::new(format!("the token cannot be read: {}: {e}", path.display())).with_code(USAGE)
                })?;
                if text.trim().is_empty() {
                    return Err(Failure::new(format!("there is no token in {}", path.display())).with_code(USAGE));
                }
                Secret::new(text.trim())
            }
            None => layers.web_token().map_err(|problem| Failure::config(&[problem]))?,
        };
        let token = Some(token).filter(|token| !token.expose().is_empty());
        let transport = HttpTransport::new(token.as_ref(), None).map_err(|_| {
            Failure::new("the token holds a character that no HTTP header can carry; is a line end in it?")
                .with_code(USAGE)
        })?;
        Ok(Way::Relay { base, transport: Box::new(transport.with_max_answer(MAX_ANSWER)) })
    }
}

/// The file of a relay that does not run. The store sees to it that it is not opened beside a running one.
fn stopped(layers: &Layers, listen: SocketAddr, state: &store::Settings, policy: Policy) -> Result<Admin, Failure> {
    let nobody = if listen.port() == 0 {
        "web.listen has port 0, so a running relay has to be named with --url (its log says where it listens)"
            .to_owned()
    } else {
        format!("nobody answers at http://{listen} (web.listen): is the relay running? --url names another one")
    };
    let Place::File(path) = &state.url else {
        return Err(Failure::new(format!(
            "{nobody}. A stopped one has forgotten everything: state.url is \"memory:\""
        )));
    };
    if !path.exists() {
        let path = path.display();
        return Err(Failure::new(format!(
            "{nobody}. The file of a stopped one, {path} (state.url), is not there either: the relay makes it when it first starts"
        )));
    }
    if Store::is_open(&state.url) == Some(true) {
        let path = path.display();
        return Err(Failure::new(format!(
            "{nobody}. A relay has its file open, {path}, and listens elsewhere: its log says where (web)"
        )));
    }
    let accounts = layers.accounts().map_or_else(
        |problems| {
            note(&format!("without the accounts, because {}", Failure::config(&problems).message));
            BTreeMap::new()
        },
        |found| found.accounts,
    );
    app::admin_of_stopped(state, policy, &accounts).map_err(|e| Failure::new(format!("{nobody}. Its file: {e}")))
}

impl Client {
    /// One call: its status and its answer. `target` is the path with its query.
    fn call(&self, method: &Method, target: &str, body: Option<&impl Serialize>) -> Result<(u16, Bytes), Failure> {
        let body =
            body.map(serde_json::to_vec).transpose().map_err(|e| Failure::new(e.to_string()))?.unwrap_or_default();
        match &self.way {
            Way::File(admin) => self.runtime.block_on(admin.ask(method.clone(), target, body)).map_err(Failure::new),
            Way::Relay { base, transport } => {
                let url = format!("{base}{target}");
                let payload = if body.is_empty() { Payload::default() } else { Payload::json(body) };
                let request =
                    Request { api_key: None, method: method.clone(), url, headers: Vec::new(), body: payload };
                let answer = self.runtime.block_on(async { transport.send(&request, Instant::now() + PATIENCE).await });
                let answer = answer.map_err(|error| Failure::new(match error {
                    TransportError::NotSent { detail, .. } => format!("nobody answers at {base}: {detail}; is the relay running? Its log says where it listens (web)"),
                    TransportError::Lost { detail } => format!("the relay at {base} did not answer: {detail}; it may have done it all the same"),
                }))?;
                Ok((answer.status, answer.body))
            }
        }
    }

    /// One call that is to be done.
    fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let (status, answer) = self.call(method, target, body)?;
        self.read(status, &answer)
    }

    fn read<T: DeserializeOwned>(&self, status: u16, answer: &[u8]) -> Result<T, Failure> {
        if status == 200 {
            return serde_json::from_slice(answer).map_err(|e| {
                Failure::new(format!("{} says what this version does not understand: {e}", self.place()))
            });
        }
        let error: Result<ErrorBody, _> = serde_json::from_slice(answer);
        let said = error.map(|body| body.error);
        let failure = match (status, said) {
            (401, Ok(said)) => {
                Failure::new(format!("{}: {said}. Here: --token-file, or web.token of the configuration", self.place()))
            }
            (400, Ok(said)) => Failure::new(said).with_code(USAGE),
            (_, Ok(said)) => Failure::new(said),
            (status, Err(_)) => Failure::new(format!(
                "{} answers {status}; it is no sidepost with an admin API. --url names the relay",
                self.place()
            )),
        };
        Err(failure)
    }

    fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        self.ask(&Method::GET, target, None::<&Value>)
    }

    fn place(&self) -> &str {
        match &self.way {
            Way::Relay { base, .. } => base,
            Way::File(_) => "the file",
        }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.way, Way::File(_))
    }

    /// A list, page by page; at most `most` entries. Returns whether there are more.
    fn pages<T: DeserializeOwned>(
        &self,
        query: &Target,
        member: &str,
        most: usize,
        mut take: impl FnMut(Vec<T>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let (mut left, mut after) = (most, None::<String>);
        loop {
            let mut target = query.clone();
            target.add("limit", Some(&PAGE.min(left).to_string()));
            target.add("after", after.as_deref());
            let mut page: Value = self.get(&target.0)?;
            let items = page.get_mut(member).map(Value::take).unwrap_or_default();
            let items: Vec<T> =
                serde_json::from_value(items).map_err(|e| Failure::new(format!("{}: {e}", self.place())))?;
            left = left.saturating_sub(items.len());
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            let is_empty = items.is_empty();
            take(items)?;
            if after.is_none() || left == 0 || is_empty {
                return Ok(after.is_some());
            }
        }
    }
}

impl Drop for Client {
    /// Leaves the file as a relay leaves it that was stopped.
    fn drop(&mut self) {
        if let Way::File(admin) = &self.way {
            // Every write was waited for already.
            let _ = self.runtime.block_on(admin.store.close());
        }
    }
}

impl ListArgs {
    fn most(&self) -> usize {
        if self.all { usize::MAX } else { self.limit as usize }
    }

    /// Prints a list that comes in pages: as JSON, or as a table of what `row` shows.
    fn print<T: DeserializeOwned + Serialize>(
        &self,
        query: &Target,
        member: &str,
        columns: &[Column<'_>],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        let client = self.of.open()?;
        let mut rows = Vec::new();
        let more = client.pages(query, member, self.most(), |items: Vec<T>| {
            rows.extend(self.show(&items, &row)?);
            Ok(())
        })?;
        self.finish(columns, &rows, more);
        Ok(())
    }

    /// The rows for the table; in JSON everything is said at once.
    fn show<T: Serialize>(&self, items: &[T], row: impl Fn(&T) -> Vec<String>) -> Result<Vec<Vec<String>>, Failure> {
        if self.json {
            items.iter().try_for_each(print_json)?;
            return Ok(Vec::new());
        }
        Ok(items.iter().map(row).collect())
    }

    fn finish(&self, columns: &[Column<'_>], rows: &[Vec<String>], more: bool) {
        if self.json {
            return;
        }
        if rows.is_empty() {
            note("there is none that fits");
            return;
        }
        say!("{}", table::table(columns, rows));
        if more {
            note("there are more: --limit N, or --all");
        }
    }
}

/// A path with a query.
#[derive(Debug, Clone)]
struct Target(String);

impl Target {
    fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The path with one more segment, whatever is in it.
    fn of(path: &str, segment: &str) -> Self {
        Self(format!("{path}/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC)))
    }

    /// A parameter, if it has a value.
    fn add(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            let between = if self.0.contains('?') { '&' } else { '?' };
            self.0.push_str(&format!("{between}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }

    fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.add(name, value);
        self
    }
}

/// A JSON object as a line.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::new(e.to_string()))?;
    sayln!("{text}");
    Ok(())
}
