//! AUTH's exchanges without I/O: PLAIN (RFC 4616) and LOGIN, from base64 to a name and a password.
//!
//! Two programs must never read two passwords out of the same octets: base64 is canonical or refused, a NUL stands
//! where PLAIN puts it and nowhere else, and nothing is cut, folded or trimmed.

use std::net::IpAddr;

use encodify::base64::STANDARD;
use futures_util::future::BoxFuture;

use crate::envelope::Login;
use crate::reply::{Enhanced, Reply};
use crate::secret::Secret;

/// What EHLO says after AUTH.
pub const MECHANISMS: &str = "PLAIN LOGIN";

/// Who a client says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name; never empty.
    pub user: String,
    /// The password; never empty.
    pub password: Secret,
}

/// Whether the credentials are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are.
    Welcome(Login),
    /// They are not, or nobody has that name: the client cannot tell which.
    Refused,
    /// The client has failed too often, and was not looked at.
    TooMany,
}

/// Who knows the users.
pub trait Authenticate: Send + Sync {
    /// Looks at one pair of name and password. `None` is a client on a Unix socket.
    fn check<'a>(&'a self, credentials: &'a Credentials, client: Option<IpAddr>) -> BoxFuture<'a, Verdict>;
}

/// The mechanisms that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: all in one response.
    Plain,
    /// Not in any RFC, and all that some clients know: name and password, each asked for.
    Login,
}

/// An exchange that waits for the client's next response.
#[derive(Debug)]
pub enum Exchange {
    /// PLAIN's one response.
    Plain,
    /// LOGIN's first: the name.
    LoginUser,
    /// LOGIN's second: the password of this user.
    LoginPassword(String),
}

/// What a response leads to.
#[derive(Debug)]
pub enum Turn {
    /// Say this, and wait for a response.
    Ask(Exchange, Reply),
    /// The client has said it all.
    Done(Credentials),
    /// The exchange is over without credentials.
    Refused(Reply),
}

impl Mechanism {
    /// The mechanism of this name, in any case (RFC 4422 §3.1).
    pub fn named(name: &str) -> Option<Self> {
        [("PLAIN", Self::Plain), ("LOGIN", Self::Login)]
            .into_iter()
            .find_map(|(known, mechanism)| known.eq_ignore_ascii_case(name).then_some(mechanism))
    }

    /// Begins an exchange. A response that came with the command is taken at once; `=` is an empty one (RFC 4954 §4).
    pub fn begin(self, initial: Option<&Secret>) -> Turn {
        let exchange = match self {
            Self::Plain => Exchange::Plain,
            Self::Login => Exchange::LoginUser,
        };
        match initial.map(Secret::expose) {
            None => exchange.ask(),
            Some("=") => exchange.take(&[]),
            // An empty response is written `=` here, and a lonely `*` is not a cancellation but bad base64.
            Some(response) => exchange.decode(response.as_bytes()),
        }
    }
}

impl Exchange {
    /// Takes one line of the client.
    pub fn respond(self, line: &[u8]) -> Turn {
        match line {
            b"*" => Turn::Refused(Reply::new(501, Enhanced(5, 7, 0), "Authentication cancelled, as you asked")),
            line => self.decode(line),
        }
    }

    fn ask(self) -> Turn {
        let challenge = match self {
            Self::Plain => "",
            Self::LoginUser => "VXNlcm5hbWU6",        // "Username:"
            Self::LoginPassword(_) => "UGFzc3dvcmQ6", // "Password:"
        };
        Turn::Ask(self, Reply::plain(334, challenge))
    }

    fn decode(self, line: &[u8]) -> Turn {
        match STANDARD.decode(line) {
            Ok(response) => self.take(&response),
            Err(_) => malformed("The response is not base64 as RFC 4648 has it"),
        }
    }

    fn take(self, response: &[u8]) -> Turn {
        let text = str::from_utf8(response).ok();
        match (self, text) {
            (Self::Plain, Some(text)) => plain(text),
            (Self::LoginUser, Some(user)) if fits(user) => Self::LoginPassword(user.to_owned()).ask(),
            (Self::LoginPassword(user), Some(password)) if fits(password) => {
                Turn::Done(Credentials { user, password: Secret::new(password) })
            }
            _ => malformed("Name and password must be UTF-8, without NUL, and not empty"),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2). Nobody may act as somebody else here.
fn plain(text: &str) -> Turn {
    let parts: Vec<&str> = text.split('\0').collect();
    match parts.as_slice() {
        [acts_as, user, password] if fits(user) && fits(password) => {
            if acts_as.is_empty() || acts_as == user {
                Turn::Done(Credentials { user: (*user).to_owned(), password: Secret::new(*password) })
            } else {
                let text = "No user may act as another one; leave the authorization identity empty";
                Turn::Refused(Reply::new(535, Enhanced(5, 7, 8), text))
            }
        }
        _ => malformed("PLAIN is: NUL, the name, NUL, the password; neither empty nor with a NUL in it"),
    }
}

fn fits(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn malformed(text: &'static str) -> Turn {
    Turn::Refused(Reply::new(501, Enhanced(5, 5, 2), text))
}
