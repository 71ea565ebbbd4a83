//! Values in words: `"25s"`, `"20MiB"`, `"50/s"`, `"10.0.0.0/8"`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// A number of octets, written `"20MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// As a length in memory.
    pub fn octets(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size = bytesize::ByteSize::from_str(text).map_err(|_| format!("{text:?} is not a size like \"20MiB\""))?;
        if size.0 == 0 { Err("a size of 0 lets nothing pass".to_owned()) } else { Ok(Self(size.0)) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytesize::ByteSize(self.0).display().iec())
    }
}

/// Requests a time, written `"50/s"`, `"100/m"` or `"1000/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate like \"50/s\", \"100/m\" or \"1000/h\"");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// A [`Rate`], or an empty text for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateOrNone(pub Option<Rate>);

impl FromStr for RateOrNone {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
    }
}

/// A network `"10.0.0.0/8"`, or one address, which is a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse().ok().or_else(alone);
        net.map(Self).ok_or_else(|| format!("{text:?} is not a network like \"10.0.0.0/8\" or an address"))
    }
}

/// `"0.0.0.0:8026"`, or an empty text for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressOrNone(pub Option<SocketAddr>);

impl FromStr for AddressOrNone {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| format!("{text:?} is not an address like \"0.0.0.0:8026\""))?;
        Ok(Self(Some(address)))
    }
}

macro_rules! deserialize_from_str {
    ($($type:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use deserialize_from_str;
deserialize_from_str!(Size, Rate, RateOrNone, Network, AddressOrNone);

/// `#[serde(with = "pause")]`: a duration in words that may be `"0s"`.
pub mod pause {
    use super::{Deserialize, Deserializer, Duration};

    /// Longer than anything here is meant to last.
    const LONGEST: Duration = Duration::from_hours(24);

    /// Reads a duration in words.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        match humantime::parse_duration(&text) {
            Ok(duration) if duration > LONGEST => Err(serde::de::Error::custom("more than a day must be a slip")),
            Ok(duration) => Ok(duration),
            Err(_) => Err(serde::de::Error::custom(format!("{text:?} is not a duration like \"25s\" or \"5m\""))),
        }
    }
}

/// `#[serde(with = "duration")]`: `"25s"`, `"1m 30s"`, `"250ms"`; never 0.
pub mod duration {
    use super::{Deserializer, Duration, pause};

    /// Reads a duration in words.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let duration = pause::deserialize(deserializer)?;
        if duration.is_zero() {
            return Err(serde::de::Error::custom("a duration of 0 leaves no time at all"));
        }
        Ok(duration)
    }
}
