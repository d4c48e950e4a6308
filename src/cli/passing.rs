//! Passing carries open sockets and files from one process of a host to another, each with a line that says what they are.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Descriptors in one message: the sockets of two addresses, and some to spare.
const MOST: usize = 8;

/// No message of ours is longer; the names of ten thousand APIs take less than half of it.
const LONGEST: usize = 1 << 20;

/// Sends one message, with what is open.
pub(super) async fn send(stream: &mut UnixStream, message: &impl Serialize, open: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !open.is_empty() && !control.push(SendAncillaryMessage::ScmRights(open)) {
            return Err(io::Error::other("so many descriptors are never passed at once"));
        }
        Ok(rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = sent.await?;
    stream.write_all(&line[sent..]).await
}

/// The next message, and what came with it. Who speaks waits for an answer, so nothing follows the line.
pub(super) async fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let (mut line, mut open, mut part) = (Vec::new(), Vec::new(), vec![0; 16 << 10]);
    while !line.ends_with(b"\n") {
        let read = stream.async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut part)];
            let read = rustix::net::recvmsg(stream.as_fd(), parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(passed) = message {
                    open.extend(passed);
                }
            }
            Ok(read.bytes)
        });
        match read.await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => line.extend(&part[..count]),
        }
        if line.len() > LONGEST {
            return Err(io::Error::other("the message does not end"));
        }
    }
    Ok((serde_json::from_slice(&line)?, open))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_socket_arrives_with_a_message_of_any_length() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let long = "a name\n".repeat(60_000);
        let text = long.clone();
        let sender = tokio::spawn(async move {
            send(&mut one, &text, &[listener.as_fd()]).await.unwrap();
            one
        });
        let (message, open): (String, _) = receive(&other).await.unwrap();
        assert_eq!(message, long);
        let mut one = sender.await.unwrap();
        // The sender's own copy is closed by now.
        let passed = TcpListener::from(open.into_iter().next().unwrap());
        assert_eq!(passed.local_addr().unwrap(), address);
        TcpStream::connect(address).unwrap();

        send(&mut one, &"and no more", &[]).await.unwrap();
        let (message, open): (String, _) = receive(&other).await.unwrap();
        assert_eq!((message.as_str(), open.len()), ("and no more", 0));
        drop(one);
        receive::<String>(&other).await.unwrap_err();
    }
}
