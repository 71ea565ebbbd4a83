//! `completions`: what a shell needs to complete the commands and their options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure};

/// Print the completions for a shell
///
/// Examples:
///   sidepost completions bash > /etc/bash_completion.d/sidepost
///   sidepost completions zsh > "${fpath[1]}/_sidepost"
///   sidepost completions fish > ~/.config/fish/completions/sidepost.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    // As all commands: it cannot fail.
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "sidepost", &mut script);
        say!("{}", String::from_utf8_lossy(&script));
        Ok(())
    }
}
