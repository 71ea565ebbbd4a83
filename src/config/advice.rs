//! What is allowed in a configuration and seldom meant.

use std::time::Duration;

use humantime::format_duration;

use super::Config;
use crate::route::Route;

/// A sentence for each, with what to do.
pub fn warnings(config: &Config) -> Vec<String> {
    let long = config.routes.iter().filter_map(|route| long_route(&route.accounts, config));
    long.chain(dead_routes(config)).chain(shared_secrets(config)).collect()
}

/// Nothing comes to a route behind one that takes all mail.
fn dead_routes(config: &Config) -> Option<String> {
    let last = config.routes.iter().position(Route::takes_all)?;
    let behind = config.routes.len() - last - 1;
    (behind > 0).then(|| {
        format!(
            "routes.{last} has no condition and takes all mail: nothing comes to the {behind} behind it; put it last"
        )
    })
}

/// The last accounts of a route may have no turn.
fn long_route(names: &[String], config: &Config) -> Option<String> {
    let accounts = names.iter().filter_map(|name| config.providers.get(name));
    let (all, deadline) = (accounts.map(|account| account.attempt_timeout).sum::<Duration>(), config.delivery.deadline);
    (all > deadline).then(|| {
        format!(
            "the route to {}: one attempt with each takes up to {} (attempt_timeout), and the deadline is {}; the last ones may never be tried",
            names.join(", "),
            format_duration(all),
            format_duration(deadline)
        )
    })
}

/// Whoever has seen a request that one account's provider signed can post it to the other account's path.
fn shared_secrets(config: &Config) -> impl Iterator<Item = String> {
    let accounts: Vec<_> = config.providers.iter().collect();
    let mut found = Vec::new();
    for (at, (name, account)) in accounts.iter().enumerate() {
        for (other, its) in accounts.iter().skip(at + 1).filter(|(_, its)| its.kind == account.kind) {
            if account.webhook_secrets.iter().any(|secret| its.webhook_secrets.contains(secret)) {
                found.push(format!(
                    "{name} and {other} have a webhook secret in common, so an event of the one is believed as an event of the other; give each its own webhook_secrets"
                ));
            }
        }
    }
    found.into_iter()
}
