//! `serve`: the relay with the configured account.

use clap::Args;

use super::{ConfigArgs, Failure};
use crate::app;

/// Run the relay with your account
///
/// Runs until SIGTERM or SIGINT, then finishes what is under way. Exit code 78: the configuration has mistakes; all are listed.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Serve {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let loaded = self.config.load()?;
        app::serve(loaded.config).map_err(Failure::from)
    }
}
