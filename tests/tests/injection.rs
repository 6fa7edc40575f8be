//! What a client sends cannot end a line, forge another one, act on a terminal or leave its label: bytes of every kind
//! come by HTTP/1, HTTP/2 and SNI, and logs, admin pages, metrics and answers are looked through.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::chaos::{Instance, Mesh};
use tests::{binary, exchange, get, until};

/// Text and JSON read the same values; the text of a line begins and ends with words that no client sends.
const TEXT: &str = "accessLogFile: /dev/stdout\naccessLogFormat: \"[LOG] %REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% \
    \\\"%REQ(USER-AGENT)%\\\" %REQ(X-FORWARDED-FOR)% %REQ(X-REQUEST-ID)% %RESP(X-BACK)% %REQUESTED_SERVER_NAME% \
    %RESPONSE_CODE_DETAILS% %TULLE_REASON% %TULLE_PEER% [END]\"\n";

/// What would do harm where it stood in a line as it is.
const HARM: [&[u8]; 9] = [
    b"\r\nFORGED: yes",
    b"\nFORGED line",
    b"\rFORGED",
    b"\0FORGED",
    b"\x1b[2J\x1b]0;FORGED\x07",
    b"\xc2\x9b2JFORGED",
    b"\xff\xfe\xc3(FORGED",
    b"\" FORGED=\"1",
    b"\"} FORGED{x=\"",
];

fn raw(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    exchange(address, request).unwrap()
}

/// A request with harmful bytes at one place.
fn request(place: usize, harm: &[u8]) -> Vec<u8> {
    let at = |wanted: usize| if wanted == place { harm } else { b"" };
    [
        b"GET /pay".as_slice(),
        at(0),
        b" HTTP/1.1\r\nhost: back:8080",
        at(1),
        b"\r\nuser-agent: x",
        at(2),
        b"\r\nx-request-id: id",
        at(3),
        b"\r\nx-forwarded-for: 10.0.0.1",
        at(4),
        b"\r\nx-tulle-failure: reason=flood,hop=a",
        at(5),
        b"\r\nx",
        at(6),
        b": y\r\nconnection: close\r\n\r\n",
    ]
    .concat()
}

/// A header block of literals without indexing (RFC 7541, section 6.2.2).
fn http2(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend_from_slice(&[1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

/// A ClientHello that asks for that name.
fn client_hello(name: &[u8]) -> Vec<u8> {
    let two = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let entry = [&[0][..], &two(name)].concat();
    let extension = [&[0, 0][..], &two(&two(&entry))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &two(&[0x13, 0x01]), &[1, 0], &two(&extension)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let hello = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &two(&hello)].concat()
}

fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // Refused or not: what matters is what is written about it.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 4096]);
}

/// Neither a control character, nor a byte that is no text, nor a line that a client has begun.
fn assert_clean(place: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{place} is no UTF-8: {error}"));
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let control = line.chars().find(|it| it.is_control() && *it != '\t');
        assert!(control.is_none(), "{place} has {control:?} in {line:?}");
        assert!(!line.starts_with("FORGED"), "{place}: a client has begun the line {line:?}");
        assert!(!line.starts_with("[LOG]") || line.ends_with("[END]"), "{place}: cut off: {line:?}");
    }
}

/// What `tulle` prints, for people and for programs.
fn printed(mesh: &Mesh, words: &[&str]) -> Vec<u8> {
    let monitoring = mesh.monitoring().to_string();
    let output =
        Command::new(binary("tulle")).args(words).args(["--monitoring", &monitoring]).output().unwrap();
    [output.stdout, output.stderr].concat()
}

/// `tulle why`, `tap` and `top` show what clients sent: also that, and ids that a user pastes, cannot act.
fn asked_through_the_control_plane(mesh: &Mesh, service: SocketAddr) {
    for form in ["table", "json"] {
        let words = ["tap", "--for", "20", "-n", "12", "-o", form];
        let monitoring = mesh.monitoring().to_string();
        let tap = Command::new(binary("tulle"))
            .args(words)
            .args(["--monitoring", &monitoring])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Until the tap is open at the proxies nothing is seen: harm is sent until it has seen enough, or its time is over.
        let (done, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let told = told;
                // Most of it is refused; what is taken (bytes above ASCII, quotes) is what the tap shows.
                for number in 0.. {
                    if told.try_recv().is_ok() {
                        return;
                    }
                    raw(service, &request(number % 7, HARM[5 + number % 4]));
                }
            });
            let output = tap.wait_with_output().unwrap();
            done.send(()).unwrap();
            let all = [output.stdout, output.stderr].concat();
            assert!(String::from_utf8_lossy(&all).contains("back"), "the tap saw requests: {all:?}");
            assert_clean(&format!("tulle tap -o {form}"), &all);
        });
        for harm in HARM {
            // An argument has no NUL; what is no text is what a terminal would paste of it.
            let id = format!("id{}", String::from_utf8_lossy(harm)).replace('\0', "");
            assert_clean(&format!("tulle why {id:?} -o {form}"), &printed(mesh, &["why", &id, "-o", form]));
        }
        assert_clean("tulle top", &printed(mesh, &["top", "--once", "-o", form]));
        assert_clean("tulle log", &printed(mesh, &["log", "--request-id", "\u{1b}[2J\nFORGED", "-o", form]));
    }
    // A request whose story is kept, with everything harmful that a head can hold.
    let id = "kept-1";
    let head = b"GET /lost HTTP/1.1\r\nhost: back:8080\r\nx-request-id: kept-1\r\nuser-agent: \xff\xc2\x9b2J\x80\" FORGED=\"\r\n\
        x-forwarded-for: \xff\xfe, FORGED\r\nconnection: close\r\n";
    raw(service, &[head.as_slice(), b"te: \xc2\x9bFORGED\r\n\r\n"].concat());
    for form in ["table", "json"] {
        let words = ["why", id, "-o", form];
        let shown = until("the story is there", || {
            let shown = printed(mesh, &words);
            String::from_utf8_lossy(&shown).contains("kept-1").then_some(shown)
        });
        assert_clean("tulle why", &shown);
    }
}

#[test]
fn nothing_that_a_client_sends_leaves_its_place() {
    let mesh = Mesh::start(98, &[Instance::new("back", 31)], TEXT, "");
    let service = mesh.service("back");
    until("the service answers", || get(service, "/").filter(|answer| answer.contains(" 200 ")));
    let inbound = mesh.address(&mesh.instances("back")[0]);
    for harm in HARM {
        for place in 0..7 {
            for address in [service, inbound] {
                let answer = raw(address, &request(place, harm));
                let head = answer.split(|byte| *byte == b'\n').take_while(|line| line.len() > 1);
                for line in head {
                    assert!(!line.starts_with(b"FORGED"), "a response header is forged: {answer:?}");
                }
            }
        }
        let path = [b"/".as_slice(), harm].concat();
        for (path, agent) in [(path.as_slice(), b"x".as_slice()), (b"/", harm)] {
            let fields: [(&[u8], &[u8]); 5] = [
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":authority", b"back:8080"),
                (b":path", path),
                (b"user-agent", agent),
            ];
            send(service, &http2(&fields));
        }
        send(inbound, &client_hello(harm));
    }
    // The last request is in the log when all before it are.
    raw(service, b"GET /last HTTP/1.1\r\nhost: back\r\nconnection: close\r\n\r\n");
    for name in ["caller-9", "back-31"] {
        until("the last request is logged", || mesh.processes[name].log().contains("/last").then_some(()));
    }
    let quoted = mesh.processes["caller-9"].log();
    assert!(quoted.contains("x\\x22 FORGED=\\x221"), "the harm was logged, in another form:\n{quoted}");
    for (name, process) in &mesh.processes {
        let log = process.bytes();
        // The last line may still be on its way.
        let end = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_clean(&format!("the log of {name}"), &log[..end]);
    }
    asked_through_the_control_plane(&mesh, service);
    for instance in ["caller", "back"] {
        let admin = mesh.admin(&mesh.instances(instance)[0]);
        for page in ["/stats", "/stats/prometheus", "/clusters", "/listeners", "/config_dump", "/server_info"]
        {
            let request = format!("GET {page} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
            let answer = raw(admin, request.as_bytes());
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{page}");
            assert_clean(&format!("{page} of {instance}"), &answer);
        }
    }
}
