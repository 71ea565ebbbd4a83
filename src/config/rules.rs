//! What a configuration must obey beyond the types of its values.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::layers::Problem;
use super::listen::{Listen, Place, Scheme};
use super::values::Network;
use super::{Config, Fanout, Provider, ProviderKind, Smtp};
use crate::address::Address;
use crate::password;
use crate::secret::Secret;
use crate::sender::SenderPolicy;

/// Every rule broken, with the fix.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = relay_rules(config);
    problems.extend(tls_rules(&config.smtp));
    problems.extend(auth_rules(&config.smtp));
    problems.extend(time_rules(config));
    problems.extend(account_rules(config));
    problems.extend(sender_rules(config));
    problems.extend(webhook_rules(config));
    if config.web.token.expose().contains(|c: char| !c.is_ascii_graphic()) {
        let why =
            "holds blanks or characters outside ASCII, which no client can show in a header; is it the right file?";
        problems.push(Problem::new("web.token", why));
    }
    problems
}

/// Events come to somebody who can verify them, and go on to somebody who can, too.
fn webhook_rules(config: &Config) -> Vec<Problem> {
    let (webhooks, mut problems) = (&config.webhooks, Vec::new());
    let mut wrong = |key: &str, message: String| problems.push(Problem::new(key, message));
    let secrets = || config.providers.values().any(|account| !account.webhook_secrets.is_empty());
    if webhooks.listen.0.is_some() && !config.providers.is_empty() && !secrets() {
        wrong("webhooks.listen", "no account could verify anything; give providers.NAME.webhook_secrets (`sidepost webhooks register` gets one)".to_owned());
    }
    if webhooks.listen.0.is_some_and(|address| address.port() != 0 && address == config.web.listen) {
        wrong(
            "webhooks.listen",
            "is web.listen as well; the providers must not reach /api, so give it a port of its own".to_owned(),
        );
    }
    if webhooks.max_body.0 > 16 << 20 {
        wrong("webhooks.max_body", "must be at most 16MiB: an event has a few hundred octets".to_owned());
    }
    if !webhooks.forward.is_empty() {
        let uri = webhooks.forward.parse::<http::Uri>().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        if authority.is_some_and(|authority| authority.as_str().contains('@')) {
            wrong(
                "webhooks.forward",
                "must not hold a user and a password; the signature says who it is from".to_owned(),
            );
        }
        if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()) {
            wrong("webhooks.forward", "is not a URL like \"https://app.example.com/mail-events\"".to_owned());
        }
        if config.state.max_events == 0 {
            wrong("state.max_events", "must be more than 0: events wait there for webhooks.forward".to_owned());
        }
        if webhooks.forward_secret.expose().is_empty() {
            wrong("webhooks.forward_secret", "is needed: your application verifies the events with it".to_owned());
        }
    }
    if config.state.keep_events < Duration::from_hours(7 * 24) {
        wrong("state.keep_events", "must be at least 7d: for so long a provider may send an event again".to_owned());
    }
    for (key, rows) in
        [("state.max_messages", config.state.max_messages), ("state.max_events", config.state.max_events)]
    {
        if rows > 1_000_000_000 {
            wrong(key, "must be at most 1000000000".to_owned());
        }
    }
    problems
}

fn sender_rules(config: &Config) -> Option<Problem> {
    let sender = &config.sender;
    let message = match SenderPolicy::new(&sender.default, &sender.allowed, sender.rewrite) {
        Err(message) => message,
        Ok(sender) if !sender.is_ascii() && config.providers.values().any(|account| !account.utf8_addresses) => {
            "is outside ASCII before the @, and the account's utf8_addresses is not set".to_owned()
        }
        Ok(_) => return None,
    };
    Some(Problem::new("sender.default", message))
}

/// No open relay by accident (DESIGN promise 7).
fn relay_rules(config: &Config) -> Vec<Problem> {
    let smtp = &config.smtp;
    let mut problems = Vec::new();
    if smtp.listen.is_empty() {
        problems.push(Problem::new("smtp.listen", "no listener; give at least one, like \"smtp://127.0.0.1:2525\""));
    }
    problems.extend(limits(config));
    problems.extend(shared_addresses(config));
    let internet = |networks: &[Network]| networks.iter().map(|network| network.0).find(is_internet);
    for net in smtp.allow.iter().map(|network| network.0).filter(is_internet).filter(|_| !smtp.auth.required) {
        problems.push(Problem::new(
            "smtp.allow",
            format!("{net} is most of the internet: this would be an open relay; list your clients' networks, like \"10.0.0.0/8\", or set smtp.auth.required"),
        ));
    }
    if let Some(net) = internet(&smtp.proxy_from) {
        problems.push(Problem::new(
            "smtp.proxy_from",
            format!("{net} is most of the internet: anybody could claim any address; list your proxies"),
        ));
    }
    let Some(exposed) = exposed(smtp).next() else {
        return problems;
    };
    if !smtp.auth.required && smtp.allow.iter().all(|network| network.0.network().is_loopback()) {
        problems.push(Problem::new(
            "smtp.listen",
            format!("{exposed} can be reached from outside, but smtp.allow admits loopback only; add the networks of your clients to smtp.allow, like \"10.0.0.0/8\", require AUTH (smtp.auth.required), or listen on 127.0.0.1"),
        ));
    }
    problems
}

/// The listeners that other machines reach.
fn exposed(smtp: &Smtp) -> impl Iterator<Item = &Listen> {
    smtp.listen.iter().filter(|listen| listen.address().is_some_and(|address| !address.ip().is_loopback()))
}

const NEEDED: &str = "needs a certificate; give smtp.tls.cert and smtp.tls.key";

fn tls_rules(smtp: &Smtp) -> Vec<Problem> {
    let tls = &smtp.tls;
    let mut problems = Vec::new();
    let mut wrong = |key: &str, message: String| problems.push(Problem::new(key, message));
    match (tls.cert.is_empty(), tls.key.is_empty()) {
        (false, true) => wrong("smtp.tls.key", "smtp.tls.cert needs its key; give its PEM file".to_owned()),
        (true, false) => wrong("smtp.tls.cert", "smtp.tls.key needs its certificate; give its PEM file".to_owned()),
        _ => {}
    }
    if tls.is_configured() || !tls.key.is_empty() {
        return problems;
    }
    if let Some(listen) = smtp.listen.iter().find(|listen| listen.scheme == Scheme::Smtps) {
        wrong("smtp.listen", format!("{listen} {NEEDED}"));
    }
    if tls.required {
        wrong("smtp.tls.required", NEEDED.to_owned());
    }
    if !tls.client_ca.is_empty() {
        wrong("smtp.tls.client_ca", NEEDED.to_owned());
    }
    problems
}

fn auth_rules(smtp: &Smtp) -> Vec<Problem> {
    let auth = &smtp.auth;
    let mut problems = Vec::new();
    for (name, hash) in &auth.users {
        let key = format!("smtp.auth.users.{name}");
        if let Err(message) = password::check_name(name) {
            problems.push(Problem::new(&key, message));
        }
        if let Err(message) = password::Hash::parse(hash.0.expose()) {
            problems.push(Problem::new(&key, message));
        }
    }
    problems.extend(passthrough_rules(smtp));
    if !auth.required {
        return problems;
    }
    if !auth.has_users() && smtp.tls.client_ca.is_empty() && !auth.passthrough {
        problems.push(Problem::new(
            "smtp.auth.required",
            "nobody could log in; give smtp.auth.users or smtp.auth.users_file (`sidepost hash-password` makes the hashes), or smtp.tls.client_ca",
        ));
    }
    // A password never crosses a network in the clear, so AUTH is not offered there without TLS.
    let plain = exposed(smtp).find(|listen| listen.scheme != Scheme::Smtps);
    if let (Some(listen), false) = (plain, smtp.tls.is_configured()) {
        problems.push(Problem::new(
            "smtp.auth.required",
            format!(
                "nobody could log in on {listen}: AUTH beyond loopback needs TLS; give smtp.tls.cert and smtp.tls.key"
            ),
        ));
    }
    problems
}

/// With the clients' own keys there is nobody without one: neither users nor certificates, nor who is in smtp.allow.
fn passthrough_rules(smtp: &Smtp) -> Vec<Problem> {
    let auth = &smtp.auth;
    let mut problems = Vec::new();
    let mut wrong = |message: &str| problems.push(Problem::new("smtp.auth.passthrough", message));
    if !auth.passthrough {
        return problems;
    }
    if !auth.required {
        wrong("needs smtp.auth.required = true: a client without a login has no key");
    }
    if auth.has_users() {
        wrong("takes every client's password for an API key; remove smtp.auth.users and smtp.auth.users_file");
    }
    if !smtp.tls.client_ca.is_empty() {
        wrong("cannot go with smtp.tls.client_ca: who logs in by certificate has no key");
    }
    problems
}

/// Numbers that would let nothing pass, or that no machine can keep.
fn limits(config: &Config) -> Vec<Problem> {
    let (smtp, delivery) = (&config.smtp, &config.delivery);
    let mut problems = Vec::new();
    for (key, value) in [
        ("smtp.max_recipients", smtp.max_recipients),
        ("smtp.max_connections", smtp.max_connections),
        ("smtp.max_connections_per_client", smtp.max_connections_per_client),
    ] {
        if !(1..=1_000_000).contains(&value) {
            problems.push(Problem::new(key, "must be at least 1 and at most 1000000"));
        }
    }
    // RFC 5321 §4.5.3.2.1: clients wait five minutes for the greeting, and many only half a minute.
    if smtp.greeting_delay > Duration::from_secs(30) {
        problems
            .push(Problem::new("smtp.greeting_delay", "must be at most 30s, or clients leave before they are greeted"));
    }
    if smtp.max_errors == 0 {
        problems.push(Problem::new("smtp.max_errors", "must be at least 1"));
    }
    if smtp.max_commands < 10 {
        problems.push(Problem::new("smtp.max_commands", "an honest mail needs up to ten commands; give more"));
    }
    if delivery.max_in_flight_bytes < smtp.max_message_size {
        problems
            .push(Problem::new("delivery.max_in_flight_bytes", "must hold at least one mail of smtp.max_message_size"));
    }
    if !smtp.hostname.is_empty() && Address::parse(&format!("x@{}", smtp.hostname)).is_err() {
        problems.push(Problem::new("smtp.hostname", "is not a host name like \"relay.example.com\""));
    }
    problems
}

/// Two listeners cannot have one address; port 0 is a new one each time.
fn shared_addresses(config: &Config) -> Vec<Problem> {
    let mut taken = vec![Place::Tcp(config.web.listen)];
    taken.extend(config.webhooks.listen.0.filter(|address| address.port() != 0).map(Place::Tcp));
    let mut problems = Vec::new();
    for listen in &config.smtp.listen {
        let fresh = listen.address().is_some_and(|address| address.port() == 0);
        let same = |other: &Place| match (other, &listen.place) {
            (Place::Unix { path: one, .. }, Place::Unix { path: other, .. }) => one == other,
            (one, other) => one == other,
        };
        if !fresh && taken.iter().any(same) {
            let shown = listen.address().map_or_else(|| listen.to_string(), |address| address.to_string());
            problems.push(Problem::new(
                "smtp.listen",
                format!("{shown} is listened on twice (web.listen and webhooks.listen count)"),
            ));
        }
        taken.push(listen.place.clone());
    }
    problems
}

/// A network too wide to be somebody's own: no private IPv4 range is wider than /8, the IPv6 one is /7 (RFC 4193).
fn is_internet(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < 8,
        IpNet::V6(net) => net.prefix_len() < 7,
    }
}

/// attempt ≤ deadline < drain.
fn time_rules(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let delivery = &config.delivery;
    if delivery.drain <= delivery.deadline {
        problems.push(Problem::new(
            "delivery.drain",
            "must be longer than delivery.deadline, or a stop cuts running mails off",
        ));
    }
    if delivery.max_attempts == 0 {
        problems.push(Problem::new("delivery.max_attempts", "must be at least 1"));
    }
    for (name, account) in &config.providers {
        if account.attempt_timeout > delivery.deadline {
            problems.push(Problem::new(
                format!("providers.{name}.attempt_timeout"),
                "must not be longer than delivery.deadline, or no attempt can ever begin",
            ));
        }
    }
    problems
}

fn account_rules(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    match config.providers.len() {
        0 => problems.push(Problem::new(
            "providers",
            "no account; set NEXUSPROMAIL_API_KEY or SCAISEND_API_KEY, or write [providers.main] with kind and api_key_file; `sidepost sandbox` needs none",
        )),
        1 => {}
        _ if config.routes.is_empty() => {
            let names: Vec<&str> = config.providers.keys().map(String::as_str).collect();
            problems.push(Problem::new(
                "providers",
                format!(
                    "{} are configured, and no route says which one sends what; write [[routes]] with use = [\"{}\"], or remove the others (or unset their variables)",
                    names.join(" and "),
                    names.join("\", \"")
                ),
            ));
        }
        _ => {}
    }
    problems.extend(route_rules(config));
    for (name, account) in &config.providers {
        problems.extend(rules_of_account(name, account, config.smtp.auth.passthrough));
        problems.extend(rules_of_key(name, account.api_key.as_ref(), config.smtp.auth.passthrough));
    }
    problems
}

/// Each route names accounts and listeners that there are, and each account has a route.
fn route_rules(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let listeners: Vec<String> = config.smtp.listen.iter().map(Listen::name).collect();
    for (n, route) in config.routes.iter().enumerate() {
        let mut wrong = |key: &str, message: String| problems.push(Problem::new(format!("routes.{n}.{key}"), message));
        if route.accounts.is_empty() {
            wrong("use", "names no account".to_owned());
        }
        let mut named = BTreeSet::new();
        if let Some(twice) = route.accounts.iter().find(|name| !named.insert(*name)) {
            wrong("use", format!("{twice} is named twice; each account of a route has one turn"));
        }
        for name in route.accounts.iter().filter(|name| !config.providers.contains_key(*name)) {
            let known: Vec<&str> = config.providers.keys().map(String::as_str).collect();
            wrong("use", format!("there is no account {name:?}; there are {}", known.join(", ")));
        }
        for listener in route.listener.iter().filter(|listener| !listeners.contains(listener)) {
            wrong("listener", format!("{listener:?} is not in smtp.listen; there are {}", listeners.join(", ")));
        }
    }
    let unused = |name: &&String| !config.routes.iter().any(|route| route.accounts.contains(name));
    for name in config.providers.keys().filter(|_| !config.routes.is_empty()).filter(unused) {
        problems
            .push(Problem::new(format!("providers.{name}"), "no route uses this account; add it to one, or remove it"));
    }
    problems
}

fn rules_of_account(name: &str, account: &Provider, passthrough: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong =
        |key: &str, message: String| problems.push(Problem::new(format!("providers.{name}.{key}"), message));
    if let Err(message) = account.replies.check() {
        wrong("replies.ambiguous", message);
    }
    if account.burst == 0 {
        wrong("burst", "must be at least 1".to_owned());
    }
    if !(1..=100_000).contains(&account.max_in_flight) {
        wrong("max_in_flight", "must be at least 1 and at most 100000".to_owned());
    }
    if account.kind == ProviderKind::NexusProMail && account.fanout == Fanout::Single {
        wrong("fanout", "NexusProMail takes one recipient a call; use \"auto\"".to_owned());
    }
    if account.ask_suppressions && account.kind != ProviderKind::ScaiSend {
        wrong("ask_suppressions", format!("{} has no such call that is known; remove it", account.kind.name()));
    }
    if account.ask_suppressions && passthrough {
        let why = "the account has no key of its own to ask with (smtp.auth.passthrough); remove it";
        wrong("ask_suppressions", why.to_owned());
    }
    if account.send_path.contains("://") || account.send_path.contains(['?', '#', ' ']) {
        wrong("send_path", "is a path like \"/v3/mail/send\"; the address goes into base_url".to_owned());
    }
    if let Err(message) = check_url(&account.base_url) {
        wrong("base_url", message);
    }
    problems
}

fn rules_of_key(name: &str, key: Option<&Secret>, passthrough: bool) -> Option<Problem> {
    let message = match key.map(Secret::expose) {
        None if passthrough => return None,
        None => "no key; give api_key_file (a file with the key in it) or api_key",
        Some(_) if passthrough => {
            "smtp.auth.passthrough sends each mail with its client's own key; remove this one (or unset its variable)"
        }
        Some("") => "the key is empty",
        Some(key) if key.contains(|c: char| !c.is_ascii_graphic()) => {
            "the key holds blanks or characters outside ASCII; is it the right file?"
        }
        Some(_) => return None,
    };
    Some(Problem::new(format!("providers.{name}.api_key"), message))
}

/// https, or http to this machine: a key must not cross a network in the clear.
fn check_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Ok(());
    }
    let uri: http::Uri = url.parse().map_err(|_| "is not a URL like \"https://api.example.com\"".to_owned())?;
    let host = uri.host().unwrap_or_default();
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') || uri.query().is_some() || url.contains('#') {
        return Err("must not hold a user, a query or a fragment; keys go into api_key_file".to_owned());
    }
    if authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err()) {
        return Err("the port is not a number up to 65535".to_owned());
    }
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || host.parse::<SocketAddr>().is_ok_and(|a| a.ip().is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback => Ok(()),
        Some("http") => {
            Err("http:// would send the key in the clear; use https:// (http:// is for loopback addresses only)"
                .to_owned())
        }
        _ => Err("is not a URL like \"https://api.example.com\"".to_owned()),
    }
}
