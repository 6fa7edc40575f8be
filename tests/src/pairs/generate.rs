//! Worlds and requests around the boundaries of their rules. Everything follows from one seed.

use std::fmt::Write;

/// Services of a world; each has two workloads, `v1` and `v2`.
pub const SERVICES: usize = 14;

/// Random numbers (SplitMix64) from a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).unwrap()
    }

    /// Whether one of so many cases comes.
    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Name of a service.
pub fn service(number: usize) -> String {
    format!("svc{number}")
}

/// A world and where its addresses lie.
#[derive(Debug, Clone)]
pub struct World {
    /// The YAML, all in namespace `shop`.
    pub yaml: String,
    /// Addresses are 127.`block`.…
    pub block: u8,
}

impl World {
    /// The address of a service.
    pub fn service_address(&self, number: usize) -> String {
        format!("127.{}.1.{}", self.block, number + 1)
    }

    /// The address of a workload's sidecar.
    pub fn workload_address(&self, workload: usize) -> String {
        format!("127.{}.2.{}", self.block, workload + 1)
    }

    /// What a world says about a service.
    pub fn about(&self, number: usize) -> String {
        let name = service(number);
        let mine = |part: &&str| {
            part.contains(&format!("name: {name}}}")) || part.contains(&format!("name: {name}-"))
        };
        let kinds = |part: &&str| part.contains("VirtualService") || part.contains("AuthorizationPolicy");
        self.yaml.split("---\n").filter(mine).filter(kinds).collect()
    }

    /// The workload behind `ADDRESS:PORT`.
    ///
    /// # Panics
    /// It is none of this world's.
    pub fn workload_at(&self, address: &str) -> usize {
        let (ip, _) = address.rsplit_once(':').unwrap();
        let number: usize = ip.rsplit('.').next().unwrap().parse().unwrap();
        number - 1
    }
}

const PATHS: [&str; 12] = [
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/users",
    "/Admin",
    "/admin",
    "/a",
    "/a/b/c",
    "/",
    "/public/x.css",
    "/api.v1",
    "/%7Euser",
];
const VALUES: [&str; 6] = ["blue", "Blue", "b", "blue-green", "", "42"];
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "HEAD"];
const REGEXES: [&str; 6] = ["/api/.*", "/a.i", "/[a-z]+", "(?i)/admin", "/api(/v[0-9])?", ".*"];

fn string_match(random: &mut Random, of: &[&str], regexes: &[&str]) -> String {
    match random.below(3) {
        0 => format!("{{exact: \"{}\"}}", random.pick(of)),
        1 => {
            let mut text = random.pick(of).to_owned();
            if text.is_empty() {
                text.push('b');
            }
            format!("{{prefix: \"{text}\"}}")
        }
        _ => format!("{{regex: '{}'}}", random.pick(regexes)),
    }
}

fn route_match(random: &mut Random) -> String {
    let mut parts = Vec::new();
    if !random.one_in(5) {
        parts.push(format!("uri: {}", string_match(random, &PATHS, &REGEXES)));
        if random.one_in(6) {
            parts.push("ignoreUriCase: true".to_owned());
        }
    }
    if random.one_in(4) {
        parts.push(format!("method: {{exact: {}}}", random.pick(&METHODS)));
    }
    if random.one_in(3) {
        let value = match random.one_in(4) {
            true => "{}".to_owned(),
            false => string_match(random, &VALUES, &["b.*", "[0-9]+", "blue|green", ".+"]),
        };
        let name = random.pick(&["x-color", "x-user"]);
        let which = if random.one_in(4) { "withoutHeaders" } else { "headers" };
        parts.push(format!("{which}: {{{name}: {value}}}"));
    }
    if random.one_in(4) {
        let value = string_match(random, &VALUES[..3], &["b.*", "[0-9]+"]);
        parts.push(format!("queryParams: {{q: {value}}}"));
    }
    if random.one_in(6) {
        parts.push(format!(
            "authority: {}",
            string_match(
                random,
                &["svc0", "svc1.shop", "svc2.shop.svc.cluster.local", "svc3:8080"],
                &["svc.*", ".*:8080", "svc[0-9]+"]
            )
        ));
    }
    if random.one_in(8) {
        parts.push(format!("port: {}", random.pick(&[8080, 9090])));
    }
    if random.one_in(10) {
        parts.push(format!("sourceLabels: {{app: {}}}", random.pick(&["caller", "other"])));
    }
    if parts.is_empty() {
        parts.push("uri: {prefix: /}".to_owned());
    }
    format!("{{{}}}", parts.join(", "))
}

fn route(random: &mut Random, own: usize) -> String {
    let mut text = String::new();
    let matches: Vec<String> = (0..=random.below(2)).map(|_| route_match(random)).collect();
    writeln!(text, "  - match: [{}]", matches.join(", ")).unwrap();
    match random.below(8) {
        0 => {
            let redirect = random.pick(&[
                "{uri: /moved}",
                "{authority: new.example}",
                "{scheme: https}",
                "{redirectCode: 308, uri: /b?c=d}",
                "{authority: new.example, port: 8443, scheme: https}",
                "{derivePort: FROM_REQUEST_PORT, uri: /x}",
            ]);
            writeln!(text, "    redirect: {redirect}").unwrap();
        }
        1 => writeln!(
            text,
            "    directResponse: {{status: {}, body: {{string: own}}}}",
            random.pick(&[200, 404, 418, 503])
        )
        .unwrap(),
        _ => {
            if random.one_in(3) {
                let rewrite = random.pick(&[
                    "{uri: /}",
                    "{uri: /new}",
                    "{uri: /new/}",
                    "{authority: other.example}",
                    "{uri: /n, authority: svc9}",
                    "{uriRegexRewrite: {match: '^/api/(.*)', rewrite: '/r/\\1'}}",
                    "{uriRegexRewrite: {match: '/v[0-9]+', rewrite: '/any'}}",
                ]);
                writeln!(text, "    rewrite: {rewrite}").unwrap();
            }
            let to = if random.one_in(4) { random.below(SERVICES) } else { own };
            let host = service(to);
            match random.below(4) {
                0 => writeln!(text, "    route: [{{destination: {{host: {host}}}}}]").unwrap(),
                1 => writeln!(text, "    route: [{{destination: {{host: {host}, subset: v1}}, weight: 50}}, {{destination: {{host: {host}, subset: v2}}, weight: 50}}]"
                )
                .unwrap(),
                _ => {
                    let subset = random.pick(&["v1", "v2"]);
                    writeln!(text, "    route: [{{destination: {{host: {host}, subset: {subset}}}}}]").unwrap();
                }
            }
        }
    }
    text
}

fn rule(random: &mut Random) -> String {
    let mut parts = Vec::new();
    if random.one_in(2) {
        let from = random.pick(&[
            "principals: [\"cluster.local/ns/shop/sa/front\"]",
            "principals: [\"*/sa/front\"]",
            "principals: [\"cluster.local/ns/shop/sa/fron\"]",
            "principals: [\"cluster.local/ns/shop/*\"]",
            "namespaces: [shop]",
            "namespaces: [shop2]",
            "notNamespaces: [shop]",
            "principals: [\"*\"]",
            "notPrincipals: [\"cluster.local/ns/shop/sa/front\"]",
            "notPrincipals: [\"*/other\"]",
        ]);
        parts.push(format!("from: [{{source: {{{from}}}}}]"));
    }
    if !random.one_in(4) {
        let mut to = Vec::new();
        if !random.one_in(3) {
            let path = random.pick(&PATHS);
            let path = match random.below(4) {
                0 => format!("{path}*"),
                1 => format!("*{path}"),
                _ => path.to_owned(),
            };
            let not = if random.one_in(4) { "notPaths" } else { "paths" };
            to.push(format!("{not}: [\"{path}\"]"));
        }
        if random.one_in(2) {
            let not = if random.one_in(4) { "notMethods" } else { "methods" };
            to.push(format!("{not}: [{}]", random.pick(&METHODS)));
        }
        if random.one_in(4) {
            let host =
                random.pick(&["svc0", "svc1", "*.shop", "svc2*", "other.example", "svc3:8080", "SVC4"]);
            let not = if random.one_in(4) { "notHosts" } else { "hosts" };
            to.push(format!("{not}: [\"{host}\"]"));
        }
        if random.one_in(8) {
            to.push(format!("ports: [\"{}\"]", random.pick(&["8080", "9090"])));
        }
        if to.is_empty() {
            to.push("methods: [GET]".to_owned());
        }
        parts.push(format!("to: [{{operation: {{{}}}}}]", to.join(", ")));
    }
    if random.one_in(4) {
        let value = random.pick(&["blue", "b*", "*green", "*"]);
        let values = if random.one_in(4) { "notValues" } else { "values" };
        parts.push(format!("when: [{{key: \"request.headers[x-color]\", {values}: [\"{value}\"]}}]"));
    }
    if parts.is_empty() { "{}".to_owned() } else { format!("{{{}}}", parts.join(", ")) }
}

/// A world.
pub fn world(random: &mut Random, block: u8) -> World {
    let mut world = World { yaml: String::new(), block };
    let mut yaml = format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: caller}}\n\
         spec: {{address: 127.{block}.0.2, labels: {{app: caller}}, serviceAccount: front}}\n---\n\
         apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: STRICT}}}}\n"
    );
    for number in 0..SERVICES {
        let name = service(number);
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{selector: {{app: {name}}}, clusterIP: {}, ports: [{{name: http, port: 8080}}]}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
             spec: {{host: {name}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}\n",
            world.service_address(number)
        )
        .unwrap();
        for version in 0..2 {
            write!(
                yaml,
                "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}-v{}}}\n\
                 spec: {{address: {}, labels: {{app: {name}, version: v{}}}, serviceAccount: {name}}}\n",
                version + 1,
                world.workload_address(number * 2 + version),
                version + 1
            )
            .unwrap();
        }
        if !random.one_in(8) {
            writeln!(yaml, "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}]\n  http:"
            )
            .unwrap();
            for _ in 0..=random.below(5) {
                yaml.push_str(&route(random, number));
            }
            if !random.one_in(3) {
                writeln!(yaml, "  - route: [{{destination: {{host: {name}, subset: v1}}}}]").unwrap();
            }
        }
        for policy in 0..random.below(3) {
            let action = random.pick(&["ALLOW", "ALLOW", "DENY"]);
            let version = if random.one_in(3) { ", version: v1" } else { "" };
            write!(
                yaml,
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}-{policy}}}\n\
                 spec:\n  selector: {{matchLabels: {{app: {name}{version}}}}}\n  action: {action}\n  rules:\n"
            )
            .unwrap();
            for _ in 0..=random.below(3) {
                writeln!(yaml, "  - {}", rule(random)).unwrap();
            }
        }
    }
    world.yaml = yaml;
    world
}

/// A request to a service of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To whose address it is sent.
    pub service: usize,
    /// Method.
    pub method: &'static str,
    /// Host header.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Other headers, in order.
    pub headers: Vec<(String, String)>,
}

/// A path next to one that rules name.
fn path(random: &mut Random) -> String {
    let base = random.pick(&PATHS).to_owned();
    let mut path = match random.below(16) {
        0 => base.to_uppercase(),
        1 => format!("{base}/"),
        2 => format!("{base}x"),
        3 => format!("{base}/more/below"),
        4 => base.replace("/a", "/%61"),
        5 => base.replacen("/v1", "%2Fv1", 1),
        6 => format!("/{base}"),
        7 => format!("/x/..{base}"),
        8 => format!("{base}/./y"),
        9 => format!("{base};p=1"),
        10 => base.replace('a', "%41"),
        11 => format!("{base}%20b"),
        12 => base.trim_end_matches('/').to_owned(),
        _ => base,
    };
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if random.one_in(3) {
        path.push_str(random.pick(&[
            "?q=blue",
            "?q=b",
            "?q",
            "?q=",
            "?Q=blue",
            "?p=1&q=blue",
            "?q=no&q=blue",
            "?q=42",
            "?q=%62",
            "?",
            "?q=blue/../x",
        ]));
    }
    path
}

/// A request next to the boundaries of a world's rules.
pub fn request(random: &mut Random) -> Request {
    let number = random.below(SERVICES);
    let name = service(number);
    let host = match random.below(12) {
        0 => format!("{name}.shop"),
        1 => format!("{name}.shop.svc.cluster.local"),
        2 => format!("{name}.shop.svc.cluster.local:8080"),
        3 => format!("{name}:8080"),
        4 => name.to_uppercase(),
        5 => format!("{name}:9090"),
        6 => format!("{name}.shop.svc"),
        7 => random.pick(&["unknown.example", "svc99", "127.0.0.1", "svc1.other"]).to_owned(),
        _ => name,
    };
    let mut headers = Vec::new();
    for name in ["x-color", "x-user", "X-Color"] {
        if random.one_in(3) {
            headers.push((name.to_owned(), random.pick(&VALUES).to_owned()));
        }
    }
    if random.one_in(12) {
        headers.push(("x-color".to_owned(), "blue".to_owned()));
        headers.push(("x-color".to_owned(), "green".to_owned()));
    }
    Request { service: number, method: random.pick(&METHODS), host, path: path(random), headers }
}
