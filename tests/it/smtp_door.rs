//! What is before the dialogue: handshakes, certificates that change, Unix sockets, proxies and their seats.

use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sidepost::config::{self, Smtp};
use sidepost::smtp::listener::{self, Door};
use sidepost::smtp::tls::Tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::smtp_world::{server_with, smtp};

/// Longer than watched files go without being looked at.
const LOOKED_AT: Duration = Duration::from_secs(30);

/// An authority, and what it signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, as PEM.
    pub fn signs(&self, names: &[&str]) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key)
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A client that trusts it, and shows a certificate if it has one.
    pub fn connector(&self, shows: Option<(String, KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((pem, key)) => {
                use rustls::pki_types::pem::PemObject;
                let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

async fn line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(octet) => line.push(octet),
            Err(_) => break,
        }
    }
    String::from_utf8(line).unwrap()
}

fn bound(url: &str) -> Door {
    listener::bind(&url.parse().unwrap()).unwrap()
}

fn serve(door: Door, smtp: &Smtp) -> Arc<sidepost::smtp::Server<crate::smtp_world::Scripted>> {
    let server = server_with(smtp, 1 << 20);
    tokio::spawn(listener::serve(door.with_proxies(&smtp.proxy_from), Arc::clone(&server)));
    server
}

#[tokio::test]
async fn implicit_tls_greets_within_and_only_within() {
    let authority = Authority::new();
    let (cert, key) = authority.signs(&["localhost"]);
    let tls = Arc::new(Tls::new(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap());
    let door = bound("smtps://127.0.0.1:0").with_tls(Some(tls));
    let address = door.local_addr().unwrap();
    let server = serve(door, &Smtp { max_connections: 30, max_connections_per_client: 30, ..smtp() });

    // Those that never finish their handshake hold up nobody.
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        stalled.push(stream);
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.windows(3).any(|w| w == b"220" || w == b"250"), "no reply in the clear: {heard:?}");

    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = authority.connector(None).connect(localhost(), stream).await.unwrap();
    assert!(line(&mut stream).await.starts_with("220 relay.test "));

    server.shut_down();
    tokio::time::timeout(Duration::from_secs(5), async {
        while server.metrics().connections_open.get() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a handshake is not waited for in a shutdown");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_and_a_proxy_header_have_their_time() {
    let authority = Authority::new();
    let (cert, key) = authority.signs(&["localhost"]);
    let tls = Arc::new(Tls::new(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap());
    for (url, seconds) in [("smtps://127.0.0.1:0", 15), ("smtp://127.0.0.1:0?proxy=require", 5)] {
        let door = bound(url).with_tls(Some(Arc::clone(&tls)));
        let address = door.local_addr().unwrap();
        let _server = serve(door, &smtp());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 0);
        assert_eq!(begun.elapsed().as_secs(), seconds, "{url}");
    }
}

#[tokio::test]
async fn a_client_certificate_names_its_principal() {
    let authority = Authority::new();
    let (cert, key) = authority.signs(&["localhost"]);
    let key = key.serialize_pem();
    let ca = authority.pem();
    let tls = Tls::with_client_ca(cert.as_bytes(), key.as_bytes(), Some(ca.as_bytes())).unwrap();
    let handshake = async |shows: Option<(String, KeyPair)>| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let client = authority.connector(shows);
        let client = tokio::spawn(async move {
            let mut stream = client.connect(localhost(), ours).await?;
            stream.read_u8().await
        });
        let accepted = tls.accept(theirs).await.map(|(_, principal)| principal);
        let _ = client.await;
        accepted
    };
    assert_eq!(handshake(None).await.unwrap(), None);
    let shown = authority.signs(&["billing.internal", "x.internal"]);
    assert_eq!(handshake(Some(shown)).await.unwrap(), Some("billing.internal".to_owned()));
    let nameless = handshake(Some(authority.signs(&[]))).await.unwrap().unwrap();
    assert!(nameless.starts_with("sha256:") && nameless.len() == 71, "{nameless}");
    assert!(handshake(Some(Authority::new().signs(&["billing.internal"]))).await.is_err(), "of another authority");
}

#[test]
fn what_is_no_certificate_is_said_and_not_shown() {
    let authority = Authority::new();
    let (cert, key) = authority.signs(&["localhost"]);
    let (_, other) = authority.signs(&["localhost"]);
    let key = key.serialize_pem();
    assert!(Tls::new(cert.as_bytes(), b"").unwrap_err().contains("smtp.tls.key"));
    assert!(Tls::new(b"x", key.as_bytes()).unwrap_err().contains("smtp.tls.cert"));
    assert!(Tls::new(cert.as_bytes(), other.serialize_pem().as_bytes()).unwrap_err().contains("together"));
    assert!(Tls::with_client_ca(cert.as_bytes(), key.as_bytes(), Some(b"x")).unwrap_err().contains("client_ca"));
}

/// Time is paused: it moves on when everybody waits, so each sleep here lasts until the files were looked at.
#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let folder = std::env::temp_dir().join(format!("sidepost-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let write = |authority: &Authority| {
        let (cert, key) = authority.signs(&["localhost"]);
        std::fs::write(path("cert"), cert).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
    };
    let (old, new) = (Authority::new(), Authority::new());
    write(&old);
    let settings = config::Tls { cert: path("cert"), key: path("key"), ..config::Tls::default() };
    let (tls, files) = Tls::open(&settings).unwrap().unwrap();
    let following = tokio::spawn(Arc::clone(&tls).follow(files));
    let shown_by = async |authority: &Authority| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let tls = Arc::clone(&tls);
        let server = tokio::spawn(async move { tls.accept(theirs).await.map(|_| ()) });
        let trusted = authority.connector(None).connect(localhost(), ours).await.is_ok();
        let _ = server.await;
        trusted
    };
    assert!(shown_by(&old).await && !shown_by(&new).await);
    std::fs::write(path("cert"), "broken").unwrap();
    tokio::time::sleep(LOOKED_AT).await;
    assert!(shown_by(&old).await, "the old one stays");
    write(&new);
    tokio::time::sleep(LOOKED_AT).await;
    assert!(shown_by(&new).await && !shown_by(&old).await);
    following.abort();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sidepost-{name}-{}.sock", std::process::id()))
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
    let path = socket("mode");
    let me = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
    let url = format!("smtp+unix://{}?mode=0600&owner={}:{}", path.display(), me.uid(), me.gid());
    let door = bound(&url);
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), me.uid());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(door.url().to_string(), url);
    let server = serve(door, &smtp());
    // The seats of one address are not for Unix sockets; the ones of the whole relay are.
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        assert!(line(&mut stream).await.starts_with("220 "));
        streams.push(stream);
    }
    let mut last = UnixStream::connect(&path).await.unwrap();
    assert!(line(&mut last).await.starts_with("421 "));
    drop(streams);
    server.shut_down();
    server.drained().await;
    for _ in 0..100 {
        if path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_file_is_taken_over_only_when_nobody_answers() {
    let path = socket("stale");
    let listen = format!("lmtp+unix://{}", path.display()).parse().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = listener::bind(&listen).expect("a killed process left its file behind");
    assert_eq!(listener::bind(&listen).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(first);
    std::fs::write(&path, "precious").unwrap();
    assert!(listener::bind(&listen).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn behind_a_proxy_the_client_has_the_seat_and_the_rights() {
    let door = bound("smtp://127.0.0.1:0?proxy=require");
    let address = door.local_addr().unwrap();
    let server = serve(door, &Smtp { max_connections: 10, ..smtp() });
    let connect = async |client: IpAddr| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("PROXY TCP4 {client} 127.0.0.1 4000 25\r\nEHLO x\r\n").as_bytes()).await.unwrap();
        let first = line(&mut stream).await;
        (stream, first)
    };
    let far = [192, 0, 2, 1].into();
    let (_one, first) = connect(far).await;
    let (two, second) = connect(far).await;
    let (_three, third) = connect(far).await;
    let (_four, fourth) = connect([192, 0, 2, 2].into()).await;
    assert!(first.starts_with("220 ") && second.starts_with("220 ") && fourth.starts_with("220 "));
    assert_eq!(third, "421 4.7.0 Too many connections from your address; try again later\r\n");
    drop(two);
    while server.metrics().connections_open.get() > 2 {
        tokio::task::yield_now().await;
    }
    assert!(connect(far).await.1.starts_with("220 "));
    // It is not in smtp.allow, although the proxy is.
    let (mut five, _) = connect([192, 0, 2, 3].into()).await;
    five.write_all(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n").await.unwrap();
    let mut refused = false;
    for _ in 0..20 {
        refused |= line(&mut five).await.starts_with('5');
        if refused {
            break;
        }
    }
    assert!(refused);
}

#[tokio::test]
async fn a_proxy_that_is_not_listed_is_cut_off() {
    let door = bound("smtp://127.0.0.1:0?proxy=require");
    let address = door.local_addr().unwrap();
    let _server = serve(door, &Smtp { proxy_from: vec!["10.0.0.1".parse().unwrap()], ..smtp() });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(b"PROXY UNKNOWN\r\n").await;
    assert_eq!(line(&mut stream).await, "");
}
