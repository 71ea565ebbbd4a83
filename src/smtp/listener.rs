//! Sockets to connections: binds, accepts, gives out seats, reads PROXY headers, shakes hands, stops accepting when the relay
//! shuts down.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, SockRef, Socket as RawSocket, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config;
use crate::config::listen::{Listen, Place, Scheme};
use crate::reply::Reply;
use crate::seats::Seat;
use crate::smtp::socket_file::{self, SocketFile};
use crate::smtp::tls::{HANDSHAKE, Tls};
use crate::smtp::{Greeted, Protocol, Server, Submit, connection, proxy, session};

/// How many connections the kernel keeps while we are not yet there to accept them.
const BACKLOG: i32 = 4096;
/// The first and the longest pause after accept has failed for want of resources.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long a proxy has for its header.
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// A bound listener. Its Unix socket's file goes with it.
#[derive(Debug)]
pub struct Door {
    socket: Socket,
    ways: Ways,
}

/// How clients are received; shared by the connections, which outlive the socket.
#[derive(Debug)]
struct Ways {
    listen: Listen,
    /// The URL without its options, as routes name it.
    name: Arc<str>,
    tls: Option<Arc<Tls>>,
    proxy_from: Vec<IpNet>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: Option<SocketFile> },
}

/// Binds a listener; has to be called within the runtime. Port 0 takes a free one: the listener knows its address.
///
/// # Errors
/// The system's, when the address is taken, not this machine's, or not permitted.
pub fn bind(listen: &Listen) -> io::Result<Door> {
    let socket = match &listen.place {
        Place::Tcp(address) => Socket::Tcp(bind_tcp(*address)?),
        Place::Unix { path, mode, owner } => {
            let (socket, file) = socket_file::bind(path, *mode, *owner, BACKLOG)?;
            Socket::Unix { listener: UnixListener::from_std(socket)?, _file: Some(file) }
        }
    };
    Ok(Door::new(listen, socket))
}

/// A listener over a TCP socket that somebody else has bound.
pub(super) fn adopt_tcp(listen: &Listen, socket: std::net::TcpListener) -> io::Result<Door> {
    socket.set_nonblocking(true)?;
    Ok(Door::new(listen, Socket::Tcp(TcpListener::from_std(socket)?)))
}

/// The same over a Unix socket, whose file is not ours to remove.
pub(super) fn adopt_unix(listen: &Listen, socket: std::os::unix::net::UnixListener) -> io::Result<Door> {
    socket.set_nonblocking(true)?;
    Ok(Door::new(listen, Socket::Unix { listener: UnixListener::from_std(socket)?, _file: None }))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // `[::]` and `0.0.0.0` can both be listed.
    }
    socket.set_reuse_address(true)?; // A restart need not wait for the old connections to be forgotten.
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Door {
    fn new(listen: &Listen, socket: Socket) -> Self {
        let (name, listen) = (listen.name().into(), listen.clone());
        Self { socket, ways: Ways { listen, name, tls: None, proxy_from: Vec::new() } }
    }

    /// With the certificate that `smtps://` needs.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<Tls>>) -> Self {
        self.ways.tls = tls;
        self
    }

    /// With the networks of the proxies that are believed where the listener demands a PROXY header.
    #[must_use]
    pub fn with_proxies(mut self, proxy_from: &[config::values::Network]) -> Self {
        self.ways.proxy_from = proxy_from.iter().map(|network| network.0).collect();
        self
    }

    /// Its TCP address.
    ///
    /// # Errors
    /// It has none, being a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr(),
            Socket::Unix { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The URL, with the port that was picked.
    pub fn url(&self) -> Listen {
        let mut listen = self.ways.listen.clone();
        if let Ok(address) = self.local_addr() {
            listen.place = Place::Tcp(address);
        }
        listen
    }
}

impl Ways {
    fn protocol(&self) -> Protocol {
        match self.listen.scheme {
            Scheme::Smtp | Scheme::Smtps => Protocol::Smtp,
            Scheme::Lmtp => Protocol::Lmtp,
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Replies are written whole; waiting to fill a segment would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, peer.ip().to_canonical()))
            }
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// Accepts until the server shuts down, then closes the listener.
pub async fn serve<R: Submit>(door: Door, server: Arc<Server<R>>) {
    let Door { socket, ways } = door;
    let ways = Arc::new(ways);
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                pause = PAUSE.0;
                receive(accepted, &ways, &server);
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

/// Gives the client a seat and a task, or sends it away. Behind a proxy whom the seat is for is known later.
fn receive<R: Submit>(accepted: Accepted, ways: &Arc<Ways>, server: &Arc<Server<R>>) {
    let peer = match &accepted {
        Accepted::Tcp(_, peer) => Some(*peer),
        Accepted::Unix(_) => None,
    };
    if let Some(proxy) = peer.filter(|_| ways.listen.proxy)
        && !ways.proxy_from.iter().any(|network| network.contains(&proxy))
    {
        server.metrics.connections_refused.inc();
        tracing::warn!(%proxy, "connection refused: not in smtp.proxy_from");
        return;
    }
    match server.seats.take(peer.filter(|_| !ways.listen.proxy)) {
        Ok(seat) => {
            server.metrics.connections.inc();
            let (ways, shared) = (Arc::clone(ways), Arc::clone(server));
            match accepted {
                Accepted::Tcp(stream, _) => server.tasks.spawn(welcome(stream, peer, seat, ways, shared)),
                Accepted::Unix(stream) => server.tasks.spawn(welcome(stream, peer, seat, ways, shared)),
            };
        }
        Err(no_seat) => {
            let refusal = session::busy(no_seat);
            server.metrics.connections_refused.inc();
            tracing::debug!(client = ?peer, %refusal, "connection refused");
            // Within TLS there is no word before the handshake.
            if ways.listen.scheme != Scheme::Smtps {
                match &accepted {
                    Accepted::Tcp(stream, _) => turn_away(&SockRef::from(stream), &refusal),
                    Accepted::Unix(stream) => turn_away(&SockRef::from(stream), &refusal),
                }
            }
        }
    }
}

/// Writes the refusal and closes, without a task and without waiting: the send buffer of a new connection is empty.
fn turn_away(stream: &SockRef<'_>, refusal: &Reply) {
    let mut octets = Vec::new();
    refusal.write_to(&mut octets);
    let _ = stream.send(&octets);
}

/// From accept to the end of the connection: PROXY header, TLS, dialogue. The first two are bounded in time, and end when
/// the relay shuts down: nothing has begun.
async fn welcome<S, R>(mut stream: S, peer: Option<IpAddr>, mut seat: Seat, ways: Arc<Ways>, server: Arc<Server<R>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
    R: Submit,
{
    let (listener, protocol) = (Arc::clone(&ways.name), ways.protocol());
    let mut greeted = Greeted { client: peer, listener, protocol, encrypted: false, principal: None };
    if ways.listen.proxy {
        match bounded(PROXY_HEADER, &server, proxy::read(&mut stream)).await {
            Ok(client) => greeted.client = client.or(peer),
            Err(error) => {
                tracing::debug!(proxy = ?peer, %error, "no PROXY header; connection closed");
                return;
            }
        }
        if let Some(Err(no_seat)) = greeted.client.map(|client| seat.belongs_to(client)) {
            let refusal = session::busy(no_seat);
            server.metrics.connections_refused.inc();
            tracing::debug!(client = ?greeted.client, %refusal, "connection refused");
            if ways.listen.scheme != Scheme::Smtps {
                let mut octets = Vec::new();
                refusal.write_to(&mut octets);
                let _ = bounded(PROXY_HEADER, &server, stream.write_all(&octets)).await;
            }
            return;
        }
    }
    if ways.listen.scheme != Scheme::Smtps {
        return connection::serve(stream, greeted, server).await;
    }
    let Some(tls) = ways.tls.as_ref() else { return };
    // Boxed, or every connection in the clear would hold room for a handshake.
    match bounded(HANDSHAKE, &server, Box::pin(tls.accept(stream))).await {
        Ok((stream, principal)) => {
            let greeted = Greeted { encrypted: true, principal, ..greeted };
            Box::pin(connection::serve(stream, greeted, server)).await;
        }
        Err(error) => tracing::debug!(client = ?greeted.client, %error, "TLS handshake failed"),
    }
}

/// Does something before the dialogue, but neither for long nor into the shutdown.
async fn bounded<T, R>(time: Duration, server: &Server<R>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::select! {
        done = tokio::time::timeout(time, work) => done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = server.shutdown.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Accept reports what went wrong with one connection before it was accepted; the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
