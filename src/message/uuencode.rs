//! Uuencode as a transfer encoding (`x-uuencode`): what Unix used before MIME, and some gateways since.

/// The octets between `begin` and `end`; `None` if there is no `begin` line. Of a damaged line what can be read counts.
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut lines = encoded.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    lines.find(|line| is_begin(line))?;
    let mut octets = Vec::with_capacity(encoded.len() / 4 * 3);
    for line in lines.take_while(|line| *line != b"end") {
        let Some((length, symbols)) = line.split_first() else { continue };
        let length = usize::from(value(*length));
        let end = octets.len() + length.min(symbols.len().div_ceil(4) * 3);
        for group in symbols.chunks(4) {
            let at = |i: usize| u32::from(group.get(i).copied().map_or(0, value));
            let bits = at(0) << 18 | at(1) << 12 | at(2) << 6 | at(3);
            octets.extend(bits.to_be_bytes().into_iter().skip(1));
        }
        octets.truncate(end);
    }
    Some(octets)
}

/// `begin 644 name`
fn is_begin(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ');
    let mode = |word: &[u8]| (3..=4).contains(&word.len()) && word.iter().all(|b| (b'0'..=b'7').contains(b));
    words.next() == Some(b"begin") && words.next().is_some_and(mode)
}

/// Six bits; the grave accent and the blank are both zero.
fn value(symbol: u8) -> u8 {
    symbol.wrapping_sub(b' ') & 0x3f
}
