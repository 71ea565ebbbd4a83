//! What goes wrong with a store: it says so in a sentence, and works again when it can.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use sidepost::feedback::EventKind;
use sidepost::store::{EventQuery, Mark, MessageQuery, MessageRecord, Place, Store};
use sidepost::suppression::{Reason, Scope, Suppression};

use super::{Folder, address, at, damage, event, policy, settings, whole_list};

fn refusal(path: &Path) -> String {
    Store::open(&settings(Place::File(path.to_owned())), &policy()).expect_err("opened").to_string()
}

fn sql(path: &Path, statement: &str) {
    Connection::open(path).unwrap().execute_batch(statement).unwrap();
}

fn entry(address: &str) -> Suppression {
    Suppression {
        address: address.to_owned(),
        scope: Scope::Everywhere,
        reason: Reason::Manual,
        source: "operator".to_owned(),
        since: at(1),
        until: None,
        evidence: String::new(),
    }
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let folder = Folder::new("open");
    let said = refusal(&folder.path().join("no/such/state.db"));
    assert!(said.contains("no/such/state.db cannot be opened") && said.contains("make the folder"), "{said}");
    let said = refusal(folder.path());
    assert!(said.contains("path of a file"), "{said}");

    let text = folder.path().join("text");
    fs::write(&text, "not a database at all, but long enough to be read as one: ".repeat(20)).unwrap();
    assert!(refusal(&text).contains("is no SQLite database; give state.url another path"), "{}", refusal(&text));

    let other = folder.path().join("other.db");
    sql(&other, "CREATE TABLE bookmarks (place TEXT)");
    assert!(refusal(&other).contains("another program's database"), "{}", refusal(&other));

    drop(Store::open(&folder.settings(), &policy()).unwrap());
    sql(&folder.file(), "PRAGMA user_version = 99");
    assert!(refusal(&folder.file()).contains("written by a newer sidepost (schema 99"), "{}", refusal(&folder.file()));
}

#[test]
fn a_file_that_may_not_be_written_says_what_to_do() {
    let folder = Folder::new("mode");
    drop(Store::open(&folder.settings(), &policy()).unwrap());
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o400)).unwrap();
    // Whom no mode holds back (root, in some containers) has no such fault.
    if fs::OpenOptions::new().write(true).open(folder.file()).is_err() {
        assert!(refusal(&folder.file()).contains("let the user that sidepost runs as write"));
    }
    // Nobody may make files there.
    let said = refusal(Path::new("/proc/sidepost/state.db"));
    assert!(said.contains("cannot be opened"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn the_files_are_for_their_owner_alone_and_one_store_has_them() {
    let folder = Folder::new("alone");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    store.suppress(vec![entry("ann@example.net")]).await.unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    let place = Place::File(folder.file());
    assert_eq!(Store::is_open(&place), Some(true));
    assert!(refusal(&folder.file()).contains("in use by another sidepost"), "{}", refusal(&folder.file()));
    assert_eq!(Store::is_open(&place), Some(true));
    store.close().await.unwrap();
    assert_eq!((Store::is_open(&place), Store::is_open(&Place::Memory)), (Some(false), None));
    let closed = store.suppress(vec![entry("ben@example.net")]).await.unwrap_err().to_string();
    assert!(closed.ends_with("is closed"), "{closed}");
    assert!(store.suppressed("ann@example.net", &[], at(2)).await.is_err());
    assert_eq!(whole_list(&Store::open(&folder.settings(), &policy()).unwrap()).await, [entry("ann@example.net")]);
}

/// A store that was dropped, not closed, has everything too, and lets go of the file.
#[tokio::test(start_paused = true)]
async fn a_dropped_store_has_written_what_it_said() {
    let folder = Folder::new("dropped");
    for name in ["ann@example.net", "ben@example.net"] {
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        store.suppress(vec![entry(name)]).await.unwrap();
        drop(store);
        while Store::is_open(&Place::File(folder.file())) == Some(true) {
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    }
    assert_eq!(whole_list(&Store::open(&folder.settings(), &policy()).unwrap()).await.len(), 2);
}

/// What does not wait may be asked for where there is no runtime, and is there at the end.
#[test]
fn a_log_line_outside_of_any_runtime_is_kept() {
    let folder = Folder::new("outside");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    store.log(vec![line("msg_1")]);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = runtime().block_on(store.messages(MessageQuery::default())).unwrap();
    assert_eq!(kept.items, [line("msg_1")]);
    // A runtime that ends before the writer's turn came.
    runtime().block_on(async { (0..100).for_each(|number| store.log(vec![line(&format!("msg_{number}"))])) });
    let kept = runtime().block_on(store.messages(MessageQuery::default())).unwrap();
    assert_eq!(kept.items.len(), 100);
}

fn line(id: &str) -> MessageRecord {
    MessageRecord {
        id: id.to_owned(),
        at: at(1),
        client: None,
        principal: None,
        sender: None,
        recipient: "ann@example.net".to_owned(),
        account: "main".to_owned(),
        provider_id: None,
        outcome: "accepted".to_owned(),
        reply: "250 2.0.0 Ok".to_owned(),
        bytes: 0,
        last_event: None,
    }
}

/// A write that fails takes nothing from those beside it, be it undone alone or with the whole transaction.
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_trouble_until_one_succeeds() {
    let folder = Folder::new("trouble");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let other = Connection::open(folder.file()).unwrap();
    let take = |id: &str| {
        let (store, event) = (store.clone(), event(id, EventKind::Opened, "ann@example.net", 1));
        async move { store.take("main", vec![event], at(1), false).await }
    };
    let mut kept = 0;
    for undo in ["ABORT", "ROLLBACK"] {
        let fault = format!(
            "CREATE TRIGGER fault BEFORE INSERT ON suppressions BEGIN SELECT RAISE({undo}, 'no such luck'); END"
        );
        other.execute_batch(&fault).unwrap();
        let later = format!("{undo} later");
        let (first, wrong, last) =
            tokio::join!(take(undo), store.suppress(vec![entry("ann@example.net")]), take(&later));
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("no such luck") && wrong.contains("state.db"), "{wrong}");
        // Those that went into the same transaction may have failed with it, but not when only one was undone.
        let taken = [first, last].iter().filter(|taken| taken.is_ok()).count();
        assert!(undo == "ROLLBACK" || taken == 2);
        kept += taken;
        assert_eq!(store.events(EventQuery::default()).await.unwrap().items.len(), kept, "what was said is so");
        store.suppress(vec![entry("ann@example.net")]).await.unwrap_err();
        assert!(store.trouble().unwrap().to_string().contains("no such luck"));
        other.execute_batch("DROP TRIGGER fault").unwrap();
        store.suppress(vec![entry("ben@example.net")]).await.unwrap();
        assert_eq!(store.trouble(), None);
    }
    assert_eq!(whole_list(&store).await.len(), 1);
}

/// A mark that stayed would make a later mail of the same octets look like one that was sent.
#[tokio::test(start_paused = true)]
async fn a_mark_that_could_not_be_dropped_is_dropped_later() {
    let folder = Folder::new("owed");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let other = Connection::open(folder.file()).unwrap();
    let (ann, ben) = (address("ann@example.net"), address("ben@example.net"));
    let mark = |recipient: &sidepost::address::Address| {
        let (account, since) = ("main".to_owned(), at(1));
        Mark { key: [7; 32], recipient: recipient.clone(), account, provider_id: None, marker: None, since }
    };
    let fault = "CREATE TRIGGER fault BEFORE DELETE ON marks BEGIN SELECT RAISE(ABORT, 'locked'); END";
    let left = async || store.marks(at(0)).await.unwrap().len();

    store.mark(vec![mark(&ann), mark(&ben)]).await.unwrap();
    other.execute_batch(fault).unwrap();
    store.unmark([7; 32], vec![ann.clone()]);
    store.mark(vec![mark(&ben)]).await.unwrap();
    assert_eq!(left().await, 2);
    other.execute_batch("DROP TRIGGER fault").unwrap();
    store.unmark([7; 32], vec![ben.clone()]);
    store.mark(Vec::new()).await.unwrap();
    assert_eq!(left().await, 0, "the next one takes it along");

    store.mark(vec![mark(&ann), mark(&ben)]).await.unwrap();
    other.execute_batch(fault).unwrap();
    store.unmark([7; 32], vec![ann.clone(), ben]);
    store.mark(vec![mark(&ann)]).await.unwrap();
    other.execute_batch("DROP TRIGGER fault").unwrap();
    store.prune(at(1)).await.unwrap();
    store.mark(Vec::new()).await.unwrap();
    assert_eq!(left().await, 1, "what was marked anew stays");
    assert_eq!(store.counters().lost, 0);
}

/// A word of a later version, in a file that came back from it, holds up nothing else.
#[tokio::test(start_paused = true)]
async fn a_word_that_nobody_knows_stops_no_effects() {
    let folder = Folder::new("words");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let events = [("e1", EventKind::Opened, "ann@example.net"), ("e2", EventKind::BouncedHard, "ben@example.net")];
    let events = events.map(|(id, kind, recipient)| event(id, kind, recipient, 1));
    store.take("main", events.to_vec(), at(2), false).await.unwrap();
    store.suppress(vec![entry("cyd@example.net")]).await.unwrap();
    sql(&folder.file(), "UPDATE events SET kind = 'teleported' WHERE event_id = 'e1'");
    sql(&folder.file(), "UPDATE suppressions SET reason = 'eaten'");
    store.act(&policy(), 10).await.unwrap();
    let list = whole_list(&store).await;
    assert_eq!(list.iter().map(|entry| entry.reason).collect::<Vec<_>>(), [Reason::Bounce, Reason::Manual]);
    let kinds = store.events(EventQuery::default()).await.unwrap().items;
    assert_eq!(kinds.iter().map(|event| event.feedback.kind).last(), Some(EventKind::Unknown));
}

/// Upkeep finds out whether the store can be written to again.
#[tokio::test(start_paused = true)]
async fn upkeep_tries_whether_the_trouble_is_over() {
    let folder = Folder::new("probe");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let other = Connection::open(folder.file()).unwrap();
    other
        .execute_batch("CREATE TRIGGER fault BEFORE INSERT ON lifted BEGIN SELECT RAISE(ROLLBACK, 'no such luck'); END")
        .unwrap();
    store.lift("ann@example.net", None, at(1)).await.unwrap_err();
    assert!(store.trouble().unwrap().to_string().contains("no such luck"));
    // A call that writes nothing proves nothing.
    store.suppress(Vec::new()).await.unwrap();
    assert!(store.trouble().is_some());
    store.prune(at(1)).await.unwrap_err();
    other.execute_batch("DROP TRIGGER fault").unwrap();
    store.prune(at(1)).await.unwrap();
    assert_eq!(store.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_said_to_be_damaged() {
    let folder = Folder::new("damaged");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let many = (0..10_000).map(|number| entry(&format!("r{number}@example.net"))).collect();
    store.suppress(many).await.unwrap();
    store.close().await.unwrap();
    let mut octets = fs::read(folder.file()).unwrap();
    let half = octets.len() / 4096 / 2;
    // Leaves of indexes (file format §1.6), where the entries are.
    let leaves = octets.chunks_mut(4096).skip(half).filter(|page| page[0] == 10);
    leaves.for_each(|leaf| leaf.fill(0xa5));
    fs::write(folder.file(), octets).unwrap();
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let mut said = Vec::new();
    for number in (0..10_000).step_by(500) {
        said.extend(store.suppressed(&format!("r{number}@example.net"), &[], at(2)).await.err());
    }
    let said = said.first().expect("nothing was noticed").to_string();
    assert!(said.contains("is damaged") && said.contains("restore a copy or begin anew"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn times_that_cannot_be_are_brought_into_the_range() {
    let store = Store::open(&settings(Place::Memory), &policy()).unwrap();
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let long = std::time::Duration::from_secs(1 << 40);
    let mut odd = entry("ann@example.net");
    (odd.since, odd.until) = (epoch - long, Some(epoch + long));
    store.suppress(vec![odd]).await.unwrap();
    let found = store.suppressed("ann@example.net", &[], at(1)).await.unwrap().unwrap();
    assert_eq!(found.since, epoch);
    assert_eq!(humantime::format_rfc3339(found.until.unwrap()).to_string(), "9999-12-31T23:59:59.999000000Z");
    store.prune(epoch - long).await.unwrap();
    store.prune(epoch + long).await.unwrap();
    assert_eq!(store.suppressed("ann@example.net", &[], at(1)).await.unwrap(), None);
}

/// What nobody waits for has a bound; what is beyond it is counted, and holds nobody up.
#[tokio::test(start_paused = true)]
async fn what_does_not_wait_is_bounded() {
    let store = Store::open(&settings(Place::Memory), &policy()).unwrap();
    store.log((0..100_000).map(|number| line(&format!("msg_{number}"))).collect());
    assert_eq!(store.counters().lost, 100_000);
    let mark = Mark {
        key: [7; 32],
        recipient: address("ann@example.net"),
        account: "main".to_owned(),
        provider_id: Some("up-1".to_owned()),
        marker: Some("doubt".to_owned()),
        since: at(1),
    };
    store.mark(vec![mark.clone()]).await.unwrap();
    assert_eq!(store.marks(at(1)).await.unwrap(), [mark]);
    let none =
        Store::open(&sidepost::store::Settings { max_messages: 0, ..settings(Place::Memory) }, &policy()).unwrap();
    none.log(vec![line("msg_1")]);
    assert_eq!(none.messages(MessageQuery::default()).await.unwrap().items, []);
}

/// The octets of an event are those that came.
#[tokio::test(start_paused = true)]
async fn an_event_is_kept_octet_by_octet() {
    let store = Store::open(&settings(Place::Memory), &policy()).unwrap();
    let mut odd = event("e", EventKind::Unknown, "\"a b\"@[ipv6:2001:db8::1]", 1);
    odd.raw = Bytes::from((0..=255).collect::<Vec<u8>>());
    odd.message_id = Some("'; DROP TABLE events; --\0".to_owned());
    odd.reason = Some("ä\u{0}".to_owned());
    store.take("main", vec![odd.clone()], at(2), false).await.unwrap();
    assert_eq!(store.events(EventQuery::default()).await.unwrap().items[0].feedback, odd);
}

/// The part of the other process in [`the_disk_is_full`] and [`killed`]; not a test of its own.
#[test]
#[ignore = "is run by other tests, in a process of its own"]
fn another_process() {
    let Some(file) = std::env::var_os("SIDEPOST_TEST_STORE") else { return };
    let store = Store::open(&settings(Place::File(file.into())), &policy()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    if std::env::var_os("SIDEPOST_TEST_FULL").is_some() {
        runtime.block_on(fill_the_disk(store));
    } else {
        runtime.block_on(write_on_and_on(store));
    }
}

async fn fill_the_disk(store: Store) {
    let mut large = event("large", EventKind::Opened, "ann@example.net", 1);
    large.raw = Bytes::from(vec![b'x'; 8 << 20]);
    let small = || vec![event("small", EventKind::Opened, "ann@example.net", 1)];
    assert_eq!(store.trouble(), None);
    let said = store.take("main", vec![large], at(1), false).await.unwrap_err();
    assert_eq!(store.trouble(), Some(said.clone()));
    assert_eq!(store.events(EventQuery::default()).await.unwrap().items.len(), 0);
    assert_eq!(store.take("main", small(), at(1), false).await, Ok(vec![true]));
    assert_eq!(store.trouble(), None);
    println!("said {said}");
}

/// Says each number once it is said to be on the disk.
async fn write_on_and_on(store: Store) {
    let store = Arc::new(store);
    let writers = (0..32).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0.. {
                let id = format!("{writer}-{number}");
                let taken = event(&id, EventKind::BouncedHard, "ann@example.net", 1);
                store.take("main", vec![taken], at(1), true).await.unwrap();
                println!("took {id}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

fn other_process(folder: &Folder, before: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{before} exec '{}' --exact store::faults::another_process --ignored --nocapture", test.display()))
        .env("SIDEPOST_TEST_STORE", folder.file())
        .stdout(Stdio::piped());
    command
}

/// No file may grow beyond 2 or 4 MiB (the unit depends on the shell): what SQLite is told then is what a full disk says.
#[test]
fn the_disk_is_full() {
    let folder = Folder::new("full");
    let done = other_process(&folder, "trap '' XFSZ; ulimit -f 4096;").env("SIDEPOST_TEST_FULL", "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("state.db cannot be read or written") && said.contains("look at its disk"), "{said}");
}

/// What a call said is kept when the process is killed a moment later, and the file is whole.
#[test]
fn killed() {
    let folder = Folder::new("killed");
    let mut child = other_process(&folder, "").spawn().unwrap();
    let mut said: Vec<String> = Vec::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    while said.len() < 2000 {
        let line = lines.next().expect("it ended by itself").unwrap();
        said.extend(line.rsplit_once("took ").map(|(_, id)| id.to_owned()));
    }
    child.kill().unwrap();
    // The last line may be a part of one.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let rest = rest.iter().take(rest.len().saturating_sub(1));
    said.extend(rest.filter_map(|line| line.strip_prefix("took ").map(str::to_owned)));
    child.wait().unwrap();
    let whole: String =
        Connection::open(folder.file()).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let again = said.iter().map(|id| event(id, EventKind::BouncedHard, "ann@example.net", 1)).collect();
    let new = runtime.block_on(store.take("main", again, at(1), true)).unwrap();
    assert!(said.len() >= 2000 && new.iter().all(|new| !*new), "an event that was said to be kept is not");
}

/// A disk in trouble is no reason to take no mail: the relay begins without its store, and has it when the disk is well.
#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_opened_for_now_is_opened_later() {
    let folder = Folder::new("later");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    store.suppress(vec![entry("ann@example.net")]).await.unwrap();
    store.close().await.unwrap();
    let whole = damage(&folder.file());

    let words = refusal(&folder.file());
    assert!(words.contains("is damaged"), "{words}");
    let store = Store::open_or_wait(&folder.settings(), &policy()).unwrap();
    assert_eq!(store.trouble().unwrap().0, words);
    let take = |id: &str| store.take("main", vec![event(id, EventKind::Opened, "ann@example.net", 1)], at(2), false);
    assert_eq!(take("e1").await.unwrap_err().0, words);
    assert_eq!(store.suppressed("bob@example.net", &[], at(2)).await.unwrap_err().0, words);
    assert_eq!(store.prune(at(1)).await.unwrap_err().0, words);

    fs::write(folder.file(), whole).unwrap();
    store.prune(at(1)).await.unwrap();
    assert_eq!(store.trouble(), None);
    take("e1").await.unwrap();
    assert!(store.suppressed("ann@example.net", &[], at(2)).await.unwrap().is_some(), "the list is the old one");
    assert!(refusal(&folder.file()).contains("in use by another sidepost"));
    store.close().await.unwrap();
    store.prune(at(1)).await.unwrap_err();

    let elsewhere = settings(Place::File(folder.path().join("no/such/state.db")));
    assert!(Store::open_or_wait(&elsewhere, &policy()).is_err(), "a slip is none of those");
}

/// Pages that are damaged are seen by who reads, and by whoever opens the file: what comes next is not written beside them
/// as if nothing were, and what can be read is.
#[tokio::test(start_paused = true)]
async fn damaged_pages_are_told_until_the_file_is_mended() {
    let folder = Folder::new("pages");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let many: Vec<Suppression> = (0..3000).map(|n| entry(&format!("a{n:04}@example.net"))).collect();
    store.suppress(many).await.unwrap();
    store.close().await.unwrap();
    let whole = fs::read(folder.file()).unwrap();
    let half = whole.len() / 4096 / 2 * 4096;
    let take = async |store: &Store, id: &str| {
        store.take("main", vec![event(id, EventKind::Opened, "ann@example.net", 1)], at(2), false).await
    };

    // Seen when it is opened.
    fs::write(folder.file(), [&whole[..half], &vec![0xff; whole.len() - half][..]].concat()).unwrap();
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let trouble = store.trouble().unwrap();
    assert!(trouble.0.contains("is damaged"), "{trouble}");
    assert_eq!(take(&store, "e1").await.unwrap_err(), trouble);
    drop(store);
    while Store::is_open(&Place::File(folder.file())) == Some(true) {
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }

    // Seen by who reads later.
    fs::write(folder.file(), &whole).unwrap();
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    assert_eq!(store.trouble(), None);
    take(&store, "e1").await.unwrap();
    fs::OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(half as u64).unwrap();
    let mut unreadable = 0;
    for n in (0..3000).step_by(100) {
        unreadable += usize::from(store.suppressed(&format!("a{n:04}@example.net"), &[], at(2)).await.is_err());
    }
    assert!(unreadable > 0);
    let trouble = store.trouble().unwrap();
    assert!(trouble.0.contains("is damaged"), "{trouble}");
    assert_eq!(take(&store, "e2").await.unwrap_err(), trouble);
    assert_eq!(store.trouble(), Some(trouble), "until it is mended");
}

/// What a power cut leaves of a file that was a store is no slip in the configuration; what never was one is.
#[test]
fn a_store_without_its_head_is_waited_for() {
    let folder = Folder::new("headless");
    drop(Store::open(&folder.settings(), &policy()).unwrap());
    let whole = fs::read(folder.file()).unwrap();
    for damage in [vec![0; whole.len()], b"short".to_vec(), [vec![0; 4096], whole[4096..].to_vec()].concat()] {
        fs::write(folder.file(), damage).unwrap();
        let _ = fs::remove_file(folder.path().join("state.db-wal"));
        let store = Store::open_or_wait(&folder.settings(), &policy()).unwrap();
        let trouble = store.trouble().unwrap().to_string();
        assert!(trouble.contains("is damaged") && trouble.contains("restore a copy"), "{trouble}");
    }
    fs::write(folder.path().join("letter.txt"), "a letter, and no store").unwrap();
    let elsewhere = settings(Place::File(folder.path().join("letter.txt")));
    let refused = Store::open_or_wait(&elsewhere, &policy()).unwrap_err().to_string();
    assert!(refused.contains("give state.url another path"), "{refused}");
}

/// What is written to a deleted file is gone with the process: nobody is told that it was kept. A copy put in the place of
/// the database is written over it, and its log of writes is deleted first.
#[tokio::test(start_paused = true)]
async fn a_deleted_file_keeps_nothing_and_says_so() {
    for end in ["", "-wal", "-shm"] {
        let folder = Folder::new("deleted");
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        let take =
            |id: &str| store.take("main", vec![event(id, EventKind::Opened, "ann@example.net", 1)], at(2), false);
        take("e1").await.unwrap();
        let file = folder.path().join(format!("{}{end}", folder.file().file_name().unwrap().to_str().unwrap()));
        fs::remove_file(&file).unwrap();
        let refusal = take("e2").await.unwrap_err();
        assert!(refusal.0.contains("was deleted or replaced"), "{refusal}");
        assert_eq!(store.trouble(), Some(refusal));
        fs::write(&file, "another").unwrap();
        take("e3").await.unwrap_err();
    }
}

/// The same of a file that was emptied, or written over, in its place.
#[tokio::test(start_paused = true)]
async fn a_file_that_was_written_over_keeps_nothing_and_says_so() {
    for garbage in [&b""[..], b"no database, and long enough to be taken for one"] {
        let folder = Folder::new("written-over");
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        let take =
            |id: &str| store.take("main", vec![event(id, EventKind::Opened, "ann@example.net", 1)], at(2), false);
        take("e1").await.unwrap();
        fs::write(folder.file(), garbage).unwrap();
        let refusal = take("e2").await.unwrap_err();
        assert!(refusal.0.contains("is damaged (it was emptied or written over"), "{refusal}");
        assert_eq!(store.trouble(), Some(refusal));
    }
}

/// One file is one store, by whatever name it is opened.
#[tokio::test(start_paused = true)]
async fn a_link_to_an_open_file_is_in_use() {
    let folder = Folder::new("linked");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.file(), &link).unwrap();
    let refusal = Store::open(&settings(Place::File(link.clone())), &policy()).unwrap_err();
    assert!(refusal.0.contains("in use by another sidepost"), "{refusal}");
    assert_eq!(Store::is_open(&Place::File(link)), Some(true));
    drop(store);
}
