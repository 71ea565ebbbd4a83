//! Who may call.

use super::{call, error, on, path, put};
use crate::binary::{Relay, run, sidepost, text};
use crate::store::Folder;

const TOKEN: &str = "CANARY-TOKEN-5b1d";

fn with_token() -> Relay {
    Relay::sandbox(&["--set", &format!("web.token={TOKEN}")])
}

#[test]
fn with_a_token_each_call_shows_it() {
    let relay = with_token();
    let status = |fields: &[(&str, &str)]| call(relay.web, "GET", "/api/suppressions", fields, "").status;
    assert_eq!(status(&[("Authorization", &format!("Bearer {TOKEN}"))]), 200);
    assert_eq!(status(&[("authorization", &format!("bearer {TOKEN}"))]), 200, "the scheme has no case");
    // With the token it does not matter where a call comes from.
    assert_eq!(status(&[("Authorization", &format!("Bearer {TOKEN}")), ("Host", "relay.example.com")]), 200);
    for wrong in [
        "Bearer",
        "Bearer ",
        &format!("Bearer {TOKEN}x"),
        &format!("Bearer  {TOKEN}"),
        &format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
        &format!("Basic {TOKEN}"),
        TOKEN,
        "Bearer \u{e9}",
    ] {
        assert_eq!(status(&[("Authorization", wrong)]), 401, "{wrong}");
    }
    assert_eq!(status(&[("Authorization", &format!("Bearer {TOKEN}")), ("Authorization", "Bearer other")]), 401);

    let answer = call(relay.web, "GET", "/api/suppressions", &[], "");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"sidepost\""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(error(&answer).contains("Authorization: Bearer"), "{answer:?}");
    // What is not there is nobody's business either.
    assert_eq!(call(relay.web, "GET", "/api/nothing", &[], "").status, 401);
    assert_eq!(call(relay.web, "GET", "/api/openapi.json", &[], "").status, 401);
    assert_eq!(call(relay.web, "GET", "/healthz", &[], "").status, 200);
}

#[test]
fn without_a_token_programs_of_this_machine_may_call_and_pages_may_not() {
    let relay = Relay::sandbox(&[]);
    let (port, own) = (relay.web.port(), format!("http://{}", relay.web));
    let ask = |fields: &[(&str, &str)]| call(relay.web, "GET", "/api/suppressions", fields, "");
    for host in [format!("localhost:{port}"), "LOCALHOST".to_owned(), "127.0.0.9".to_owned(), format!("[::1]:{port}")] {
        assert_eq!(ask(&[("Host", &host)]).status, 200, "{host}");
    }
    assert_eq!(ask(&[("Origin", &own)]).status, 200, "its own pages");
    for host in
        ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "10.0.0.1", "[::2]", "localhost:x"]
    {
        let answer = ask(&[("Host", host)]);
        assert!(matches!(answer.status, 400 | 403), "{host}: {answer:?}");
    }
    for origin in ["https://evil.example", "null", "http://localhost:1", &format!("https://{}", relay.web)] {
        let answer = ask(&[("Origin", origin)]);
        assert_eq!(answer.status, 403, "{origin}");
        assert!(error(&answer).contains("set web.token"), "{answer:?}");
    }
    for field in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"] {
        assert_eq!(ask(&[(field, "192.0.2.1")]).status, 403, "{field}");
    }
    // What a form of another page could send is no call.
    let form =
        call(relay.web, "POST", "/api/suppressions", &[("Content-Type", "text/plain")], "{\"address\":\"a@b.c\"}");
    assert_eq!(form.status, 415, "{form:?}");
}

#[test]
fn a_listener_beyond_loopback_wants_a_token() {
    let relay = Relay::sandbox(&["--set", "web.listen=0.0.0.0:0"]);
    let web = ([127, 0, 0, 1], relay.web.port()).into();
    let answer = call(web, "GET", "/api/suppressions", &[], "");
    assert_eq!(answer.status, 403);
    assert!(error(&answer).contains("is not a loopback address"), "{answer:?}");
    assert!(error(&answer).contains("set web.token"), "{answer:?}");
    assert_eq!(call(web, "GET", "/healthz", &[], "").status, 200);
}

#[test]
fn the_commands_show_the_token_and_keep_it_secret() {
    let (relay, folder) = (with_token(), Folder::new("admin-token"));
    let without = on(&relay, &["suppressions", "list"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).contains("--token-file"), "{}", text(&without.stderr));
    let file = put(&folder, "token", &format!("{TOKEN}\n"));
    assert!(on(&relay, &["suppressions", "list", "--token-file", &file]).status.success());
    let set = format!("web.token={TOKEN}");
    assert!(on(&relay, &["suppressions", "list", "--set", &set]).status.success());
    let set = format!("web.token_file={file}");
    assert!(on(&relay, &["suppressions", "list", "--set", &set]).status.success());
    assert_eq!(on(&relay, &["suppressions", "list", "--token-file", &path(&folder, "none")]).status.code(), Some(64));
    // The relay and its commands take the one that is set higher up.
    let config = put(&folder, "c.toml", "web.token = \"another\"\nstate.url = \"memory:\"\n");
    let mut higher =
        sidepost(&["suppressions", "list", "--config", &config, "--url", &format!("http://{}", relay.web)]);
    assert!(higher.env("SIDEPOST_WEB__TOKEN_FILE", &file).status().unwrap().success());
    let wrong = put(&folder, "wrong", "CANARY-WRONG-TOKEN");
    let refused = on(&relay, &["suppressions", "list", "--token-file", &wrong]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(!text(&refused.stderr).contains("CANARY"), "{}", text(&refused.stderr));
    // The relay's own log, and its configuration as it is printed.
    let mut relay = relay;
    relay.signal();
    assert!(!relay.rest_of_log().contains("CANARY"));
    let check = run(&["check", "--set", &format!("web.token={TOKEN}"), "--set", "providers.scaisend.api_key=k"]);
    assert!(!text(&check.stdout).contains("CANARY"), "{}", text(&check.stdout));
}
