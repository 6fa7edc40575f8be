//! Reads `testdata/smuggling`; its README describes the format. Also the handler that records what reaches it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::path::Path;

use proxy::http::{
    Body, BodyLength, Frame, Handler, Informational, LocalBoxFuture, RequestHead, ResponseHead,
};

/// One case.
#[derive(Debug, Default, Clone)]
pub struct Case {
    pub name: String,
    pub why: String,
    pub bytes: Vec<u8>,
    pub reaches: Vec<String>,
    pub ends: String,
    pub envoy: String,
}

/// All cases, sorted by file.
pub fn load() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/smuggling");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let cases: Vec<Case> = files.iter().flat_map(|path| read(path)).collect();
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "a name occurs twice");
    assert!(cases.len() >= 100, "the corpus was not found");
    cases
}

fn read(path: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            continue;
        }
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", path.display()));
        let case = cases.last_mut().unwrap();
        match key {
            "why" => case.why = value.to_owned(),
            "send" => case.bytes.extend(unescape(value)),
            "reaches" => case.reaches.push(value.to_owned()),
            "ends" => case.ends = value.to_owned(),
            "envoy" => case.envoy = value.to_owned(),
            _ => panic!("{}: unknown key {key}", path.display()),
        }
    }
    for case in &cases {
        assert!(
            ["open", "closed", "refused", "waiting"].contains(&case.ends.as_str()),
            "{}: ends",
            case.name
        );
        assert!(["same", "stricter", "looser"].contains(&case.envoy.as_str()), "{}: envoy", case.name);
        assert!(!case.why.is_empty() && !case.bytes.is_empty(), "{}", case.name);
    }
    cases
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match code {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.find('}').unwrap();
                let (count, part) = rest[..end].split_once('*').unwrap();
                out.extend(unescape(part).repeat(count.parse().unwrap()));
                rest = &rest[end + 1..];
            }
            _ => panic!("unknown escape in {text:?}"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Reads every request to its end, and remembers those that have one.
#[derive(Default)]
pub struct Recorder {
    /// `METHOD authority target body-length`.
    pub seen: RefCell<Vec<String>>,
    /// The reason of the last body that broke.
    pub broken: RefCell<Option<base::Reason>>,
}

impl Handler for Recorder {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        mut body: Body,
        _sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        Box::pin(async move {
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(Frame::Data(data)) => length += data.len(),
                    Ok(Frame::Trailers(_)) => {}
                    Err(error) => {
                        *self.broken.borrow_mut() = Some(error.reason);
                        return (ResponseHead::new(400, BodyLength::Known(0)), Body::empty());
                    }
                }
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let line = format!("{} {} {} {length}", head.method, text(&head.authority), text(&head.target));
            self.seen.borrow_mut().push(line);
            (ResponseHead::new(200, BodyLength::Known(2)), Body::full("ok"))
        })
    }
}
