//! A set-up call that was not done: the status, the API's own words, and what to do next.

use std::time::Duration;

use super::reading::clean;
use super::{Credential, Task};
use crate::config::ProviderKind;
use crate::provider::Response;
use crate::provider::answer::{error_text, retry_after};
use crate::secret::Secret;

/// Longest text of an answer that is not in one of the known shapes, in characters.
const MAX_WORDS: usize = 300;
/// How long to wait when a 429 does not say: ScaiSend allows ten such calls a minute.
const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// How to come by the token of a person.
pub const HOW_TO_GET_A_TOKEN: &str = "get one from ScaiKey, the log-in of ScaiSend's admin pages (a JWT; it lives about an hour), and give it as the variable SCAISEND_JWT, or in a file with --token-file";

/// Whether a call was done.
pub fn is_done(response: &Response) -> bool {
    (200..300).contains(&response.status)
}

/// The sentences about a call that was not done. `shown` is the credential that it was made with: it is in no sentence,
/// even if the API repeats it.
pub fn sentence(kind: ProviderKind, task: &Task, used: Credential, shown: &Secret, response: &Response) -> String {
    let said = words(response, shown);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    format!("the API answered {}{said}\n{}", response.status, advice(kind, task, used, response))
}

fn words(response: &Response, shown: &Secret) -> String {
    let known = error_text(&response.body);
    let words = known.unwrap_or_else(|| String::from_utf8_lossy(&response.body).into_owned());
    // Before it is cut: of a credential across the cut nobody would find the beginning.
    let words = words.replace(shown.expose(), "********");
    let is_page = words.trim_start().starts_with('<');
    if is_page { "(a web page)".to_owned() } else { clean(&words).trim().chars().take(MAX_WORDS).collect() }
}

fn advice(kind: ProviderKind, task: &Task, used: Credential, response: &Response) -> String {
    match response.status {
        401 if used == Credential::Token => format!("The token is wrong or has expired; {HOW_TO_GET_A_TOKEN}."),
        401 => "The account's API key is wrong, revoked or expired: see its api_key_file.".to_owned(),
        403 => missing_right(kind, task, used),
        404 => match task.subject() {
            Some((id, list)) => {
                format!("There is nothing with the id {} here; `{list}` shows what there is.", id.as_str())
            }
            None => "There is no such call at this address: check base_url.".to_owned(),
        },
        300..=399 | 405 | 406 | 410 | 415 => "This is not the API's address: check base_url.".to_owned(),
        409 => "It exists already, or somebody else is changing it: look at the list.".to_owned(),
        400 | 422 => "The API does not take these values: mend what it names, and try again.".to_owned(),
        429 => {
            let wait = retry_after(response).unwrap_or(DEFAULT_WAIT);
            format!("Too many calls: try again in {} seconds.", wait.as_secs().max(1))
        }
        500..=599 => "The API has trouble of its own: look whether it was done, and try again later.".to_owned(),
        _ => "Nobody knows this answer: look whether it was done before you try again.".to_owned(),
    }
}

fn missing_right(kind: ProviderKind, task: &Task, used: Credential) -> String {
    if kind != ProviderKind::ScaiSend {
        return "The account's API key may not do this: ask for its rights in the vendor's dashboard.".to_owned();
    }
    let scope = task.scope();
    match used {
        Credential::Token => format!("This needs the right {scope}: use the token of somebody who has it."),
        _ => format!(
            "This needs the scope {scope}, which the account's key does not have, as a key for sending should not. Use a person's token: {HOW_TO_GET_A_TOKEN}."
        ),
    }
}
