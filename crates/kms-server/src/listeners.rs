//! The listening sockets: taken over from who started the process, or bound.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

/// How many connections may wait until they are accepted: all that come while a worker starts.
/// The kernel's own limit (net.core.somaxconn) is usually the same.
const BACKLOG: u32 = 4096;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A socket cannot be used.
    #[error("a listening socket cannot be used: {0}")]
    Socket(io::Error),
    /// A socket that the process was started with, at an address of its own.
    #[error("an inherited socket listens on {0}, which is no address of the configuration")]
    Strange(SocketAddr),
}

/// Listening sockets that the process was started with.
#[derive(Debug, Default)]
pub struct Inherited(Vec<StdListener>);

/// One socket for each listener of the configuration.
pub(crate) struct Listeners {
    pub(crate) grpc: TcpListener,
    pub(crate) dew: Option<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
}

impl Inherited {
    /// Those of systemd's socket activation, which the environment counts (`LISTEN_FDS`, `LISTEN_PID`). It is
    /// cleared of them: call this while the process has one thread.
    pub fn from_environment() -> Result<Self, ListenError> {
        let mut given = ListenFd::from_env();
        let count = given.len();
        let taken: io::Result<Vec<_>> =
            (0..count).filter_map(|index| given.take_tcp_listener(index).transpose()).collect();
        taken.map(Self).map_err(ListenError::Socket)
    }

    /// The first one whose address is the configured one. A configured port 0 stands for any.
    fn take(&mut self, configured: SocketAddr) -> io::Result<Option<TcpListener>> {
        for index in 0..self.0.len() {
            let actual = self.0[index].local_addr()?;
            if names(configured, actual) {
                let listener = self.0.remove(index);
                listener.set_nonblocking(true)?;
                return TcpListener::from_std(listener).map(Some);
            }
        }
        Ok(None)
    }
}

impl From<Vec<StdListener>> for Inherited {
    fn from(listeners: Vec<StdListener>) -> Self {
        Self(listeners)
    }
}

impl Listeners {
    /// Binds what was not inherited. An inherited socket at an address that the configuration does not name is
    /// an error: the admin listener must not come to lie where everybody can reach it.
    pub(crate) fn open(config: &Config, mut inherited: Inherited) -> Result<Self, ListenError> {
        let mut open = |address| match inherited.take(address) {
            Ok(Some(listener)) => Ok(listener),
            Ok(None) => bind(address).map_err(|error| ListenError::Bind { address, error }),
            Err(error) => Err(ListenError::Socket(error)),
        };
        let grpc = open(config.grpc.listen)?;
        let dew = config.dew.as_ref().map(|dew| open(dew.listen)).transpose()?;
        let admin = config.admin.as_ref().map(|admin| open(admin.listen)).transpose()?;
        match inherited.0.first().map(StdListener::local_addr) {
            None => Ok(Self { grpc, dew, admin }),
            Some(Ok(address)) => Err(ListenError::Strange(address)),
            Some(Err(error)) => Err(ListenError::Socket(error)),
        }
    }

    /// Whether a process with this configuration could take these sockets over.
    pub(crate) fn check(config: &Config, sockets: &[StdListener]) -> Result<(), ListenError> {
        let (dew, admin) = (config.dew.as_ref(), config.admin.as_ref());
        let mut free = [Some(config.grpc.listen), dew.map(|dew| dew.listen), admin.map(|admin| admin.listen)];
        for socket in sockets {
            let actual = socket.local_addr().map_err(ListenError::Socket)?;
            let place =
                free.iter_mut().find(|place| place.is_some_and(|configured| names(configured, actual)));
            *place.ok_or(ListenError::Strange(actual))? = None;
        }
        Ok(())
    }

    /// The sockets alone, in the order in which [`Listeners::open`] takes them.
    pub(crate) fn into_std(self) -> io::Result<Vec<StdListener>> {
        [Some(self.grpc), self.dew, self.admin].into_iter().flatten().map(TcpListener::into_std).collect()
    }
}

/// Whether a configured address means this one. A configured port 0 stands for any.
fn names(configured: SocketAddr, actual: SocketAddr) -> bool {
    actual.ip() == configured.ip() && [0, actual.port()].contains(&configured.port())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // or a restart waits for the last connections to be forgotten
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_removed_address_is_found_before_anything_ends() {
        let sockets = [(); 2].map(|()| StdListener::bind("127.0.0.1:0").expect("a port"));
        let address = |index: usize| sockets[index].local_addr().expect("an address");
        let sample = include_str!("../../../docs/examples/dewpoint.toml");
        let config = |grpc: &str, admin: &str| {
            let text = sample.replace("0.0.0.0:7443", grpc).replace("127.0.0.1:9443", admin);
            toml::from_str::<Config>(&text).expect("the sample parses")
        };
        let (grpc, admin) = (address(0).to_string(), address(1).to_string());
        Listeners::check(&config(&grpc, &admin), &sockets).expect("nothing was changed");
        Listeners::check(&config("127.0.0.1:0", "127.0.0.1:0"), &sockets).expect("any port");
        Listeners::check(&config(&grpc, "127.0.0.1:1"), &sockets[..1]).expect("a new one is bound");
        for (grpc, admin) in [(&*grpc, "127.0.0.1:1"), ("127.0.0.1:1", &*admin), (&*grpc, "0.0.0.0:0")] {
            let refused = Listeners::check(&config(grpc, admin), &sockets);
            assert!(matches!(refused, Err(ListenError::Strange(_))), "{grpc} {admin}");
        }
        let mut removed = config(&grpc, &admin);
        removed.admin = None;
        Listeners::check(&removed, &sockets).expect_err("the admin listener has no place any more");
    }
}
