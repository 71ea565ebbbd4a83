//! The commands, on a running relay and on the file of a stopped one.

use std::process::Output;

use serde_json::{Value, json};

use sidepost::feedback::{EventKind, Feedback};
use sidepost::store::Store;

use super::{at, event, get, objects, on, post, put, said, seed, state};
use crate::binary::{Relay, run, text};
use crate::store::{Folder, policy};

/// A command on the file of a relay that does not run. Nobody listens on port 1.
fn on_file(folder: &Folder, arguments: &[&str]) -> Output {
    let state = state(folder);
    let mut all = arguments.to_vec();
    all.extend(["--set", "web.listen=127.0.0.1:1", "--set", &state]);
    run(&all)
}

fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

/// The same story told by all commands, wherever they work.
fn story(ask: &dyn Fn(&[&str]) -> Output) {
    let added = said(&ask(&["suppressions", "add", "Zoe+x@Example.com", "--until", "30d", "--note", "by phone"]));
    assert!(added.starts_with("Zoe+x@example.com is suppressed for all mail"), "{added}");
    let again = said(&ask(&["suppressions", "add", "zoe+x@example.com", "--until", "30d"]));
    assert!(again.contains("was on the list already"), "{again}");
    let slip = ask(&["suppressions", "add", "max@example.com", "--scope", "account:mian", "--json"]);
    assert!(text(&slip.stderr).contains("no account mian"), "{}", text(&slip.stderr));
    assert_eq!(objects(&slip), [json!({"added": 1, "known": 0, "over": 0, "unknown_accounts": ["mian"]})]);

    let table = said(&ask(&["suppressions", "list"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["ADDRESS", "SCOPE", "REASON", "SINCE", "UNTIL"]);
    assert!(lines[1].starts_with("max@example.com    account:mian  manual  20"), "{table}");
    assert!(lines[2].starts_with("zoe+x@example.com  *             manual  20"), "{table}");
    let found = objects(&ask(&["suppressions", "list", "--json", "--address", "ZOE+X@example.com"]));
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["evidence"], &found[0]["source"]), (&json!("by phone"), &json!("operator")));

    let removed = said(&ask(&["suppressions", "remove", "zoe+x@example.com"]));
    assert!(removed.starts_with("zoe+x@example.com is off the list for all mail (was: manual since 20"), "{removed}");
    assert!(removed.contains(": by phone)") && removed.contains("will not bring it back"), "{removed}");
    assert!(failed(&ask(&["suppressions", "remove", "zoe+x@example.com"]), 1).contains("is not on the list"));
    let scope = ["suppressions", "remove", "max@example.com", "--scope", "*"];
    assert!(failed(&ask(&scope), 1).contains("is not on the list for *"));
    assert_eq!(objects(&ask(&["suppressions", "remove", "max@example.com", "--json"])).len(), 1);
    assert!(text(&ask(&["suppressions", "list"]).stderr).contains("there is none"));
    assert!(!removed.contains("The provider may"), "{removed}");

    messages(ask);
    events(ask);
    assert!(
        failed(&ask(&["suppressions", "add", "max@example.com", "--until", "2020-01-01"]), 64).contains("over already")
    );
    assert!(failed(&ask(&["messages", "list", "--since", "yesterday"]), 64).contains("or a duration like 2d"));
    assert!(failed(&ask(&["messages", "show", "no/such?id"]), 1).contains("messages list --recipient"));
    assert!(failed(&ask(&["events", "show", "99"]), 1).contains("events list"));
    assert!(failed(&ask(&["events", "list", "--kind", "exploded"]), 64).contains("[possible values: queued"));
}

fn messages(ask: &dyn Fn(&[&str]) -> Output) {
    let table = said(&ask(&["messages", "list"]));
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    assert_eq!(
        lines[..2],
        [
            "TIME                 STATE         RECIPIENT         ID",
            "2026-11-22 09:01:00  suppressed    carl@example.net  0a02"
        ]
    );
    assert!(lines[2..].contains(&"2026-11-22 09:00:00  bounced.hard  ann@example.net   0a01"), "{table}");
    let one = ask(&["messages", "list", "--limit", "1"]);
    assert_eq!(said(&one).lines().count(), 2);
    assert!(text(&one.stderr).contains("there are more"));
    assert_eq!(objects(&ask(&["messages", "list", "--outcome", "accepted", "--all", "--json"])).len(), 2);

    said(&ask(&["suppressions", "add", "ann@example.net", "--reason", "bounce"]));
    let shown = said(&ask(&["messages", "show", "0a01"]));
    let first = shown.lines().next().unwrap();
    let start = "ann@example.net: accepted by sandbox as msg_1; bounced 2 min later: 550 5.1.1 no such user; the address is \
                 suppressed (bounce, *) since 20";
    assert!(first.starts_with(start), "{shown}");
    assert!(first.ends_with(": sidepost suppressions remove ann@example.net"), "{shown}");
    assert!(shown.contains("\neve@example.net: accepted by sandbox as msg_2; delivered 3 s later\n"), "{shown}");
    assert!(shown.contains("\n  2026-11-22 09:00:00  accepted      the client was told: 250 2.0.0 Ok\n"), "{shown}");
    assert!(shown.contains("\n  2026-11-22 09:02:10  bounced.hard  550 5.1.1 no such user (event 2)\n"), "{shown}");
    assert!(shown.contains("\nThe provider (sandbox), asked about msg_1 now\n  says nothing: "), "{shown}");
    let whole = &objects(&ask(&["messages", "show", "msg_2", "--json"]))[0];
    assert_eq!(whole["recipients"][0]["recipient"], "eve@example.net");
    assert_eq!(whole["provider_status"][0]["id"], "msg_2");
    assert!(
        said(&ask(&["messages", "show", "0a02"]))
            .starts_with("carl@example.net: refused (suppressed): 550 5.7.1 suppressed\n")
    );
    let forgotten = said(&ask(&["messages", "show", "msg_9"]));
    assert!(forgotten.contains("is in no line of the log any more") && forgotten.contains("opened"), "{forgotten}");
    said(&ask(&["suppressions", "remove", "ann@example.net"]));
}

fn events(ask: &dyn Fn(&[&str]) -> Output) {
    let table = said(&ask(&["events", "list", "--to", "ann@example.net"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["NUMBER", "RECEIVED", "KIND", "ACCOUNT", "RECIPIENT", "MESSAGE"]
    );
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>()[..4], ["2", "2026-11-22", "09:03:20", "bounced.hard"]);
    assert_eq!(lines.len(), 3);
    assert_eq!(objects(&ask(&["events", "list", "--kind", "delivered", "--json"]))[0]["event_id"], "e3");
    let shown = said(&ask(&["events", "show", "2"]));
    assert!(shown.contains("happened    2026-11-22 09:02:10\n") && shown.contains("reason      550 5.1.1"), "{shown}");
    assert!(
        shown.contains("{\"event\":\"e2\",\"bell\":\"\u{fffd}\"}"),
        "what came from outside rings no bell: {shown:?}"
    );
    let replay = ["events", "replay", "--since", "2026-11-22", "--kind", "bounced.hard"];
    let dry = said(&ask(&[&replay[..], &["--dry-run"]].concat()));
    assert_eq!(dry, "1 event would be worked through again\n");
    assert_eq!(objects(&ask(&[&replay[..], &["--json"]].concat())), [json!({"events": 1})]);
    assert!(said(&ask(&["events", "replay", "--since", "2026-11-22"])).starts_with("4 events "));
}

#[test]
fn they_work_on_a_running_relay() {
    let folder = Folder::new("admin-running");
    seed(&folder);
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    story(&|arguments| on(&relay, arguments));
}

#[test]
fn they_work_on_the_file_of_a_stopped_one() {
    let folder = Folder::new("admin-stopped");
    seed(&folder);
    // Without an account nobody can be asked; with one, the account of the log is there.
    let key = [
        "--set",
        "providers.sandbox.kind=scaisend",
        "--set",
        "providers.sandbox.api_key=k",
        "--set",
        "providers.sandbox.base_url=http://127.0.0.1:1",
    ];
    story(&|arguments| on_file(&folder, &[arguments, &key[..]].concat()));
    let shown = said(&on_file(&folder, &["messages", "show", "0a01"]));
    assert!(shown.contains("says nothing: there is no account of this name any more"), "{shown}");
    // What was written is there for the relay.
    said(&on_file(&folder, &["suppressions", "add", "eve@example.net"]));
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    assert_eq!(get(relay.web, "/api/suppressions")["suppressions"][0]["address"], "eve@example.net");
}

/// An event that an earlier version kept and did not understand has its effect when it is replayed by one that does.
#[test]
fn a_replay_reads_what_came_anew() {
    let folder = Folder::new("admin-anew");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        let raw =
            r#"{"event_id":"e1","event_type":"bounce","timestamp":1795338000,"recipient_email":"Zoe@example.net"}"#;
        let known = event("e1", EventKind::Unknown, "msg_1", "ann@example.net", 1);
        store
            .take("sandbox", vec![Feedback { recipient: None, raw: raw.into(), ..known }], at(200), false)
            .await
            .unwrap();
        store.act(&policy(), 9).await.unwrap();
        store.close().await.unwrap();
    });
    let account = ["--set", "providers.sandbox.kind=scaisend", "--set", "providers.sandbox.api_key=k"];
    let again = ["events", "replay", "--since", "2026-11-01", "--recipient", "zoe@example.net"];
    let said = said(&on_file(&folder, &[&again[..], &account].concat()));
    assert_eq!(said, "1 event will be worked through again when the relay runs\n");
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    let began = std::time::Instant::now();
    loop {
        let list = get(relay.web, "/api/suppressions");
        if let [entry] = list["suppressions"].as_array().unwrap().as_slice() {
            assert_eq!((&entry["address"], &entry["reason"]), (&json!("zoe@example.net"), &json!("bounce")));
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "{list}");
    }
}

#[test]
fn the_file_of_a_running_relay_is_not_opened() {
    let folder = Folder::new("admin-locked");
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    // The command looks for the relay where it is not.
    let refused = failed(&on_file(&folder, &["suppressions", "list"]), 1);
    assert!(refused.contains("nobody answers at http://127.0.0.1:1"), "{refused}");
    assert!(refused.contains("--url") && refused.contains("A relay has its file open"), "{refused}");
    // By its own configuration it finds it.
    let listen = format!("web.listen={}", relay.web);
    assert!(run(&["suppressions", "list", "--set", &listen]).status.success());
}

/// Somebody else may have the port of a relay that is stopped: its file is nobody's then, and he is not shown the token.
#[test]
fn a_stopped_relay_is_known_by_its_file() {
    let folder = Folder::new("admin-strangers");
    seed(&folder);
    let stranger = Relay::sandbox(&["--set", "web.token=another"]);
    let listen = format!("web.listen={}", stranger.web);
    let list = run(&["suppressions", "list", "--set", &listen, "--set", &state(&folder), "--set", "web.token=mine"]);
    assert!(list.status.success(), "{}", text(&list.stderr));
}

/// Who renames an account leaves its list behind, and is told.
#[test]
fn entries_of_an_account_that_is_gone_are_told_at_the_start() {
    let folder = Folder::new("admin-renamed");
    let add = |scope: &str| {
        said(&on_file(&folder, &["suppressions", "add", "ann@example.net", "--scope", scope]));
    };
    drop(Store::open(&folder.settings(), &policy()).unwrap());
    add("account:main");
    add("account:sandbox");
    let mut relay = Relay::sandbox(&["--set", &state(&folder)]);
    let log = relay.log_until("no account is called");
    assert!(log.contains("no account is called main,") && log.contains("\"addresses\":1"), "{log}");
    relay.signal();
    let rest = relay.rest_of_log();
    assert!(!rest.contains("no account is called"), "{rest}");
}

#[test]
fn where_there_is_nothing_they_say_what_to_do() {
    let folder = Folder::new("admin-nothing");
    let nothing = failed(&on_file(&folder, &["messages", "list"]), 1);
    assert!(nothing.contains("is not there either") && !folder.file().exists(), "{nothing}");
    let memory = failed(&run(&["events", "list", "--set", "web.listen=127.0.0.1:1"]), 1);
    assert!(memory.contains("is the relay running?") && memory.contains("state.url is \"memory:\""), "{memory}");
    let gone = failed(&run(&["events", "list", "--url", "http://127.0.0.1:1"]), 1);
    assert!(gone.contains("nobody answers at http://127.0.0.1:1") && gone.contains("is the relay running?"), "{gone}");
    assert!(failed(&run(&["events", "list", "--url", "127.0.0.1:1"]), 64).contains("is not like http://"));
    let random = failed(&run(&["events", "list", "--set", "web.listen=127.0.0.1:0"]), 1);
    assert!(random.contains("web.listen has port 0"), "{random}");
    // Somebody else's server.
    let relay = Relay::sandbox(&[]);
    let other = failed(&run(&["events", "list", "--url", &format!("http://{}/sandbox", relay.web)]), 1);
    assert!(other.contains("is no sidepost with an admin API"), "{other}");
    let file =
        put(&folder, "state.db", "this is no database, and long enough to be looked at as one by anybody who does");
    let broken = failed(&on_file(&folder, &["events", "list"]), 1);
    assert!(broken.contains(&file), "{broken}");
}

/// A mail through the relay, and then the questions of somebody who waits for it.
#[test]
fn a_mail_is_followed_from_the_reply_to_the_providers_own_word() {
    // Without events, so that what the provider says is all that there is.
    let relay = Relay::sandbox(&["--set", "webhooks.listen="]);
    let mut client = relay.connect();
    for line in
        ["EHLO test", "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.net>", "RCPT TO:<bounce@example.net>", "DATA"]
    {
        client.say(line);
    }
    let reply = client.say("From: app@example.com\r\nTo: ok@example.net\r\nSubject: Your receipt\r\n\r\nhello\r\n.");
    assert!(reply.starts_with("250 "), "{reply}");
    let lines = objects(&on(&relay, &["messages", "list", "--recipient", "OK@example.net", "--json"]));
    assert_eq!(lines.len(), 1);
    let id = lines[0]["id"].as_str().unwrap();
    assert!(reply.contains(id), "{reply} {id}");
    let shown = said(&on(&relay, &["messages", "show", id]));
    let first = shown.lines().next().unwrap();
    assert!(first.starts_with("ok@example.net: accepted by sandbox as msg_"), "{shown}");
    assert!(first.ends_with("; the provider says: delivered"), "{shown}");
    assert!(shown.lines().nth(1).unwrap().ends_with("; the provider says: bounced"), "{shown}");
    assert!(shown.contains("subject Your receipt"), "{shown}");
    let whole = &objects(&on(&relay, &["messages", "show", id, "--json"]))[0];
    let status = |recipient: &str| {
        let line = whole["recipients"].as_array().unwrap().iter().find(|one| one["recipient"] == recipient).unwrap();
        let all = whole["provider_status"].as_array().unwrap();
        all.iter().find(|one| one["id"] == line["provider_id"]).unwrap()["message"].clone()
    };
    assert_eq!(status("ok@example.net")["status"], "delivered");
    let events: Vec<Value> = status("ok@example.net")["events"].as_array().unwrap().clone();
    assert_eq!(events.last().unwrap()["event"], "delivered");
    let at_provider =
        objects(&on(&relay, &["messages", "list", "--recipient", "ok@example.net", "--at-provider", "--json"]));
    assert_eq!((&at_provider[0]["id"], &at_provider[0]["subject"]), (&lines[0]["provider_id"], &json!("Your receipt")));
    let table = said(&on(&relay, &["messages", "list", "--recipient", "ok@example.net", "--at-provider"]));
    assert!(table.lines().nth(1).unwrap().ends_with("Your receipt"), "{table}");
}

/// The other providers have no such call, and say so.
#[test]
fn a_provider_without_such_a_call_says_so() {
    let relay = Relay::sandbox(&["--provider", "nexuspromail"]);
    let mut client = relay.connect();
    for line in ["EHLO test", "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.net>", "DATA"] {
        client.say(line);
    }
    client.say("From: app@example.com\r\nTo: ok@example.net\r\nSubject: x\r\n\r\nhello\r\n.");
    let lines = objects(&on(&relay, &["messages", "list", "--json"]));
    let shown = said(&on(&relay, &["messages", "show", lines[0]["id"].as_str().unwrap()]));
    assert!(shown.contains("says nothing: NexusProMail has no call"), "{shown}");
    let listed = failed(&on(&relay, &["messages", "list", "--recipient", "ok@example.net", "--at-provider"]), 64);
    assert!(listed.contains("only ScaiSend's does"), "{listed}");
}

#[test]
fn nothing_that_came_from_outside_steers_a_terminal() {
    let relay = Relay::sandbox(&[]);
    let mut client = relay.connect();
    for line in ["EHLO test", "MAIL FROM:<app@example.com>", "RCPT TO:<ok@example.net>", "DATA"] {
        client.say(line);
    }
    // ESC [2J and a right-to-left override, as RFC 2047 carries them.
    client.say("From: app@example.com\r\nTo: ok@example.net\r\nSubject: =?utf-8?q?bad=1B=5B2J=E2=80=AE?= end\r\n\r\nhello\r\n.");
    let table = said(&on(&relay, &["messages", "list", "--recipient", "ok@example.net", "--at-provider"]));
    assert!(table.contains("bad") && table.contains("[2J"), "{table:?}");
    assert!(!table.contains(['\u{1b}', '\u{202e}']), "{table:?}");
    let lines = objects(&on(&relay, &["messages", "list", "--json"]));
    let shown = said(&on(&relay, &["messages", "show", lines[0]["id"].as_str().unwrap()]));
    assert!(shown.contains("[2J") && !shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    let entry =
        json!({"address": "ann@example.net", "evidence": "550 \u{1b}[2J no\nsuch user", "source": "webhook:sandbox"});
    post(relay.web, "/api/suppressions", &entry);
    let removed = said(&on(&relay, &["suppressions", "remove", "ann@example.net"]));
    assert!(removed.contains("550 ") && !removed.contains('\u{1b}'), "{removed:?}");
    assert!(removed.contains("The provider may have it on a list of its own"), "{removed}");
}

#[test]
fn tables_fit_on_a_screen() {
    let relay = Relay::sandbox(&[]);
    let long = format!("{}@{}.example.com", "l".repeat(60), "d".repeat(60));
    post(
        relay.web,
        "/api/suppressions",
        &json!([{"address": long, "scope": format!("account:{}", "n".repeat(80))}, {"address": "a@b.example"}]),
    );
    let table = said(&on(&relay, &["suppressions", "list"]));
    assert_eq!(table.lines().count(), 3);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(table.contains('…'), "{table}");
    let found = objects(&on(&relay, &["suppressions", "list", "--json", "--address", &long]));
    assert_eq!(found[0]["address"], long.as_str());
}

#[test]
fn help_shows_examples() {
    for command in [
        ["suppressions", "list"],
        ["suppressions", "add"],
        ["suppressions", "remove"],
        ["suppressions", "import"],
        ["suppressions", "export"],
        ["messages", "list"],
        ["messages", "show"],
        ["events", "list"],
        ["events", "replay"],
    ] {
        let help = said(&run(&[command[0], command[1], "--help"]));
        assert!(
            help.contains(&format!("\n  sidepost {} {}", command[0], command[1])) || help.contains("| sidepost"),
            "{help}"
        );
        assert!(help.contains("--url"), "{help}");
    }
}
