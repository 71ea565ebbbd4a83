//! What runs for the providers' events: the receiver, the one who acts on them, the one who passes them on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Fault, cannot_listen, local_address};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::provider;
use crate::relay::http::HttpTransport;
use crate::relay::journal::Journal;
use crate::store::Store;
use crate::web;
use crate::web::forward::Forwarder;
use crate::web::webhook::{Hook, Receiver};
use crate::web::worker::{Bell, Worker};

/// How long the store may take for what it was last asked to write.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// All of it.
pub(super) struct Events {
    /// Where events come in, if they do.
    pub(super) address: Option<SocketAddr>,
    /// To be rung when stored events are to be acted on again.
    pub(super) bell: Bell,
    /// Where they are kept.
    pub(super) store: Store,
    receiving: TaskTracker,
    stop_receiving: CancellationToken,
    working: TaskTracker,
    stop_working: CancellationToken,
}

/// The listener of `webhooks.listen`, if there is one.
pub(super) async fn bind(config: &Config) -> Result<Option<TcpListener>, String> {
    let Some(address) = config.webhooks.listen.0 else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|e| cannot_listen(&address.to_string(), "webhooks.listen", &e))
}

impl Events {
    /// Starts them. Without a listener there is still something to do: what an earlier run has left, and what is replayed.
    pub(super) fn start(
        config: &Config,
        listener: Option<TcpListener>,
        hooks: Hooks,
        store: &Store,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Fault> {
        let events = Self {
            address: listener.as_ref().map(local_address).transpose()?,
            bell: Bell::default(),
            store: store.clone(),
            receiving: TaskTracker::new(),
            stop_receiving: CancellationToken::new(),
            working: TaskTracker::new(),
            stop_working: CancellationToken::new(),
        };
        let worker = Worker {
            store: store.clone(),
            policy: config.suppression.clone(),
            bell: events.bell.clone(),
            metrics: Arc::clone(metrics),
            journal: Journal::new(config.log.addresses),
        };
        events.working.spawn(worker.run(events.stop_working.clone()));
        if let Some(forwarder) = events.forwarder(config, metrics)? {
            events.working.spawn(forwarder.run(events.stop_working.clone()));
        }
        if let Some(listener) = listener {
            let (bell, metrics) = (events.bell.clone(), Arc::clone(metrics));
            let max_body = usize::try_from(config.webhooks.max_body.0).unwrap_or(usize::MAX);
            let settings = (max_body, !config.webhooks.forward.is_empty());
            let router = Receiver::new(hooks, store.clone(), settings, bell, metrics).router();
            let served = web::serve(listener, router, web::MAX_PER_CLIENT, events.stop_receiving.clone());
            events.receiving.spawn(served);
        }
        Ok(events)
    }

    fn forwarder(&self, config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Forwarder>, String> {
        let webhooks = &config.webhooks;
        if webhooks.forward.is_empty() {
            return Ok(None);
        }
        Ok(Some(Forwarder {
            store: self.store.clone(),
            url: webhooks.forward.clone(),
            secret: webhooks.forward_secret.clone(),
            transport: Arc::new(HttpTransport::new(None, None)?),
            bell: self.bell.clone(),
            metrics: Arc::clone(metrics),
            clock: SystemTime::now,
        }))
    }

    /// Ends them in the order in which events go through them. What is left waits in the store for the next start.
    pub(super) async fn stop(&self) {
        self.stop_receiving.cancel();
        self.receiving.close();
        self.receiving.wait().await;
        self.stop_working.cancel();
        self.working.close();
        self.working.wait().await;
    }

    /// Ends the store, when nobody needs it any more.
    pub(super) async fn close(&self) {
        match tokio::time::timeout(LAST_WRITES, self.store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the store was not closed well"),
            Err(_) => warn!("the store was not closed: it does not answer"),
        }
    }
}

/// What verifies each account's requests.
pub(super) type Hooks = BTreeMap<String, Hook>;

/// Those of all accounts.
pub(super) fn hooks(config: &Config) -> Hooks {
    let hook = |account| Hook { provider: provider::build(account), secrets: account.webhook_secrets.clone() };
    config.providers.iter().map(|(name, account)| (name.clone(), hook(account))).collect()
}
