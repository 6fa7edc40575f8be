//! A foreign server, one proxy, three upstreams that answer with their letter, and counted traffic.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::server::{Dialect, Server};
use super::world::World;
use tests::{PATIENCE, Process, free_address, get, until};

/// Everything that runs. Stopped when dropped.
pub struct Mesh {
    pub dialect: Dialect,
    pub server: Server,
    pub proxy: Process,
    pub world: World,
    pub front: SocketAddr,
    pub second: SocketAddr,
    /// Where the third upstream listens.
    pub c: SocketAddr,
    admin: SocketAddr,
    version: usize,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Starts all of it with a first configuration, and waits until the proxy is ready.
    pub fn start(program: &Path, dialect: Dialect) -> Mesh {
        let folder = tempfile::tempdir().unwrap();
        let [front, second, xds, admin] = [(); 4].map(|()| free_address());
        let [a, b, c] = ["A", "B", "C"].map(upstream);
        let world = World {
            front_at: front,
            second_at: second,
            a_at: a,
            b_at: b,
            weights: (100, 0),
            second: false,
            without_a: false,
            policy: "LEAST_REQUEST",
            filter: None,
            pattern: None,
        };
        let server = Server::start(program, xds, folder.path());
        let file = folder.path().join("bootstrap.yaml");
        std::fs::write(&file, bootstrap(xds, admin, dialect)).unwrap();
        let words = ["-c", file.to_str().unwrap(), "--concurrency", "2", "-l", "info,proxy::state=debug"];
        let proxy = Process::start("tulle-proxy", &words, folder.path());
        let mut mesh = Mesh { dialect, server, proxy, world, front, second, c, admin, version: 0, folder };
        mesh.set(|_| {});
        until("the proxy is ready", || {
            get(admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        mesh
    }

    /// Serves a changed world under a new version.
    pub fn set(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.version += 1;
        self.serve();
    }

    /// Starts the server again with the world and version as they are.
    pub fn restart_server(&mut self) {
        self.server.restart();
        self.serve();
    }

    fn serve(&mut self) {
        let file = self.folder.path().join("resources.json");
        std::fs::write(&file, self.world.resources().to_string()).unwrap();
        self.server.set(&format!("v{}", self.version), &file);
    }

    /// Waits until twenty answers in a row come from one upstream.
    pub fn until_all(&self, letter: &str) {
        until(&format!("{}: every answer comes from {letter}", self.dialect), || {
            (0..20).all(|_| get(self.front, "/").is_some_and(|answer| answer.ends_with(letter))).then_some(())
        });
    }

    /// Waits until both clusters answer.
    pub fn until_both(&self) {
        for letter in ["A", "B"] {
            until(&format!("{}: an answer of {letter}", self.dialect), || {
                get(self.front, "/").filter(|answer| answer.ends_with(letter))
            });
        }
    }

    /// Waits for a state of the admin page of clusters.
    pub fn until_clusters(&self, wanted: impl Fn(&str) -> bool) {
        until(&format!("{}: the clusters change", self.dialect), || {
            get(self.admin, "/clusters").filter(|page| wanted(page))
        });
    }

    /// Waits until the second listener is gone: it is not named any more, and no backend answers there. Its port may be
    /// another process's by then.
    pub fn until_second_is_closed(&self) {
        until("the removed listener is closed", || {
            let named = get(self.admin, "/listeners")?.contains(&self.second.to_string());
            let answered =
                get(self.second, "/").is_some_and(|answer| answer.ends_with('A') || answer.ends_with('B'));
            (!named && !answered).then_some(())
        });
    }

    /// Waits until the proxy has asked the running server for all four types, and is done with the answers.
    pub fn until_told_everything(&self) {
        until(&format!("{}: the proxy asks again for everything", self.dialect), || {
            let events = self.server.events();
            let asked =
                |kind: &str| events.iter().any(|event| event.event == "request" && event.kind == kind);
            let answered = events.iter().filter(|event| event.event == "response").all(|response| {
                events.iter().any(|event| event.event == "request" && event.nonce == response.nonce)
            });
            let kinds = ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"];
            (kinds.into_iter().all(asked) && answered).then_some(())
        });
    }

    /// How many resources the proxy was told to take or drop, as its log says.
    pub fn taken(&self) -> usize {
        let log = self.proxy.log();
        let updates = log.lines().filter(|line| line.contains("xDS update"));
        let counts = updates
            .flat_map(|line| line.split_whitespace())
            .filter_map(|word| word.strip_prefix("added=").or_else(|| word.strip_prefix("removed=")));
        counts.map(|count| count.parse::<usize>().unwrap()).sum()
    }
}

fn bootstrap(xds: SocketAddr, admin: SocketAddr, dialect: Dialect) -> String {
    let kind = match dialect {
        Dialect::StateOfTheWorld => "GRPC",
        Dialect::Delta => "DELTA_GRPC",
    };
    let (admin_ip, admin_port, xds_ip, xds_port) = (admin.ip(), admin.port(), xds.ip(), xds.port());
    format!(
        r#"
node: {{id: foreign-1, cluster: foreign}}
admin: {{address: {{socket_address: {{address: {admin_ip}, port_value: {admin_port}}}}}}}
dynamic_resources:
  ads_config:
    api_type: {kind}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {xds_ip}, port_value: {xds_port}}}}}}}
"#
    )
}

/// A server of HTTP/1.1 that answers everything with its letter; it runs until the test program ends.
fn upstream(letter: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while head(&mut reader).is_some() {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{letter}");
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The lines of a message's head; none when the peer has closed.
fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(lines);
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
}

/// A kept connection of a client.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// The peer has said that it will close.
    ends: bool,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream: BufReader::new(stream), ends: false }
    }

    /// The body of the answer with status 200; none for anything else.
    pub fn ask(&mut self) -> Option<String> {
        self.stream.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n").ok()?;
        let lines = head(&mut self.stream)?;
        self.ends = lines.iter().any(|line| line == "connection: close");
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        lines[0].starts_with("http/1.1 200").then(|| String::from_utf8(body).unwrap())
    }
}

/// Requests without a pause, over kept connections of twenty requests each.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    client: JoinHandle<(usize, Vec<String>)>,
}

impl Traffic {
    pub fn start(address: SocketAddr) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let client = std::thread::spawn(move || {
            let (mut answered, mut failures) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                let mut connection = Connection::open(address);
                for index in 0..20 {
                    match connection.ask() {
                        Some(_) => answered += 1,
                        None => {
                            failures
                                .push(format!("request {index} of a connection, after {answered} answers"));
                            break;
                        }
                    }
                    if connection.ends {
                        break;
                    }
                }
            }
            (answered, failures)
        });
        Traffic { stop, client }
    }

    /// How many requests were answered, and which were not.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.client.join().unwrap()
    }
}
