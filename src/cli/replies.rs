//! `replies`: the outcome table.

use clap::Args;

use super::Failure;
use crate::outcome::{Retry, TABLE};

/// What the mail API does, and what the SMTP client is told.
#[derive(Debug, Args)]
pub struct Replies {
    /// As a Markdown table, as in the README
    #[arg(long)]
    markdown: bool,
}

impl Replies {
    #[allow(clippy::unnecessary_wraps)] // Commands have one shape.
    pub(super) fn run(&self) -> Result<(), Failure> {
        say!("{}", if self.markdown { markdown() } else { plain() });
        Ok(())
    }
}

fn retry_word(retry: Retry) -> &'static str {
    match retry {
        Retry::Within => "yes",
        Retry::Elsewhere => "by another account",
        Retry::Never => "no",
    }
}

fn plain() -> String {
    let mut out = format!("{:<14} {:<10} {:<18} {}\n", "OUTCOME", "REPLY", "RETRY", "WHEN");
    out.push_str(&format!("{:<14} {:<10} {:<18} {}\n", "accepted", "250 2.0.0", "-", "the API took the mail"));
    for row in TABLE {
        let reply = format!("{} {}", row.code, row.enhanced);
        out.push_str(&format!("{:<14} {reply:<10} {:<18} {}\n", row.name, retry_word(row.retry), row.when));
    }
    out.push_str(
        "\nRETRY: whether sidepost itself repeats the request before it answers; where a route names several accounts, the\nnext one is tried after \"yes\" and \"by another account\". 4yz: the client should try again\n",
    );
    out.push_str("later; 5yz: it should not. Several recipients: any 4yz wins, else any 250, else the first 5yz.\n");
    out
}

/// The table of the README.
pub fn markdown() -> String {
    let mut out = String::from("| outcome | reply | repeated by sidepost | when |\n|---|---|---|---|\n");
    out.push_str("| accepted | 250 2.0.0 | – | the API took the mail |\n");
    for row in TABLE {
        out.push_str(&format!(
            "| {} | {} {} | {} | {} |\n",
            row.name,
            row.code,
            row.enhanced,
            retry_word(row.retry),
            row.when
        ));
    }
    out
}
