//! The README stays true: its table is the binary's, its commands and keys exist.

use std::fs;
use std::process::Command;

fn readme() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn the_outcome_table_is_the_binarys() {
    let output = Command::new(env!("CARGO_BIN_EXE_sidepost")).args(["replies", "--markdown"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(readme().contains(&table), "paste the output of `sidepost replies --markdown` into the README:\n{table}");
}

#[test]
fn the_table_of_controls_is_the_binarys() {
    let output = Command::new(env!("CARGO_BIN_EXE_sidepost")).args(["controls", "--markdown"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.lines().count() > 10);
    assert!(readme().contains(&table), "paste the output of `sidepost controls --markdown` into the README:\n{table}");
}

#[test]
fn the_first_commands_are_the_ones_that_ci_runs() {
    let file = |name: &str| fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (readme, ci) = (readme(), file(".ci/run") + &file("tests/interop/quickstart"));
    for command in ["cargo run --release -- sandbox", "cargo test"] {
        assert!(readme.lines().any(|line| line == command), "{command} is not in the README");
        assert!(ci.contains(command), "{command} is not in .ci/run");
    }
}

#[test]
fn every_command_is_in_the_readme() {
    let output = Command::new(env!("CARGO_BIN_EXE_sidepost")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // The lines that begin a command; the others are the rest of an explanation.
    let commands = commands.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|c| *c != "help") {
        assert!(readme().contains(&format!("`{command}`")), "`{command}` is not in the README");
    }
}

/// What the table of access says is said in a story.
#[test]
fn the_replies_of_the_access_table_are_told() {
    let readme = readme();
    let table = readme.split("| the client | is told |").nth(1).unwrap().split("\n\n").next().unwrap();
    let told: String = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"))
        .unwrap()
        .map(|story| fs::read_to_string(story.unwrap().path()).unwrap())
        .collect();
    let cells = table.lines().filter_map(|row| row.split(" | ").nth(1));
    let mut codes: Vec<&str> = cells.flat_map(|cell| cell.split(" at ")).map(str::trim).collect();
    codes.retain(|code| code.starts_with(|c: char| c.is_ascii_digit()) && code.len() <= 10);
    assert!(codes.len() >= 6, "{codes:?}");
    for code in codes {
        assert!(told.contains(&format!("S: {code} ")), "no story says {code}");
    }
}

#[test]
fn every_key_that_the_readme_names_exists() {
    let defaults = sidepost::config::layers::DEFAULTS;
    for word in readme().split(['`', ' ', '\n']) {
        let section =
            ["smtp.", "delivery.", "log.", "sender.", "web.", "controls."].into_iter().find(|s| word.starts_with(s));
        let Some(key) = section.and_then(|s| word.strip_prefix(s)) else { continue };
        let key = key.split([' ', '=']).next().unwrap().rsplit('.').next().unwrap();
        assert!(defaults.lines().any(|line| line.starts_with(&format!("{key} ="))), "{word} is no key");
    }
}
