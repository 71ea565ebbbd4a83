//! Configuration: good files load, broken ones say every mistake, and layers win in their order.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sidepost::config::ProviderKind;
use sidepost::config::advice::warnings;
use sidepost::config::layers::{DEFAULTS, Layers, Loaded, Problem};
use sidepost::config::listen::Listen;

use crate::binary::{run, text};

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

fn load(file: Option<&Path>, environment: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, Vec<Problem>> {
    Layers {
        file: file.map(Path::to_owned),
        environment: environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        flags: flags.iter().map(|f| (*f).to_owned()).collect(),
    }
    .load()
}

const KEY: (&str, &str) = ("SCAISEND_API_KEY", "sg_test_0");

#[test]
fn good_files_load() {
    for file in folder("good") {
        // One of them leaves its key to the environment, one has it replaced.
        let environment = [("NEXUSPROMAIL_API_KEY", "k"), ("SIDEPOST_PROVIDERS__MAIN__API_KEY", "k")];
        if let Err(problems) =
            load(Some(&file), &environment[..if file.ends_with("key-file-replaced-below.toml") { 2 } else { 1 }], &[])
        {
            panic!("{}: {problems:#?}", file.display());
        }
    }
}

#[test]
fn broken_files_say_every_mistake() {
    for file in folder("bad") {
        let problems = load(Some(&file), &[], &[]).expect_err(&file.display().to_string());
        let root = format!("{}/", env!("CARGO_MANIFEST_DIR"));
        let lines: Vec<String> = problems.iter().map(|p| p.to_string().replace(&root, "")).collect();
        let found = lines.join("\n") + "\n";
        let expected = file.with_extension("error");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", file.display());
    }
}

#[test]
fn the_shipped_file_is_the_defaults_and_names_every_key() {
    let loaded = load(None, &[KEY], &[]).unwrap();
    for (key, value, origin) in &loaded.effective {
        if !key.starts_with("providers.") {
            assert_eq!(origin, "default", "{key} = {value}");
            let name = key.rsplit('.').next().unwrap();
            assert!(
                DEFAULTS.lines().any(|l| l.starts_with(&format!("{name} = "))),
                "{key} is not in config/default.toml"
            );
        }
    }
}

/// A variable that a template left empty would open what the secret closes.
#[test]
fn an_empty_variable_takes_no_secret_away() {
    let empty = ("SIDEPOST_WEB__TOKEN", "");
    load(None, &[KEY, empty], &[]).unwrap();
    // What is set on the command line is above it.
    load(None, &[KEY, empty], &["web.token=t"]).unwrap();
    let folder = crate::store::Folder::new("config-empty-variable");
    let file = folder.path().join("c.toml");
    for line in ["web.token = \"t\"", "web.token_file = \"tests/config/files/users\""] {
        fs::write(&file, line).unwrap();
        let problems = load(Some(&file), &[KEY, empty], &[]).unwrap_err();
        let said = problems[0].to_string();
        assert!(said.starts_with("web.token: the variable is empty"), "{said}");
        assert!(said.ends_with("(from environment variable SIDEPOST_WEB__TOKEN)"), "{said}");
    }
}

/// What is allowed and seldom meant.
#[test]
fn a_secret_of_two_accounts_and_dead_routes_are_warned_of() {
    let accounts = |secrets: [&str; 2], routes: &str| {
        let [one, other] = secrets.map(|secret| format!("[\"{secret}\"]"));
        let flags = [
            "providers.a.kind=nexuspromail",
            "providers.a.api_key=k",
            "providers.b.kind=nexuspromail",
            "providers.b.api_key=k",
            &format!("providers.a.webhook_secrets={one}"),
            &format!("providers.b.webhook_secrets={other}"),
        ];
        let folder = crate::store::Folder::new("config-warnings");
        let file = folder.path().join("c.toml");
        fs::write(&file, routes).unwrap();
        let config = load(Some(&file), &[], &flags).unwrap().config;
        warnings(&config).join("\n")
    };
    let one_route = "[[routes]]\nuse = [\"a\", \"b\"]\n";
    assert_eq!(accounts(["one", "other"], one_route), "");
    assert!(accounts(["one", "one"], one_route).contains("a and b have a webhook secret in common"));
    let dead = "[[routes]]\nuse = [\"a\"]\n[[routes]]\nsender = [\"*@x.example\"]\nuse = [\"b\"]\n";
    assert!(accounts(["one", "other"], dead).contains("routes.0 has no condition and takes all mail"));
}

/// Of a secret and its file the higher one counts, and is named.
#[test]
fn the_source_of_a_secret_is_the_one_in_force() {
    let folder = crate::store::Folder::new("config-source");
    let file = folder.path().join("c.toml");
    fs::write(&file, "web.token = \"low\"").unwrap();
    let loaded = load(Some(&file), &[KEY, ("SIDEPOST_WEB__TOKEN_FILE", "tests/config/files/token")], &[]).unwrap();
    assert_eq!(loaded.config.web.token.expose(), "high");
    let shown = loaded.effective.iter().find(|(key, ..)| key == "web.token").unwrap();
    assert_eq!(shown.2, "environment variable SIDEPOST_WEB__TOKEN_FILE");
    let two_lines = load(None, &[KEY], &["web.token=a b"]).unwrap_err();
    assert!(two_lines[0].to_string().starts_with("web.token: holds blanks"), "{two_lines:?}");
}

/// All mistakes are told together, those in files of certificates and in secrets as well.
#[test]
fn check_lists_what_is_in_files_too() {
    let arguments = [
        "check",
        "--set",
        "smtp.tls.cert=Cargo.toml",
        "--set",
        "smtp.tls.key=Cargo.toml",
        "--set",
        "providers.scaisend.api_key=k",
        "--set",
        "providers.scaisend.webhook_secrets=[\"\"]",
    ];
    let output = run(&arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("2 mistakes") && said.contains("smtp.tls.cert"), "{said}");
    assert!(said.contains("providers.scaisend.webhook_secrets: one of them"), "{said}");
}

#[test]
fn the_vendors_variables_are_enough() {
    for (key, url, kind) in [
        ("NEXUSPROMAIL_API_KEY", "NEXUSPROMAIL_API_URL", ProviderKind::NexusProMail),
        ("SCAISEND_API_KEY", "SCAISEND_API_URL", ProviderKind::ScaiSend),
    ] {
        let environment =
            [(key, "k"), (url, "https://mail.example.net/x"), ("FROM_EMAIL", "app@example.net"), ("FROM_NAME", "App")];
        let loaded = load(None, &environment, &[]).unwrap();
        let account = &loaded.config.providers[kind.name()];
        assert_eq!(account.kind, kind);
        assert_eq!(account.base_url, "https://mail.example.net/x");
        assert_eq!(account.api_key.as_ref().unwrap().expose(), "k");
        assert_eq!(loaded.config.sender.default, "App <app@example.net>");
    }
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/good/everything.toml");
    let value = |environment: &[(&str, &str)], flags: &[&str]| {
        load(Some(&file), environment, flags).unwrap().config.smtp.max_recipients
    };
    let environment = [("SIDEPOST_SMTP__MAX_RECIPIENTS", "11")];
    assert_eq!(load(None, &[KEY], &[]).unwrap().config.smtp.max_recipients, 100);
    assert_eq!(value(&[], &[]), 50);
    assert_eq!(value(&environment, &[]), 11);
    assert_eq!(value(&environment, &["smtp.max_recipients=7"]), 7);
}

/// figment's own reading would make 7 of it, true of "true", and trim blanks.
#[test]
fn a_key_from_the_environment_stays_as_it_is() {
    for key in ["007", "12345", "true", "[x]", "{a=1}", "1e5"] {
        let loaded = load(
            None,
            &[("SIDEPOST_PROVIDERS__MAIN__KIND", "scaisend"), ("SIDEPOST_PROVIDERS__MAIN__API_KEY", key)],
            &[],
        );
        assert_eq!(loaded.unwrap().config.providers["main"].api_key.as_ref().unwrap().expose(), key);
    }
}

#[test]
fn a_key_is_read_from_its_file() {
    let file = std::env::temp_dir().join(format!("sidepost-key-{}", std::process::id()));
    fs::write(&file, "sg_live_from_file\n").unwrap();
    let environment = [
        ("SIDEPOST_PROVIDERS__MAIN__KIND", "scaisend"),
        ("SIDEPOST_PROVIDERS__MAIN__API_KEY_FILE", file.to_str().unwrap()),
    ];
    let loaded = load(None, &environment, &[]);
    fs::remove_file(&file).unwrap();
    assert_eq!(loaded.unwrap().config.providers["main"].api_key.as_ref().unwrap().expose(), "sg_live_from_file");
}

#[test]
fn a_vendor_key_goes_to_the_account_that_has_none() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/good/key-from-environment.toml");
    assert!(load(Some(&file), &[], &["providers.main.api_key=x"]).is_ok());
    let loaded = load(Some(&file), &[("NEXUSPROMAIL_API_KEY", "k")], &[]).unwrap();
    assert_eq!(loaded.config.providers["main"].api_key.as_ref().unwrap().expose(), "k");
}

#[test]
fn an_account_called_after_its_api_need_not_say_its_kind() {
    let environment = [("SCAISEND_API_KEY", "k"), ("SIDEPOST_PROVIDERS__SCAISEND__RATE", "7/s")];
    let loaded = load(None, &environment, &[]).unwrap();
    let account = &loaded.config.providers["scaisend"];
    assert_eq!((account.kind, account.rate.count.get()), (ProviderKind::ScaiSend, 7));
}

/// The higher layer wins, whichever of the two forms it uses.
#[test]
fn a_key_from_a_higher_layer_replaces_a_key_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/good/key-file-replaced-below.toml");
    let key = |environment: &[(&str, &str)], flags: &[&str]| {
        let loaded = load(Some(&file), environment, flags)?;
        Ok::<_, Vec<Problem>>(loaded.config.providers["main"].api_key.as_ref().unwrap().expose().to_owned())
    };
    assert!(key(&[], &[]).is_err(), "its key file does not exist");
    assert_eq!(key(&[("SIDEPOST_PROVIDERS__MAIN__API_KEY", "env")], &[]).unwrap(), "env");
    assert_eq!(key(&[("SIDEPOST_PROVIDERS__MAIN__API_KEY", "env")], &["providers.main.api_key=flag"]).unwrap(), "flag");
    assert!(key(&[("SIDEPOST_PROVIDERS__MAIN__API_KEY", "env")], &["providers.main.api_key_file=/none"]).is_err());
}

#[test]
fn a_vendors_url_replaces_no_explicit_one() {
    let environment = [KEY, ("SCAISEND_API_URL", "https://vendor.example")];
    let loaded = load(None, &environment, &["providers.scaisend.base_url=https://own.example"]).unwrap();
    assert_eq!(loaded.config.providers["scaisend"].base_url, "https://own.example");
}

#[test]
fn a_slip_of_the_underscore_is_found() {
    let problems = load(None, &[KEY, ("SIDEPOST_SMTP_MAX_RECIPIENTS", "5")], &[]).unwrap_err();
    assert!(problems[0].to_string().contains("did you mean SIDEPOST_SMTP__MAX_RECIPIENTS?"), "{problems:?}");
}

/// Promise 7: keys never appear, neither in what `check` prints nor in an error.
#[test]
fn no_secret_is_printed() {
    let environment = [("SCAISEND_API_KEY", "CANARY secret with blanks"), ("SIDEPOST_SMTP__MAX_RECIPIENTS", "many")];
    let problems = load(None, &environment, &[]).unwrap_err();
    assert!(problems.len() >= 2 && !format!("{problems:?}").contains("CANARY"), "{problems:?}");
    let loaded = load(None, &[("SCAISEND_API_KEY", "CANARY")], &[]).unwrap();
    assert!(!format!("{loaded:?}").contains("CANARY"));
}

/// A Kubernetes service named "sidepost" puts such variables into every pod.
#[test]
fn variables_that_are_no_keys_are_left_alone() {
    let environment =
        [KEY, ("SIDEPOST_PORT", "tcp://10.0.0.1:25"), ("SIDEPOST_SERVICE_HOST", "10.0.0.1"), ("SIDEPOST_CONFIG", "x")];
    assert!(load(None, &environment, &[]).is_ok());
}

#[test]
fn an_open_relay_is_refused() {
    let listen = "smtp.listen=[\"smtp://0.0.0.0:2525\"]";
    let problem =
        |flags: &[&str]| load(None, &[KEY], flags).err().map(|p| p.iter().map(|p| p.key.clone()).collect::<Vec<_>>());
    assert_eq!(problem(&[listen]), Some(vec!["smtp.listen".to_owned()]));
    assert_eq!(problem(&[listen, "smtp.allow=[]"]), Some(vec!["smtp.listen".to_owned()]));
    assert_eq!(problem(&[listen, "smtp.allow=0.0.0.0/0"]), Some(vec!["smtp.allow".to_owned()]));
    assert_eq!(problem(&[listen, "smtp.allow=0.0.0.0/1,128.0.0.0/1"]).map(|p| p.len()), Some(2));
    assert_eq!(problem(&[listen, "smtp.allow=::/0"]), Some(vec!["smtp.allow".to_owned()]));
    assert_eq!(problem(&[listen, "smtp.allow=10.0.0.0/8,fd00::/8"]), None);
}

#[test]
fn required_auth_opens_the_relay_to_everybody_who_can_log_in() {
    let listen = "smtp.listen=[\"smtp://0.0.0.0:2525\"]";
    let user = "smtp.auth.users.app=$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$8p0cW3wKnmcN1n9i7oRIKgqM3OGUpRkzOy6zvv6zbPE";
    let tls = ["smtp.tls.cert=Cargo.toml", "smtp.tls.key=Cargo.toml"];
    let required = "smtp.auth.required=true";
    let keys = |flags: &[&str]| {
        let problems = load(None, &[KEY], flags).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[listen, user, tls[0], tls[1], required]), Vec::<String>::new());
    assert_eq!(keys(&[listen, user, tls[0], tls[1]]), ["smtp.listen"], "not required");
    assert_eq!(keys(&[listen, user, required]), ["smtp.auth.required"], "no TLS: nobody could log in");
    assert_eq!(keys(&[user, required]), Vec::<String>::new(), "on loopback it is offered in the clear");
    assert_eq!(keys(&[listen, user, tls[0], tls[1], required, "smtp.allow=0.0.0.0/0"]), Vec::<String>::new());
}

proptest! {
    #[test]
    fn a_listener_is_written_as_it_is_read(
        scheme in "smtps?|lmtp|smtp\\+unix|lmtp\\+unix",
        port in 26_u16..,
        path in "(/[a-z._-]{1,9}){1,4}",
        mode in proptest::option::of(1_u32..=0o777),
        owner in proptest::option::of((any::<u32>(), any::<u32>())),
        proxy: bool,
    ) {
        let unix = scheme.ends_with("unix");
        let mut options = Vec::new();
        options.extend(mode.filter(|_| unix).map(|mode| format!("mode={mode:o}")));
        options.extend(owner.filter(|_| unix).map(|(user, group)| format!("owner={user}:{group}")));
        options.extend(proxy.then(|| "proxy=require".to_owned()));
        let place = if unix { path } else { format!("[::1]:{port}") };
        let mark = if options.is_empty() { "" } else { "?" };
        let listen: Listen = format!("{scheme}://{place}{mark}{}", options.join("&")).parse().unwrap();
        prop_assert_eq!(listen.proxy, proxy);
        prop_assert_eq!(listen.to_string().parse::<Listen>().unwrap(), listen);
    }
}

/// Stars where nothing is set would look like a secret that is.
#[test]
fn a_secret_is_hidden_and_none_is_none() {
    let shown = |flags: &[&str], wanted: &str| {
        let loaded = load(None, &[KEY], flags).unwrap();
        loaded.effective.into_iter().find(|(key, _, _)| key == wanted).unwrap().1
    };
    assert_eq!(shown(&[], "web.token"), "\"\"");
    assert_eq!(shown(&[], "providers.scaisend.webhook_secrets"), "[]");
    assert_eq!(shown(&[], "providers.scaisend.api_key"), "\"********\"");
    assert_eq!(shown(&["web.token=CANARY"], "web.token"), "\"********\"");
    let secrets = "providers.scaisend.webhook_secrets";
    assert_eq!(shown(&["providers.scaisend.webhook_secrets=[\"CANARY\"]"], secrets), "\"********\"");
}
