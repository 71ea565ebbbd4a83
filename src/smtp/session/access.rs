//! Who may do what: AUTH (RFC 4954), STARTTLS (RFC 3207), and what MAIL asks for.

use super::{Admission, Next, Offer, Session, State, Step, reply};
use crate::envelope::Login;
use crate::reply::Reply;
use crate::smtp::command::{self, Auth};
use crate::smtp::sasl::{Mechanism, Turn, Verdict};

/// How many refused authentications end a session.
const MAX_REFUSALS: u8 = 3;

impl Session {
    /// Whether passwords can be read on the way here.
    fn is_private(&self) -> bool {
        self.encrypted || self.terms.client.is_none_or(|client| client.is_loopback())
    }

    /// Whether there is no mail before STARTTLS. A Unix socket has no way on which it could be read.
    fn needs_tls(&self) -> bool {
        self.terms.tls == Offer::Required && !self.encrypted && self.terms.client.is_some()
    }

    /// Whether EHLO names AUTH.
    pub(super) fn offers_auth(&self) -> bool {
        self.terms.auth && self.login.is_none() && self.is_private() && !self.needs_tls()
    }

    /// Whether EHLO names STARTTLS (RFC 3207 §4.2: not twice).
    pub(super) fn offers_tls(&self) -> bool {
        self.terms.tls != Offer::No && !self.encrypted
    }

    /// Why this client may not send mail, if it may not.
    pub(super) fn denial(&self) -> Option<Reply> {
        if self.needs_tls() {
            return Some(reply(530, 7, 0, "Encrypt the connection first: say STARTTLS"));
        }
        if self.login.is_some() {
            return None;
        }
        match (self.terms.admission, self.terms.auth) {
            (Admission::Open, _) => None,
            (_, true) => Some(reply(530, 7, 0, "Authenticate first: say AUTH")),
            (Admission::LoginOnly, false) => {
                Some(reply(530, 7, 0, "Show a client certificate that this relay knows, within TLS"))
            }
            (Admission::Stranger, false) => {
                let text = "This client may not send here; the operator can add its network to smtp.allow";
                Some(reply(550, 7, 1, text))
            }
        }
    }

    // === AUTH ===

    pub(super) fn authenticate(&mut self, state: State, auth: &Auth) -> Step {
        if !self.terms.auth {
            return self.refuse(state, command::not_offered("AUTH"));
        }
        if self.helo.is_none() {
            return self.greet_first(state);
        }
        if !matches!(state, State::Idle { .. }) {
            return self.refuse(state, reply(503, 5, 1, "A transaction is open; authenticate before MAIL"));
        }
        if self.login.is_some() {
            return self.refuse(state, reply(503, 5, 1, "You are authenticated already"));
        }
        if !self.offers_auth() {
            return self.refuse(state, reply(538, 7, 11, "Passwords are not taken in the clear; say STARTTLS first"));
        }
        match Mechanism::named(&auth.mechanism) {
            Some(mechanism) => self.turn(mechanism.begin(auth.initial.as_ref())),
            None => self.refuse(state, reply(504, 5, 4, "This mechanism is not offered; use PLAIN or LOGIN")),
        }
    }

    pub(super) fn turn(&mut self, turn: Turn) -> Step {
        match turn {
            Turn::Ask(exchange, challenge) => {
                self.state = State::Authenticating(exchange);
                Step::new(Some(challenge), Next::ReadResponse)
            }
            Turn::Done(credentials) => self.wait(State::Checking, Next::CheckPassword(credentials)),
            Turn::Refused(refusal) if refusal.code == 535 => self.turn_down(refusal),
            Turn::Refused(refusal) => self.refuse(State::Idle { refused: false }, refusal),
        }
    }

    pub(super) fn judge(&mut self, verdict: Verdict) -> Step {
        match verdict {
            Verdict::Welcome(login) => {
                self.login = Some(login);
                self.idle(reply(235, 7, 0, "Welcome"))
            }
            Verdict::Refused => self.turn_down(reply(535, 7, 8, "Name or password is wrong")),
            Verdict::TooMany => self.close(reply(421, 7, 0, "Too many failed authentications; try again later")),
        }
    }

    /// Refuses an authentication, but not for ever (RFC 4954 §9).
    fn turn_down(&mut self, refusal: Reply) -> Step {
        self.refusals += 1;
        if self.refusals >= MAX_REFUSALS {
            return self.close(reply(421, 7, 0, "Too many failed authentications; closing the connection"));
        }
        self.go(State::Idle { refused: true }, refusal)
    }

    // === STARTTLS ===

    pub(super) fn start_tls(&mut self, state: State) -> Step {
        if self.encrypted {
            return self.refuse(state, reply(503, 5, 1, "The connection is encrypted already"));
        }
        if self.terms.tls == Offer::No {
            return self.refuse(state, command::not_offered("STARTTLS"));
        }
        match state {
            State::Idle { .. } => self.wait(State::Securing, Next::LookBehind),
            state => self.refuse(state, reply(503, 5, 1, "A transaction is open; say STARTTLS before MAIL")),
        }
    }

    /// RFC 3207 §4: the client must not pipeline behind STARTTLS. Whoever does may be somebody on the way who adds
    /// commands to a session that looks safe from the inside, so there is no session.
    pub(super) fn secure(&mut self, behind: bool) -> Step {
        if behind {
            let text = "STARTTLS must be the last command before its reply; closing the connection";
            return self.close(reply(503, 5, 1, text));
        }
        self.state = State::Handshaking;
        Step::new(Some(reply(220, 0, 0, "Go ahead with TLS")), Next::Handshake)
    }

    /// RFC 3207 §4.2: what was said in the clear is forgotten. Errors and refusals stay counted.
    pub(super) fn start_over(&mut self, principal: Option<String>) -> Step {
        self.encrypted = true;
        self.helo = None;
        self.login = principal.map(Login::of);
        self.state = State::Idle { refused: false };
        Step::new(None, Next::ReadLine)
    }
}
