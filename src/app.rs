//! Builds everything from the configuration, runs it, drains it: the only room that knows all others.
use crate::config::Config;
pub fn serve(config: Config) -> Result<(), String> {
    let _ = config;
    Ok(())
}
pub fn sandbox(config: Config) -> Result<(), String> {
    let _ = config;
    Ok(())
}
