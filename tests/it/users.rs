//! Who may log in: hashes, the users file, the cache, and those who fail too often.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sidepost::config::{Auth, Hash as Given};
use sidepost::envelope::Login;
use sidepost::password::{Hash, check_name, parse_users};
use sidepost::secret::Secret;
use sidepost::smtp::sasl::{Authenticate, Credentials, Verdict};
use sidepost::users::Users;

const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Longer than a watched file goes without being looked at, and shorter than a password counts as verified.
const LOOKED_AT: Duration = Duration::from_secs(30);

/// A hash that is quickly checked: 8 KiB, one pass.
fn quick(password: &str) -> String {
    use argon2::password_hash::PasswordHasher;
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::from(params);
    argon2.hash_password(password.as_bytes()).unwrap().to_string()
}

fn auth(users: &[(&str, &str)], users_file: &str) -> Auth {
    let hashed = |(name, password): &(&str, &str)| ((*name).to_owned(), Given(Secret::new(quick(password))));
    let users: BTreeMap<String, Given> = users.iter().map(hashed).collect();
    Auth { required: true, passthrough: false, users, users_file: users_file.to_owned() }
}

fn users(given: &[(&str, &str)]) -> Arc<Users> {
    Users::open(&auth(given, "")).unwrap().unwrap().0
}

async fn says(users: &Users, user: &str, password: &str, client: Option<IpAddr>) -> Verdict {
    users.check(&Credentials { user: user.to_owned(), password: Secret::new(password) }, client).await
}

fn welcome(name: &str) -> Verdict {
    Verdict::Welcome(Login::of(name))
}

#[test]
fn a_hash_is_made_read_and_checked() {
    let hash = Hash::of("Gr\u{fc}\u{df}e".as_bytes()).unwrap();
    assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
    let read = Hash::parse(hash.expose()).unwrap();
    assert!(read.verify("Gr\u{fc}\u{df}e".as_bytes()));
    for wrong in ["Gr\u{fc}\u{df}", "gr\u{fc}\u{df}e", "", "Gr\u{fc}\u{df}e "] {
        assert!(!read.verify(wrong.as_bytes()), "{wrong:?}");
    }
    assert_eq!(format!("{read:?}"), "********");
    assert_ne!(Hash::of(b"x").unwrap(), Hash::of(b"x").unwrap(), "each has its own salt");
}

#[test]
fn a_users_file_says_every_wrong_line_and_nothing_of_it() {
    let good = format!("# users\n\napp:{}\r\n  web@x:{}\n", quick("a"), quick("b"));
    assert_eq!(parse_users(&good).unwrap().keys().collect::<Vec<_>>(), ["app", "web@x"]);
    let bad = format!("app:{0}\napp:{0}\n:{0}\nx\ny:CANARY\nz:\n", quick("a"));
    let wrong = parse_users(&bad).unwrap_err();
    let lines: Vec<&str> = wrong.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4", "line 5", "line 6"]);
    assert!(!wrong.concat().contains("CANARY"));
    assert!(check_name(&"x".repeat(256)).is_err() && check_name("a\tb").is_err() && check_name("a@b c").is_ok());
}

#[tokio::test]
async fn the_right_password_is_welcome_and_nothing_else() {
    let users = users(&[("app", "secret"), ("other", "different")]);
    for _ in 0..2 {
        assert_eq!(says(&users, "app", "secret", None).await, welcome("app"), "the second time from the cache");
    }
    for (user, password) in [
        ("app", "secre"),
        ("app", "Secret"),
        ("app", ""),
        ("App", "secret"),
        ("nobody", "secret"),
        ("app", "different"),
    ] {
        assert_eq!(says(&users, user, password, None).await, Verdict::Refused, "{user} {password}");
    }
    assert!(!format!("{users:?}").contains("argon2"));
}

#[tokio::test]
async fn where_nobody_can_log_in_auth_is_not_offered() {
    for required in [false, true] {
        assert!(Users::open(&Auth { required, ..Auth::default() }).unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn ten_failures_in_ten_minutes_are_too_many() {
    let users = users(&[("app", "secret")]);
    for _ in 0..9 {
        assert_eq!(says(&users, "app", "wrong", Some(FAR)).await, Verdict::Refused);
    }
    assert_eq!(says(&users, "app", "secret", Some(FAR)).await, welcome("app"));
    assert_eq!(says(&users, "app", "wrong", Some(FAR)).await, Verdict::TooMany);
    assert_eq!(says(&users, "app", "secret", Some(FAR)).await, Verdict::TooMany, "not even asked");
    let near = "192.0.2.2".parse().unwrap();
    assert_eq!(says(&users, "app", "secret", Some(near)).await, welcome("app"), "only that address");
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(says(&users, "app", "secret", Some(FAR)).await, welcome("app"));
}

#[tokio::test(start_paused = true)]
async fn this_machine_is_not_banned_and_ipv6_by_its_network() {
    let users = users(&[("app", "secret")]);
    for local in [None, Some("127.0.0.1".parse().unwrap()), Some("::1".parse().unwrap())] {
        for _ in 0..12 {
            assert_eq!(says(&users, "app", "wrong", local).await, Verdict::Refused);
        }
    }
    for n in 0..10 {
        says(&users, "app", "wrong", Some(format!("2001:db8::{n}").parse().unwrap())).await;
    }
    assert_eq!(says(&users, "app", "secret", Some("2001:db8::ffff".parse().unwrap())).await, Verdict::TooMany);
    assert_eq!(says(&users, "app", "secret", Some("2001:db8:0:1::1".parse().unwrap())).await, welcome("app"));
}

/// Many at once are no way around the limit.
#[tokio::test]
async fn guesses_at_once_are_counted_like_others() {
    let users = users(&[("app", "secret")]);
    let guesses = (0..50).map(|n| {
        let users = Arc::clone(&users);
        tokio::spawn(async move { says(&users, "app", &format!("guess {n}"), Some(FAR)).await })
    });
    let mut refused = 0;
    for guess in guesses.collect::<Vec<_>>() {
        refused += u32::from(guess.await.unwrap() == Verdict::Refused);
    }
    assert!(refused <= 10, "{refused}");
}

/// A check that breaks off is a fault of the relay's: no verdict on the password, and no step towards the ban.
#[test]
fn a_check_that_breaks_off_is_no_wrong_password() {
    let users = users(&[("app", "secret")]);
    let gone = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = gone.handle().clone();
    drop(gone);
    for _ in 0..20 {
        let _cancelled = handle.enter();
        let verdict = AssertUnwindSafe(says(&users, "app", "secret", Some(FAR))).catch_unwind().now_or_never().unwrap();
        assert!(verdict.is_err(), "{verdict:?}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(says(&users, "app", "secret", Some(FAR))), welcome("app"));
}

/// Time is paused: it moves on when everybody waits, so each sleep here lasts until the file was looked at.
#[tokio::test(start_paused = true)]
async fn the_users_file_is_read_again_when_it_changes() {
    let file: PathBuf = std::env::temp_dir().join(format!("sidepost-users-{}", std::process::id()));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&format!("web:{}\n", quick("old")));
    let (users, watched) = Users::open(&auth(&[("app", "secret")], file.to_str().unwrap())).unwrap().unwrap();
    let following = tokio::spawn(Arc::clone(&users).follow(watched.unwrap()));
    assert_eq!(says(&users, "web", "old", None).await, welcome("web"));

    write("web:nonsense\n");
    tokio::time::sleep(LOOKED_AT).await;
    assert_eq!(says(&users, "web", "old", None).await, welcome("web"), "a broken file is not taken");

    write(&format!("web:{}\n", quick("new")));
    tokio::time::sleep(LOOKED_AT).await;
    assert_eq!(says(&users, "web", "new", None).await, welcome("web"));
    assert_eq!(says(&users, "web", "old", None).await, Verdict::Refused, "the cache knows it no more");
    assert_eq!(says(&users, "app", "secret", None).await, welcome("app"), "the configuration's user stays");
    following.abort();
    std::fs::remove_file(&file).unwrap();
}
