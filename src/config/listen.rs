//! Where mail comes in, as a URL: `"smtp://127.0.0.1:2525"`, `"lmtp+unix:///run/sidepost.sock?mode=0660"`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::values::deserialize_from_str;

/// The longest path of a Unix socket that systems take (`sun_path` less its end).
const LONGEST_PATH: usize = 107;
/// The port of SMTP, where a client would take an LMTP server for an SMTP one (RFC 2033 §5).
const SMTP_PORT: u16 = 25;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken.
    pub scheme: Scheme,
    /// Where.
    pub place: Place,
    /// `?proxy=require`: each connection begins with a PROXY header.
    pub proxy: bool,
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// SMTP, with STARTTLS where there is a certificate.
    Smtp,
    /// SMTP within TLS from the first octet (RFC 8314).
    Smtps,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP. Port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Who may connect: the permissions of the file.
        mode: u32,
        /// User and group that own it; else the ones of the process.
        owner: Option<(u32, u32)>,
    },
}

/// The permissions of a Unix socket unless said otherwise: its owner and group.
const MODE: u32 = 0o660;

impl Listen {
    /// Plain SMTP over TCP.
    pub fn smtp(address: SocketAddr) -> Self {
        Self { scheme: Scheme::Smtp, place: Place::Tcp(address), proxy: false }
    }

    /// The TCP address, if it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Tcp(address) => Some(address),
            Place::Unix { .. } => None,
        }
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(text))?;
        let (place, options) = rest.split_once('?').map_or((rest, None), |(place, options)| (place, Some(options)));
        let (scheme, unix) = match scheme {
            "smtp" => (Scheme::Smtp, false),
            "smtps" => (Scheme::Smtps, false),
            "lmtp" => (Scheme::Lmtp, false),
            "smtp+unix" => (Scheme::Smtp, true),
            "lmtp+unix" => (Scheme::Lmtp, true),
            _ => return Err(wrong(text)),
        };
        let place = if unix { unix_place(text, place)? } else { Place::Tcp(place.parse().map_err(|_| wrong(text))?) };
        let mut listen = Self { scheme, place, proxy: false };
        if scheme == Scheme::Lmtp && listen.address().is_some_and(|address| address.port() == SMTP_PORT) {
            return Err(format!("{text:?}: LMTP must not be on port 25 (RFC 2033 §5); choose another, like 2424"));
        }
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            listen.set(text, option)?;
        }
        Ok(listen)
    }
}

impl Listen {
    fn set(&mut self, text: &str, option: &str) -> Result<(), String> {
        match (option.split_once('='), &mut self.place) {
            (Some(("proxy", "require")), _) => self.proxy = true,
            (Some(("mode", given)), Place::Unix { mode, .. }) => {
                let octal = u32::from_str_radix(given, 8).ok().filter(|mode| (1..=0o777).contains(mode));
                *mode = octal.ok_or_else(|| format!("{text:?}: {given:?} is not a file mode like 0660"))?;
            }
            (Some(("owner", given)), Place::Unix { owner, .. }) => {
                let ids =
                    given.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
                *owner =
                    Some(ids.ok_or_else(|| format!("{text:?}: {given:?} is not an owner in numbers like 1000:1000"))?);
            }
            _ => {
                return Err(format!(
                    "{text:?}: {option:?} is no option here; there are ?proxy=require and, for Unix sockets, ?mode=0660 and ?owner=1000:1000"
                ));
            }
        }
        Ok(())
    }
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is not a listener like \"smtp://127.0.0.1:2525\", \"smtps://[::1]:4650\", \"lmtp://127.0.0.1:2424\", \"smtp+unix:///run/sidepost.sock\" or \"lmtp+unix:///…\""
    )
}

fn unix_place(text: &str, path: &str) -> Result<Place, String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(format!("{text:?}: a Unix socket has an absolute path, as in \"smtp+unix:///run/sidepost.sock\""));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("{text:?}: the path of a Unix socket has at most {LONGEST_PATH} octets"));
    }
    Ok(Place::Unix { path: path.into(), mode: MODE, owner: None })
}

impl Listen {
    /// The URL without its options, as routes name a listener.
    pub fn name(&self) -> String {
        let url = self.to_string();
        url.split_once('?').map_or_else(|| url.clone(), |(name, _)| name.to_owned())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Smtp => "smtp",
            Scheme::Smtps => "smtps",
            Scheme::Lmtp => "lmtp",
        };
        match &self.place {
            Place::Tcp(address) => write!(f, "{scheme}://{address}")?,
            Place::Unix { path, mode, owner } => {
                write!(f, "{scheme}+unix://{}?mode={mode:04o}", path.display())?;
                if let Some((user, group)) = owner {
                    write!(f, "&owner={user}:{group}")?;
                }
            }
        }
        match (self.proxy, &self.place) {
            (true, Place::Tcp(_)) => f.write_str("?proxy=require"),
            (true, Place::Unix { .. }) => f.write_str("&proxy=require"),
            (false, _) => Ok(()),
        }
    }
}

deserialize_from_str!(Listen);
