//! Several accounts: who serves which mail, and who stands in for whom.

use std::sync::Arc;
use std::time::Duration;

use sidepost::config::Config;
use sidepost::config::layers::Layers;
use sidepost::envelope::Transaction;
use sidepost::outcome::{Kind, Retry, TABLE};
use sidepost::relay::Relay;
use tokio::time::Instant;

use crate::world::{Answer, MAIL, Script, address, relay, submit, transaction};

/// Two accounts, `main` at main.test and `backup` at backup.test, and these routes.
fn config(routes: &str) -> Config {
    let file =
        std::env::temp_dir().join(format!("sidepost-routes-{}-{:x}.toml", std::process::id(), fastrand::u64(..)));
    let accounts = r#"
        [providers.main]
        kind = "scaisend"
        api_key = "k"
        base_url = "https://main.test"
        [providers.backup]
        kind = "sendgrid"
        api_key = "k"
        base_url = "https://backup.test"
        [smtp]
        listen = ["smtp://127.0.0.1:2525", "lmtp://127.0.0.1:2424"]
    "#;
    std::fs::write(&file, format!("{accounts}\n{routes}")).unwrap();
    let loaded = Layers { file: Some(file.clone()), ..Layers::default() }.load().expect("a valid configuration");
    std::fs::remove_file(file).unwrap();
    loaded.config
}

const FAILOVER: &str = "[[routes]]\nuse = [\"main\", \"backup\"]";

async fn send(relay: &Arc<Relay>, change: impl FnOnce(&mut Transaction)) -> String {
    let mut transaction = transaction(MAIL, &["ann@example.net"]);
    change(&mut transaction);
    let settled = Arc::clone(relay).submit(transaction).await;
    settled.receipt.unwrap().written();
    settled.reply.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_first_route_that_fits_decides() {
    let config = config(
        r#"
        [[routes]]
        sender = ["*@billing.example.com"]
        use = ["backup"]
        [[routes]]
        principal = ["tenant-*"]
        use = ["backup"]
        [[routes]]
        listener = ["lmtp://127.0.0.1:2424"]
        use = ["backup"]
        [[routes]]
        header = { "X-Tenant" = "acme*" }
        use = ["backup"]
        [[routes]]
        use = ["main"]
        "#,
    );
    let script = Script::new([]);
    let relay = relay(&config, &script);
    let by = async |change: fn(&mut Transaction)| {
        assert!(send(&relay, change).await.starts_with("250 "));
        script.hosts().last().unwrap().clone()
    };
    assert_eq!(by(|_| {}).await, "main.test");
    assert_eq!(by(|t| t.envelope.reverse_path = Some(address("x@BILLING.example.com"))).await, "backup.test");
    assert_eq!(by(|t| t.envelope.reverse_path = None).await, "main.test");
    assert_eq!(by(|t| t.envelope.principal = Some("tenant-7".to_owned())).await, "backup.test");
    assert_eq!(by(|t| t.origin.listener = "lmtp://127.0.0.1:2424".into()).await, "backup.test");
    assert_eq!(by(|t| t.data = ["x-tenant: ACME Ltd\r\n", MAIL].concat().into()).await, "backup.test");
    assert_eq!(by(|t| t.data = ["X-Tenant: other\r\n", MAIL].concat().into()).await, "main.test");
}

/// Each recipient finds its own route; there is one reply for all.
#[tokio::test(start_paused = true)]
async fn recipients_of_one_mail_can_have_several_routes() {
    let config = config(
        r#"
        [[routes]]
        recipient = ["*@internal.example"]
        use = ["backup"]
        [[routes]]
        recipient = ["*@example.net"]
        use = ["main"]
        "#,
    );
    let script = Script::new([]);
    let relay = relay(&config, &script);
    let all = &["a@example.net", "b@internal.example", "c@example.net", "d@elsewhere.example"];
    let reply = submit(&relay, all).await;
    assert!(reply.starts_with("250 ") && reply.contains("3 of 4 recipients; others bad-sender"), "{reply}");
    let mut hosts = script.hosts();
    hosts.sort();
    assert_eq!(hosts, ["backup.test", "main.test"]);
    let reply = submit(&relay, &["d@elsewhere.example"]).await;
    assert!(reply.starts_with("550 5.7.1 ") && reply.contains("no route is for this mail"), "{reply}");
}

/// On to the next account exactly where nothing can have been sent and the mail is not at fault.
#[tokio::test(start_paused = true)]
async fn only_a_clean_failure_moves_on() {
    for row in TABLE.iter().filter(|row| !matches!(row.kind, Kind::Unsent | Kind::Pending)) {
        let script = Script::new(vec![Answer::NotSent(row.kind); 4]);
        let relay = relay(&config(FAILOVER), &script);
        // The first account tries as often as it may.
        let answers = if row.retry == Retry::Within { 4 } else { 1 };
        let script_of_one = Script::new(vec![Answer::NotSent(row.kind); answers]);
        let relay_of_one = crate::world::relay(&config(FAILOVER), &script_of_one);
        drop(relay);
        let reply = submit(&relay_of_one, &["ann@example.net"]).await;
        let moved_on = script_of_one.hosts().contains(&"backup.test".to_owned());
        assert_eq!(moved_on, row.retry != Retry::Never, "{}", row.name);
        assert_eq!(reply.starts_with("250 "), moved_on, "{}: {reply}", row.name);
    }
    for lost in [Answer::Lost, Answer::status(500), Answer::status(502)] {
        let script = Script::new([lost]);
        assert!(submit(&relay(&config(FAILOVER), &script), &["ann@example.net"]).await.starts_with("451 "));
        assert_eq!(script.hosts(), ["main.test"], "it may have been taken");
    }
}

/// While the first account is paused the second one serves at once, and MAIL is not refused.
#[tokio::test(start_paused = true)]
async fn a_paused_account_is_passed_over() {
    let script = Script::new([Answer::status(401)]);
    let relay = relay(&config(FAILOVER), &script);
    assert!(submit(&relay, &["ann@example.net"]).await.starts_with("250 "));
    let begun = Instant::now();
    assert!(crate::world::admit(&relay).is_ok());
    assert!(submit(&relay, &["bob@example.net"]).await.starts_with("250 "));
    assert_eq!(script.hosts(), ["main.test", "backup.test", "backup.test"]);
    assert!(begun.elapsed() < Duration::from_millis(100));
    let troubled: Vec<&str> = relay.troubles().filter_map(|(name, why)| why.map(|_| name)).collect();
    assert_eq!(troubled, ["main"]);
}

/// The time of the second account is kept free, whatever the first one does.
#[tokio::test(start_paused = true)]
async fn the_deadline_is_shared() {
    let slow = Answer::After(Duration::from_secs(9), Box::new(Answer::status(503)));
    let script = Script::new([slow, Answer::After(Duration::from_secs(9), Box::new(Answer::ok("m1")))]);
    let begun = Instant::now();
    let reply = submit(&relay(&config(FAILOVER), &script), &["ann@example.net"]).await;
    assert!(reply.starts_with("250 ") && begun.elapsed() <= Duration::from_secs(25), "{reply}");
    assert_eq!(script.hosts(), ["main.test", "backup.test"]);
}

/// MAIL is refused only if no account is left that may serve the mail.
#[tokio::test(start_paused = true)]
async fn mail_is_refused_early_if_no_account_is_left() {
    let config = config(
        r#"
        [[routes]]
        sender = ["*@billing.example.com"]
        use = ["backup"]
        [[routes]]
        use = ["main"]
        "#,
    );
    let script = Script::new([Answer::status(401)]);
    let relay = relay(&config, &script);
    assert!(submit(&relay, &["ann@example.net"]).await.starts_with("451 4.3.5 "));
    let asks = |sender: &str| {
        let mut transaction = transaction(MAIL, &["ann@example.net"]);
        transaction.envelope.reverse_path = Some(address(sender));
        relay.admit(&transaction.origin, &transaction.envelope).map_err(|reply| reply.to_string())
    };
    assert!(asks("x@billing.example.com").is_ok());
    assert!(asks("x@example.com").unwrap_err().starts_with("451 4.3.5 "));
}

/// A delivery report goes by the account that the same mail to its sender would go by.
#[tokio::test(start_paused = true)]
async fn a_report_follows_the_routes_of_its_mail() {
    let config = config(
        r#"
        [delivery]
        partial_failure = "notify"
        [[routes]]
        principal = ["tenant-7"]
        header = { "X-Tenant" = "acme" }
        recipient = ["*@example.com"]
        use = ["backup"]
        [[routes]]
        recipient = ["*@example.net"]
        use = ["main"]
        "#,
    );
    let refusal = r#"{"errors":[{"message":"no","field":"personalizations.1.to.0.email"}]}"#;
    let refusal = Answer::Status(400, Vec::new(), refusal.to_owned());
    let script = Script::new([refusal.clone(), Answer::ok("m1"), Answer::ok("r1"), refusal]);
    let relay = relay(&config, &script);
    let two = |t: &mut Transaction| t.envelope.recipients = vec![address("a@example.net"), address("b@example.net")];
    let of_tenant = |t: &mut Transaction| {
        two(t);
        t.envelope.principal = Some("tenant-7".to_owned());
        t.data = ["X-Tenant: acme\r\n", MAIL].concat().into();
    };
    assert!(send(&relay, of_tenant).await.starts_with("250 "));
    relay.reported().await;
    assert_eq!(script.hosts(), ["main.test", "main.test", "backup.test"]);
    assert!(send(&relay, two).await.starts_with("250 "));
    relay.reported().await;
    assert_eq!(script.hosts().len(), 5, "no route is for that report");
}
