//! The socket between a supervisor and its worker, which is the worker's standard input.
//!
//! The listeners lie in it when the worker starts; the worker says in it that it is ready; and when the
//! supervisor is gone, it ends.

use std::{
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::AsyncReadExt as _;

use crate::listeners::Inherited;

/// How many listeners there are at most: gRPC, DEW and admin.
const MOST_LISTENERS: usize = 3;
/// What is said when all is well. Only that something is said counts.
const WORD: &[u8] = b"!";

/// Lays the listeners into the socket. The worker need not run yet.
pub(super) fn send(socket: &UnixStream, listeners: &[TcpListener]) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(|listener| listener.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_LISTENERS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(WORD)], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Resolves when the worker at the other end says that it is ready; never if it ends before that.
pub(super) async fn ready(socket: &mut tokio::net::UnixStream) {
    let mut word = [0; WORD.len()];
    if socket.read_exact(&mut word).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Handover(UnixStream);

impl Handover {
    /// Takes the listeners that the supervisor laid into standard input.
    pub fn receive() -> io::Result<(Self, Inherited)> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let listeners = receive(&socket)?;
        Ok((Self(socket), listeners.into()))
    }

    /// Tells the supervisor that the service answers calls. If it is gone, [`Handover::ended`] tells.
    pub fn ready(&mut self) {
        if let Err(error) = self.0.write_all(WORD) {
            tracing::warn!(%error, "the supervisor cannot be told");
        }
    }

    /// Resolves when the supervisor is gone.
    pub async fn ended(self) {
        if let Err(error) = self.listen().await {
            tracing::warn!(%error, "the supervisor cannot be heard");
        }
        tracing::warn!("the supervisor is gone");
    }

    /// The supervisor says nothing: whatever comes is the end.
    async fn listen(self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let mut socket = tokio::net::UnixStream::from_std(self.0)?;
        socket.read(&mut [0]).await.map(drop)
    }
}

fn receive(socket: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_LISTENERS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; WORD.len()];
    recvmsg(socket, &mut [IoSliceMut::new(&mut word)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let received = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(received.flatten().map(TcpListener::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_arrive_in_their_order() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let sent = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        send(&ours, &sent).expect("sent");
        let received = receive(&theirs).expect("received");
        let addresses = |listeners: &[TcpListener]| -> Vec<_> {
            listeners.iter().map(|listener| listener.local_addr().expect("an address")).collect()
        };
        assert_eq!(addresses(&received), addresses(&sent));
    }

    #[test]
    fn without_a_supervisor_nothing_arrives() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        drop(ours);
        assert!(receive(&theirs).expect("an end").is_empty());
    }
}
