//! AUTH's exchanges: credentials come out of what RFC 4648 and RFC 4616 let through to the letter, and of nothing else.

use sidepost::reply::Enhanced;
use sidepost::secret::Secret;
use sidepost::smtp::sasl::{Mechanism, Turn};

use super::{reply, steered};

/// How an exchange ends: name and password, or the codes of the refusal.
type End = Result<(String, String), (u16, Enhanced)>;

const MALFORMED: (u16, Enhanced) = (501, Enhanced(5, 5, 2));

/// Plays the lines of the input as responses. Of the first octet, bit 0 says PLAIN or LOGIN, bit 1 whether the first
/// response comes with the command. The end is the one that a reader of its own makes of the responses.
pub fn holds(input: &[u8]) {
    let ([choice], rest) = steered(input);
    let mut responses = rest.split(|b| *b == b'\n');
    let initial = if choice & 2 == 0 { None } else { responses.next() };
    let Ok(initial) = initial.map(str::from_utf8).transpose() else { return };
    let mut heard: Vec<&[u8]> = initial.iter().map(|text| if *text == "=" { b"" } else { text.as_bytes() }).collect();
    // Only with the command is "=" nothing, and "*" no cancellation.
    let (as_command, is_plain) = (heard.len(), choice & 1 == 0);
    let mechanism = Mechanism::named(if is_plain { "plain" } else { "LOGIN" }).unwrap();
    let mut turn = mechanism.begin(initial.map(Secret::new).as_ref());
    while let Turn::Ask(exchange, challenge) = turn {
        reply::is_lawful(&challenge);
        assert_eq!(challenge.code, 334);
        assert!(heard.len() < if is_plain { 1 } else { 2 }, "asked once too often");
        let Some(response) = responses.next() else { return };
        heard.push(response);
        turn = exchange.respond(response);
    }
    let cancelled = heard.len() > as_command && heard.last() == Some(&&b"*"[..]);
    let expected = if cancelled { Err((501, Enhanced(5, 7, 0))) } else { expected(is_plain, &heard) };
    assert_eq!(end(turn), expected, "{heard:?}");
}

fn end(turn: Turn) -> End {
    match turn {
        Turn::Done(credentials) => Ok((credentials.user, credentials.password.expose().to_owned())),
        Turn::Refused(refusal) => {
            reply::is_refusal(&refusal);
            Err((refusal.code, refusal.enhanced.unwrap()))
        }
        Turn::Ask(..) => unreachable!("whoever asks is answered"),
    }
}

fn expected(is_plain: bool, heard: &[&[u8]]) -> End {
    let texts: Option<Vec<String>> = heard.iter().map(|response| String::from_utf8(decode(response)?).ok()).collect();
    let texts = texts.ok_or(MALFORMED)?;
    let parts: Vec<&str> = if is_plain { texts[0].split('\0').collect() } else { texts.iter().map(|t| &**t).collect() };
    let (acts_as, user, password) = match parts[..] {
        [acts_as, user, password] if is_plain => (acts_as, user, password),
        [user, password] if !is_plain => ("", user, password),
        _ => return Err(MALFORMED),
    };
    if user.is_empty() || password.is_empty() || user.contains('\0') || password.contains('\0') {
        return Err(MALFORMED);
    }
    if !acts_as.is_empty() && acts_as != user {
        return Err((535, Enhanced(5, 7, 8)));
    }
    Ok((user.to_owned(), password.to_owned()))
}

/// RFC 4648 §4 and §3.5: padded, nothing else in it, and the bits that are left over are zero.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padding = text.iter().rev().take(2).take_while(|b| **b == b'=').count();
    let mut octets = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for symbol in &text[..text.len() - padding] {
        bits = (bits << 6 | u32::try_from(ALPHABET.iter().position(|b| b == symbol)?).unwrap()) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    let left_over = bits & ((1 << held) - 1);
    (text.len().is_multiple_of(4) && held / 2 == padding && left_over == 0).then_some(octets)
}
