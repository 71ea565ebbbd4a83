//! Import and export: our own form, the providers', and what is broken.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{get, objects, on, path, post, put, said};
use crate::binary::{Relay, run, sidepost, text};
use crate::store::Folder;

/// The list of a relay, without the times of entries that have none of their own.
fn list(relay: &Relay) -> BTreeSet<String> {
    let entries = objects(&on(relay, &["suppressions", "list", "--all", "--json"]));
    entries.iter().map(ToString::to_string).collect()
}

#[test]
fn an_export_is_imported_as_it_was() {
    let (relay, folder) = (Relay::sandbox(&[]), Folder::new("admin-export"));
    let evidence = "550 5.1.1, \"no such\" user; =1+1 ü";
    let entries = json!([
        {"address": "\"a b\"@example.com", "scope": "account:sandbox", "reason": "bounce", "evidence": evidence},
        {"address": "ann+x@example.com", "reason": "complaint", "since": "2026-01-02T03:04:05Z", "source": "webhook:sandbox"},
        {"address": "jörg@example.com", "scope": "domain:example.org", "until": "2999-12-31", "reason": "soft-bounces"},
    ]);
    assert_eq!(post(relay.web, "/api/suppressions", &entries).status, 200);
    for (format, name) in [("csv", "list.csv"), ("json", "list.jsonl")] {
        let file = path(&folder, name);
        assert_eq!(
            said(&on(&relay, &["suppressions", "export", "--format", format, &file])),
            "3 entries are in the file\n"
        );
        let standard = said(&on(&relay, &["suppressions", "export", "--format", format]));
        assert_eq!(standard, fs::read_to_string(&file).unwrap());
        let other = Relay::sandbox(&[]);
        let imported = said(&on(&other, &["suppressions", "import", &file]));
        assert_eq!(imported, "3 addresses are on the list now: 3 new, 0 known before\n");
        assert_eq!(list(&other), list(&relay), "{format}");
        assert!(said(&on(&other, &["suppressions", "import", &file])).contains("0 new, 3 known before"));
    }
}

#[test]
fn the_providers_lists_are_read() {
    let folder = Folder::new("admin-import");
    let bounce = "{\"email\": \"ann@example.com\", \"created\": 1767323045, \"reason\": \"550 5.1.1 unknown\", \"status\": \"5.1.1\"}";
    for (name, text, arguments, expected) in [
        // ScaiSend's and SendGrid's answers.
        ("bounces.json", format!("{{\"bounces\": [{bounce}], \"total\": 1}}"), vec![], ("bounce", "550 5.1.1 unknown", true)),
        ("array.json", format!("[\n {bounce}\n]"), vec![], ("bounce", "550 5.1.1 unknown", true)),
        (
            "soft.json",
            "{\"bounces\": [{\"email\": \"ann@example.com\", \"created\": \"2026-01-02T03:04:05Z\", \"until\": \"2999-01-01\", \"bounce_type\": \"soft\", \"status\": \"4.2.2\"}]}".to_owned(),
            vec![],
            ("soft-bounces", "4.2.2", true),
        ),
        ("spam.json", "{\"spam_reports\": [{\"email\": \"ann@example.com\", \"ip\": null}]}".to_owned(), vec![], ("complaint", "", false)),
        // SendGrid's CSV, columns in any order, any case.
        ("sg.csv", "status,reason,EMAIL,created\r\n5.1.1,\"550 5.1.1 unknown\",ann@example.com,1767323045\r\n".to_owned(), vec![], ("bounce", "550 5.1.1 unknown", true)),
        // What nobody has told us the form of.
        ("other.csv", "\u{feff}Name;E-Mail;Created At\nAnn;ann@example.com;2026-01-02 03:04:05\n\n".to_owned(), vec!["--reason", "unsubscribe"], ("unsubscribe", "", true)),
        ("tabs.csv", "type\taddress\nComplaint\tann@example.com\n".to_owned(), vec![], ("complaint", "", false)),
        ("plain.txt", "ann@example.com\n".to_owned(), vec![], ("manual", "", false)),
        ("strings.json", "[\"ann@example.com\"]".to_owned(), vec!["--reason", "bounce"], ("bounce", "", false)),
        // Postmark's answer, and what other programs write.
        ("postmark.json", "{\"Suppressions\":[{\"EmailAddress\":\"ann@example.com\",\"SuppressionReason\":\"HardBounce\",\"Created\":\"20260102\"}],\"Errors\":[]}".to_owned(), vec!["--reason", "bounce"], ("bounce", "", false)),
        ("complaint.json", "{\"Suppressions\":[{\"EmailAddress\":\"ann@example.com\",\"SuppressionReason\":\"SpamComplaint\",\"CreatedAt\":\"2026-01-02T03:04:05Z\"}]}".to_owned(), vec![], ("complaint", "", true)),
        ("mailgun.json", "{\"items\":[{\"address\":\"ann@example.com\",\"code\":\"550\",\"error\":\"no such user\",\"created_at\":\"Fri, 02 Jan 2026 03:04:05 UTC\"}],\"paging\":{\"next\":\"https://x.example/2\"}}".to_owned(), vec![], ("bounce", "550 no such user", true)),
        ("tags.json", "{\"email\": \"Ann <ann@example.com>\", \"tags\": [\"a\"], \"reason\": \"Complaint\"}".to_owned(), vec![], ("complaint", "", false)),
        ("crm.csv", "Email Address,Address,City\nann@example.com,Main St 1,Berlin\n".to_owned(), vec![], ("manual", "", false)),
        ("mailgun.csv", "address,created_at\nann@example.com,\"Fri, 02 Jan 2026 03:04:05 UTC\"\n".to_owned(), vec![], ("manual", "", true)),
        ("lines.jsonl", "{\"address\": \"ann@example.com\", \"note\": \"x\"}\n".to_owned(), vec!["--scope", "account:sandbox"], ("manual", "x", false)),
    ] {
        let relay = Relay::sandbox(&[]);
        let file = put(&folder, name, &text);
        let mut command = vec!["suppressions", "import", file.as_str()];
        command.extend(&arguments);
        let imported = said(&on(&relay, &command));
        assert!(imported.starts_with("1 address is on the list now: 1 new"), "{name}: {imported}");
        let entry = &get(relay.web, "/api/suppressions")["suppressions"][0];
        let (reason, evidence, dated) = expected;
        assert_eq!(entry["address"], "ann@example.com", "{name}");
        assert_eq!((&entry["reason"], &entry["evidence"]), (&json!(reason), &json!(evidence)), "{name}");
        assert_eq!(entry["since"] == "2026-01-02T03:04:05Z", dated, "{name}: {entry}");
        assert_eq!(entry["source"], "import", "{name}");
        assert_eq!(entry["scope"], if arguments.contains(&"--scope") { "account:sandbox" } else { "*" }, "{name}");
    }
}

#[test]
fn bad_lines_are_named_and_the_others_are_imported() {
    let (relay, folder) = (Relay::sandbox(&[]), Folder::new("admin-bad"));
    let csv = "email,created,scope,until\n\
               ann@example.com,1767323045,,\n\
               not an address,,,\n\
               ,,,\n\
               eve@example.com,last week,,\n\
               carl@example.com,,everyone,\n\
               old@example.com,,,2020-01-01\n\
               max@example.com\n";
    let file = put(&folder, "bad.csv", csv);
    let dry = on(&relay, &["suppressions", "import", &file, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(1));
    assert_eq!(text(&dry.stdout), "3 addresses would be put on the list\n");
    assert_eq!(get(relay.web, "/api/suppressions")["suppressions"], json!([]));
    let output = on(&relay, &["suppressions", "import", &file]);
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(out, "3 addresses are on the list now: 3 new, 0 known before\n");
    for words in [
        "line 3: \"not an address\"",
        "line 6: \"everyone\" is no scope",
        "line 5: \"last week\" is no time: neither Unix seconds nor like 2026-11-22T09:00:00Z; it is on the list since now",
        "1 entry was left out",
        "2 lines cannot be read",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(!err.contains("line 4") && !err.contains("line 2"), "{err}");
    let lines = "{\"address\": \"z@example.com\"}\n{\"address\": \n[1]\n\"x\"\n{\"email\": \"y@example.com\"}\n";
    let output = on(&relay, &["suppressions", "import", &put(&folder, "bad.jsonl", lines), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!((&summary["added"], &summary["bad"]), (&json!(2), &json!(3)), "{summary} {}", text(&output.stderr));
    for (name, words) in [("none.csv", "cannot be read"), ("", "")] {
        if !name.is_empty() {
            let output = on(&relay, &["suppressions", "import", &path(&folder, name)]);
            assert!(output.status.code() == Some(1) && text(&output.stderr).contains(words));
        }
    }
    for (name, body, words) in [
        ("page.json", "{\"bounces\": [{\"email\": \"p@b.example\"}], \"total\": 900}", "899 entries more"),
        (
            "pages.json",
            "{\"bounces\": [\"a@b.example\"], \"total\": 3}\n{\"bounces\": [\"c@d.example\"], \"total\": 3}\n",
            "1 entry more",
        ),
        ("noise.txt", &format!("email\n{}", "x\n".repeat(30)), "and 10 more like these"),
        ("empty", "", "there is no address in it"),
        ("reason.csv", "email,reason\na@b.example,\"550\nc@d.example,550\n", "line 2: a quote is opened here"),
        ("open.csv", "email\n\"a@b.example\nc@d.example\n", "line 2: a quote is opened here"),
        ("words.txt", "hello\nworld\n", "no CSV with a column"),
        ("broken.json", "[{\"email\": \"a@b.example\"},", "it begins like JSON"),
        ("binary", "\u{0}\u{1}\u{2}", "no CSV with a column"),
    ] {
        let output = on(&relay, &["suppressions", "import", &put(&folder, name, body)]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(words), "{name}: {}", text(&output.stderr));
    }
}

/// What a spreadsheet of western Europe saves is no UTF-8, and another address is nobody's.
#[test]
fn an_address_that_is_not_utf8_is_told_and_pages_come_together() {
    let (relay, folder) = (Relay::sandbox(&[]), Folder::new("admin-latin"));
    let file = folder.path().join("latin.csv");
    fs::write(&file, b"email\nj\xf6rg@example.com\nann@example.com\n").unwrap();
    let output = on(&relay, &["suppressions", "import", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("line 2: ") && text(&output.stderr).contains("CSV UTF-8"), "{output:?}");
    let file = folder.path().join("unicode.txt");
    let octets: Vec<u8> = "\u{feff}email\nann@example.com\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, octets).unwrap();
    let output = on(&relay, &["suppressions", "import", file.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("UTF-16"), "{output:?}");
    let pages =
        "{\"bounces\": [\"ben@example.com\"], \"total\": 2}\n{\"bounces\": [\"eve@example.com\"], \"total\": 2}\n";
    said(&on(&relay, &["suppressions", "import", &put(&folder, "pages.json", pages)]));
    let found: Vec<String> = list(&relay).into_iter().collect();
    assert_eq!(found.len(), 3, "{found:?}");
}

/// Who refused a mail chose the words; in a spreadsheet they are to be words.
#[test]
fn evidence_is_no_formula() {
    let (relay, folder) = (Relay::sandbox(&[]), Folder::new("admin-formula"));
    let evidence = "=HYPERLINK(\"http://evil.example\")";
    said(&on(&relay, &["suppressions", "add", "ann@example.com", "--note", evidence]));
    said(&on(&relay, &["suppressions", "add", "ben@example.com", "--note", "'=1"]));
    said(&on(&relay, &["suppressions", "add", "eve@example.com", "--note", "'tis so"]));
    let file = path(&folder, "list.csv");
    said(&on(&relay, &["suppressions", "export", &file]));
    let csv = fs::read_to_string(&file).unwrap();
    assert!(csv.contains(",\"'=HYPERLINK(") && csv.contains(",''=1\n") && csv.contains(",'tis so\n"), "{csv}");
    let other = Relay::sandbox(&[]);
    said(&on(&other, &["suppressions", "import", &file]));
    assert_eq!(list(&other), list(&relay));
}

/// From a pipe, long, and in seconds: the time is not measured, but a call an entry would be felt.
#[test]
fn a_long_list_comes_through_a_pipe() {
    let relay = Relay::sandbox(&[]);
    let mut csv = String::from("email,reason,status\n");
    (0..20_000).for_each(|n| csv.push_str(&format!("a{n}@example.com,550 5.1.1 user {n} unknown,5.1.1\n")));
    let url = format!("http://{}", relay.web);
    let mut command = sidepost(&["suppressions", "import", "-", "--url", &url]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(csv.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(said(&output), "20000 addresses are on the list now: 20000 new, 0 known before\n");
    assert!(text(&output.stderr).contains("10000 of 20000"), "{}", text(&output.stderr));
    let all = objects(&on(&relay, &["suppressions", "list", "--all", "--json"]));
    let addresses: BTreeSet<&str> = all.iter().map(|entry| entry["address"].as_str().unwrap()).collect();
    assert_eq!((all.len(), addresses.len()), (20_000, 20_000));
    assert_eq!(objects(&on(&relay, &["suppressions", "list", "--limit", "1200", "--json"])).len(), 1200);
    assert_eq!(said(&on(&relay, &["suppressions", "export"])).lines().count(), 20_001);
}

#[test]
fn without_a_relay_nothing_is_imported_and_it_is_said() {
    let folder = Folder::new("admin-gone");
    let file = put(&folder, "list.csv", "email\nann@example.com\n");
    let output = run(&["suppressions", "import", &file, "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(err.contains("0 of 1 are on the list; import the file again"), "{err}");
    // To look at a file no relay is needed.
    assert!(run(&["suppressions", "import", &file, "--dry-run"]).status.success());
}

/// What a provider's list says holds as long as it would, had an event said it; for good is what an operator says.
#[test]
fn an_imported_entry_ends_like_an_events() {
    let (relay, folder) = (Relay::sandbox(&[]), Folder::new("admin-ends"));
    let list = json!({"bounces": [
        {"email": "soft@example.com", "bounce_type": "soft"},
        {"email": "old@example.com", "bounce_type": "soft", "created": 1_700_000_000},
        {"email": "Hard <hard@example.com>", "bounce_type": "hard", "created": 1_700_000_000},
    ]});
    let output = on(&relay, &["suppressions", "import", &put(&folder, "list.json", &list.to_string())]);
    assert_eq!(said(&output), "2 addresses are on the list now: 2 new, 0 known before\n");
    assert!(text(&output.stderr).contains("1 entry was left out"), "{}", text(&output.stderr));
    said(&on(&relay, &["suppressions", "add", "-block@example.com", "--reason", "blocked"]));
    let list = get(relay.web, "/api/suppressions");
    let ends = |n: usize| (list["suppressions"][n]["address"].clone(), list["suppressions"][n]["until"].is_null());
    assert_eq!([ends(0), ends(1)], [(json!("-block@example.com"), true), (json!("hard@example.com"), true)]);
    assert_eq!(ends(2), (json!("soft@example.com"), false));
    said(&on(&relay, &["suppressions", "remove", "-block@example.com"]));
}

/// The export of last night is there until the new one is whole.
#[test]
fn an_export_that_fails_leaves_the_old_one() {
    let (relay, folder) = (Relay::sandbox(&["--set", "web.token=right"]), Folder::new("admin-export"));
    let (file, wrong) = (put(&folder, "list.csv", "last night\n"), put(&folder, "token", "wrong"));
    let failed = on(&relay, &["suppressions", "export", &file, "--token-file", &wrong]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "last night\n");
    let right = put(&folder, "token", "right");
    assert_eq!(
        said(&on(&relay, &["suppressions", "export", &file, "--token-file", &right])),
        "0 entries are in the file\n"
    );
    assert!(fs::read_to_string(&file).unwrap().starts_with("address,scope,"));
    assert!(!std::path::Path::new(&path(&folder, "list.csv.new")).exists());
    let shown = said(&on(&relay, &["suppressions", "export", "-", "--token-file", &right]));
    assert_eq!(shown, fs::read_to_string(&file).unwrap(), "and nothing else");
}
