//! `stats`: the provider's daily numbers.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::{SetupArgs, print_json};
use crate::cli::table::columns;
use crate::cli::{Failure, USAGE};
use crate::provider::setup::reading::{self, Day};
use crate::provider::setup::{self, Days, Task};

/// The days that are shown if none are named: this one, and so many before.
const DAYS_BEFORE: u64 = 6;

/// Print the provider's daily numbers: delivered, bounced, called spam (ScaiSend)
#[derive(Debug, Args)]
#[command(
    after_help = "With a token (SCAISEND_JWT), else with the account's API key, if that has stats.read. ScaiSend counts at night: what is sent today is there tomorrow. Bounce rate: of the mails that were delivered or bounced. Above 2 % it harms your reputation with the receivers; with `--json` a script can watch it."
)]
pub struct Stats {
    /// The first day, as 2026-11-01 [default: six days before the last]
    #[arg(long, value_name = "DAY", value_parser = day)]
    start_date: Option<String>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    end_date: Option<String>,
    #[command(flatten)]
    of: SetupArgs,
}

/// A day as the API has it.
fn day(text: &str) -> Result<String, String> {
    let right = text.len() == 10 && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
    if right { Ok(text.to_owned()) } else { Err("is no day like 2026-11-01".to_owned()) }
}

/// The day of a moment, in UTC.
fn day_of(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}

impl Stats {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        let before = Duration::from_hours(24 * DAYS_BEFORE);
        let last = self.end_date.as_deref().and_then(|day| humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok());
        let start = self.start_date.clone();
        let start = start.unwrap_or_else(|| day_of(last.unwrap_or_else(SystemTime::now) - before));
        if let Some(end) = self.end_date.as_ref().filter(|end| **end < start) {
            return Err(Failure::new(format!("the last day, {end}, is before the first, {start}")).with_code(USAGE));
        }
        let task = Task::Stats(Days { start, end: self.end_date.clone() });
        let account = self.of.account(|kind| setup::offers(kind, &task))?;
        let days = reading::days(&account.ask(task)?);
        if self.of.json {
            return print_json(&json!({ "stats": days }));
        }
        if days.is_empty() {
            sayln!("There are no numbers for these days. ScaiSend counts at night: today's are there tomorrow.");
            return Ok(());
        }
        say!("{}", table(&days));
        Ok(())
    }
}

/// Columns that are always there, in this order; others only where there is something to count.
const FIRST: &[&str] = &["requests", "delivered", "bounces", "spam_reports", "unsubscribes"];

fn table(days: &[Day]) -> String {
    let mut names: Vec<&str> = FIRST.to_vec();
    let counted = days.iter().flat_map(|day| &day.metrics).filter(|(_, count)| **count > 0);
    let mut others: Vec<&str> = counted.map(|(name, _)| name.as_str()).filter(|name| !FIRST.contains(name)).collect();
    others.sort_unstable();
    others.dedup();
    names.extend(others);
    let heads: Vec<&str> = ["date", "bounce rate"].into_iter().chain(names.iter().copied()).collect();
    let rows: Vec<Vec<String>> = days.iter().map(|day| row(day, &names)).collect();
    columns(&heads, &rows)
}

fn row(day: &Day, names: &[&str]) -> Vec<String> {
    let count = |name: &str| day.metrics.get(name).copied().unwrap_or(0);
    // Of all mails whose fate is known: in tenths of a percent, rounded, in whole numbers.
    let known = count("delivered").saturating_add(count("bounces"));
    let tenths = (count("bounces").saturating_mul(1000).saturating_add(known / 2)).checked_div(known);
    let rate = tenths.map_or_else(|| "-".to_owned(), |tenths| format!("{}.{} %", tenths / 10, tenths % 10));
    let counts = names.iter().map(|name| count(name).to_string());
    [day.date.clone(), rate].into_iter().chain(counts).collect()
}
