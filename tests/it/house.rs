//! The house rules of the design: floors, one-door crates, pure rooms, norms of size.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A room imports only from lower floors (or from its own folder).
const FLOORS: &[&[&str]] = &[
    &["address", "reply", "secret", "password", "recent", "network", "span", "files", "metrics", "mime"],
    &["seats"],
    &["message", "envelope", "pattern"],
    &["feedback"],
    &["suppression"],
    &["outcome", "store"],
    &["sender", "access", "route", "controls"],
    &["config"],
    &["provider"],
    &["plan", "report"],
    &["relay"],
    &["smtp", "web", "sandbox"],
    &["users"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Crates that may be named in one place only.
const DOORS: &[(&str, &[&str])] = &[
    ("reqwest", &["relay/http.rs"]),
    ("h2", &["relay/http.rs"]),
    ("rustls", &["smtp/tls.rs", "smtp/connection.rs", "relay/http.rs"]),
    ("argon2", &["password.rs"]),
    ("idna", &["address"]),
    ("icu_normalizer", &["address"]),
    ("icu_properties", &["address"]),
    ("proxy_header", &["smtp/proxy.rs"]),
    ("listenfd", &["smtp/inherited.rs"]),
    ("rusqlite", &["store"]),
    ("ring", &["provider", "sandbox", "smtp/tls.rs", "relay/http.rs"]), // in the last two: the provider of rustls
    ("csv", &["cli"]),
    ("governor", &["relay/limiter.rs"]),
    ("mail_parser", &["message"]),
    ("figment", &["config/layers.rs"]),
    ("clap", &["cli"]),
    ("axum", &["web", "sandbox"]),
    ("hyper", &["web", "sandbox"]),
    ("prometheus_client", &["metrics.rs", "web"]),
];

/// Files that get time, randomness and octets as arguments.
const PURE: &[&str] = &[
    "access.rs",
    "address",
    "controls",
    "envelope.rs",
    "feedback.rs",
    "message",
    "mime",
    "network.rs",
    "outcome",
    "pattern.rs",
    "plan.rs",
    "provider",
    "relay/breaker.rs",
    "relay/retry.rs",
    "reply.rs",
    "report.rs",
    "route.rs",
    "sender.rs",
    "span.rs",
    "suppression.rs",
    "smtp/codec.rs",
    "smtp/command.rs",
    "smtp/sasl.rs",
    "smtp/session",
];

/// What a pure room never says.
const IMPURE: &[&str] =
    &["tokio", "Instant::now", "SystemTime::now", "std::env::", "std::net::Tcp", "std::fs", "fastrand"];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.retain(|file| file.extension().is_some_and(|e| e == "rs"));
    files.sort();
    files
        .iter()
        .map(|f| (f.strip_prefix(&root).unwrap().display().to_string(), fs::read_to_string(f).unwrap()))
        .collect()
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn is_under(file: &str, place: &str) -> bool {
    file == place || file == format!("{place}.rs") || file.starts_with(&format!("{place}/"))
}

/// The code without comments and string contents would need a parser; comments are enough.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_run_down() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room(&file);
        if room == "lib" {
            continue;
        }
        let here = floor(room).unwrap_or_else(|| panic!("{file}: this room is on no floor"));
        for (place, _) in code(&text).match_indices("crate::") {
            let rest = &code(&text)[place + 7..];
            let other: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let there = floor(&other)
                .unwrap_or_else(|| panic!("{file}: crate::{other} is on no floor; import each room by its path"));
            if other != room && there >= here {
                wrong.push(format!("{file} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_crate_has_one_door() {
    for (file, text) in sources() {
        let code = code(&text);
        for (name, doors) in DOORS {
            // `String::` is not `ring::`.
            let inside = |place: usize| code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let mut places = code.match_indices(&format!("{name}::")).map(|(place, _)| place).collect::<Vec<_>>();
            places.extend(code.match_indices(&format!("use {name};")).map(|(place, _)| place));
            let named = places.into_iter().any(|place| !inside(place));
            let allowed = doors.iter().any(|door| is_under(&file, door));
            assert!(!named || allowed, "{file} names {name}, whose door is {doors:?}");
        }
    }
}

#[test]
fn pure_rooms_are_pure() {
    for (file, text) in sources() {
        if PURE.iter().any(|place| is_under(&file, place)) {
            for word in IMPURE {
                assert!(!code(&text).contains(word), "{file} is pure and names {word}");
            }
        }
    }
}

#[test]
fn only_app_and_cli_see_the_whole_configuration() {
    for (file, text) in sources() {
        let seen = code(&text).contains("config::Config") || code(&text).contains("config::{Config");
        assert!(!seen || ["app", "cli", "config"].contains(&room(&file)), "{file} sees the whole Config");
    }
}

#[test]
fn provider_knows_no_smtp_and_smtp_no_http() {
    for (file, text) in sources() {
        let code = code(&text);
        match room(&file) {
            "provider" => assert!(!code.contains("reply::"), "{file} knows SMTP replies"),
            "smtp" => assert!(!code.contains("http::") && !code.contains("provider::"), "{file} knows HTTP"),
            _ => {}
        }
    }
}

#[test]
fn every_file_begins_with_one_sentence() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{file} does not say what it is");
    }
}

#[test]
fn names_say_what_things_are() {
    for (file, text) in sources() {
        for word in ["Manager", "Helper", "Util", "Handler", "Common", "Info"] {
            for kind in ["struct ", "enum ", "trait ", "mod ", "type "] {
                let named = code(&text).lines().any(|line| {
                    line.split(kind).nth(1).is_some_and(|rest| {
                        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                        name.ends_with(word)
                    })
                });
                assert!(!named, "{file} has a {kind}…{word}");
            }
        }
    }
}

/// Prints lines per file and functions' lengths (`cargo test house -- --nocapture`), and holds the hard norms.
#[test]
fn files_and_functions_stay_small() {
    let mut files: Vec<(usize, String)> = Vec::new();
    let mut functions: Vec<(usize, String)> = Vec::new();
    for (file, text) in sources() {
        files.push((text.lines().count(), file.clone()));
        functions.extend(function_lengths(&text).into_iter().map(|(name, lines)| (lines, format!("{file}: {name}"))));
    }
    files.sort();
    functions.sort();
    let at = |list: &[(usize, String)], percent: usize| list[(list.len() - 1) * percent / 100].clone();
    println!("files {} p50 {} p90 {} max {:?}", files.len(), at(&files, 50).0, at(&files, 90).0, at(&files, 100));
    println!(
        "functions {} p50 {} p95 {} max {:?}",
        functions.len(),
        at(&functions, 50).0,
        at(&functions, 95).0,
        at(&functions, 100)
    );
    assert!(at(&files, 100).0 <= 650, "split {:?}", at(&files, 100));
    assert!(at(&functions, 50).0 <= 12);
    assert!(at(&functions, 100).0 <= 80, "{:?}", at(&functions, 100));
}

/// Functions by the indentation of `fn` and of the brace that closes it: rustfmt makes that exact.
fn function_lengths(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_fn = trimmed.split_once("fn ").is_some_and(|(before, _)| {
            before.split(' ').all(|w| ["", "pub", "const", "async", "pub(super)", "pub(crate)"].contains(&w))
        });
        if !is_fn {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let close = format!("{indent}}}");
        let length = if trimmed.ends_with('}') || trimmed.ends_with(';') {
            1
        } else {
            lines[start..].iter().position(|l| *l == close).map_or(1, |n| n + 1)
        };
        found.push((trimmed.to_owned(), length));
    }
    found
}

/// Each kind of outcome has one row, each row a name of its own and an enhanced code of the class of its reply.
#[test]
fn one_table_where_there_is_one_truth() {
    let rows: BTreeMap<&str, u16> = sidepost::outcome::TABLE.iter().map(|row| (row.name, row.code)).collect();
    assert_eq!(rows.len(), sidepost::outcome::TABLE.len(), "two rows have one name");
    for row in sidepost::outcome::TABLE {
        assert_eq!(row.kind.row().name, row.name);
        assert_eq!(u16::from(row.enhanced.0), row.code / 100);
    }
}
