//! Many consumers with many connections at once, through real programs in processes of their own,
//! while accept lists change, the published target switches and the service attachment restarts:
//! nobody admitted loses or gets a wrong byte, everybody refused is cut, and nothing is left over.
//!
//! A small run is a part of `cargo test`; `cargo xtask chaos` makes the large one. The environment
//! variables `POSTERN_CHAOS_CONSUMERS`, `_CONNECTIONS` (of each), `_MIB` (in sum) and `_SEED` choose
//! others.

#[path = "chaos/traffic.rs"]
mod traffic;
#[path = "chaos/world.rs"]
mod world;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;
use traffic::{Ledger, Manner, Plan, Random, Seen, client};
use world::{Files, PATIENCE, Program, World, wait};

/// Names the program that this binary is to be, when it is started by itself.
const ROLE: &str = "POSTERN_CHAOS_ROLE";
/// How often all of it is done.
const WAVES: u64 = 3;
/// Connections of each refused consumer that wait to be cut.
const HELD: usize = 3;

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok("endpoint-attachment") => {
            return runtime::main::<endpoint_attachment::EndpointAttachment>();
        }
        Ok("targets") => {
            let arguments: Vec<String> = std::env::args().collect();
            let producers = arguments[3].parse().expect("a number");
            traffic::targets(Path::new(&arguments[1]), Path::new(&arguments[2]), producers);
        }
        Ok("service-attachment") => {
            return runtime::main::<service_attachment::ServiceAttachment>();
        }
        _ => {}
    }
    let number = |name: &str, default: u64| {
        let value = std::env::var(format!("POSTERN_CHAOS_{name}")).ok();
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let size = Size {
        consumers: number("CONSUMERS", 10) as usize,
        connections: number("CONNECTIONS", 20) as usize,
        bytes: number("MIB", 32) << 20,
    };
    let seed = number("SEED", 1);
    println!("chaos: {size:?}, seed {seed}");
    if let Err(why) = descriptors(size.descriptors()) {
        assert!(
            std::env::var_os("POSTERN_TESTS_COMPLETE").is_none(),
            "nothing may be skipped: {why}"
        );
        eprintln!("SKIPPED: {why}");
        return ExitCode::SUCCESS;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(size, seed));
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, Debug)]
struct Size {
    consumers: usize,
    connections: usize,
    bytes: u64,
}

/// A producer network has no more connections than this, for each takes two descriptors.
const OF_ONE_PRODUCER: usize = 5000;

impl Size {
    fn producers(self) -> usize {
        (self.consumers * self.connections).div_ceil(OF_ONE_PRODUCER)
    }

    /// What a process needs: the clients' ends of all connections here, the targets' in another, and
    /// both ends of some, with pipes, in each service attachment.
    fn descriptors(self) -> u64 {
        let ends = self.consumers * (self.connections + HELD);
        let carried = ends.div_ceil(self.producers()) * 2 + 2 * 1024;
        (ends.max(carried) + 1000) as u64
    }

    /// Consumers from this one on are refused now and then.
    fn stable(self) -> usize {
        self.consumers - (self.consumers / 5).max(1)
    }
}

fn descriptors(wanted: u64) -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
        .map_err(|error| format!("{wanted} descriptors are needed, {hard} allowed: {error}"))
}

async fn run(size: Size, seed: u64) {
    let dir = std::env::temp_dir().join(format!("chaos-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder");
    let (addresses, ledger) = (dir.join("targets"), dir.join("ledger"));
    let arguments = [addresses.to_string_lossy(), ledger.to_string_lossy()];
    let producers = size.producers().to_string();
    let arguments = [&*arguments[0], &*arguments[1], &producers];
    let _targets = Program::spawn("targets", dir.join("targets.log"), &arguments);
    wait("the targets listen", || addresses.exists());
    let text = std::fs::read_to_string(&addresses).expect("addresses");
    let at: Vec<SocketAddr> = text.split(' ').map(|at| at.parse().expect("an address")).collect();
    let ledger = Ledger(ledger);
    let files = Files {
        consumers: size.consumers,
        producers: size.producers(),
        rejected_from: size.consumers,
        target: 0,
        targets: at,
        port: 20_000 + (std::process::id() % 10_000) as u16,
    };
    let mut world = World::new(dir, files);
    let mut random = Random(seed.wrapping_mul(2) | 1);
    let mut after = Vec::new();
    for wave in 0..WAVES {
        let began = Instant::now();
        world = self::wave(world, size, wave, &mut random, &ledger).await;
        let (sockets, pipes, resident) = settled(&world).await;
        println!(
            "wave {wave}: {:?}; a service attachment holds {sockets} sockets, {pipes} pipes, {resident} KiB",
            began.elapsed()
        );
        let of_endpoints = world.endpoints.iter().map(|one| one.holds().2).collect::<Vec<_>>();
        after.push((resident, of_endpoints));
    }
    // The last wave is as large as the one before, in the same processes: what it needed was there.
    let grown = |before: usize, now: usize| now > before + before / 4 + 4096;
    assert!(!grown(after[1].0, after[2].0), "the service attachment grows: {after:?}");
    for (before, now) in after[1].1.iter().zip(&after[2].1) {
        assert!(!grown(*before, *now), "an endpoint attachment grows: {after:?}");
    }
}

/// Waits until nothing is left of the traffic but what is kept for the next: a listener, channels,
/// and pipes up to the bound of the pool.
async fn settled(world: &World) -> (usize, usize, usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let services = world.services.iter().map(Program::holds);
        let most = |a: (usize, usize, usize), b: (usize, usize, usize)| {
            (a.0.max(b.0), a.1.max(b.1), a.2.max(b.2))
        };
        let (sockets, pipes, resident) = services.fold((0, 0, 0), most);
        // Four lanes per endpoint attachment, the listener, and the runtime's own few.
        let lanes = 4 * world.files.consumers + 8;
        let endpoints = world.endpoints.iter().all(|one| one.holds().0 <= 4 + 8);
        if sockets <= lanes && pipes <= 2 * 32 && endpoints {
            return (sockets, pipes, resident);
        }
        let holds: Vec<_> = world.endpoints.iter().map(Program::holds).collect();
        assert!(Instant::now() < until, "left over: {sockets} sockets, {pipes} pipes; {holds:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // a look, not the wait
    }
}

async fn wave(
    mut world: World,
    size: Size,
    wave: u64,
    random: &mut Random,
    ledger: &Ledger,
) -> World {
    let plans = plans(size, wave, random);
    let (phase, watched) = watch::channel(0);
    let mut clients = JoinSet::new();
    let (told, mut connected) = tokio::sync::mpsc::unbounded_channel();
    for (plan, consumer) in &plans {
        let (to, plan, watched, told) =
            (world.files.endpoint(*consumer), *plan, watched.clone(), told.clone());
        clients.spawn(async move {
            let seen = client(to, plan, watched, || {
                let _ = told.send(());
            });
            (plan.id, seen.await)
        });
    }
    for _ in &plans {
        connected.recv().await.expect("every client says so");
    }
    phase.send_replace(1);

    // Refused: who is open is cut, however idle.
    let refused: Vec<usize> = (size.stable()..size.consumers).collect();
    let mut held = Vec::new();
    for consumer in refused.iter().copied() {
        for _ in 0..HELD {
            held.push(idle(world.files.endpoint(consumer)).await);
        }
    }
    world.change(|files| {
        files.rejected_from = size.stable();
        files.target = 1 - files.target;
    });
    for stream in held {
        cut(stream).await;
    }
    // The same edit has switched the target.
    let before = ledger.count(world.files.target);
    assert_eq!(probe(world.files.endpoint(0), 1 << 60 | wave << 8).await, Seen::All);
    assert!(until_told(ledger, world.files.target, before).await, "the target is switched");
    for consumer in &refused {
        assert_eq!(probe(world.files.endpoint(*consumer), 2 << 60).await, Seen::Reset, "refused");
    }
    // Accepted again.
    world.change(|files| files.rejected_from = size.consumers);
    let until = Instant::now() + PATIENCE;
    for (number, consumer) in refused.iter().enumerate() {
        let id = 3 << 60 | wave << 16 | number as u64;
        while probe(world.files.endpoint(*consumer), id).await != Seen::All {
            assert!(Instant::now() < until, "not accepted again");
        }
    }
    // Restarted, in the first wave.
    let mut old = None;
    if wave == 0 {
        let restarting = tokio::task::spawn_blocking(move || {
            let old = world.restart();
            (world, old)
        });
        let (back, restarted) = restarting.await.expect("restarted");
        (world, old) = (back, Some(restarted));
    }
    phase.send_replace(2);
    let mut seen = HashMap::new();
    let all = async {
        while let Some(done) = clients.join_next().await {
            let (id, how) = done.expect("no panic");
            seen.insert(id, how);
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("every connection ends in time");
    if let Some(old) = old {
        tokio::task::spawn_blocking(move || old.into_iter().for_each(World::ended))
            .await
            .expect("ended");
    }
    judge(&plans, size, &seen, ledger).await;
    world
}

fn plans(size: Size, wave: u64, random: &mut Random) -> Vec<(Plan, usize)> {
    let count = (size.consumers * size.connections) as u64;
    // Two directions; sizes are spread from nothing to double.
    let mean = size.bytes / (2 * WAVES * count);
    let mut plans = Vec::new();
    for consumer in 0..size.consumers {
        for _ in 0..size.connections {
            let manner = match random.below(10) {
                0 => Manner::ClientResets,
                1 => Manner::TargetResets,
                2..=5 => Manner::Turns,
                _ => Manner::Both,
            };
            let least = if manner == Manner::TargetResets || manner == Manner::ClientResets {
                2
            } else {
                0
            };
            let mut length = || least + random.below(2 * mean);
            let (up, down) = (length(), length());
            let id = wave << 32 | plans.len() as u64;
            plans.push((Plan { id, up, down, manner, pauses: random.below(3) == 0 }, consumer));
        }
    }
    plans
}

/// Both ends of every connection must have seen what was planned.
async fn judge(plans: &[(Plan, usize)], size: Size, seen: &HashMap<u64, Seen>, ledger: &Ledger) {
    // The targets may be a moment behind.
    let all = |at_target: &HashMap<u64, Vec<Seen>>| {
        let whole = plans.iter().filter(|(plan, _)| seen[&plan.id] == Seen::All);
        whole.into_iter().all(|(plan, _)| at_target.contains_key(&plan.id))
    };
    let until = Instant::now() + PATIENCE;
    let mut at_target = ledger.seen();
    while !all(&at_target) && Instant::now() < until {
        tokio::task::yield_now().await;
        at_target = ledger.seen();
    }
    let mut cut = 0;
    for (plan, consumer) in plans {
        let here = &seen[&plan.id];
        let there = at_target.get(&plan.id).cloned().unwrap_or_default();
        let what = format!(
            "{plan:?} of consumer {consumer}: the client saw {here:?}, the target {there:?}"
        );
        assert!(there.len() <= 1, "once: {what}");
        let wrong = |seen: &Seen| matches!(seen, Seen::Wrong(_) | Seen::Short(_));
        assert!(!wrong(here) && !there.iter().any(wrong), "{what}");
        let there = there.first();
        let fine = match plan.manner {
            Manner::Turns | Manner::Both => *here == Seen::All && there == Some(&Seen::All),
            // The reset overtakes what was sent before it, the very first bytes included.
            Manner::ClientResets => {
                *here == Seen::Resets && there.is_none_or(|there| *there == Seen::Reset)
            }
            Manner::TargetResets => *here == Seen::Reset && there == Some(&Seen::Resets),
        };
        match *consumer < size.stable() {
            true => assert!(fine, "{what}"),
            // Who was refused in between was reset; nobody took that for the end.
            false => cut += usize::from(!fine),
        }
    }
    println!("{} connections, {cut} of them cut for being refused", plans.len());
}

/// Waits until one more came to this target.
async fn until_told(ledger: &Ledger, target: usize, before: usize) -> bool {
    let until = Instant::now() + PATIENCE;
    while ledger.count(target) == before && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    ledger.count(target) > before
}

/// A connection that is open and does nothing.
async fn idle(to: SocketAddr) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(to).await.expect("connected");
    stream.write_all(&[0]).await.expect("written"); // a part of a head
    stream
}

async fn cut(mut stream: tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte));
    let error = read.await.expect("cut in time").expect_err("a reset, not an end of stream");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// One small exchange.
async fn probe(to: SocketAddr, id: u64) -> Seen {
    let (_phase, watched) = watch::channel(2);
    let plan = Plan { id, up: 10, down: 10, manner: Manner::Turns, pauses: false };
    client(to, plan, watched, || {}).await
}
