//! The traffic of the chaos test: connections that know of every byte whose it is and where it
//! belongs.

use net::splice::reset;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// Bytes of which no two places look alike for long: what is sent is a piece of it that begins
/// elsewhere for every connection and direction.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random(0x5eed);
    (0..NOISE_BYTES / 8).flat_map(|_| random.next().to_ne_bytes()).collect()
});
const NOISE_BYTES: usize = 1 << 20;
const CHUNK: usize = 16 * 1024;

/// xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// What one connection does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub id: u64,
    /// Bytes to the target, and to the client.
    pub up: u64,
    pub down: u64,
    pub manner: Manner,
    /// After half of `up` it waits for the last phase.
    pub pauses: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The client half-closes, then the target answers and closes.
    Turns,
    /// Both send at once, and half-close when they are done.
    Both,
    /// The client resets after half of what it would send.
    ClientResets,
    /// The target resets after half of what it would send.
    TargetResets,
}

const MANNERS: [Manner; 4] =
    [Manner::Turns, Manner::Both, Manner::ClientResets, Manner::TargetResets];

/// How one end saw a connection end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Every byte, then the end of stream.
    All,
    /// It was reset.
    Reset,
    /// This end reset it itself, as planned.
    Resets,
    /// What must never be: the end of stream before the last byte.
    Short(u64),
    /// Nor this: a wrong byte, or one too many.
    Wrong(String),
}

/// What the targets saw, one line for each connection: `TARGET ID SEEN`.
pub struct Ledger(pub PathBuf);

impl Ledger {
    /// What became of each connection, at either target.
    pub fn seen(&self) -> HashMap<u64, Vec<Seen>> {
        let mut all: HashMap<u64, Vec<Seen>> = HashMap::new();
        for (_, id, seen) in self.lines() {
            all.entry(id).or_default().push(seen);
        }
        all
    }

    /// How many came to one target.
    pub fn count(&self, target: usize) -> usize {
        self.lines().iter().filter(|(at, ..)| *at == target).count()
    }

    fn lines(&self) -> Vec<(usize, u64, Seen)> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let target = words.next()?.parse().ok()?;
            let id = words.next()?.parse().ok()?;
            let seen = match words.next()? {
                "All" => Seen::All,
                "Reset" => Seen::Reset,
                "Resets" => Seen::Resets,
                other => Seen::Wrong(other.to_owned()),
            };
            Some((target, id, seen))
        };
        whole.lines().filter_map(line).collect()
    }
}

/// The phases of a run: connected, go, the end of pauses.
pub type Phase = watch::Receiver<u8>;

fn noise(id: u64, up: bool, at: u64) -> &'static [u8] {
    let begin = id.wrapping_mul(2).wrapping_add(u64::from(up)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = (begin.wrapping_add(at) % NOISE_BYTES as u64) as usize;
    &NOISE[at..(at + CHUNK).min(NOISE_BYTES)]
}

async fn reached(phase: &mut Phase, wanted: u8) {
    // An error means that the run is over, which is every phase.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// Sends a direction's bytes from `at` to `to`.
async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    (id, up): (u64, bool),
    mut at: u64,
    end: u64,
) -> std::io::Result<()> {
    while at < end {
        let piece = noise(id, up, at);
        let piece = &piece[..piece.len().min((end - at) as usize)];
        to.write_all(piece).await?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Receives a direction's bytes and the end of stream behind them.
async fn receive(from: &mut (impl AsyncRead + Unpin), (id, up): (u64, bool), total: u64) -> Seen {
    let mut bytes = [0; CHUNK];
    let mut at = 0;
    loop {
        let count = match from.read(&mut bytes).await {
            Ok(0) if at == total => return Seen::All,
            Ok(0) => return Seen::Short(at),
            Ok(count) => count,
            Err(_) => return Seen::Reset,
        };
        let mut got = &bytes[..count];
        while !got.is_empty() {
            let expected = noise(id, up, at);
            let length = expected.len().min(got.len());
            if at + length as u64 > total || expected[..length] != got[..length] {
                return Seen::Wrong(format!("other bytes than sent, at {at} of {total}"));
            }
            at += length as u64;
            got = &got[length..];
        }
    }
}

/// The kernel tells a reset once: who wrote may have heard of it, and who reads sees an end then.
fn both(broken: bool, seen: Seen) -> Seen {
    match seen {
        Seen::All | Seen::Short(_) if broken => Seen::Reset,
        seen => seen,
    }
}

/// One connection, as the client has it. `connected` is told once the connection is made.
pub async fn client(
    to: SocketAddr,
    plan: Plan,
    mut phase: Phase,
    connected: impl FnOnce(),
) -> Seen {
    let opened = async {
        let mut stream = TcpStream::connect(to).await?;
        let manner = MANNERS.iter().position(|manner| *manner == plan.manner).unwrap_or_default();
        for number in [plan.id, plan.up, plan.down, manner as u64] {
            stream.write_all(&number.to_be_bytes()).await?;
        }
        Ok::<_, std::io::Error>(stream)
    };
    let opened = opened.await;
    connected();
    let Ok(mut stream) = opened else { return Seen::Reset };
    reached(&mut phase, 1).await;
    let half = plan.up / 2;
    let (mut read, mut write) = stream.split();
    let up = (plan.id, true);
    let sending = async {
        send(&mut write, up, 0, half).await?;
        if plan.pauses {
            reached(&mut phase, 2).await;
        }
        if plan.manner != Manner::ClientResets {
            send(&mut write, up, half, plan.up).await?;
            write.shutdown().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let down = (plan.id, false);
    let seen = match plan.manner {
        Manner::ClientResets => match sending.await {
            Ok(()) => Seen::Resets,
            Err(_) => Seen::Reset,
        },
        Manner::Turns => match sending.await {
            Ok(()) => receive(&mut read, down, plan.down).await,
            Err(_) => Seen::Reset,
        },
        // A reset may be met by either direction first.
        Manner::Both | Manner::TargetResets => {
            let (sent, seen) = tokio::join!(sending, receive(&mut read, down, plan.down));
            both(sent.is_err(), seen)
        }
    };
    if seen == Seen::Resets {
        reset(&stream);
    }
    seen
}

/// The process with two targets for each producer network: says where they are, serves them, and writes the ledger.
pub fn targets(addresses: &Path, ledger: &Path, producers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let ledger = Arc::new(Mutex::new(File::create(ledger).expect("a ledger")));
        let mut bound = Vec::new();
        for number in 0..2 * producers {
            let listener = TcpSocket::new_v4().expect("a socket");
            listener.bind(SocketAddr::from(([127, 32, 0, 1], 0))).expect("bound");
            let listener = listener.listen(16_384).expect("listens");
            bound.push(listener.local_addr().expect("bound").to_string());
            tokio::spawn(target(number % 2, listener, Arc::clone(&ledger)));
        }
        let aside = addresses.with_extension("new");
        std::fs::write(&aside, bound.join(" ")).expect("written");
        std::fs::rename(&aside, addresses).expect("renamed");
        std::future::pending::<()>().await
    });
}

async fn target(number: usize, listener: TcpListener, ledger: Arc<Mutex<File>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let ledger = Arc::clone(&ledger);
                tokio::spawn(async move {
                    if let Some((id, seen)) = served(stream).await {
                        let line = format!("{number} {id} {seen:?}\n");
                        let mut ledger = ledger.lock().expect("not poisoned");
                        ledger.write_all(line.as_bytes()).expect("written");
                    }
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn served(mut stream: TcpStream) -> Option<(u64, Seen)> {
    let mut head = [0; 32];
    stream.read_exact(&mut head).await.ok()?; // cut before it said who it is
    let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[8 * at + byte]));
    let (id, total_up, total_down) = (number(0), number(1), number(2));
    let manner = MANNERS[number(3) as usize % MANNERS.len()];
    let (up, down) = ((id, true), (id, false));
    let (mut read, mut write) = stream.split();
    let seen = match manner {
        Manner::Turns | Manner::ClientResets => match receive(&mut read, up, total_up).await {
            Seen::All => {
                let sent = send(&mut write, down, 0, total_down).await;
                sent.map_or(Seen::Reset, |()| Seen::All)
            }
            other => other,
        },
        Manner::Both => {
            let sending = async {
                send(&mut write, down, 0, total_down).await?;
                write.shutdown().await
            };
            let (sent, seen) = tokio::join!(sending, receive(&mut read, up, total_up));
            both(sent.is_err(), seen)
        }
        Manner::TargetResets => {
            let sent = send(&mut write, down, 0, total_down / 2).await;
            reset(&stream);
            sent.map_or(Seen::Reset, |()| Seen::Resets)
        }
    };
    Some((id, seen))
}
