//! Drives a [`Session`] over a stream: reads, steps, writes, and keeps every wait bounded.

use std::io;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::envelope::{Transaction, TransactionId};
use crate::metrics::ClassLabel;
use crate::outcome;
use crate::relay::Settled;
use crate::relay::ledger::Receipt;
use crate::reply::Reply;
use crate::smtp::budget::Share;
use crate::smtp::codec::{ChunkDecoder, DataDecoder, Decode, Line, LineReader, Scan};
use crate::smtp::sasl::{Credentials, Verdict};
use crate::smtp::session::{self, Event, Next, Session, Step};
use crate::smtp::tls::{HANDSHAKE, Tls};
use crate::smtp::{Greeted, Server, Submit};

/// The read buffer of a connection that talks; thousands may be open. Holds the longest line.
const SMALL: usize = 4 * 1024;
/// The read buffer of a message that comes in faster than the small one can take it.
const LARGE: usize = 64 * 1024;
/// So many octets of replies are sent at once at the latest.
const REPLIES: usize = 4 * 1024;
/// A message that comes slower than this many octets a second is not waited for.
const SLOWEST: u64 = 1024;
/// How long the rest of what the client sends is swallowed after a 421: closing with octets unread would reset the
/// connection, and the reset can overtake the reply.
const LINGER: Duration = Duration::from_secs(1);
/// How long the last octet of a reply is held back from a client that has closed its side. One that has closed only that
/// reads on; the system of one that is gone answers the first octets with a reset, and the last one cannot be written.
const LAST_OCTET: Duration = Duration::from_millis(250);

/// Serves one client to the end of its connection. A panic ends this connection and nothing else.
pub async fn serve<S, R>(stream: S, peer: Greeted, server: Arc<Server<R>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
    R: Submit,
{
    let client = peer.client;
    let (session, greeting) = Session::begin(server.terms(&peer));
    let wire = Wire::new(Box::new(stream), &server);
    let mut connection = Connection { session, wire, client, server };
    tracing::debug!(client = name(client), "connection opened");
    if AssertUnwindSafe(connection.begin(greeting)).catch_unwind().await.is_err() {
        connection.server.metrics.panics.inc();
        tracing::error!(client = name(client), "a bug of the relay ended this connection");
        let _ = connection.wire.last_words(&session::fault()).await;
    }
    connection.server.metrics.protocol_errors.inc_by(connection.session.protocol_errors());
    tracing::debug!(client = name(client), "connection closed");
}

/// The client's name in the log.
fn name(client: Option<IpAddr>) -> String {
    client.map_or_else(|| "local".to_owned(), |ip| ip.to_string())
}

// === The dialogue ===

struct Connection<R> {
    session: Session,
    wire: Wire,
    client: Option<IpAddr>,
    server: Arc<Server<R>>,
}

impl<R: Submit> Connection<R> {
    /// Greets the client, unless it speaks before it is greeted, and goes on.
    async fn begin(&mut self, greeting: Step) -> Result<(), Lost> {
        let delay = self.server.greeting_delay;
        let step = match self.wire.hold_back(delay).await {
            Ok(true) => {
                tracing::info!(client = name(self.client), "sent away: it spoke before the greeting");
                self.session.step(Event::Early)
            }
            Ok(false) => greeting,
            Err(Lost::Drain) => self.session.step(Event::Drain),
            Err(lost) => return Err(lost),
        };
        self.converse(step).await
    }

    /// Goes on until the session says that it is over, or the client is lost.
    async fn converse(&mut self, mut step: Step) -> Result<(), Lost> {
        let mut share = self.server.budget.share();
        let mut receipt = None;
        loop {
            // Whoever did not say QUIT may be talking still.
            let forced = step.reply.as_ref().is_some_and(|reply| reply.class() != 2);
            self.tell(&step, receipt.take()).await?;
            let event = match step.next {
                Next::ReadLine => {
                    if !self.session.holds_octets() {
                        // The message is held until its reply is on the wire.
                        if !self.wire.untold.is_empty() {
                            self.wire.flush().await?;
                        }
                        share.release();
                    }
                    self.wire.read_line(self.session.in_transaction(), LineReader::scan).await
                }
                Next::ReadResponse => self.wire.read_line(false, LineReader::scan_response).await,
                Next::ReadData => self.read_data(&mut share).await,
                Next::ReadChunk(decoder) => self.read_chunk(decoder, &mut share).await,
                Next::Swallow(octets) => self.swallow(octets, &mut share).await,
                Next::CheckSender(origin, envelope, size) => {
                    let has_room = self.server.budget.has_room(size);
                    let verdict = if has_room {
                        self.server.relay.admit(&origin, &envelope)
                    } else {
                        Err(session::no_room(None))
                    };
                    Ok(Event::SenderChecked(verdict))
                }
                Next::CheckRecipient(origin, sender, recipient) => {
                    let relay = Arc::clone(&self.server.relay);
                    // Boxed, or every idle connection would hold room for it.
                    let mut asked = Box::pin(relay.admit_recipient(&origin, &sender, &recipient));
                    let verdict = if let Some(verdict) = poll_immediate(asked.as_mut()).await {
                        verdict
                    } else {
                        // An API may be asked: the replies to what came before must not wait for it.
                        self.wire.flush().await?;
                        asked.await
                    };
                    Ok(Event::RecipientChecked(verdict))
                }
                Next::CheckPassword(credentials) => {
                    self.wire.flush().await?;
                    Ok(Event::PasswordChecked(self.check(credentials).await))
                }
                Next::LookBehind => Ok(Event::Behind(self.wire.has_more())),
                // Boxed, or every idle connection would hold room for a handshake.
                Next::Handshake => Ok(Box::pin(self.encrypt()).await?),
                Next::Relay(transaction) => {
                    // Nobody knows how long it takes; the replies to what came before must not wait for it.
                    self.wire.flush().await?;
                    let settled = self.relay(transaction).await;
                    self.wire.look_for_end().await;
                    receipt = settled.receipt;
                    Ok(Event::Settled(settled.reply, settled.each))
                }
                Next::Close => return self.wire.close(forced).await,
            };
            step = match event {
                Ok(Event::Data(id, Err(flaw))) => self.refuse(id, Event::Data(id, Err(flaw))),
                Ok(Event::Chunk(id, Err(flaw))) => self.refuse(id, Event::Chunk(id, Err(flaw))),
                Ok(event) => {
                    let is_verdict =
                        { matches!(event, Event::Line(_) | Event::SenderChecked(_) | Event::RecipientChecked(_)) };
                    let step = self.session.step(event);
                    if let Some(refusal) = step.reply.as_ref().filter(|reply| is_verdict && reply.is_policy()) {
                        let reply = self.server.journal.hide_addresses(&refusal.to_string());
                        tracing::info!(client = name(self.client), reply, "refused");
                    }
                    step
                }
                Err(Lost::Idle) => self.session.step(Event::Idle),
                Err(Lost::Drain) => self.session.step(Event::Drain),
                Err(Lost::Client) => return Err(Lost::Client),
            };
        }
    }

    /// Says what the step has to say. The receipt goes out with the last reply: until then the client does not know all.
    async fn tell(&mut self, step: &Step, receipt: Option<Receipt>) -> Result<(), Lost> {
        let mut receipt = receipt;
        let mut left = step.more.len();
        if let Some(reply) = &step.reply {
            if left == 0 {
                self.wire.untold.extend(receipt.take());
            }
            self.wire.say(reply).await?;
        }
        for reply in &step.more {
            left -= 1;
            if left == 0 {
                self.wire.untold.extend(receipt.take());
            }
            self.wire.say(reply).await?;
        }
        Ok(())
    }

    /// Asks who knows the users. A panic there ends the connection like any other.
    async fn check(&self, credentials: Credentials) -> Verdict {
        match &self.server.auth {
            Some(auth) => auth.check(&credentials, self.client).await,
            None => Verdict::Refused,
        }
    }

    /// Makes the stream an encrypted one, with the certificate that is current now.
    async fn encrypt(&mut self) -> Result<Event<'static>, Lost> {
        let tls = self.server.tls.as_ref().ok_or(Lost::Client)?;
        match self.wire.encrypt(tls).await? {
            Ok(principal) => Ok(Event::Encrypted(principal)),
            Err(error) => {
                tracing::info!(client = name(self.client), %error, "TLS handshake failed");
                Err(Lost::Client)
            }
        }
    }

    /// Reads a message to its dot, whatever comes of it.
    async fn read_data(&mut self, share: &mut Share) -> Result<Event<'static>, Lost> {
        let id = TransactionId::new(uuid::Uuid::now_v7());
        let mut decoder = DataDecoder::new(self.session.max_message_size());
        self.wire.read_content(&mut decoder, share).await?;
        Ok(Event::Data(id, decoder.finish()))
    }

    /// Reads a chunk to its last octet, whatever comes of it.
    async fn read_chunk(&mut self, mut decoder: ChunkDecoder, share: &mut Share) -> Result<Event<'static>, Lost> {
        let id = TransactionId::new(uuid::Uuid::now_v7());
        self.wire.read_content(&mut decoder, share).await?;
        Ok(Event::Chunk(id, decoder.checked()))
    }

    async fn swallow(&mut self, octets: u64, share: &mut Share) -> Result<Event<'static>, Lost> {
        let mut decoder = ChunkDecoder::new(0).expect(octets, false);
        self.wire.read_content(&mut decoder, share).await?;
        Ok(Event::Swallowed)
    }

    /// The only refusals of messages that the relay does not see, and so does not log and count.
    fn refuse(&mut self, id: TransactionId, event: Event<'_>) -> Step {
        let step = self.session.step(event);
        if let Some(reply) = &step.reply {
            self.count(reply); // Once, although LMTP says it to each recipient.
            tracing::info!(%id, client = name(self.client), %reply, "message refused");
        }
        step
    }

    fn count(&self, reply: &Reply) {
        self.server.metrics.transactions.get_or_create(&ClassLabel { class: reply.class() }).inc();
    }

    /// Relays to the end, although the client may hang up meanwhile: nothing is read until it is settled. A panic in it is
    /// a temporary refusal of this mail and nothing else. Boxed, or every idle connection would hold room for it.
    async fn relay(&self, transaction: Transaction) -> Settled {
        let id = transaction.id;
        let submitted = Box::pin(Arc::clone(&self.server.relay).submit(transaction));
        let settled = AssertUnwindSafe(submitted).catch_unwind().await;
        settled.unwrap_or_else(|_| {
            self.server.metrics.panics.inc();
            tracing::error!(%id, client = name(self.client), "a bug of the relay ended this transaction");
            let reply = outcome::fault("internal error of the relay", id);
            self.count(&reply);
            Settled { reply, each: Vec::new(), receipt: None }
        })
    }
}

// === The octets ===

/// Why no more octets come.
enum Lost {
    /// The client is gone.
    Client,
    /// It was silent or slow for too long.
    Idle,
    /// The relay shuts down.
    Drain,
}

/// What octets come and go by: in the clear, or through TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// A stream with its buffers and clocks.
struct Wire {
    stream: Box<dyn Stream>,
    lines: LineReader,
    input: BytesMut,
    /// How many octets of `input` the last line took.
    used: usize,
    output: Vec<u8>,
    /// Transactions whose reply is in `output`.
    untold: Vec<Receipt>,
    idle_timeout: Duration,
    drain: Duration,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether the client has closed its side, while it waited for a reply.
    is_leaving: bool,
    /// Set when the shutdown was seen: until then a transaction may go on.
    drain_by: Option<Instant>,
}

impl Wire {
    fn new<R>(stream: Box<dyn Stream>, server: &Server<R>) -> Self {
        Self {
            stream,
            lines: LineReader::default(),
            input: BytesMut::with_capacity(SMALL),
            used: 0,
            output: Vec::new(),
            untold: Vec::new(),
            idle_timeout: server.idle_timeout,
            drain: server.drain,
            // A token of its own: waiting on the shared one would take one lock for all connections with every read.
            shutdown: Box::pin(server.shutdown.child_token().cancelled_owned()),
            is_leaving: false,
            drain_by: None,
        }
    }

    /// The next line. It has to be whole within the idle timeout, however its octets trickle in.
    async fn read_line(
        &mut self,
        in_transaction: bool,
        scan: fn(&mut LineReader, &[u8]) -> Scan,
    ) -> Result<Event<'_>, Lost> {
        let by = Instant::now() + self.idle_timeout;
        self.input.advance(std::mem::take(&mut self.used));
        let line = loop {
            let scan = scan(&mut self.lines, &self.input);
            if let Some(line) = scan.line {
                self.used = scan.used;
                break line;
            }
            self.input.advance(scan.used);
            if self.input.is_empty() && self.input.capacity() > SMALL {
                self.input = BytesMut::new();
            }
            if scan.used == 0 {
                self.fill(by, in_transaction).await?;
            }
        };
        Ok(match line {
            Line::Command { len } => Event::Line(self.input.get(..len).unwrap_or_default()),
            Line::Garble => Event::Garble,
            Line::TooLong => Event::TooLong,
        })
    }

    /// Says nothing for a while; whether the client spoke meanwhile.
    async fn hold_back(&mut self, delay: Duration) -> Result<bool, Lost> {
        if delay.is_zero() {
            return Ok(false);
        }
        match self.fill(Instant::now() + delay, false).await {
            Ok(()) => Ok(true),
            Err(Lost::Idle) => Ok(false),
            Err(lost) => Err(lost),
        }
    }

    /// Whether anything came behind the last line.
    fn has_more(&self) -> bool {
        self.input.len() > self.used
    }

    /// Sends what is to be said, and makes the stream an encrypted one. Nothing that came in the clear gets inside.
    async fn encrypt(&mut self, tls: &Tls) -> Result<io::Result<Option<String>>, Lost> {
        self.flush().await?;
        (self.input, self.used, self.lines) = (BytesMut::new(), 0, LineReader::default());
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let limit = self.idle_timeout.min(HANDSHAKE);
        Ok(match timeout(limit, tls.accept(plain)).await {
            Ok(Ok((encrypted, principal))) => {
                self.stream = Box::new(encrypted);
                Ok(principal)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        })
    }

    /// Feeds the decoder up to where it ends.
    async fn read_content(&mut self, decoder: &mut impl Decode, share: &mut Share) -> Result<(), Lost> {
        let (mut window, mut octets) = (Instant::now(), 0);
        self.input.advance(std::mem::take(&mut self.used));
        loop {
            if decoder.is_flawed() {
                share.release();
            } else if !share.cover(decoder.held() + self.input.len()) {
                decoder.give_up();
            }
            if let Some(end) = decoder.decode(&self.input) {
                self.input.advance(end);
                if decoder.is_flawed() {
                    share.release();
                }
                return Ok(());
            }
            octets += self.input.len() as u64;
            let full = self.input.len() == self.input.capacity();
            self.input.clear();
            if full {
                self.input.reserve(LARGE);
            }
            // So much in each idle timeout, whatever came before: what trickles in holds memory all the time.
            if window.elapsed() >= self.idle_timeout {
                if octets < SLOWEST * window.elapsed().as_secs() {
                    return Err(Lost::Idle);
                }
                (window, octets) = (Instant::now(), 0);
            }
            self.fill(Instant::now() + self.idle_timeout, true).await?;
        }
    }

    /// Reads once; before it would wait, the client gets its replies (RFC 2920 §3.2). A transaction may go on while the
    /// relay shuts down, within the drain time.
    async fn fill(&mut self, by: Instant, in_transaction: bool) -> Result<(), Lost> {
        self.flush().await?;
        if self.input.is_empty() {
            self.input.reserve(SMALL);
        } else if self.input.len() == self.input.capacity() {
            self.input.reserve(SMALL / 4);
        }
        loop {
            let (by, expired) = match self.drain_by {
                Some(_) if !in_transaction => return Err(Lost::Drain),
                Some(drain_by) if drain_by < by => (drain_by, Lost::Drain),
                _ => (by, Lost::Idle),
            };
            tokio::select! {
                biased;
                () = &mut self.shutdown, if self.drain_by.is_none() => {
                    self.drain_by = Some(Instant::now() + self.drain);
                }
                read = timeout_at(by, self.stream.read_buf(&mut self.input)) => return match read {
                    Ok(Ok(octets)) if octets > 0 => Ok(()),
                    Ok(_) => Err(Lost::Client),
                    Err(_) => Err(expired),
                },
            }
        }
    }

    /// Puts a reply to those that wait for the next write.
    async fn say(&mut self, reply: &Reply) -> Result<(), Lost> {
        reply.write_to(&mut self.output);
        if self.output.len() < REPLIES { Ok(()) } else { self.flush().await }
    }

    /// Sends the replies that wait. A client that does not read them is not waited for.
    async fn flush(&mut self) -> Result<(), Lost> {
        if self.output.is_empty() {
            return Ok(());
        }
        let held_back = usize::from(self.is_leaving && !self.untold.is_empty());
        let (first, last) = self.output.split_at(self.output.len() - held_back);
        let sent = timeout(self.idle_timeout, async {
            self.stream.write_all(first).await?;
            self.stream.flush().await?;
            if !last.is_empty() {
                tokio::time::sleep(LAST_OCTET).await;
                self.stream.write_all(last).await?;
                self.stream.flush().await?;
            }
            io::Result::Ok(())
        });
        let sent = sent.await;
        self.output.clear();
        self.output.shrink_to(REPLIES);
        let untold = std::mem::take(&mut self.untold);
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Lost::Client);
        }
        untold.into_iter().for_each(Receipt::written);
        Ok(())
    }

    /// Sees whether the client closed its side while it waited: it has said all that it will say, or it has given up. After
    /// a pause, in which the runtime asks the system what came: it may not know yet what the system knows.
    async fn look_for_end(&mut self) {
        tokio::task::yield_now().await;
        while self.input.len() < LARGE {
            if self.input.len() == self.input.capacity() {
                self.input.reserve(SMALL);
            }
            match self.stream.read_buf(&mut self.input).now_or_never() {
                Some(Ok(octets)) if octets > 0 => {}
                Some(_) => return self.is_leaving = true,
                None => return,
            }
        }
    }

    async fn last_words(&mut self, reply: &Reply) -> Result<(), Lost> {
        self.say(reply).await?;
        self.close(true).await
    }

    /// Sends what is to be said, and ends the stream.
    async fn close(&mut self, linger: bool) -> Result<(), Lost> {
        self.flush().await?;
        // TLS has a last word of its own, which a client that does not read would keep waiting.
        let end = timeout(LINGER, async {
            if self.stream.shutdown().await.is_ok() && linger {
                self.swallow().await;
            }
        });
        let _ = end.await;
        Ok(())
    }

    async fn swallow(&mut self) {
        self.input = BytesMut::with_capacity(SMALL);
        while self.stream.read_buf(&mut self.input).await.is_ok_and(|octets| octets > 0) {
            self.input.clear();
        }
    }
}
