//! The codec: what ends a line, what ends a message, and that the cut of the stream never matters.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::smtp::codec::{ChunkDecoder, DataDecoder, Decode, Flaw, LineReader, MAX_LINE};

use crate::properties::codec::{Message, Seen, chunked, chunks_hold, cut, decode, lines, reference, stuff};

// === Lines ===

fn command(text: &str) -> Seen {
    Seen::Command(text.as_bytes().to_vec())
}

#[test]
fn only_crlf_ends_a_line() {
    let table: &[(&[u8], Vec<Seen>)] = &[
        (b"NOOP\r\nQUIT\r\n", vec![command("NOOP"), command("QUIT")]),
        (b"\r\n", vec![command("")]),
        (b"mail from:<a@b>\n", vec![Seen::Garble]),
        (b"mail from:<a@b>\r", vec![]),
        (b"mail from:<a@b>\nRSET\r\nNOOP\r\n", vec![Seen::Garble, command("NOOP")]),
        (b"DA\rTA\r\n", vec![Seen::Garble]),
        (b"RCPT TO:<a\rb@c>\r\n", vec![Seen::Garble]),
        (b"NOOP\r\r\nNOOP\r\n", vec![Seen::Garble, command("NOOP")]),
        (b"\n\r\n\r\n", vec![Seen::Garble, command("")]),
        (b"NOOP\x00\x0b\x0c\x85RSET\r\n", vec![Seen::Command(b"NOOP\x00\x0b\x0c\x85RSET".to_vec())]),
    ];
    for (input, expected) in table {
        assert_eq!(&lines(&[input], LineReader::scan).0, expected, "{:?}", input.escape_ascii().to_string());
    }
}

#[test]
fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let line = |len| [vec![b'a'; len], b"\r\nNOOP\r\n".to_vec()].concat();
    assert_eq!(lines(&[&line(510)], LineReader::scan).0[0], Seen::Command(vec![b'a'; 510]));
    assert_eq!(lines(&[&line(MAX_LINE)], LineReader::scan).0[0], Seen::Command(vec![b'a'; MAX_LINE]));
    assert_eq!(lines(&[&line(MAX_LINE + 1)], LineReader::scan).0, [Seen::TooLong, command("NOOP")]);
}

#[test]
fn an_endless_line_is_not_held() {
    let piece = [b'A'; 4096];
    let mut pieces = vec![&piece[..]; 1000];
    pieces.push(b"\r\nNOOP\r\n");
    let (seen, most) = lines(&pieces, LineReader::scan);
    assert_eq!(seen, [Seen::TooLong, command("NOOP")]);
    assert!(most <= MAX_LINE + 2, "{most} octets held");
}

// === Data ===

fn whole(input: &[u8]) -> Option<Message> {
    decode(&[input], usize::MAX)
}

#[test]
fn a_message_ends_at_its_dot() {
    let table: &[(&[u8], &[u8], &[u8])] = &[
        (b".\r\n", b"", b""),
        (b"..hi\r\n.\r\n", b".hi\r\n", b""),
        (b".hi\r\n.\r\n", b"hi\r\n", b""),
        (b"..\r\n...\r\n.\r\n", b".\r\n..\r\n", b""),
        (b"a.\r\nb .\r\n.\r\nNOOP\r\n", b"a.\r\nb .\r\n", b"NOOP\r\n"),
        (b"\r\n\r\n.\r\n.\r\n", b"\r\n\r\n", b".\r\n"),
        (b"\x00\xff\x80 8 bit\r\n.\r\n", b"\x00\xff\x80 8 bit\r\n", b""),
    ];
    for (input, content, rest) in table {
        let expected = (Ok(Bytes::copy_from_slice(content)), rest.to_vec());
        assert_eq!(whole(input), Some(expected), "{:?}", input.escape_ascii().to_string());
    }
}

/// What other servers took for the end (SMTP smuggling). The message goes on, and is refused in the end.
#[test]
fn nothing_else_ends_a_message() {
    let table: &[&[u8]] = &[
        b"hi\r\n.\r\r\n",
        b"hi\n.\n",
        b"hi\n.\r\n",
        b"hi\r.\r",
        b"hi\r.\r\n",
        b"hi\r\n.\n",
        b"hi\r\n.\r",
        b".\n",
        b"\n.\r\n",
        b"hi\r\r",
    ];
    for input in table {
        let text = input.escape_ascii().to_string();
        assert_eq!(whole(input), None, "{text}");
        let refused = whole(&[input, &b"MAIL FROM:<x@y>\r\nz\r\n.\r\nNOOP\r\n"[..]].concat());
        assert_eq!(refused, Some((Err(Flaw::LineEnds), b"NOOP\r\n".to_vec())), "{text}");
    }
    assert_eq!(whole(b"hi\r\n\x00.\r\n"), None);
    assert_eq!(whole(b"hi\r\n .\r\n"), None);
}

/// s-nail ends the lines of CRLF files so. A message that ends in such a line still does not end at its dot.
#[test]
fn a_cr_too_many_before_a_line_end_is_left_out() {
    for (input, content) in [(&b"hi\r\r\n.\r\n"[..], &b"hi\r\n"[..]), (b"\r\r\r\n..\r\r\n.\r\n", b"\r\n.\r\n")] {
        assert_eq!(whole(input), Some((Ok(Bytes::copy_from_slice(content)), Vec::new())));
    }
}

#[test]
fn a_message_over_the_limit_is_read_to_its_dot() {
    let input = b"12345678\r\n.\r\nRSET\r\n";
    assert_eq!(decode(&[input], 10).unwrap().0.unwrap(), &b"12345678\r\n"[..]);
    assert_eq!(decode(&[input], 9), Some((Err(Flaw::TooLarge), b"RSET\r\n".to_vec())));
}

#[test]
fn a_message_without_room_is_read_to_its_dot_and_not_held() {
    let mut decoder = DataDecoder::new(usize::MAX);
    assert_eq!(decoder.decode(b"one\r\n"), None);
    assert_eq!(decoder.held(), 5);
    decoder.give_up();
    assert_eq!(decoder.decode(b"two\r\n"), None);
    assert_eq!(decoder.held(), 0);
    assert_eq!(decoder.decode(b".\r\n"), Some(3));
    assert_eq!(decoder.finish(), Err(Flaw::NoRoom));
}

// === Chunks ===

#[test]
fn chunks_are_taken_as_they_are() {
    type Row<'a> = (&'a [&'a [u8]], Result<&'a [u8], Flaw>);
    let table: &[Row<'_>] = &[
        (&[b""], Ok(b"")),
        (&[b"a\r\n.\r\n..\r\n"], Ok(b"a\r\n.\r\n..\r\n")),
        (&[b"no line end"], Ok(b"no line end")),
        (&[b"a\r", b"\nb", b""], Ok(b"a\r\nb")),
        (&[b"\x00\xff\x80", b"", b"x"], Ok(b"\x00\xff\x80x")),
        (&[b"a\n"], Err(Flaw::LineEnds)),
        (&[b"a\r"], Err(Flaw::LineEnds)),
        (&[b"a\r", b""], Err(Flaw::LineEnds)),
        (&[b"a\r", b"b"], Err(Flaw::LineEnds)),
        (&[b"a", b"\nb"], Err(Flaw::LineEnds)),
        (&[b"\r\r\n"], Err(Flaw::LineEnds)),
        (&[b"12345678", b"9", b"10x"], Err(Flaw::TooLarge)),
    ];
    for (chunks, expected) in table {
        let expected = expected.map(Bytes::copy_from_slice);
        assert_eq!(chunked(chunks, &[1], 11), expected, "{chunks:?}");
        assert_eq!(chunked(chunks, &[100], 11), expected, "{chunks:?}");
    }
}

#[test]
fn a_chunk_that_is_announced_is_not_held_before_it_comes() {
    let mut decoder = ChunkDecoder::new(usize::MAX).expect(u64::MAX, true);
    assert_eq!(decoder.decode(b"x"), None);
    assert!(decoder.is_flawed() || decoder.held() == 1);
    let mut decoder = ChunkDecoder::new(10).expect(11, true);
    assert_eq!((decoder.decode(b"12345"), decoder.held()), (None, 0));
    assert_eq!(decoder.decode(b"123456NOOP"), Some(6));
    assert_eq!(decoder.finish(), Err(Flaw::TooLarge));
}

// === Laws ===

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_decoder_agrees_with_the_reference(input in vec(prop::sample::select(b"\r\n.\0x".to_vec()), 0..40)) {
        prop_assert_eq!(whole(&input), reference(&input));
    }

    #[test]
    fn the_cut_does_not_change_the_message(
        input in vec(prop::sample::select(b"\r\r\n\n..\0x".to_vec()), 0..60),
        tail in prop::bool::ANY,
        lengths in vec(1usize..7, 1..5),
        limit in 0usize..60,
    ) {
        let input = [&input[..], if tail { b"\r\n.\r\nNOOP" } else { b"" }].concat();
        prop_assert_eq!(decode(&cut(&input, &lengths), limit), decode(&[&input], limit));
    }

    #[test]
    fn the_cut_does_not_change_the_chunks(
        content in vec(prop::sample::select(b"\r\r\n\n..\0x".to_vec()), 0..60),
        chunks in vec(0usize..9, 1..5),
        lengths in vec(1usize..7, 1..5),
        limit in 0usize..60,
    ) {
        let chunks = if chunks.iter().all(|n| *n == 0) { vec![1] } else { chunks };
        chunks_hold(&content, &chunks, &lengths, limit);
    }

    #[test]
    fn stuffing_and_unstuffing_is_identity(words in vec(prop::sample::select(vec!["\r\n", ".", "..", "x", "\0", "\u{e9}"]), 0..40)) {
        let content = [words.concat().as_bytes(), if words.is_empty() { b"" } else { b"\r\n" }].concat();
        prop_assert_eq!(whole(&stuff(&content)), Some((Ok(Bytes::from(content)), Vec::new())));
    }

    #[test]
    fn the_cut_does_not_change_the_lines(
        words in vec(prop::sample::select(vec!["\r\n", "\r", "\n", "NOOP", "x"]), 0..40),
        long in prop::option::of(MAX_LINE - 10..MAX_LINE + 10),
        lengths in vec(1usize..700, 1..5),
    ) {
        let input = [words.concat(), "y".repeat(long.unwrap_or(0)), "\r\n".to_owned()].concat();
        let input = input.as_bytes();
        prop_assert_eq!(lines(&cut(input, &lengths), LineReader::scan).0, lines(&[input], LineReader::scan).0);
    }
}
