//! The codec: what ends a line, what ends a message, and that the cut of the stream never matters.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sidepost::smtp::codec::{ChunkDecoder, DataDecoder, Decode, Flaw, Line, LineReader, MAX_LINE};

// === Lines ===

/// A line as a test sees it.
#[derive(Debug, PartialEq)]
enum Seen {
    Command(Vec<u8>),
    Garble,
    TooLong,
}

/// Feeds the pieces one after the other, as a connection would; returns the lines, and the most octets ever held.
fn lines(pieces: &[&[u8]]) -> (Vec<Seen>, usize) {
    let (mut reader, mut held, mut most, mut seen) = (LineReader::default(), Vec::new(), 0, Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let scan = reader.scan(&held);
            if let Some(line) = scan.line {
                seen.push(match line {
                    Line::Command { len } => Seen::Command(held[..len].to_vec()),
                    Line::Garble => Seen::Garble,
                    Line::TooLong => Seen::TooLong,
                });
            }
            held.drain(..scan.used);
            if scan.line.is_none() && scan.used == 0 {
                break;
            }
        }
        most = most.max(held.len());
    }
    (seen, most)
}

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
        assert_eq!(&lines(&[input]).0, expected, "{:?}", input.escape_ascii().to_string());
    }
}

#[test]
fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let line = |len| [vec![b'a'; len], b"\r\nNOOP\r\n".to_vec()].concat();
    assert_eq!(lines(&[&line(510)]).0[0], Seen::Command(vec![b'a'; 510]));
    assert_eq!(lines(&[&line(MAX_LINE)]).0[0], Seen::Command(vec![b'a'; MAX_LINE]));
    assert_eq!(lines(&[&line(MAX_LINE + 1)]).0, [Seen::TooLong, command("NOOP")]);
}

#[test]
fn an_endless_line_is_not_held() {
    let piece = [b'A'; 4096];
    let mut pieces = vec![&piece[..]; 1000];
    pieces.push(b"\r\nNOOP\r\n");
    let (seen, most) = lines(&pieces);
    assert_eq!(seen, [Seen::TooLong, command("NOOP")]);
    assert!(most <= MAX_LINE + 2, "{most} octets held");
}

// === Data ===

/// Decodes the pieces; the octets that follow the dot come back.
fn decode(pieces: &[&[u8]], limit: usize) -> Option<(Result<Bytes, Flaw>, Vec<u8>)> {
    let mut decoder = DataDecoder::new(limit);
    for (i, piece) in pieces.iter().enumerate() {
        if let Some(end) = decoder.decode(piece) {
            let rest = [&piece[end..], &pieces[i + 1..].concat()].concat();
            return Some((decoder.finish(), rest));
        }
    }
    None
}

fn whole(input: &[u8]) -> Option<(Result<Bytes, Flaw>, Vec<u8>)> {
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

/// Gives each chunk in pieces, and what followed it in the same piece back.
fn chunked(chunks: &[&[u8]], lengths: &[usize], limit: usize) -> Result<Bytes, Flaw> {
    let mut decoder = ChunkDecoder::new(limit);
    for (i, chunk) in chunks.iter().enumerate() {
        decoder = decoder.expect(chunk.len() as u64, i + 1 == chunks.len());
        let sent = [chunk, &b"BDAT"[..]].concat();
        let mut given = 0;
        // An empty chunk has ended before anything came.
        let mut end = decoder.decode(b"");
        for piece in cut(&sent, lengths) {
            if end.is_some() {
                break;
            }
            end = decoder.decode(piece).map(|end| given + end);
            given += piece.len();
        }
        assert_eq!(end, Some(chunk.len()), "a chunk ends where it was said to end");
        assert!(decoder.held() <= limit);
        assert!(!decoder.is_flawed() || decoder.held() == 0);
        decoder = decoder.checked()?;
    }
    decoder.finish()
}

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

/// One octet at a time, as the RFC words it. Of several flaws the line ends speak.
fn reference(input: &[u8]) -> Option<(Result<Vec<u8>, Flaw>, usize)> {
    let mut start = 0;
    let mut content = Vec::new();
    let mut flawed = false;
    loop {
        let end = start + input[start..].windows(2).position(|w| w == b"\r\n")? + 2;
        let line = &input[start..end];
        if line == b".\r\n" {
            return Some((if flawed { Err(Flaw::LineEnds) } else { Ok(content) }, end));
        }
        let crs = line.iter().rev().skip(1).take_while(|octet| **octet == b'\r').count();
        let text = &line[..line.len() - 1 - crs];
        flawed |= text.contains(&b'\r') || text.contains(&b'\n') || (text == b"." && crs > 1);
        content.extend_from_slice(text.strip_prefix(b".").unwrap_or(text));
        content.extend_from_slice(b"\r\n");
        start = end;
    }
}

/// Cuts into pieces of these lengths, round and round.
fn cut<'a>(mut input: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (piece, rest) = input.split_at((*length).min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

fn stuff(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::new();
    for line in content.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_decoder_agrees_with_the_reference(input in vec(prop::sample::select(b"\r\n.\0x".to_vec()), 0..40)) {
        let expected = reference(&input).map(|(content, end)| (content.map(Bytes::from), input[end..].to_vec()));
        prop_assert_eq!(whole(&input), expected);
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
        let once = chunked(&[&content], &[usize::MAX], limit);
        let mut pieces = cut(&content, if chunks.iter().all(|n| *n == 0) { &[1] } else { &chunks });
        pieces.push(b"");
        let many = chunked(&pieces, &lengths, limit);
        // Which flaw speaks may depend on which chunk it was found in.
        prop_assert_eq!(many.clone().ok(), once.clone().ok());
        let lonely = |i: usize| match content[i] {
            b'\r' => content.get(i + 1) != Some(&b'\n'),
            b'\n' => i == 0 || content[i - 1] != b'\r',
            _ => false,
        };
        let good = content.len() <= limit && !(0..content.len()).any(lonely);
        prop_assert_eq!(once, if good { Ok(Bytes::from(content)) } else { Err(many.unwrap_err().max(
            if (0..content.len()).any(lonely) { Flaw::LineEnds } else { Flaw::TooLarge })) });
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
        prop_assert_eq!(lines(&cut(input, &lengths)).0, lines(&[input]).0);
    }
}
