//! A relay whose API is a script: what every test of the whole transaction stands on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use sidepost::address::Address;
use sidepost::config::layers::Layers;
use sidepost::config::{Config, LogAddresses, Provider};
use sidepost::envelope::{Envelope, Origin, Transaction, TransactionId};
use sidepost::metrics::Metrics;
use sidepost::outcome::Kind;
use sidepost::plan::Policies;
use sidepost::provider::{Request, Response};
use sidepost::recent::Recent;
use sidepost::relay::account::Account;
use sidepost::relay::http::{Transport, TransportError};
use sidepost::relay::journal::Journal;
use sidepost::relay::{Memory, Relay};
use sidepost::reply::Reply;
use sidepost::route::Routes;
use sidepost::sender::SenderPolicy;
use sidepost::store::Store;
use tokio::time::{Instant, sleep, sleep_until};

/// What the API does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16, Vec<(String, String)>, String),
    /// Nothing left this machine.
    NotSent(Kind),
    /// Sent, and the connection was gone.
    Lost,
    /// Sent, and no answer until the attempt's time is over.
    Never,
    /// The relay has a bug.
    Panic,
    /// The answer comes later.
    After(Duration, Box<Answer>),
}

impl Answer {
    pub fn ok(id: &str) -> Self {
        Self::Status(202, Vec::new(), format!("{{\"message_id\":\"{id}\"}}"))
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }

    pub fn throttled(seconds: u32) -> Self {
        Self::Status(429, vec![("retry-after".into(), seconds.to_string())], String::new())
    }
}

/// The scripted API: answers in order, and remembers what it was asked. When the script is over it accepts.
#[derive(Default)]
pub struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Value>>,
    /// The same for questions: for what they are not answered, there is no such mail.
    shown: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<String>>,
    hosts: Mutex<Vec<String>>,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    /// The same, and what it answers to questions; `MARKER` in it becomes the marker of the last mail.
    pub fn showing(answers: impl IntoIterator<Item = Answer>, shown: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let shown = Mutex::new(shown.into_iter().collect());
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), shown, ..Self::default() })
    }

    /// The questions so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The marker of each mail so far.
    pub fn markers(&self) -> Vec<String> {
        self.seen().iter().map(|body| body["custom_args"]["sidepost_id"].as_str().unwrap().to_owned()).collect()
    }

    fn show(&self, url: &str) -> Answer {
        self.asked.lock().unwrap().push(url.split_once("://").unwrap().1.to_owned());
        match self.shown.lock().unwrap().pop_front() {
            Some(Answer::Status(status, headers, body)) => {
                Answer::Status(status, headers, body.replace("MARKER", self.markers().last().unwrap()))
            }
            Some(other) => other,
            None => Answer::Status(200, Vec::new(), r#"{"messages":[]}"#.to_owned()),
        }
    }

    /// The bodies of the requests so far.
    pub fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// The hosts that the requests so far went to.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Transport for Script {
    fn send<'a>(&'a self, request: &'a Request, deadline: Instant) -> BoxFuture<'a, Result<Response, TransportError>> {
        if request.method == http::Method::GET {
            assert!(request.body.is_empty());
            return Box::pin(give(self.show(&request.url), deadline));
        }
        let body = request.body.to_vec();
        assert_eq!(body.len(), request.body.len(), "the announced length is the real one");
        self.hosts.lock().unwrap().push(request.url.split('/').nth(2).unwrap().to_owned());
        self.seen.lock().unwrap().push(serde_json::from_slice(&body).expect("a payload is JSON"));
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| Answer::ok("msg"));
        Box::pin(give(answer, deadline))
    }
}

fn give(answer: Answer, deadline: Instant) -> BoxFuture<'static, Result<Response, TransportError>> {
    Box::pin(async move {
        match answer {
            Answer::Status(status, headers, body) => {
                let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
                Ok(Response { status, headers, body: Bytes::from(body), complete: true, received: SystemTime::now() })
            }
            Answer::NotSent(kind) => Err(TransportError::NotSent { kind, detail: "scripted".into() }),
            Answer::Lost => Err(TransportError::Lost { detail: "scripted".into() }),
            Answer::Panic => panic!("scripted"),
            Answer::Never => {
                sleep_until(deadline).await;
                Err(TransportError::Lost { detail: "no answer in time".into() })
            }
            Answer::After(wait, answer) => {
                sleep(wait).await;
                give(*answer, deadline).await
            }
        }
    })
}

/// A valid configuration with one account called `main`.
pub fn config(flags: &[&str]) -> Config {
    let mut all = vec!["providers.main.kind=scaisend".to_owned()];
    if !flags.contains(&"smtp.auth.passthrough=true") {
        all.push("providers.main.api_key=CANARY".to_owned());
    }
    all.push("smtp.hostname=relay.test".to_owned());
    all.extend(flags.iter().map(|f| (*f).to_owned()));
    Layers { flags: all, ..Layers::default() }.load().expect("a valid configuration").config
}

pub fn relay(config: &Config, script: &Arc<Script>) -> Arc<Relay> {
    let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
    let transport: Arc<dyn Transport> = script.clone();
    relay_over(config, &transport, &refused_keys, &Arc::default())
}

/// The whole relay over a transport.
pub fn relay_over(
    config: &Config,
    transport: &Arc<dyn Transport>,
    refused_keys: &Arc<Recent>,
    metrics: &Arc<Metrics>,
) -> Arc<Relay> {
    relay_with(config, Store::open(&config.state, &config.suppression).unwrap(), transport, refused_keys, metrics)
}

/// The same over a store as well.
pub fn relay_with(
    config: &Config,
    store: Store,
    transport: &Arc<dyn Transport>,
    refused_keys: &Arc<Recent>,
    metrics: &Arc<Metrics>,
) -> Arc<Relay> {
    let journal = Journal::new(LogAddresses::Full);
    let account = |(name, settings): (&String, &Provider)| {
        Arc::new(Account::new(name, settings, &config.delivery, Arc::clone(transport), journal, Arc::clone(metrics)))
    };
    let accounts = config.providers.iter().map(account).collect();
    let sender = SenderPolicy::new(&config.sender.default, &config.sender.allowed, config.sender.rewrite)
        .unwrap()
        .with_principals(&config.smtp.senders.principals);
    let policies = Policies { sender, controls: config.controls.clone() };
    let memory = Memory {
        store,
        marks: None,
        suppression: config.suppression.clone(),
        refused_keys: Arc::clone(refused_keys),
        clear: Arc::new(Recent::new(Duration::from_mins(5)).unwrap()),
    };
    let routes = Routes(config.routes.clone());
    let relay = Relay::new(accounts, routes, policies, &config.delivery, journal, memory, Arc::clone(metrics));
    Arc::new(relay.named(&config.smtp.hostname))
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub const MAIL: &str = "From: App <app@example.com>\r\nTo: Ann <ann@example.net>\r\nSubject: hi\r\n\r\nhello\r\n";

/// A transaction of one mail to these recipients.
pub fn transaction(mail: &str, recipients: &[&str]) -> Transaction {
    Transaction {
        id: TransactionId::new(uuid::Uuid::nil()),
        origin: Origin { listener: "smtp://127.0.0.1:2525".into(), ..Origin::default() },
        envelope: Envelope {
            helo: "app.test".into(),
            principal: None,
            reverse_path: Some(address("app@example.com")),
            recipients: recipients.iter().map(|r| address(r)).collect(),
        },
        data: Bytes::from(mail.to_owned()),
        each: false,
    }
}

/// Submits one mail, has its reply written, and gives it as a person reads it.
pub async fn submit(relay: &Arc<Relay>, recipients: &[&str]) -> String {
    let settled = Arc::clone(relay).submit(transaction(MAIL, recipients)).await;
    settled.receipt.unwrap().written();
    settled.reply.to_string()
}

/// What MAIL is told.
pub fn admit(relay: &Relay) -> Result<(), Reply> {
    let transaction = transaction(MAIL, &["ann@example.net"]);
    relay.admit(&transaction.origin, &transaction.envelope)
}
