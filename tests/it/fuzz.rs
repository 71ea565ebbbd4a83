//! The fuzz targets without a fuzzer: what they state holds for every seed, and for every input that once broke it.
//!
//! The seeds are what the clients of tests/transcripts say, the mails of tests/messages, and the webhooks of
//! tests/providers. `SEEDS=1` writes them where the fuzzer begins (tests/fuzz/README.md).

use std::fs;
use std::path::{Path, PathBuf};

use crate::messages::mails;
use crate::properties::{TARGETS, session};
use crate::transcripts::{flags, stories, unescape};
use crate::webhook_cases::bodies;

/// Longer seeds make a fuzzer slow, and are tried here only.
const LARGE: usize = 16 * 1024;

/// A name and its octets.
type Input = (String, Vec<u8>);

#[test]
fn what_the_fuzz_targets_state_holds() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (target, holds) in TARGETS {
        let (seeds, regressions) = (seeds(target), regressions(&tests.join("regressions").join(target)));
        println!("{target}: {} seeds, {} regression cases", seeds.len(), regressions.len());
        assert!(seeds.len() >= 8, "{target} has lost its seeds");
        if std::env::var_os("SEEDS").is_some() {
            write(&tests.join("corpus").join(target), &seeds);
        }
        for (name, input) in seeds.iter().chain(&regressions) {
            println!("{target}: {name}"); // Seen only if it fails.
            holds(input);
        }
    }
}

/// Inputs that are kept because something was wrong with them.
fn regressions(folder: &Path) -> Vec<Input> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| (name_of(file), fs::read(file).unwrap())).collect()
}

fn write(folder: &Path, seeds: &[Input]) {
    fs::create_dir_all(folder).unwrap();
    for (name, seed) in seeds.iter().filter(|(_, seed)| seed.len() <= LARGE) {
        fs::write(folder.join(name), seed).unwrap();
    }
}

fn name_of(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

fn seeds(target: &str) -> Vec<Input> {
    let dialogues: Vec<Dialogue> = stories().iter().map(|story| Dialogue::read(story)).collect();
    let of_dialogues = |seed: fn(&Dialogue) -> Vec<u8>| dialogues.iter().map(|d| (d.name.clone(), seed(d))).collect();
    match target {
        "message" => mails().iter().map(|mail| (name_of(mail), fs::read(mail).unwrap())).collect(),
        "event" => numbered(bodies().into_iter().map(|(kind, body)| [&[kind], &body[..]].concat())),
        "session" => of_dialogues(Dialogue::steered),
        "codec" => of_dialogues(|dialogue| [&[6, 2, 0, u8::MAX], &*dialogue.wire()].concat()),
        "command" => numbered(dialogues.iter().flat_map(|d| d.lines.clone())),
        "address" => numbered(dialogues.iter().flat_map(Dialogue::paths)),
        "sasl" => numbered(dialogues.iter().flat_map(Dialogue::responses)),
        other => panic!("{other} has no seeds"),
    }
}

/// Each input once; its place is its name.
fn numbered(inputs: impl Iterator<Item = Vec<u8>>) -> Vec<Input> {
    let mut inputs: Vec<Vec<u8>> = inputs.collect();
    inputs.sort();
    inputs.dedup();
    inputs.into_iter().enumerate().map(|(i, input)| (format!("{i:03}"), input)).collect()
}

/// What the client of one transcript says.
struct Dialogue {
    name: String,
    flags: Vec<String>,
    /// Line by line, without CRLF.
    lines: Vec<Vec<u8>>,
}

impl Dialogue {
    fn read(story: &Path) -> Self {
        let text = fs::read_to_string(story).unwrap();
        let octets = text.lines().filter_map(|line| match line.split_at_checked(2)? {
            ("C:", said) => Some([unescape(said.trim_start_matches(' ')), b"\r\n".to_vec()].concat()),
            ("C<", said) => Some(unescape(said.trim_start_matches(' '))),
            _ => None,
        });
        let octets: Vec<u8> = octets.flatten().collect();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for line in octets.split_inclusive(|b| *b == b'\n') {
            lines.push(line.strip_suffix(b"\r\n").unwrap_or(line).to_vec());
        }
        Self { name: name_of(story), flags: flags(&text).into_iter().map(str::to_owned).collect(), lines }
    }

    fn wire(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect()
    }

    /// The wire, on the terms of the transcript, to a relay that says yes to all.
    fn steered(&self) -> Vec<u8> {
        let has = |flag: &str, bit: u8| if self.flags.iter().any(|f| f == flag) { bit } else { 0 };
        let who = has("lmtp", 1) | has("encrypted", 2) | 4;
        let offers = has("tls", 1) | has("tls=required", 2) | has("auth", 4) | has("auth=required", 8);
        let mut steer = vec![0; session::STEER];
        (steer[0], steer[1]) = (who, offers);
        [steer, self.wire()].concat()
    }

    /// What stands in angle brackets.
    fn paths(&self) -> Vec<Vec<u8>> {
        let path = |line: &Vec<u8>| {
            let open = line.iter().position(|b| *b == b'<')?;
            let close = line.iter().rposition(|b| *b == b'>')?;
            Some(line.get(open + 1..close)?.to_vec())
        };
        self.lines.iter().filter_map(path).collect()
    }

    /// The exchange that each AUTH begins, as the target `sasl` reads it.
    fn responses(&self) -> Vec<Vec<u8>> {
        let exchange = |i: usize| {
            let words: Vec<&[u8]> = self.lines[i].split(|b| *b == b' ').collect();
            let is_auth = words[0].eq_ignore_ascii_case(b"AUTH");
            let mechanism = words.get(1).filter(|_| is_auth)?;
            let choice = u8::from(mechanism.eq_ignore_ascii_case(b"LOGIN")) | if words.len() > 2 { 2 } else { 0 };
            let later = self.lines[i + 1..].iter().take(2).map(Vec::as_slice);
            let said: Vec<&[u8]> = words[2..].iter().copied().chain(later).collect();
            Some([&[choice], &*said.join(&b'\n')].concat())
        };
        (0..self.lines.len()).filter_map(exchange).collect()
    }
}
