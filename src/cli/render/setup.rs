//! What `render` renders with: the defaults, a configuration, and what its own options say.

use super::{Allowed, Refused, Render};
use crate::access::Access;
use crate::address::Address;
use crate::cli::{Failure, USAGE};
use crate::config::Provider;
use crate::envelope::Envelope;
use crate::plan::Policies;
use crate::provider;
use crate::reply::Enhanced;
use crate::sender::SenderPolicy;
use crate::smtp::codec::{DataDecoder, Decode, Flaw};

/// The settings of one account, and the policies for every mail.
pub(super) struct Setup {
    pub(super) account: Provider,
    pub(super) policies: Policies,
    pub(super) access: Access,
    /// Largest message in octets.
    pub(super) max_message_size: usize,
}

impl Setup {
    /// What the listener says before the relay sees the mail, if it refuses it.
    pub(super) fn refusal(&self, raw: &[u8], envelope: &Envelope) -> Option<Refused> {
        let sender = envelope.reverse_path.as_ref();
        if let Err(why) = self.access.sender(envelope.principal.as_deref(), sender) {
            let sender = sender.map(Address::as_str).unwrap_or_default();
            return Some(Refused::new(550, Enhanced(5, 7, 1), format!("The sender <{sender}> is refused: {why}")));
        }
        for recipient in &envelope.recipients {
            if let Err(why) = self.access.recipient(recipient) {
                let text = format!("The recipient <{recipient}> is refused: {why}");
                return Some(Refused::new(550, Enhanced(5, 7, 1), text));
            }
        }
        let most = self.max_message_size;
        let mut decoder = DataDecoder::new(most);
        decoder.decode(&stuffed(raw));
        match decoder.finish() {
            Ok(_) | Err(Flaw::NoRoom) => None,
            Err(Flaw::TooLarge) => {
                let text = format!("The message is too large; the relay takes at most {most} octets");
                Some(Refused::new(552, Enhanced(5, 3, 4), text))
            }
            Err(Flaw::LineEnds) => {
                Some(Refused::new(550, Enhanced(5, 6, 0), "The message holds a CR or LF alone".to_owned()))
            }
        }
    }
}

/// As a client sends it between DATA and the dot (RFC 5321 §4.5.2).
fn stuffed(raw: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(raw.len() + 8);
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !raw.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

impl Render {
    /// From the configuration; what an option says wins.
    pub(super) fn setup(&self) -> Result<Setup, Failure> {
        let (config, mut account) = self.of.load()?;
        account.unsupported = self.unsupported.unwrap_or(account.unsupported);
        account.utf8_addresses |= self.utf8_addresses;
        let default_from = self.default_from.as_ref().unwrap_or(&config.sender.default);
        let sender = SenderPolicy::new(default_from, &config.sender.allowed, config.sender.rewrite)
            .map_err(|e| Failure::new(e).with_code(USAGE))?
            .with_principals(&config.smtp.senders.principals);
        let mut controls = config.controls;
        if let Some(Allowed(names)) = &self.controls {
            controls.allow.clone_from(names);
        }
        let access = Access { senders: config.smtp.senders, recipients: config.smtp.recipients };
        let most = provider::build(&account).limits().body;
        let max_message_size = config.smtp.max_message_size.octets().min(most);
        Ok(Setup { account, policies: Policies { sender, controls }, access, max_message_size })
    }
}
