//! Each file in tests/store is a story told by calls, and what every store answers: one in memory, one in a file, and one
//! whose file is closed and opened anew between every two calls. `UPDATE=1` rewrites the answers (`= …`).
//!
//! ```text
//! #! key=value                      settings: keep-messages, max-messages, keep-events, max-events (seconds, rows)
//! policy key=value…                 limit, scope, fold, events (with commas), from here on
//! suppress ADDRESS SCOPE REASON SOURCE @SINCE @UNTIL|- evidence
//! suppressed KEY SCOPE,SCOPE @NOW · lift KEY SCOPE|all @NOW · list key=value…
//! take ACCOUNT @RECEIVED ID KIND RECIPIENT|- @AT [message=ID] [forward] [reason]
//! act MOST · replay key=value… · events key=value… · forwards @NOW MOST · forwarded NUMBER @AGAIN|done
//! log ID @AT SENDER|- RECIPIENT ACCOUNT PROVIDER-ID|- OUTCOME · messages key=value…
//! mark KEY RECIPIENT ACCOUNT @SINCE · unmark KEY RECIPIENT · marks @SINCE · prune @NOW
//! ```
//! `@N` is a time in seconds; lists are told page by page.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sidepost::feedback::EventKind;
use sidepost::store::{EventQuery, Mark, MessageQuery, MessageRecord, Page, Place, Settings, Store, SuppressionQuery};
use sidepost::suppression::{Policy, ScopeOfEvents, Suppression};

use super::{Folder, address, at, event, policy, settings};

/// A store under a story.
struct Told {
    store: Store,
    settings: Settings,
    /// Closed and opened anew before every call.
    restless: bool,
    policy: Policy,
}

/// `key=value` words.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    fn time(&self, key: &str) -> Option<SystemTime> {
        self.get(key).map(time)
    }

    fn limit(&self) -> usize {
        self.get("limit").map_or(0, |limit| limit.parse().unwrap())
    }
}

fn time(text: &str) -> SystemTime {
    at(text.strip_prefix('@').unwrap_or_else(|| panic!("{text} is no time")).parse().unwrap())
}

fn say_time(time: SystemTime) -> String {
    match time.duration_since(at(0)) {
        Ok(since) => format!("@{}", since.as_secs_f64()),
        Err(_) => humantime::format_rfc3339(time).to_string(),
    }
}

fn say_entry(entry: &Suppression) -> String {
    let until = entry.until.map_or("-".to_owned(), say_time);
    let (since, reason) = (say_time(entry.since), entry.reason.name());
    format!("{} {} {reason} {} {since} {until} {}", entry.address, entry.scope, entry.source, entry.evidence)
}

fn say_page<T>(page: &Page<T>, say: impl Fn(&T) -> String) -> Vec<String> {
    let mut said: Vec<String> = page.items.iter().map(say).collect();
    if said.is_empty() {
        said.push("nothing".to_owned());
    }
    if page.next.is_some() {
        said.push("(next page)".to_owned());
    }
    said
}

/// A list, page by page.
macro_rules! pages {
    ($store:expr, $call:ident, $query:expr, $say:expr) => {{
        let (mut said, mut query) = (Vec::new(), $query);
        loop {
            let page = $store.$call(query.clone()).await.unwrap();
            said.extend(say_page(&page, $say));
            query.after = page.next;
            if query.after.is_none() {
                break said;
            }
        }
    }};
}

impl Told {
    fn new(settings: Settings, restless: bool) -> Self {
        Self { store: Store::open(&settings, &policy()).unwrap(), settings, restless, policy: policy() }
    }

    async fn call(&mut self, line: &str) -> Vec<String> {
        if self.restless {
            self.store.close().await.unwrap();
            self.store = Store::open(&self.settings, &self.policy).unwrap();
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        match verb {
            "policy" => self.set_policy(&Words(words)),
            "suppress" | "suppressed" | "lift" | "list" => self.list(verb, &words).await,
            "take" | "act" | "replay" | "events" | "forwards" | "forwarded" => self.events(verb, &words).await,
            "log" | "messages" => self.messages(verb, &words).await,
            "mark" | "unmark" | "marks" => self.marks(verb, &words).await,
            "prune" => vec![format!("{} gone", self.store.prune(time(words[0])).await.unwrap())],
            _ => panic!("{verb} is no call"),
        }
    }

    fn set_policy(&mut self, words: &Words) -> Vec<String> {
        let policy = &mut self.policy;
        policy.soft_bounce_limit = words.get("limit").map_or(policy.soft_bounce_limit, |n| n.parse().unwrap());
        policy.fold_local_part = words.get("fold").map_or(policy.fold_local_part, |fold| fold == "yes");
        policy.scope = match words.get("scope") {
            Some("account") => ScopeOfEvents::Account,
            Some("sender-domain") => ScopeOfEvents::SenderDomain,
            Some("everywhere") => ScopeOfEvents::Everywhere,
            Some(other) => panic!("{other}"),
            None => policy.scope,
        };
        if let Some(events) = words.get("events") {
            policy.events = events.split(',').map(|kind| kind.parse().unwrap()).collect();
        }
        Vec::new()
    }

    async fn list(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let store = &self.store;
        match (verb, words) {
            ("suppress", [address, scope, reason, source, since, until, evidence @ ..]) => {
                let entry = Suppression {
                    address: (*address).to_owned(),
                    scope: scope.parse().unwrap(),
                    reason: reason.parse().unwrap(),
                    source: (*source).to_owned(),
                    since: time(since),
                    until: (*until != "-").then(|| time(until)),
                    evidence: evidence.join(" "),
                };
                vec![format!("{} new", store.suppress(vec![entry]).await.unwrap())]
            }
            ("suppressed", [key, scopes, now]) => {
                let scopes: Vec<_> = scopes.split(',').map(|scope| scope.parse().unwrap()).collect();
                let found = store.suppressed(key, &scopes, time(now)).await.unwrap();
                vec![found.as_ref().map_or("no".to_owned(), say_entry)]
            }
            ("lift", [key, scope, now]) => {
                let scope = (*scope != "all").then(|| scope.parse().unwrap());
                let mut lifted: Vec<String> =
                    store.lift(key, scope, time(now)).await.unwrap().iter().map(say_entry).collect();
                lifted.sort();
                lifted.insert(0, format!("{} lifted", lifted.len()));
                lifted
            }
            ("list", words) => {
                let words = Words(words.to_vec());
                let query = SuppressionQuery {
                    address: words.text("address"),
                    scope: words.get("scope").map(|scope| scope.parse().unwrap()),
                    reason: words.get("reason").map(|reason| reason.parse().unwrap()),
                    after: None,
                    limit: words.limit(),
                };
                pages!(store, suppressions, query, say_entry)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn events(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let store = &self.store;
        match (verb, words) {
            ("take", [account, received, id, kind, recipient, happened, rest @ ..]) => {
                let kind: EventKind = kind.parse().unwrap();
                let words = Words(rest.to_vec());
                let reason: Vec<&str> =
                    rest.iter().copied().filter(|word| !word.contains('=') && *word != "forward").collect();
                let mut taken = event(id, kind, "nobody@example.net", 0);
                taken.at = time(happened);
                taken.recipient = (*recipient != "-").then(|| address(recipient));
                taken.message_id = words.text("message");
                taken.reason = (!reason.is_empty()).then(|| reason.join(" "));
                let forward = rest.contains(&"forward");
                let new = store.take(account, vec![taken], time(received), forward).await.unwrap();
                vec![(if new == [true] { "new" } else { "known" }).to_owned()]
            }
            ("act", [most]) => {
                let acted = store.act(&self.policy, most.parse().unwrap()).await.unwrap();
                vec![format!("{} events, {} suppressed, {} lifted", acted.events, acted.suppressed, acted.lifted)]
            }
            ("replay", words) => vec![format!("{} wait", store.replay(event_query(words)).await.unwrap())],
            ("events", words) => pages!(store, events, event_query(words), |event| {
                let (kind, done) = (event.feedback.kind.name(), if event.processed { "done" } else { "waits" });
                let raw = str::from_utf8(&event.feedback.raw).unwrap().trim_end();
                format!("{} {} {kind} {done} {raw}", event.number, event.account)
            }),
            ("forwards", [now, most]) => {
                let due = store.forwards(time(now), most.parse().unwrap()).await.unwrap();
                let mut said: Vec<String> = due
                    .iter()
                    .map(|f| format!("{} {} after {}", f.number, f.event.feedback.event_id, f.tries))
                    .collect();
                said.push(format!("next {}", store.next_forward().await.unwrap().map_or("never".to_owned(), say_time)));
                said
            }
            ("forwarded", [number, again]) => {
                let again = (*again != "done").then(|| time(again));
                store.forwarded(number.parse().unwrap(), again).await.unwrap();
                Vec::new()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn messages(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let some = |word: &str| (word != "-").then(|| word.to_owned());
        match (verb, words) {
            ("log", [id, happened, sender, recipient, account, provider_id, outcome]) => {
                self.store.log(vec![MessageRecord {
                    id: (*id).to_owned(),
                    at: time(happened),
                    client: Some("192.0.2.1".to_owned()),
                    principal: None,
                    sender: some(sender),
                    recipient: (*recipient).to_owned(),
                    account: (*account).to_owned(),
                    provider_id: some(provider_id),
                    outcome: (*outcome).to_owned(),
                    reply: "250 2.0.0 Ok".to_owned(),
                    bytes: 1234,
                    last_event: None,
                }]);
                self.wait().await;
                Vec::new()
            }
            ("messages", words) => {
                let words = Words(words.to_vec());
                let query = MessageQuery {
                    id: words.text("id"),
                    recipient: words.text("recipient"),
                    sender: words.text("sender"),
                    account: words.text("account"),
                    outcome: words.text("outcome"),
                    since: words.time("since"),
                    until: words.time("until"),
                    after: None,
                    limit: words.limit(),
                };
                pages!(self.store, messages, query, |line| {
                    let last = line.last_event.map(|(kind, at)| format!(" {} {}", kind.name(), say_time(at)));
                    let sender = line.sender.as_deref().unwrap_or("-");
                    let (at, last) = (say_time(line.at), last.unwrap_or_default());
                    format!("{} {at} {sender} {} {} {}{last}", line.id, line.recipient, line.account, line.outcome)
                })
            }
            other => panic!("{other:?}"),
        }
    }

    async fn marks(&self, verb: &str, words: &[&str]) -> Vec<String> {
        let key = |text: &str| [text.as_bytes()[0]; 32];
        match (verb, words) {
            ("mark", [name, recipient, account, since]) => {
                let account = (*account).to_owned();
                let recipient = address(recipient);
                let mark =
                    Mark { key: key(name), recipient, account, provider_id: None, marker: None, since: time(since) };
                self.store.mark(vec![mark]).await.unwrap();
                Vec::new()
            }
            ("unmark", [name, recipient]) => {
                self.store.unmark(key(name), vec![address(recipient)]);
                self.wait().await;
                Vec::new()
            }
            ("marks", [since]) => {
                let marks = self.store.marks(time(since)).await.unwrap();
                let say =
                    |m: &Mark| format!("{} {} {} {}", char::from(m.key[0]), m.recipient, m.account, say_time(m.since));
                say_page(&Page { items: marks, next: None }, say)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What did not wait was queued before this.
    async fn wait(&self) {
        self.store.suppress(Vec::new()).await.unwrap();
    }
}

fn event_query(words: &[&str]) -> EventQuery {
    let words = Words(words.to_vec());
    EventQuery {
        account: words.text("account"),
        kind: words.get("kind").map(|kind| kind.parse().unwrap()),
        recipient: words.text("recipient"),
        message_id: words.text("message"),
        since: words.time("since"),
        until: words.time("until"),
        after: None,
        limit: words.limit(),
    }
}

fn settings_of(story: &str, url: Place) -> Settings {
    let mut settings = settings(url);
    let line = story.lines().find_map(|line| line.strip_prefix("#!")).unwrap_or_default();
    for (key, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
        let value: u64 = value.parse().unwrap();
        match key {
            "keep-messages" => settings.keep_messages = Duration::from_secs(value),
            "keep-events" => settings.keep_events = Duration::from_secs(value),
            "max-messages" => settings.max_messages = value,
            "max-events" => settings.max_events = value,
            other => panic!("{other}"),
        }
    }
    settings
}

/// The story as this store tells it.
async fn tell(story: &str, mut told: Told) -> String {
    let mut text = String::new();
    for line in story.lines().filter(|line| !line.starts_with("= ")) {
        text += &format!("{line}\n");
        if !line.is_empty() && !line.starts_with('#') {
            told.call(line).await.iter().for_each(|said| text += &format!("= {said}\n"));
        }
    }
    told.store.close().await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn every_store_tells_the_same_stories() {
    let folder = Folder::new("stories");
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store");
    let mut wrong = Vec::new();
    for file in fs::read_dir(stories).unwrap() {
        let file = file.unwrap().path();
        let story = fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().display().to_string();
        let place = |kind: &str| Place::File(folder.path().join(format!("{name}-{kind}.db")));
        let kinds = [("memory", Place::Memory), ("file", place("file")), ("reopened", place("reopened"))];
        for (kind, place) in kinds {
            let told = tell(&story, Told::new(settings_of(&story, place), kind == "reopened")).await;
            if std::env::var_os("UPDATE").is_some() && kind == "memory" {
                fs::write(&file, &told).unwrap();
            }
            let story = fs::read_to_string(&file).unwrap();
            let differs = story.lines().zip(told.lines()).find(|(line, told)| line != told);
            if story != told {
                wrong.push(format!("{name} in {kind}: {differs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "UPDATE=1 rewrites them: {wrong:#?}");
}
