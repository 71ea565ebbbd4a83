//! The counters and gauges behind `/metrics`, as plain fields of one struct.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One label `class`: first digit of an SMTP reply.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabel {
    /// `2`, `4` or `5`.
    pub class: u16,
}

/// Labels of a recipient's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// The account.
    pub account: String,
    /// `accepted`, or the kind of the cause.
    pub outcome: &'static str,
}

/// Labels of an API request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabel {
    /// The account.
    pub account: String,
    /// The HTTP status; 0 when there was no answer.
    pub status: u16,
}

/// Labels of a question for a mail whose outcome was not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LookupLabel {
    /// The account.
    pub account: String,
    /// `found`, `not-found`, `unclear` (further ones follow), `forbidden` or `failed`.
    pub result: &'static str,
}

/// Label of a delivery report.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReportLabel {
    /// `accepted`, `withheld`, `dropped`, or the kind of the cause.
    pub outcome: &'static str,
}

/// Label of an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AccountLabel {
    /// The account.
    pub account: String,
}

/// Labels of a webhook request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabel {
    /// The account; empty where there is none of the name.
    pub account: String,
    /// `taken`, `duplicate`, or why it was refused.
    pub result: &'static str,
}

/// Labels of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    /// The account.
    pub account: String,
    /// Which sort.
    pub kind: &'static str,
}

/// Label of an event that was passed on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ForwardLabel {
    /// `forwarded` or `failed`.
    pub result: &'static str,
}

/// All metrics of one process. Names and help texts are given in [`Metrics::register`].
#[derive(Debug)]
#[allow(missing_docs)] // Each field's words stand in `register`, where /metrics gets them from.
pub struct Metrics {
    pub connections: Counter,
    pub connections_refused: Counter,
    pub connections_open: Gauge,
    pub protocol_errors: Counter,
    pub panics: Counter,
    pub transactions: Family<ClassLabel, Counter>,
    pub recipients: Family<OutcomeLabel, Counter>,
    pub requests: Family<RequestLabel, Counter>,
    pub lookups: Family<LookupLabel, Counter>,
    pub requests_in_flight: Family<AccountLabel, Gauge>,
    pub request_seconds: Histogram,
    pub reply_seconds: Histogram,
    pub accounts_ready: Family<AccountLabel, Gauge>,
    pub in_flight_bytes: Gauge,
    pub ledger_under_way: Gauge,
    pub ledger_unfinished: Gauge,
    pub suppressed: Counter,
    pub list_seconds: Histogram,
    pub lists_unasked: Counter,
    pub losses: Counter,
    pub controls_ignored: Counter,
    pub limiter_wait_seconds: Counter<f64, AtomicU64>,
    pub retries_refused: Counter,
    pub reports: Family<ReportLabel, Counter>,
    pub webhook_requests: Family<WebhookLabel, Counter>,
    pub events: Family<EventLabel, Counter>,
    pub event_duplicates: Family<AccountLabel, Counter>,
    pub suppressions_added: Counter,
    pub suppressions_lifted: Counter,
    /// Events without a recipient that can be read.
    pub events_unaddressed: Counter,
    pub forwards: Family<ForwardLabel, Counter>,
    pub forwards_waiting: Gauge,
    pub store_ready: Gauge,
    pub log_lines_lost: Counter,
    pub records_lost: Counter,
    pub forwards_lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0]);
        Self {
            connections: Counter::default(),
            connections_refused: Counter::default(),
            connections_open: Gauge::default(),
            protocol_errors: Counter::default(),
            panics: Counter::default(),
            transactions: Family::default(),
            recipients: Family::default(),
            requests: Family::default(),
            lookups: Family::default(),
            requests_in_flight: Family::default(),
            request_seconds: seconds(),
            reply_seconds: seconds(),
            accounts_ready: Family::default(),
            in_flight_bytes: Gauge::default(),
            ledger_under_way: Gauge::default(),
            ledger_unfinished: Gauge::default(),
            suppressed: Counter::default(),
            list_seconds: Histogram::new([0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1.0]),
            lists_unasked: Counter::default(),
            losses: Counter::default(),
            controls_ignored: Counter::default(),
            limiter_wait_seconds: Counter::default(),
            retries_refused: Counter::default(),
            reports: Family::default(),
            webhook_requests: Family::default(),
            events: Family::default(),
            event_duplicates: Family::default(),
            suppressions_added: Counter::default(),
            suppressions_lifted: Counter::default(),
            events_unaddressed: Counter::default(),
            forwards: Family::default(),
            forwards_waiting: Gauge::default(),
            store_ready: Gauge::default(),
            log_lines_lost: Counter::default(),
            records_lost: Counter::default(),
            forwards_lost: Counter::default(),
        }
    }
}

impl Metrics {
    /// Enters every metric into a registry under the prefix `sidepost_`. (`_total` is added to counters by the encoder.)
    pub fn register(&self, root: &mut Registry) {
        let r = root.sub_registry_with_prefix("sidepost");
        r.register("smtp_connections", "SMTP connections accepted", self.connections.clone());
        r.register(
            "smtp_connections_refused",
            "SMTP connections turned away with 421",
            self.connections_refused.clone(),
        );
        r.register("smtp_connections_open", "SMTP connections open now", self.connections_open.clone());
        r.register("smtp_protocol_errors", "Commands refused for syntax or order", self.protocol_errors.clone());
        r.register("panics", "Bugs: transactions or connections that panicked", self.panics.clone());
        r.register("transactions", "Transactions by class of their final reply", self.transactions.clone());
        r.register("recipients", "Recipients by account and outcome", self.recipients.clone());
        r.register("api_requests", "API requests by account and HTTP status", self.requests.clone());
        r.register("api_requests_in_flight", "API requests under way now, by account", self.requests_in_flight.clone());
        r.register("api_lookups", "Questions for mails whose outcome was not known", self.lookups.clone());
        r.register("api_request_seconds", "Duration of API requests", self.request_seconds.clone());
        r.register("reply_seconds", "From the end of data to the final reply", self.reply_seconds.clone());
        r.register("account_ready", "0 while the account's breaker is open", self.accounts_ready.clone());
        r.register("in_flight_bytes", "Message octets held in memory now", self.in_flight_bytes.clone());
        r.register(
            "ledger_under_way",
            "Transactions whose reply is not on the wire yet",
            self.ledger_under_way.clone(),
        );
        r.register(
            "ledger_unfinished",
            "Messages some of whose recipients were or may have been accepted, and whose client has to come again",
            self.ledger_unfinished.clone(),
        );
        r.register(
            "suppressed",
            "Recipients refused because they are on the list of suppressed addresses",
            self.suppressed.clone(),
        );
        r.register(
            "suppression_list_seconds",
            "Duration of looks at the list of suppressed addresses",
            self.list_seconds.clone(),
        );
        r.register(
            "lists_unasked",
            "Recipients whose API could not be asked for its lists of suppressed addresses (ask_suppressions)",
            self.lists_unasked.clone(),
        );
        r.register("losses", "Parts of mails left out under unsupported = degrade", self.losses.clone());
        r.register("controls_ignored", "Control headers that were not obeyed", self.controls_ignored.clone());
        r.register(
            "limiter_wait_seconds",
            "Time spent waiting for the rate limiter",
            self.limiter_wait_seconds.clone(),
        );
        r.register(
            "retries_refused",
            "Retries that were not made because the account's retry budget was used up",
            self.retries_refused.clone(),
        );
        r.register("reports", "Delivery reports by outcome (partial_failure = notify)", self.reports.clone());
        self.register_feedback(r);
    }

    fn register_feedback(&self, r: &mut Registry) {
        r.register("webhook_requests", "Webhook requests by account and result", self.webhook_requests.clone());
        r.register("events", "Verified events by account and kind, each once", self.events.clone());
        r.register("event_duplicates", "Verified events that had come before", self.event_duplicates.clone());
        r.register("suppressions_added", "Addresses that events suppressed", self.suppressions_added.clone());
        r.register("suppressions_lifted", "Addresses that events took off the list", self.suppressions_lifted.clone());
        r.register(
            "events_unaddressed",
            "Events that would have changed the list, and name no recipient that can be read",
            self.events_unaddressed.clone(),
        );
        r.register("forwards", "Events posted to webhooks.forward, by result", self.forwards.clone());
        r.register("forwards_waiting", "Events that wait to be forwarded", self.forwards_waiting.clone());
        r.register("log_lines_lost", "Lines of the log that nobody read in time", self.log_lines_lost.clone());
        r.register("records_lost", "Lines of the message log that were not stored", self.records_lost.clone());
        r.register(
            "forwards_lost",
            "Events that were dropped, as too old or too many, before webhooks.forward had got them",
            self.forwards_lost.clone(),
        );
        r.register("store_ready", "0 while the store cannot be written to", self.store_ready.clone());
    }
}
