//! `replies`: the outcome table.

use clap::Args;

use super::Failure;
use super::account::AccountArgs;
use crate::outcome::{Overrides, Row, TABLE};

/// Print the table of outcomes and SMTP replies
#[derive(Debug, Args)]
pub struct Replies {
    /// As a Markdown table, as in the README
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    of: AccountArgs,
}

impl Replies {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (_, account) = self.of.load()?;
        say!("{}", if self.markdown { markdown(&account.replies) } else { plain(&account.replies) });
        Ok(())
    }
}

/// The table as the account has it.
fn rows(replies: &Overrides) -> impl Iterator<Item = Row> {
    TABLE.iter().map(|row| replies.row(row.kind))
}

fn plain(replies: &Overrides) -> String {
    let mut out = format!("{:<14} {:<10} {:<9} {}\n", "OUTCOME", "REPLY", "RETRY", "WHEN");
    out.push_str(&format!("{:<14} {:<10} {:<9} {}\n", "accepted", "250 2.0.0", "-", "the API took the mail"));
    for row in rows(replies) {
        let reply = format!("{} {}", row.code, row.enhanced);
        out.push_str(&format!("{:<14} {reply:<10} {:<9} {}\n", row.name, row.retry.word(), row.when));
    }
    out.push_str(
        "\nRETRY: whether sidepost itself repeats the request before it answers; where a route names several accounts, the\nnext one is tried after \"yes\" and \"elsewhere\". 4yz: the client should try again\n",
    );
    out.push_str("later; 5yz: it should not. Several recipients: any 4yz wins, else any 250, else the first 5yz.\n");
    out.push_str(
        "\nambiguous, server-error, gateway: none of these APIs documents a key under which a mail is taken once, so sidepost\nrepeats none of them by itself. ScaiSend is asked whether it has the mail (lookup), and if so that is a 250.\n",
    );
    out
}

/// The table of the README.
fn markdown(replies: &Overrides) -> String {
    let mut out = String::from("| outcome | reply | repeated by sidepost | when |\n|---|---|---|---|\n");
    out.push_str("| accepted | 250 2.0.0 | – | the API took the mail |\n");
    for row in rows(replies) {
        out.push_str(&format!(
            "| {} | {} {} | {} | {} |\n",
            row.name,
            row.code,
            row.enhanced,
            row.retry.word(),
            row.when
        ));
    }
    out
}
