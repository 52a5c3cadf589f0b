//! Real name servers on the loopback interface, ended by their process ids.

use super::{Folder, ask};
use hickory_net::proto::rr::RecordType;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of the machine, also where an ordinary user's PATH does not lead.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let text = format!("{name} is not here; install {package} to run this test");
        assert!(std::env::var_os("POSTERN_TESTS_COMPLETE").is_none(), "{text}");
        eprintln!("SKIPPED: {text}");
    }
    found
}

/// A running server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    _folder: Folder,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// unbound with these lines of configuration.
    pub fn unbound(lines: &str) -> Option<Server> {
        let program = program("unbound", "unbound")?;
        Some(Self::started(|folder, port| {
            let config = folder.join("unbound.conf");
            let text = format!(
                "server:\n interface: 127.0.0.1@{port}\n port: {port}\n do-daemonize: no\n chroot: \"\"\n \
                 username: \"\"\n directory: \"{0}\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"log\"\n \
                 module-config: \"iterator\"\n num-threads: 1\n minimal-responses: yes\n \
                 local-zone: \"x.\" always_nxdomain\n{lines}\n\
                 remote-control:\n control-enable: no\n",
                folder.display()
            );
            std::fs::write(&config, text).expect("written");
            let mut command = Command::new(&program);
            command.arg("-d").arg("-c").arg(config);
            command
        }))
    }

    /// NSD with these zones: (name, file text).
    pub fn nsd(zones: &[(String, String)]) -> Option<Server> {
        let program = program("nsd", "nsd")?;
        Some(Self::started(|folder, port| {
            let config = folder.join("nsd.conf");
            let dir = folder.display();
            let mut text = format!(
                "server:\n ip-address: 127.0.0.1@{port}\n port: {port}\n chroot: \"\"\n username: \"\"\n \
                 zonesdir: \"{dir}\"\n database: \"\"\n pidfile: \"{dir}/pid\"\n xfrdfile: \"{dir}/xfrd\"\n \
                 zonelistfile: \"{dir}/list\"\n xfrdir: \"{dir}\"\n logfile: \"{dir}/log\"\n server-count: 1\n \
                 minimal-responses: yes\n refuse-any: no\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n\
                 remote-control:\n control-enable: no\n"
            );
            for (number, (name, zone)) in zones.iter().enumerate() {
                std::fs::write(folder.join(format!("{number}.zone")), zone).expect("written");
                text += &format!("zone:\n name: \"{name}\"\n zonefile: \"{number}.zone\"\n");
            }
            std::fs::write(&config, text).expect("written");
            let mut command = Command::new(&program);
            command.arg("-d").arg("-c").arg(config);
            command
        }))
    }

    /// Starts it on a free port, again on another one where somebody was faster, and waits until
    /// it answers.
    fn started(command: impl Fn(&Path, u16) -> Command) -> Server {
        for _ in 0..20 {
            let folder = Folder::new();
            let port = free_port();
            let mut command = command(&folder.0, port);
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().expect("the server starts");
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut server = Server { child, address, _folder: folder };
            if server.answers() {
                return server;
            }
            let log = std::fs::read_to_string(server._folder.0.join("log")).unwrap_or_default();
            eprintln!("the server ended: {log}");
        }
        panic!("the server does not start");
    }

    fn answers(&mut self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.connect(self.address).expect("an address");
        let wait = Some(std::time::Duration::from_millis(100));
        socket.set_read_timeout(wait).expect("a timeout");
        let query = super::query(1, "x.", RecordType::A);
        let mut answer = [0; 512];
        while self.child.try_wait().expect("our child").is_none() {
            // Refused at once while nobody listens.
            if socket.send(&query).is_ok() && socket.recv(&mut answer).is_ok() {
                let _ = ask(self.address, "x.", RecordType::A);
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = tcp.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}
