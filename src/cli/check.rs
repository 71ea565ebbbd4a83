//! `check`: is the configuration valid, what is in force, does the time add up.

use clap::Args;
use humantime::format_duration;

use super::{ConfigArgs, Failure};
use crate::config::advice::warnings;
use crate::config::{Delivery, Provider};
use crate::relay::account::worst_case;

/// What common client libraries wait for the reply after the dot, in seconds: below that, they send twice.
const CLIENT_PATIENCE: &[(&str, u64)] = &[("many web frameworks", 30), ("Ruby Net::SMTP", 60), ("Perl Net::SMTP", 120)];

/// Validate the configuration and print what is in force, where it came from, and the time budget
///
/// Exit code 0: valid. 78: not; every mistake is listed with where it came from and what to do.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let loaded = self.config.load()?;
        sayln!("The configuration is valid.\n");
        let width = loaded.effective.iter().map(|(key, _, _)| key.len()).max().unwrap_or(0);
        for (key, value, origin) in &loaded.effective {
            sayln!("{key:width$} = {value}    # {origin}");
        }
        for (name, account) in &loaded.config.providers {
            sayln!("\nTime budget of account {name}");
            print_budget(account, &loaded.config.delivery);
        }
        for warning in warnings(&loaded.config) {
            sayln!("\nWarning: {warning}.");
        }
        Ok(())
    }
}

fn print_budget(account: &Provider, delivery: &Delivery) {
    let worst = worst_case(account.attempt_timeout, delivery.max_attempts);
    let row = |what: &str, value: String| sayln!("  {what:<44} {value}");
    row("one attempt at most (attempt_timeout)", format_duration(account.attempt_timeout).to_string());
    row("attempts at most (max_attempts)", delivery.max_attempts.to_string());
    row("all of them at their slowest, with backoff", format_duration(worst).to_string());
    row("end of data to reply at most (deadline)", format_duration(delivery.deadline).to_string());
    row("a stop waits at most (drain)", format_duration(delivery.drain).to_string());
    if worst > delivery.deadline {
        sayln!("  The deadline ends a slow series early: an attempt begins only if attempt_timeout is left of it.");
    }
    for (client, patience) in CLIENT_PATIENCE.iter().filter(|(_, patience)| delivery.deadline.as_secs() >= *patience) {
        sayln!("  Warning: {client} give up after {patience} s, before the deadline; they would send the mail again.");
    }
}
