//! The connection on a wire of memory with a paused clock, and the listener on real sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sidepost::config::Smtp;
use sidepost::smtp::listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::smtp_world::{DRAIN, IDLE, World, server_with, smtp};

const MAIL: &str = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n";

#[tokio::test(start_paused = true)]
async fn a_mail_goes_through() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    client.says("Subject: x\r\n\r\n..dot\r\n.\r\n").await;
    client.hears("250 2.0.0 Ok").await;
    client.talks(&[("QUIT", "221 2.0.0")]).await;
    client.hears_the_end().await;
    let taken = world.taken();
    assert_eq!(taken[0].data, "Subject: x\r\n\r\n.dot\r\n");
    assert_eq!(taken[0].envelope.recipients[0].as_str(), "c@d.test");
    assert_eq!(taken[0].origin.client.unwrap().to_string(), "127.0.0.1");
    assert_eq!(world.metrics().in_flight_bytes.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn pipelined_commands_are_answered_in_one_write() {
    let world = World::new();
    let mut client = world.client().await;
    client.talks(&[("HELO app.test", "250")]).await;
    let before = client.writes.load(Ordering::Relaxed);
    client.says(MAIL).await;
    for expected in ["250 2.1.0", "250 2.1.5", "354"] {
        client.hears(expected).await;
    }
    assert_eq!(client.writes.load(Ordering::Relaxed), before + 1);
    client.says(&format!("x\r\n.\r\n{MAIL}y\r\n.\r\nQUIT\r\n")).await;
    for expected in ["250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221"] {
        client.hears(expected).await;
    }
    client.hears_the_end().await;
    let ids: Vec<_> = world.taken().iter().map(|t| t.id.to_string()).collect();
    assert!(ids[0] < ids[1], "ids are unique and sorted by time");
}

#[tokio::test(start_paused = true)]
async fn replies_are_sent_before_the_server_waits() {
    let world = World::new();
    let mut client = world.client().await;
    client.says("NOOP\r\nNOO").await;
    client.hears("250").await;
    client.says("P\r\n").await;
    client.hears("250").await;
}

#[tokio::test(start_paused = true)]
async fn replies_do_not_wait_for_the_relay() {
    let world = World::new();
    let mut client = world.client().await;
    client.says(&format!("HELO x\r\n{}\r\n.\r\n", MAIL.replace("c@", "never@"))).await;
    for expected in ["250 relay.test", "250 2.1.0", "250 2.1.5", "354"] {
        client.hears(expected).await;
    }
}

/// `nc` without -C: without the reply its user would look at silence.
#[tokio::test(start_paused = true)]
async fn a_client_without_cr_is_told_at_once_and_once() {
    let world = World::new();
    let mut client = world.client().await;
    client.says("EHLO x\n").await;
    client.hears("500 5.5.2").await;
    client.says("RSET\nHELO x\r\nNOOP\r\n").await;
    client.hears("250 2.0.0 Ok").await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_kept_are_refused_after_the_dot() {
    let world = World { server: server_with(&smtp(), 64 << 10) };
    let mut client = world.client().await;
    let line = format!("{}\r\n", "x".repeat(998));
    for (message, expected) in [
        ("a\nb\r\n".to_owned(), "550 5.6.0"),
        (line.repeat(2000), "452 4.3.1"),
        ("\r\n.\r.\r\n".to_owned() + &line.repeat(2000), "550 5.6.0"),
        ("small\r\n".to_owned(), "250"),
    ] {
        client.begins_a_mail_to("c@d.test").await;
        client.says(&message).await;
        client.says(".\r\n").await;
        client.hears(expected).await;
        assert_eq!(world.metrics().in_flight_bytes.get(), 0);
    }
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    client.says(&line.repeat(2000)).await;
    client.says(".\r\nRSET\r\n").await;
    client.hears("552 5.3.4").await;
    client.hears("250").await;
    assert!(world.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_in_chunks() {
    let world = World { server: server_with(&smtp(), 64 << 10) };
    let mut client = world.client().await;
    let envelope = "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\n";
    client.says(&format!("{envelope}BDAT 6\r\nNOOP\r\nBDAT 0\r\nBDAT 4 LAST\r\n.\r\nxNOOP\r\n")).await;
    for expected in ["250 relay", "250 2.1.0", "250 2.1.5", "250 2.0.0 Ok, 6", "250 2.0.0 Ok, 6", "250 2.0.0 Ok", "250"]
    {
        client.hears(expected).await;
    }
    assert_eq!(world.taken()[0].data, "NOOP\r\n.\r\nx");

    // What has no place, or no room, or is not clean, is swallowed and refused.
    client.says("BDAT 16 LAST\r\nNOOP\r\nNOOP\r\nab\r\nRSET\r\n").await;
    client.hears("503 5.5.1").await;
    client.hears("250 2.0.0 Ok, nothing").await;
    for (message, expected) in [("a\nb\r\n".to_owned(), "550 5.6.0"), ("x".repeat(100_000), "452 4.3.1")] {
        client.says(&format!("{envelope}BDAT {}\r\n{message}BDAT 4 LAST\r\nNOOPNOOP\r\n", message.len())).await;
        for expected in ["250", "250", "250", expected, "503", "250"] {
            client.hears(expected).await;
        }
    }
    client.says(&format!("{envelope}BDAT 40000\r\n{}", "x".repeat(40_000))).await;
    for expected in ["250", "250", "250", "250 2.0.0 Ok, 40000"] {
        client.hears(expected).await;
    }
    assert!(world.metrics().in_flight_bytes.get() >= 40_000);
    client.talks(&[("NOOP", "250"), ("BDAT x", "501 5.5.4")]).await;
    client.hears_the_end().await;
    client.served.await.unwrap();
    assert_eq!(world.metrics().in_flight_bytes.get(), 0);
    assert_eq!(world.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_does_not_come_is_not_waited_for() {
    let world = World::new();
    let mut client = world.client().await;
    client.talks(&[("HELO x", "250"), ("MAIL FROM:<>", "250"), ("RCPT TO:<a@b.test>", "250")]).await;
    client.says("BDAT 1000000000000 LAST\r\nhalf").await;
    client.hears("421 4.4.2").await;
    client.hears_the_end().await;
    assert!(world.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_is_held_until_the_relay_is_done() {
    let world = World { server: server_with(&smtp(), 64 << 10) };
    let mut first = world.client().await;
    first.begins_a_mail_to("slow@d.test").await;
    first.says(&format!("{}\r\n.\r\n", "x".repeat(40_000))).await;
    let mut second = world.client().await;
    second.begins_a_mail_to("c@d.test").await;
    second.says(&format!("{}\r\n.\r\n", "x".repeat(40_000))).await;
    second.hears("452 4.3.1").await;
    first.hears("250").await;
    second.begins_a_mail_to("c@d.test").await;
    second.says(&format!("{}\r\n.\r\n", "x".repeat(40_000))).await;
    second.hears("250").await;
}

/// A message that is announced and would not fit in is not asked for.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_in_is_refused_at_mail() {
    let world = World { server: server_with(&smtp(), 64 << 10) };
    let mut first = world.client().await;
    first.begins_a_mail_to("slow@d.test").await;
    first.says(&format!("{}\r\n.\r\n", "x".repeat(40_000))).await;
    let mut second = world.client().await;
    let announced = "MAIL FROM:<a@b.test> SIZE=40000";
    second.talks(&[("HELO x", "250"), (announced, "452 4.3.1"), ("MAIL FROM:<a@b.test> SIZE=900", "250")]).await;
    first.hears("250").await;
    second.talks(&[("RSET", "250"), (announced, "250")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_relay_says_so_at_mail() {
    let world = World::new();
    let mut client = world.client().await;
    world.server.relay().busy.store(1, Ordering::Relaxed);
    client.talks(&[("HELO x", "250"), ("MAIL FROM:<>", "451 4.3.2"), ("RCPT TO:<a@b.test>", "503")]).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_networks_that_are_allowed_may_send() {
    let world = World::new();
    for (ip, expected) in
        [("127.0.0.9", "250"), ("::ffff:127.0.0.9", "250"), ("10.0.0.1", "550 5.7.1"), ("::1", "550 5.7.1")]
    {
        let mut client = world.connect_from(ip.parse().unwrap(), 1 << 10);
        client.hears("220").await;
        client.talks(&[("HELO x", "250"), ("MAIL FROM:<>", expected)]).await;
    }
}

// === Clients that stall ===

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_told_and_closed() {
    let world = World::new();
    let mut client = world.client().await;
    let begun = Instant::now();
    client.hears("421 4.4.2").await;
    assert_eq!(begun.elapsed().as_secs(), IDLE.as_secs());
    client.hears_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn octets_that_trickle_in_do_not_make_a_line() {
    let world = World::new();
    let mut client = world.client().await;
    let begun = Instant::now();
    for _ in 0..3 {
        client.says("x").await;
        sleep(IDLE / 4).await;
    }
    client.hears("421 4.4.2").await;
    assert_eq!(begun.elapsed().as_secs(), IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn octets_that_trickle_in_do_not_make_a_message() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    let begun = Instant::now();
    while begun.elapsed() + Duration::from_secs(1) < IDLE {
        client.says("x").await;
        sleep(Duration::from_secs(10)).await;
    }
    client.hears("421 4.4.2").await;
    client.hears_the_end().await;
    assert!(world.taken().is_empty());
}

/// What came fast at first buys no time for what trickles in behind it.
#[tokio::test(start_paused = true)]
async fn a_fast_beginning_buys_no_time() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    client.says(&"y".repeat(900_000)).await;
    let begun = Instant::now();
    while begun.elapsed() < IDLE * 3 {
        client.says("x").await;
        sleep(IDLE * 9 / 10).await;
    }
    client.hears("421 4.4.2").await;
    assert!(world.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_steady_message_is_waited_for() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    let line = format!("{}\r\n", "x".repeat(998));
    for _ in 0..700 {
        client.says(&line).await;
        sleep(Duration::from_millis(900)).await;
    }
    client.says(".\r\n").await;
    client.hears("250").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let world = World::new();
    let mut client = world.connect(64);
    let begun = Instant::now();
    let writer = tokio::spawn(async move { while client.stream.write_all(b"NOOP\r\n").await.is_ok() {} });
    writer.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_dot_is_dropped() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    client.says("half\r\n.").await;
    client.stream.shutdown().await.unwrap();
    client.hears_the_end().await;
    client.served.await.unwrap();
    assert!(world.taken().is_empty());
    assert_eq!(world.metrics().in_flight_bytes.get(), 0);
}

// === Faults ===

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_relay_is_a_temporary_refusal() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("panic@d.test").await;
    client.says(".\r\n").await;
    client.hears("451 4.3.0").await;
    client.begins_a_mail_to("c@d.test").await;
    client.says(".\r\n").await;
    client.hears("250").await;
    assert_eq!(world.metrics().panics.get(), 1);
    assert_eq!(world.metrics().in_flight_bytes.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_connection_ends_that_connection_alone() {
    let world = World::new();
    let (mut one, mut other) = (world.client().await, world.client().await);
    world.server.relay().busy.store(2, Ordering::Relaxed);
    one.talks(&[("HELO x", "250"), ("MAIL FROM:<>", "421 4.3.0")]).await;
    one.hears_the_end().await;
    world.server.relay().busy.store(0, Ordering::Relaxed);
    other.talks(&[("HELO x", "250"), ("MAIL FROM:<>", "250")]).await;
    assert_eq!(world.metrics().panics.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_well_although_the_client_is_gone() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("slow@d.test").await;
    client.says(".\r\n").await;
    sleep(Duration::from_secs(1)).await;
    drop(client.stream);
    client.served.await.unwrap();
    assert_eq!(world.taken().len(), 1);
}

// === Drain ===

#[tokio::test(start_paused = true)]
async fn the_drain_ends_idle_sessions_and_lets_transactions_finish() {
    let world = World::new();
    let (mut idle, mut receiving, mut relaying) = (world.client().await, world.client().await, world.client().await);
    receiving.begins_a_mail_to("c@d.test").await;
    relaying.begins_a_mail_to("slow@d.test").await;
    relaying.says(".\r\n").await;
    sleep(Duration::from_secs(1)).await;
    world.server.shut_down();

    idle.hears("421 4.3.2").await;
    idle.hears_the_end().await;
    receiving.says(".\r\n").await;
    receiving.hears("250").await;
    receiving.hears("421 4.3.2").await;
    relaying.hears("250").await;
    relaying.hears("421 4.3.2").await;
    relaying.hears_the_end().await;
    assert_eq!(world.taken().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_stalls_does_not_hold_up_the_drain() {
    let world = World::new();
    let mut client = world.client().await;
    client.begins_a_mail_to("c@d.test").await;
    world.server.shut_down();
    let begun = Instant::now();
    client.hears("421 4.3.2").await;
    assert_eq!(begun.elapsed().as_secs(), DRAIN.as_secs());
}

// === The listener, on real sockets ===

async fn greeting(address: std::net::SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut line = [0; 200];
    let octets = stream.read(&mut line).await.unwrap();
    (stream, String::from_utf8_lossy(&line[..octets]).into_owned())
}

#[tokio::test]
async fn the_listener_gives_out_its_seats_and_no_more() {
    let server = server_with(&smtp(), 1 << 20);
    let socket = listener::bind(&smtp().listen[0]).unwrap();
    let address = socket.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let serving = tokio::spawn(listener::serve(socket, Arc::clone(&server)));

    let (one, first) = greeting(address).await;
    let (_two, second) = greeting(address).await;
    let (_three, third) = greeting(address).await;
    assert!(first.starts_with("220 ") && second.starts_with("220 "));
    assert_eq!(third, "421 4.7.0 Too many connections from your address; try again later\r\n");
    assert_eq!(server.metrics().connections_refused.get(), 1);
    assert_eq!(server.metrics().connections_open.get(), 2);

    drop(one);
    while server.metrics().connections_open.get() > 1 {
        tokio::task::yield_now().await;
    }
    let (_four, fourth) = greeting(address).await;
    assert!(fourth.starts_with("220 "));

    server.shut_down();
    serving.await.unwrap();
    server.drained().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_relay_as_a_whole_has_so_many_seats() {
    let server = server_with(&Smtp { max_connections: 1, ..smtp() }, 1 << 20);
    let socket = listener::bind(&smtp().listen[0]).unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener::serve(socket, Arc::clone(&server)));
    let (_one, first) = greeting(address).await;
    let (_two, second) = greeting(address).await;
    assert!(first.starts_with("220 "));
    assert_eq!(second, "421 4.7.0 Too many connections to this relay; try again later\r\n");
}

#[tokio::test]
async fn an_address_that_is_taken_cannot_be_bound() {
    let socket = listener::bind(&smtp().listen[0]).unwrap();
    let taken = format!("smtp://{}", socket.local_addr().unwrap()).parse().unwrap();
    assert!(listener::bind(&taken).is_err());
}
