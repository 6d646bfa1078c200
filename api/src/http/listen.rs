//! Listeners: TCP addresses and unix sockets, with errors that name the cure.
//!
//! An address is taken first and listened on later: whoever connects in between is refused by the
//! system, and a load balancer asks another instance, whatever the request. An answer of 503 could
//! be repeated for requests that only read.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener, UnixSocket},
};

use super::peer::Peer;
use crate::config::values::ListenAddress;

/// Owner and group may connect to a socket of ours: the group is the load balancer's.
const SOCKET_MODE: u32 = 0o660;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "{0} is taken by another process: stop that one, or choose another address \
         (--listen, LISTEN, WEB_PORT or METRICS_PORT; `make run PORT=…`)"
    )]
    Taken(ListenAddress),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Failed(ListenAddress, io::Error),
}

impl ListenError {
    fn of(address: &ListenAddress, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken(address.clone()),
            _ => Self::Failed(address.clone(), error),
        }
    }
}

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something that connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket, whose file is removed when it is dropped.
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a socket file stays behind");
        }
    }
}

/// An address that is taken, and that nobody can connect to yet.
#[derive(Debug)]
pub struct Bound {
    address: ListenAddress,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpSocket),
    Unix(UnixSocket, SocketFile),
}

impl Bound {
    /// Takes an address. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// When it is taken or cannot be used.
    pub fn to(address: &ListenAddress) -> Result<Self, ListenError> {
        let socket = match address {
            ListenAddress::Tcp(tcp) => bind_tcp(*tcp),
            ListenAddress::Unix(path) => bind_unix(path),
        };
        let socket = socket.map_err(|error| ListenError::of(address, error))?;
        Ok(Self { address: address.clone(), socket })
    }

    /// The TCP address, where it is one: a port of 0 has become a real one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// From now on connections are taken.
    ///
    /// # Errors
    /// When somebody else began to listen there in between.
    pub fn listen(self) -> Result<Listener, ListenError> {
        let listener = match self.socket {
            Socket::Tcp(socket) => socket.listen(BACKLOG).map(Listener::Tcp),
            Socket::Unix(socket, file) => {
                socket.listen(BACKLOG).map(|listener| Listener::Unix(listener, file))
            }
        };
        listener.map_err(|error| ListenError::of(&self.address, error))
    }
}

impl Listener {
    /// Listens on an address at once.
    ///
    /// # Errors
    /// When it is taken or cannot be used.
    pub fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        Bound::to(address)?.listen()
    }

    /// The TCP address it listens on, where it is one: a port of 0 has become a real one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// When the system gives none, for example because too many files are open.
    pub async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Unix))
            }
        }
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "tcp:{address}"),
                Err(error) => write!(f, "tcp: {error}"),
            },
            Self::Unix(_, file) => write!(f, "unix:{}", file.0.display()),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port whose last connections the system still remembers is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Socket::Tcp(socket))
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Socket::Unix(socket, file))
}

/// Removes a socket file that nobody listens on; anything else is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        let message = "there is a file of that name which is not a socket; remove it";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_socket_files_are_replaced_and_live_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let address = ListenAddress::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = Listener::bind(&address).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let taken = Listener::bind(&address).unwrap_err();
        assert!(matches!(taken, ListenError::Taken(_)), "{taken}");
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        Listener::bind(&address).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_cure() {
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let first = Listener::bind(&any).unwrap();
        let same = ListenAddress::Tcp(first.tcp_address().unwrap());
        let error = Listener::bind(&same).unwrap_err().to_string();
        assert!(error.contains(&same.to_string()) && error.contains("WEB_PORT"), "{error}");
    }

    #[tokio::test]
    async fn nobody_can_connect_before_it_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let tcp = Bound::to(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let unix = Bound::to(&ListenAddress::Unix(path.clone())).unwrap();
        let address = tcp.tcp_address().unwrap();
        let refused = [
            tokio::net::TcpStream::connect(address).await.unwrap_err(),
            tokio::net::UnixStream::connect(&path).await.unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        }
        let listeners = [tcp.listen().unwrap(), unix.listen().unwrap()];
        tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(listeners);
    }
}
