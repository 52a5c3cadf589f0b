//! A process that runs out of descriptors. Alone in its program: the limit is the process's.

use std::fs::File;
use std::os::fd::AsFd;
use tokio::net::UnixStream;

#[tokio::test]
async fn a_socket_without_a_free_descriptor_is_lost_and_the_channel_goes_on() {
    let (left, right) = std::os::unix::net::UnixStream::pair().expect("a pair");
    left.set_nonblocking(true).expect("non-blocking");
    right.set_nonblocking(true).expect("non-blocking");
    let right = UnixStream::from_std(right).expect("a stream");
    let (near, _far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    for head in [&b"lost"[..], b"kept"] {
        net::hand_over(&left, head, near.as_fd()).await.expect("handed over");
    }
    // Every free descriptor is taken.
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).expect("lowered");
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    let (head, socket) = net::take_over(&right).await.expect("whole").expect("one");
    assert_eq!((&*head, socket.is_some()), (&b"lost"[..], false));
    all.pop();
    let (head, socket) = net::take_over(&right).await.expect("whole").expect("one more");
    assert_eq!((&*head, socket.is_some()), (&b"kept"[..], true));
}
