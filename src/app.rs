//! Builds everything from the configuration, runs it, drains it: the only room that knows all others.

mod events;
mod logging;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::address::Alphabet;
use crate::config::advice::warnings;
use crate::config::listen::{Listen, Place};
use crate::config::{Config, LogAddresses, Provider as Settings, ProviderKind, Smtp};
use crate::files::read_small;
use crate::metrics::Metrics;
use crate::network::reachable;
use crate::outcome::{Cause, Kind, without_addresses};
use crate::plan::Policies;
use crate::provider::{self, Payload, Request, Response};
use crate::recent::Recent;
use crate::relay::account::Account;
use crate::relay::http::{HttpTransport, Transport, TransportError};
use crate::relay::journal::Journal;
use crate::relay::ledger;
use crate::relay::{Memory, Relay};
use crate::route::Routes;
use crate::sandbox::{self, Sandbox};
use crate::secret::Secret;
use crate::sender::SenderPolicy;
use crate::smtp::inherited::Inherited;
use crate::smtp::listener::Door;
use crate::smtp::sasl::Authenticate;
use crate::smtp::tls::Tls;
use crate::smtp::{self, Server};
use crate::store::{self, Counters, Mark, Store};
use crate::suppression::{Policy, Scope};
use crate::users::{Passthrough, Users};
use crate::web::admin::{self, Admin, Gate};
use crate::web::worker::Bell;
use crate::web::{self, AccountState, Web};
use events::Events;
use logging::Logging;

/// Longest wait for a webhook receiver of somebody who tries the sandbox out.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest list that an API gives, in octets.
const LONGEST_LIST: usize = 8 << 20;

/// How long an API's word is taken that it has a recipient on none of its lists.
const CLEAR: Duration = Duration::from_mins(5);

/// How long a client's own key that the API refused is not tried again.
const REFUSED_KEY: Duration = Duration::from_mins(10);

/// What a connection that is cut off at the end of the drain time has for its 421.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the relay does not run: a sentence for the operator.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong, and what to do.
    pub message: String,
    /// Whether the configuration is to be changed.
    pub is_config: bool,
}

impl Fault {
    fn config(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_config: true }
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { message, is_config: false }
    }
}

/// The listeners besides SMTP's, and the store: what has to be there before anything begins.
struct Ground {
    web: TcpListener,
    webhooks: Option<TcpListener>,
    hooks: events::Hooks,
    store: Store,
    lost: web::Losses,
}

impl Ground {
    async fn open(config: &Config, logging: &Logging) -> Result<Self, Fault> {
        for warning in warnings(config) {
            warn!("{warning}");
        }
        let hooks = events::hooks(config);
        let store = Store::open_or_wait(&config.state, &config.suppression)
            .map_err(|error| Fault::config(format!("state.url: {error}")))?;
        if let Some(trouble) = store.trouble() {
            warn!(%trouble, "mail goes on without the store, which is opened as soon as it can be");
        }
        let (web, webhooks) = (bind_web(config.web.listen).await?, events::bind(config).await?);
        Ok(Self { web, webhooks, hooks, lost: losses(store.clone(), logging.lost()), store })
    }
}

/// What cannot be used although each value is one that can be: certificates, and secrets that verify nothing.
pub fn unusable(config: &Config) -> Vec<String> {
    let certificate = Tls::open(&config.smtp.tls).err();
    let secrets = config.providers.iter().filter_map(|(name, account)| provider::check_secrets(name, account).err());
    certificate.into_iter().chain(secrets).collect()
}

/// Runs the relay with its configured account until a signal ends it.
///
/// # Errors
/// A sentence for the operator when something cannot be set up.
pub fn serve(config: Config) -> Result<(), Fault> {
    let inherited = Inherited::of_process()?;
    run(async move {
        let logging = logging::start(&config.log)?;
        let ground = Ground::open(&config, &logging).await?;
        let relay = Running::start(config, ground, None, inherited).await?;
        relay.announce();
        relay.until_signal().await
    })
}

/// Runs the relay and a stand-in for the API in one process. The first lines printed say what to do. `private`: what
/// SendGrid's events are signed with; the others are with the account's secret.
///
/// # Errors
/// As [`serve`].
pub fn sandbox(mut config: Config, private: Option<Secret>) -> Result<(), Fault> {
    run(async move {
        let logging = logging::start(&config.log)?;
        let ground = Ground::open(&config, &logging).await?;
        let page = local_address(&ground.web)?;
        for account in config.providers.values_mut() {
            account.base_url = format!("http://{page}");
        }
        let relay = Running::start(config, ground, Some(StandIn { private }), Inherited::default()).await?;
        relay.greet(page);
        relay.announce();
        relay.until_signal().await
    })
}

/// The admin API's calls on the store of a relay that does not run.
///
/// # Errors
/// A sentence, when the store cannot be opened: a relay may have it.
pub fn admin_of_stopped(
    state: &store::Settings,
    suppression: Policy,
    accounts: &BTreeMap<String, Settings>,
) -> Result<Admin, String> {
    let store = Store::open(state, &suppression).map_err(|error| error.to_string())?;
    build_admin(accounts, store, suppression, LogAddresses::Full, Bell::default())
}

/// Makes one call of an account's API, outside of any relay.
///
/// # Errors
/// When there is no answer within `patience`, and whether the call may have been done all the same.
pub fn ask(settings: &Settings, request: &Request, patience: Duration) -> Result<Response, TransportError> {
    let cannot = |detail| TransportError::NotSent { kind: Kind::Misconfigured, detail };
    let transport = build_transport(settings).map_err(cannot)?.with_max_answer(LONGEST_LIST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| cannot(format!("the runtime cannot start: {e}")))?;
    runtime.block_on(async { transport.send(request, Instant::now() + patience).await })
}

fn run(program: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime cannot start: {e}"))?;
    let ended = runtime.block_on(program);
    // A disk that hangs does not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

/// That there is a stand-in for the API, and what its SendGrid events are signed with.
struct StandIn {
    private: Option<Secret>,
}

/// Everything that runs.
struct Running {
    server: Arc<Server<Relay>>,
    smtp: Vec<Listen>,
    web: SocketAddr,
    events: Events,
    /// Their names and send calls.
    accounts: Vec<(String, String)>,
    web_shutdown: CancellationToken,
    drain: Duration,
    signals: Signals,
}

impl Running {
    /// Binds, then serves.
    async fn start(
        mut config: Config,
        ground: Ground,
        sandbox: Option<StandIn>,
        inherited: Inherited,
    ) -> Result<Self, Fault> {
        let signals = Signals::new()?;
        if config.smtp.hostname.is_empty() {
            config.smtp.hostname = hostname();
        }
        let metrics = Arc::new(Metrics::default());
        let refused_keys = Arc::new(Recent::new(REFUSED_KEY)?);
        let store = ground.store;
        let marks = kept_marks(&config.state.url, &store).await;
        let relay = Arc::new(build_relay(&config, store.clone(), marks, &refused_keys, &metrics)?);
        let tls = Tls::open(&config.smtp.tls)?;
        let users = Users::open(&config.smtp.auth)?;
        let mut server = Server::new(&config.smtp, &config.delivery, Arc::clone(&relay), Arc::clone(&metrics));
        if let Some((tls, _)) = &tls {
            server = server.with_tls(Arc::clone(tls), config.smtp.tls.required);
        }
        if let Some((users, _)) = &users {
            server = server.with_auth(Arc::clone(users) as Arc<dyn Authenticate>);
        }
        if config.smtp.auth.passthrough {
            server = server.with_auth(Arc::new(Passthrough::new(refused_keys)));
        }
        let server = Arc::new(server.with_journal(Journal::new(config.log.addresses)));
        let doors = open_doors(&config.smtp, inherited, tls.as_ref().map(|(tls, _)| tls))?;
        let smtp: Vec<Listen> = doors.iter().map(Door::url).collect();
        for door in doors {
            tokio::spawn(smtp::listener::serve(door, Arc::clone(&server)));
        }
        if let Some((tls, files)) = tls {
            tokio::spawn(tls.follow(files));
        }
        if let Some((users, Some(file))) = users {
            tokio::spawn(users.follow(file));
        }
        let alphabet = if relay.utf8_addresses() { Alphabet::Utf8 } else { Alphabet::Ascii };
        let web_address = local_address(&ground.web)?;
        let events = Events::start(&config, ground.webhooks, ground.hooks, &store, &metrics)?;
        let (policy, shown) = (config.suppression.clone(), config.log.addresses);
        let admin = build_admin(&config.providers, store.clone(), policy, shown, events.bell.clone())?;
        let admin = admin.router(Gate::new(&config.web.token, web_address));
        let web = Web { metrics, accounts: states(relay), store: store_trouble(store), lost: ground.lost };
        let (mut router, mut most_per_client) = (web::router(web).merge(admin), web::MAX_PER_CLIENT);
        if let Some(StandIn { private }) = sandbox {
            let is_local = web_address.ip().to_canonical().is_loopback();
            let settings = sandbox::Settings { post: webhook_post()?, smtp: first_address(&smtp), alphabet, is_local };
            let sandbox = Sandbox::new(settings);
            report_events(&sandbox, &config, private.as_ref(), events.address);
            router = router.merge(sandbox.router());
            // A relay has as many connections to its API as it likes.
            most_per_client = web::MAX_CONNECTIONS;
        }
        let web_shutdown = CancellationToken::new();
        tokio::spawn(web::serve(ground.web, router, most_per_client, web_shutdown.clone()));
        let accounts = config.providers.iter().map(|(name, account)| (name.clone(), provider::send_url(account)));
        let accounts = accounts.collect();
        let drain = config.delivery.drain;
        Ok(Self { server, smtp, web: web_address, events, accounts, web_shutdown, drain, signals })
    }

    /// Where everything is, for the log: with port 0 nobody knows before.
    fn announce(&self) {
        for listen in &self.smtp {
            let smtp = match &listen.place {
                Place::Tcp(address) => address.to_string(),
                Place::Unix { path, .. } => path.display().to_string(),
            };
            let webhooks = self.events.address.map(tracing::field::display);
            info!(smtp, %listen, web = %self.web, webhooks, "listening");
        }
        for (account, api) in &self.accounts {
            info!(account, api, "sends through");
        }
        let names = self.accounts.iter().map(|(name, _)| name.clone()).collect();
        tokio::spawn(warn_of_strangers(self.events.store.clone(), names));
    }

    /// The first lines of the sandbox.
    fn greet(&self, page: SocketAddr) {
        let (page, smtp) = (reachable(page), first_address(&self.smtp));
        let mut words = format!(
            "SMTP listens on {smtp}\n\
             Send a mail:     swaks --server {smtp} --from app@example.com --to ok@example.com\n\
             See what became of it, and what other recipients do: http://{page}/\n"
        );
        if let Some(webhooks) = self.events.address {
            words.push_str(&format!(
                "bounce@, complain@ and unsubscribe@ are reported to http://{webhooks}/webhooks/, as a provider would\n"
            ));
        }
        // Nobody may read it, which is no reason to end.
        let _ = std::io::stdout().write_all(words.as_bytes());
    }

    /// Waits for SIGTERM or SIGINT, then lets what runs end within the drain time. A second signal ends at once.
    async fn until_signal(mut self) -> Result<(), Fault> {
        self.signals.next().await;
        info!(drain = ?self.drain, "stopping: running transactions may finish; a second signal ends at once");
        self.server.shut_down();
        let server = Arc::clone(&self.server);
        let mail_done = async move {
            server.drained().await;
            server.relay().reported().await;
        };
        let all_done = async { tokio::join!(mail_done, self.events.stop()) };
        let ended = async {
            if tokio::time::timeout(self.drain + LAST_WORDS, all_done).await.is_err() {
                warn!("the drain time is over and transactions were cut off");
            }
            self.web_shutdown.cancel();
            self.events.close().await;
        };
        tokio::select! {
            () = ended => info!("stopped"),
            () = self.signals.next() => warn!("stopped at once by a second signal"),
        }
        Ok(())
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let on = |kind| signal(kind).map_err(|e| format!("signals cannot be watched: {e}"));
        Ok(Self { term: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says which entries of the list keep nobody from being sent to any more: whoever renames an account leaves them behind.
async fn warn_of_strangers(store: Store, accounts: BTreeSet<String>) {
    // A store that cannot be read has been told of.
    for (scope, addresses) in store.scopes().await.unwrap_or_default() {
        if let Scope::Account(name) = &scope
            && !accounts.contains(name)
        {
            warn!(
                addresses,
                "no account is called {name}, and suppressed addresses are on the list for it: they are sent to; to give them to another account, export the list, change the scope and import it"
            );
        }
    }
}

/// The ledger's marks in the store, if that outlives the process.
async fn kept_marks(place: &store::Place, store: &Store) -> Option<Vec<Mark>> {
    if *place == store::Place::Memory {
        return None;
    }
    let marks = store.marks(SystemTime::now() - ledger::TTL).await;
    Some(marks.unwrap_or_else(|error| {
        warn!(%error, "who was accepted in mails from before the start is not known, should their clients try again");
        Vec::new()
    }))
}

fn build_relay(
    config: &Config,
    store: Store,
    marks: Option<Vec<Mark>>,
    refused_keys: &Arc<Recent>,
    metrics: &Arc<Metrics>,
) -> Result<Relay, String> {
    let journal = Journal::new(config.log.addresses);
    let account = |(name, settings): (&String, &Settings)| {
        let transport: Arc<dyn Transport> = Arc::new(build_transport(settings)?);
        Ok(Arc::new(Account::new(name, settings, &config.delivery, transport, journal, Arc::clone(metrics))))
    };
    let accounts = config.providers.iter().map(account).collect::<Result<Vec<_>, String>>()?;
    let sender = SenderPolicy::new(&config.sender.default, &config.sender.allowed, config.sender.rewrite)?
        .with_principals(&config.smtp.senders.principals);
    let policies = Policies { sender, controls: config.controls.clone() };
    let journal = Journal::new(config.log.addresses);
    let memory = Memory {
        store,
        marks,
        suppression: config.suppression.clone(),
        refused_keys: Arc::clone(refused_keys),
        clear: Arc::new(Recent::new(CLEAR)?),
    };
    Ok(Relay::new(
        accounts,
        Routes(config.routes.clone()),
        policies,
        &config.delivery,
        journal,
        memory,
        Arc::clone(metrics),
    )
    .named(&config.smtp.hostname))
}

/// The accounts are asked over connections of their own: mail is not to wait for an operator's questions.
fn build_admin(
    accounts: &BTreeMap<String, Settings>,
    store: Store,
    policy: Policy,
    addresses: LogAddresses,
    bell: Bell,
) -> Result<Admin, String> {
    let account = |(name, settings): (&String, &Settings)| {
        let transport = Arc::new(build_transport(settings)?.with_max_answer(LONGEST_LIST));
        Ok((name.clone(), admin::Account { settings: settings.clone(), transport }))
    };
    let accounts = accounts.iter().map(account).collect::<Result<_, String>>()?;
    Ok(Admin { store, policy, accounts, journal: Journal::new(addresses), bell })
}

/// Binds all listeners, or none.
fn open_doors(smtp: &Smtp, mut inherited: Inherited, tls: Option<&Arc<Tls>>) -> Result<Vec<Door>, String> {
    let doors = smtp.listen.iter().map(|listen| {
        let bound = match inherited.take(listen) {
            Some(door) => door,
            None => smtp::listener::bind(listen),
        };
        let door = bound.map_err(|e| cannot_listen(&listen.to_string(), "smtp.listen", &e))?;
        Ok(door.with_tls(tls.cloned()).with_proxies(&smtp.proxy_from))
    });
    let doors = doors.collect::<Result<Vec<Door>, String>>()?;
    inherited.all_taken()?;
    Ok(doors)
}

/// Where SMTP can be tried out.
fn first_address(listeners: &[Listen]) -> String {
    let first = listeners.iter().find_map(Listen::address);
    first.map(|address| reachable(address).to_string()).unwrap_or_default()
}

fn build_transport(settings: &Settings) -> Result<HttpTransport, String> {
    let ca_pem = match settings.ca_file.as_str() {
        "" => None,
        path => Some(read_small(path).map_err(|e| format!("ca_file {path} cannot be read: {e}"))?),
    };
    HttpTransport::new(settings.api_key.as_ref(), ca_pem.as_deref().map(str::as_bytes))
}

/// What `/readyz` tells.
fn states(relay: Arc<Relay>) -> web::Accounts {
    Arc::new(move || {
        let state = |(name, trouble): (&str, Option<Cause>)| {
            // Whoever reaches the port may read it.
            let says = |cause: &Cause| format!("{}: {}", cause.row.says, without_addresses(&cause.detail));
            let reason = trouble.as_ref().map_or_else(|| "ok".to_owned(), says);
            AccountState { name: name.to_owned(), ready: trouble.is_none(), reason }
        };
        relay.troubles().map(state).collect()
    })
}

/// The store's part of it.
fn store_trouble(store: Store) -> web::StoreTrouble {
    Arc::new(move || store.trouble().map(|trouble| trouble.to_string()))
}

/// What of the log and the store nobody waits for, and was lost.
fn losses(store: Store, log_lines: impl Fn() -> u64 + Send + Sync + 'static) -> web::Losses {
    Arc::new(move || {
        let Counters { lost, forwards_lost, .. } = store.counters();
        web::Lost { log_lines: log_lines(), records: lost, forwards: forwards_lost }
    })
}

/// Lets the sandbox report what becomes of mails to this process itself, signed with its own secrets.
fn report_events(sandbox: &Sandbox, config: &Config, private: Option<&Secret>, webhooks: Option<SocketAddr>) {
    let Some(address) = webhooks else { return };
    for (name, account) in &config.providers {
        let shared = account.webhook_secrets.first();
        if let Some(secret) = if account.kind == ProviderKind::SendGrid { private } else { shared } {
            sandbox.report_to(account.kind, format!("http://{address}/webhooks/{name}"), secret.clone());
        }
    }
}

/// The sandbox's way to webhook receivers, over the same client as everything else.
fn webhook_post() -> Result<sandbox::events::Post, String> {
    let transport = Arc::new(HttpTransport::new(None, None)?);
    Ok(Arc::new(move |url, headers, body: Bytes| {
        let transport = Arc::clone(&transport);
        Box::pin(async move {
            // Content-Type is JSON in every request of this client.
            let headers = headers.into_iter().filter(|(name, _)| *name != "Content-Type").collect();
            let request =
                Request { api_key: None, method: Method::POST, url, headers, body: Payload::json(body.to_vec()) };
            match transport.send(&request, Instant::now() + WEBHOOK_TIMEOUT).await {
                Ok(response) => Ok(response.status),
                Err(error) => Err(error.to_string()),
            }
        })
    }))
}

async fn bind_web(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| cannot_listen(&address.to_string(), "web.listen", &e))
}

fn cannot_listen(address: &str, key: &str, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another program has it; stop that one or choose another port",
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, and a Unix socket a folder and an owner that this user may use"
        }
        _ => "is it an address of this machine?",
    };
    format!("cannot listen on {address} ({key}): {error}; {hint}")
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|e| format!("a listener has no address: {e}"))
}

fn hostname() -> String {
    let name = gethostname::gethostname().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
