//! Sockets to connections: binds, accepts, gives out seats, stops accepting when the relay shuts down.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config;
use crate::config::values::Listen;
use crate::metrics::Metrics;
use crate::reply::Reply;
use crate::smtp::{Greeted, Protocol, Server, Submit, connection, session};

/// How many connections the kernel keeps while we are not yet there to accept them.
const BACKLOG: i32 = 4096;
/// The first and the longest pause after accept has failed for want of resources.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Binds a listener; has to be called within the runtime. Port 0 takes a free one: the listener knows its address.
///
/// # Errors
/// The system's, when the address is taken, not this machine's, or not permitted.
pub fn bind(listen: &Listen) -> io::Result<TcpListener> {
    let Listen::Smtp(address) = *listen;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // `[::]` and `0.0.0.0` can both be listed.
    }
    socket.set_reuse_address(true)?; // A restart need not wait for the old connections to be forgotten.
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the server shuts down, then closes the listener.
pub async fn serve<R: Submit>(listener: TcpListener, server: Arc<Server<R>>) {
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE.0;
                receive(stream, peer, &server);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again shortly");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Gives the client a seat and a task, or sends it away.
fn receive<R: Submit>(stream: TcpStream, peer: SocketAddr, server: &Arc<Server<R>>) {
    let client = peer.ip().to_canonical();
    match server.seats.take(client) {
        Ok(seat) => {
            server.metrics.connections.inc();
            // Replies are written whole; waiting to fill a segment would only delay them.
            let _ = stream.set_nodelay(true);
            let peer = Greeted { client: Some(client), protocol: Protocol::Smtp, encrypted: false, principal: None };
            let connection = connection::serve(stream, peer, Arc::clone(server));
            server.tasks.spawn(async move {
                connection.await;
                drop(seat);
            });
        }
        Err(refusal) => {
            server.metrics.connections_refused.inc();
            tracing::debug!(%client, %refusal, "connection refused");
            turn_away(&stream, &refusal);
        }
    }
}

/// Writes the refusal and closes, without a task and without waiting: the send buffer of a new connection is empty.
fn turn_away(stream: &TcpStream, refusal: &Reply) {
    let mut octets = Vec::new();
    refusal.write_to(&mut octets);
    let _ = SockRef::from(stream).send(&octets);
}

/// Accept reports what went wrong with one connection before it was accepted; the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

// === Seats ===

/// How many connections there may be, on the whole and from one address.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    most_per_client: usize,
    taken: Mutex<Taken>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One connection's place; free again when this is dropped.
#[derive(Debug)]
struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
}

impl Seats {
    pub(crate) fn new(smtp: &config::Smtp, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most: smtp.max_connections,
            most_per_client: smtp.max_connections_per_client,
            taken: Mutex::default(),
            metrics,
        })
    }

    fn take(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Reply> {
        let mut taken = self.taken();
        if taken.total >= self.most {
            return Err(session::busy("to this relay"));
        }
        let of_client = taken.by_client.entry(client).or_insert(0);
        if *of_client >= self.most_per_client {
            return Err(session::busy("from your address"));
        }
        *of_client += 1;
        taken.total += 1;
        self.metrics.connections_open.inc();
        Ok(Seat { seats: Arc::clone(self), client })
    }

    /// The counts are sound after a panic: nothing in between can.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.total -= 1;
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
        self.seats.metrics.connections_open.dec();
    }
}
