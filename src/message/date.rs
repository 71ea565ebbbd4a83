//! Points in time as people and programs write them in headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_parser::DateTime;

/// A point in time as RFC 5322 §3.3 writes it, in UTC.
pub fn internet_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time).replace("GMT", "+0000")
}

/// Seconds since 1970 (UTC) of a date as RFC 3339 writes it (`2026-11-22T09:00:00+01:00`; the `T` may be a blank, and
/// without an offset it is UTC) or as RFC 5322 §3.3 does (`Sun, 22 Nov 2026 09:00:00 +0100`). `None`: neither, or before
/// 1970.
pub fn unix_seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(time) = rfc3339(text) {
        return time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    }
    let date = DateTime::parse_rfc822(&format!("{text}\n")).filter(DateTime::is_valid)?;
    u64::try_from(date.to_timestamp()).ok()
}

/// A point in time as RFC 3339 writes it: the `T` may be a blank, and without an offset it is UTC.
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    let (local, offset) = split_offset(text);
    let time = humantime::parse_rfc3339_weak(local).ok()?;
    let by = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { time.checked_add(by) } else { time.checked_sub(by) }
}

/// `±HH:MM` at the end, in seconds east of UTC.
fn split_offset(text: &str) -> (&str, i64) {
    let offset = || {
        let at = text.len().checked_sub(6)?;
        let (local, offset) = (text.get(..at)?, text.get(at..)?);
        let (hours, minutes) = offset.get(1..)?.split_once(':')?;
        let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?;
        let seconds = number(hours)? * 3600 + number(minutes)? * 60;
        match offset.as_bytes().first()? {
            b'+' => Some((local, seconds)),
            b'-' => Some((local, -seconds)),
            _ => None,
        }
    };
    offset().unwrap_or((text, 0))
}
