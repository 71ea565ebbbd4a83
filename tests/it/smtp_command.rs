//! The command parser: one line in, one command or one refusal out.

use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::address::Address;
use sidepost::reply::Reply;
use sidepost::smtp::command::{Command, Mail, Utf8, parse};

use crate::properties;

fn read(line: &[u8]) -> Result<Command, Reply> {
    parse(line, "relay.test", Utf8::NotOffered)
}

fn mail(reverse_path: &str, size: u64) -> Command {
    let reverse_path = (!reverse_path.is_empty()).then(|| address(reverse_path));
    Command::Mail(Mail { reverse_path, size, auth: false, utf8: false })
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn rcpt(text: &str) -> Command {
    Command::Rcpt(address(text))
}

#[test]
fn commands_are_understood() {
    let table: Vec<(&str, Command)> = vec![
        ("EHLO app.test", Command::Ehlo("app.test".into())),
        ("ehlo [127.0.0.1]", Command::Ehlo("[127.0.0.1]".into())),
        ("EHLO under_score", Command::Ehlo("under_score".into())),
        ("EHLO two words", Command::Ehlo("two words".into())),
        ("lhlo x", Command::Lhlo("x".into())),
        ("hELO x", Command::Helo("x".into())),
        ("MAIL FROM:<>", mail("", 0)),
        ("mail from:<a@b.test>", mail("a@b.test", 0)),
        ("MAIL FROM: <a@b.test>", mail("a@b.test", 0)),
        ("MAIL  FROM:<a@b.test>  ", mail("a@b.test", 0)),
        ("MAIL FROM:<a@B.Test> SIZE=00012 BODY=8BITMIME", mail("a@b.test", 12)),
        ("MAIL FROM:<> body=7bit size=5", mail("", 5)),
        ("MAIL FROM:<a@b.test> SIZE=18446744073709551615", mail("a@b.test", u64::MAX)),
        ("MAIL FROM:<a@b.test> SIZE=99999999999999999999", mail("a@b.test", u64::MAX)),
        ("MAIL FROM:<\"a> SIZE=9\"@b.test>", mail("\"a> SIZE=9\"@b.test", 0)),
        ("RCPT TO:<a@b.test>", rcpt("a@b.test")),
        ("rcpt to: <a@b.test>", rcpt("a@b.test")),
        ("RCPT TO:<\"victim@x\"@c.d>", rcpt("\"victim@x\"@c.d")),
        ("RCPT TO:<u@[127.0.0.1]>", rcpt("u@[127.0.0.1]")),
        ("RCPT TO:<@a.test,@b.test:c@d.test>", rcpt("c@d.test")),
        ("RCPT TO:<u@[IPv6:::1]>", rcpt("u@[IPv6:::1]")),
        ("RCPT TO:<\"a:b\"@c.test>", rcpt("\"a:b\"@c.test")),
        ("RCPT TO:<Postmaster>", rcpt("postmaster@relay.test")),
        ("RCPT TO:<Postmaster@c.test>", rcpt("Postmaster@c.test")),
        ("DATA", Command::Data),
        ("data  ", Command::Data),
        ("RSET", Command::Rset),
        ("NOOP anything <at> all", Command::Noop),
        ("VRFY ann", Command::Vrfy),
        ("EXPN list", Command::Expn),
        ("HELP", Command::Help),
        ("HELP MAIL", Command::Help),
        ("QUIT", Command::Quit),
        ("GET / HTTP/1.1", Command::Http),
        ("post /send HTTP/1.0", Command::Http),
        ("CONNECT a:25 HTTP/1.1", Command::Http),
        ("Host: localhost", Command::Http),
        ("Subject: hello", Command::Http),
        ("X-Empty:", Command::Http),
    ];
    for (line, expected) in table {
        assert_eq!(read(line.as_bytes()), Ok(expected), "{line}");
    }
}

#[test]
fn what_is_no_command_is_refused() {
    let table: &[(&[u8], &str)] = &[
        (b"", "500 5.5.1"),
        (b" NOOP", "500 5.5.1"),
        (b"XYZZY", "500 5.5.1"),
        (b"DATAX", "500 5.5.1"),
        (b"MAILFROM:<a@b.test>", "500 5.5.1"),
        (b"{\"a\":1}", "500 5.5.1"),
        (b"NOOP\x00", "500 5.5.2"),
        (b"NO\x00OP", "500 5.5.2"),
        (b"\xff\xfe", "500 5.5.2"),
        (b"N\xc3\x96OP", "500 5.5.2"),
        (b"STARTTLS now", "501 5.5.4"),
        (b"AUTH", "501 5.5.4"),
        (b"AUTH PLAIN a b", "501 5.5.4"),
        (b"AUTH \xff", "500 5.5.2"),
        (b"MAIL FROM:<> AUTH=", "501 5.5.4"),
        (b"MAIL FROM:<> AUTH=a+0", "501 5.5.4"),
        (b"MAIL FROM:<> AUTH=a+zz", "501 5.5.4"),
        (b"MAIL FROM:<> AUTH=<> AUTH=<>", "501 5.5.4"),
        (b"LHLO", "501 Say"),
        (b"SEND FROM:<a@b.test>", "502 5.5.1"),
        (b"DATA junk", "501 5.5.4"),
        (b"RSET x", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
        (b"VRFY", "501 5.5.4"),
        (b"EHLO", "501 Say"),
        (b"HELO  ", "501 Say"),
        (b"EHLO a\x1bb", "501 The name"),
        (b"EHLO \xc3\xbcber", "501 The name"),
        (b"MAIL", "501 5.5.2"),
        (b"MAIL a@b.test", "501 5.5.2"),
        (b"MAIL FROM", "501 5.5.2"),
        (b"MAIL FROM:", "501 5.5.2"),
        (b"MAIL FROM:a@b.test", "501 5.5.2"),
        (b"MAIL FROM :<a@b.test>", "501 5.5.2"),
        (b"MAIL TO:<a@b.test>", "501 5.5.2"),
        (b"RCPT TO:a@b.test", "501 5.5.2"),
    ];
    refused(table);
}

#[test]
fn what_is_no_address_is_refused() {
    let table: &[(&[u8], &str)] = &[
        (b"MAIL FROM:<a@b.test", "501 5.1.7"),
        (b"MAIL FROM:<root>", "501 5.1.7"),
        (b"MAIL FROM:<postmaster>", "501 5.1.7"),
        (b"MAIL FROM:<<a@b.test>", "501 5.1.7"),
        (b"MAIL FROM:<a@b.test>>", "501 5.5.4"),
        (b"MAIL FROM:<j\xc3\xb6@b.test>", "550 5.6.7"),
        (b"RCPT TO:<>", "553 5.1.3"),
        (b"RCPT TO:<ann>", "553 5.1.3"),
        (b"RCPT TO:<\"a\x00\x01b\"@c.test>", "553 5.1.3"),
        (b"RCPT TO:<us\ter@c.test>", "553 5.1.3"),
        (b"RCPT TO:<\xff\xfe@c>", "550 5.6.7"),
        (b"RCPT TO:<u@>", "553 5.1.3"),
        (b"RCPT TO:<a.@b>", "553 5.1.3"),
        (b"RCPT TO:<u@[300.1.2.3]>", "553 5.1.3"),
        (b"RCPT TO:<u@[127.0.0.1>", "553 5.1.3"),
        (b"RCPT TO:<a@b.test,c@d.test>", "553 5.1.3"),
        (b"RCPT TO:<a(comment)@b.test>", "553 5.1.3"),
        (b"RCPT TO:<@a.test,b.test:c@d.test>", "553 5.1.3"),
        (b"RCPT TO:<@:c@d.test>", "553 5.1.3"),
        (b"RCPT TO:<a@b.test> <c@d.test>", "501 5.5.4"),
    ];
    refused(table);
}

#[test]
fn wrong_parameters_are_refused() {
    for parameter in
        ["=1", "=", "SIZE", "SIZE=", "SIZE=abc", "SIZE=-1", "SIZE=1.5", "SIZE=0x10", "SIZE=1 SIZE=2", "SIZE=1 size=1"]
            .into_iter()
            .chain(["BODY", "BODY=", "BODY=9BIT", "BODY=7BIT BODY=7BIT", "SIZE=1=2", "SIZE=\u{661}", "a\tb"])
            .chain(["SIZE=111111111111111111111"])
    {
        refused(&[(format!("MAIL FROM:<a@b.test> {parameter}").as_bytes(), "501 5.5.4")]);
    }
    refused(&[
        (b"MAIL FROM:<a@b.test> FOO", "555 5.5.4"),
        (b"MAIL FROM:<a@b.test> SIZE=1 SMTPUTF8", "555 5.5.4"),
        (b"MAIL FROM:<a@b.test>SIZE=10", "501 5.5.4"),
        (b"RCPT TO:<a@b.test> SIZE=1", "555 5.5.4"),
        (b"RCPT TO:<a@b.test> NOTIFY=NEVER", "555 5.5.4"),
        (b"RCPT TO:<a@b.test> =", "501 5.5.4"),
    ]);
}

fn refused(table: &[(&[u8], &str)]) {
    for (line, expected) in table {
        let text = line.escape_ascii().to_string();
        let reply = read(line).expect_err(&text).to_string();
        assert!(reply.starts_with(expected), "{text}: {reply}");
    }
}

/// Pieces that lines of the dialogue are made of, right and wrong.
pub fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"EHLO a.test",
        b"HELO x",
        b"MAIL FROM:<a@b.test>",
        b"MAIL FROM:<>",
        b"RCPT TO:<a@b.test>",
        b"RCPT TO:<c@d.test>",
        b"DATA",
        b"RSET",
        b"NOOP",
        b"VRFY x",
        b"EXPN x",
        b"HELP",
        b"QUIT",
        b"GET /",
        b"MAIL FROM:",
        b"RCPT TO:",
        b"<",
        b">",
        b"@",
        b"\"",
        b"\\",
        b"[",
        b"]",
        b":",
        b",",
        b" ",
        b"=",
        b"SIZE",
        b"=9",
        b"BODY=7BIT",
        b"a",
        b"b.test",
        b"\0",
        b"\xff",
        b"\t",
        b"BDAT 1",
        b"AUTH",
        b"BDAT 3",
        b"BDAT 3 LAST",
        b"STARTTLS",
        b"MAIL FROM:<j\xc3\xb6@b.test> SMTPUTF8",
        b"RCPT TO:<j\xc3\xb6@b.test>",
        b" SMTPUTF8",
        b"\xc3\xb6",
        b"\xcc\x88",
    ];
    vec(prop::sample::select(words), 1..6).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_line_is_answered(line in any_line()) {
        properties::command::holds(&line);
    }

    #[test]
    fn any_octets_are_answered(line in vec(any::<u8>(), 0..80)) {
        properties::command::holds(&line);
    }

    #[test]
    fn an_address_reads_as_it_is_written(local in "[ -~]{1,20}", domain in "[a-zA-Z0-9.-]{1,20}") {
        let quoted = format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
        for local in [local, quoted] {
            let Ok(Command::Rcpt(address)) = read(format!("RCPT TO:<{local}@{domain}>").as_bytes()) else { continue };
            prop_assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
            prop_assert_eq!(read(format!("RCPT TO:<{address}>").as_bytes()), Ok(Command::Rcpt(address)));
        }
    }
}
