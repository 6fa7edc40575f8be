//! Which requests are watched. Texts may begin or end with `*`; nothing here takes longer than its input.

use protos::observe;

use super::labels::Reporter;
use crate::http::Headers;

/// The most conditions of one kind.
const MOST: usize = 32;
/// The longest text, in bytes.
const LONGEST: usize = 1024;

/// What a filter looks at when a request comes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which side of a call this is.
    pub reporter: Reporter,
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a [u8],
    /// Host.
    pub authority: &'a [u8],
    /// Headers.
    pub headers: &'a Headers,
    /// The caller's verified SPIFFE id, else `unknown`.
    pub peer: &'a str,
}

/// A text that may begin or end with `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Pattern {
    #[default]
    Any,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        let middle = text.trim_matches('*').as_bytes().into();
        match (text.starts_with('*'), text.ends_with('*')) {
            _ if text.is_empty() || text.bytes().all(|byte| byte == b'*') => Pattern::Any,
            (true, true) => Pattern::Contains(middle),
            (true, false) => Pattern::Suffix(middle),
            (false, true) => Pattern::Prefix(middle),
            (false, false) => Pattern::Exact(middle),
        }
    }

    fn takes(&self, value: &[u8]) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(text) => **text == *value,
            Pattern::Prefix(text) => value.starts_with(text),
            Pattern::Suffix(text) => value.ends_with(text),
            Pattern::Contains(text) => memchr::memmem::find(value, text).is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Is(u16),
    Class(u16),
    Failed,
}

/// Which requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    reporter: Option<Reporter>,
    methods: Vec<String>,
    path: Pattern,
    authority: Pattern,
    peer: Pattern,
    headers: Vec<(String, Pattern)>,
    statuses: Vec<Status>,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// A direction or status that is none; too much text.
    pub fn read(message: &observe::Filter) -> Result<Filter, String> {
        let observe::Filter { direction, methods, path, authority, statuses, headers, peer } = message;
        let counts = [methods.len(), statuses.len(), headers.len()];
        let texts = [path, authority, peer, direction].into_iter().chain(methods).chain(statuses);
        let texts = texts.chain(headers.iter().flat_map(|it| [&it.name, &it.value]));
        if counts.into_iter().any(|count| count > MOST) || texts.into_iter().any(|it| it.len() > LONGEST) {
            return Err(format!("a filter has at most {MOST} conditions of {LONGEST} bytes each"));
        }
        Ok(Filter {
            reporter: match direction.as_str() {
                "" => None,
                "inbound" => Some(Reporter::Destination),
                "outbound" => Some(Reporter::Source),
                other => return Err(format!("direction {other:?}: inbound or outbound")),
            },
            methods: methods.clone(),
            path: Pattern::new(path),
            authority: Pattern::new(authority),
            peer: Pattern::new(peer),
            headers: headers
                .iter()
                .map(|it| (it.name.to_ascii_lowercase(), Pattern::new(&it.value)))
                .collect(),
            statuses: statuses.iter().map(|text| status(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it takes a request that comes.
    pub fn takes(&self, request: &Request<'_>) -> bool {
        let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        self.reporter.is_none_or(|wanted| wanted == request.reporter)
            && (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method))
            && self.path.takes(path)
            && self.authority.takes(request.authority)
            && self.peer.takes(request.peer.as_bytes())
            && self
                .headers
                .iter()
                .all(|(name, value)| request.headers.get_all(name).any(|found| value.takes(found)))
    }

    /// Whether it takes what came out. `failed`: with a response flag.
    pub fn takes_end(&self, code: u16, failed: bool) -> bool {
        let failed = failed || code == 0 || code >= 500;
        self.statuses.is_empty()
            || self.statuses.iter().any(|wanted| match wanted {
                Status::Is(wanted) => *wanted == code,
                Status::Class(class) => *class == code / 100,
                Status::Failed => failed,
            })
    }
}

fn status(text: &str) -> Result<Status, String> {
    let wrong = || format!("status {text:?}: a number such as 404, a class such as 5xx, or failed");
    match text.as_bytes() {
        b"failed" => Ok(Status::Failed),
        [class @ b'1'..=b'5', b'x', b'x'] => Ok(Status::Class(u16::from(class - b'0'))),
        _ => match text.parse() {
            Ok(code @ 0..=599) => Ok(Status::Is(code)),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(edit: impl FnOnce(&mut observe::Filter)) -> Filter {
        let mut message = observe::Filter::default();
        edit(&mut message);
        Filter::read(&message).unwrap()
    }

    fn takes(filter: &Filter) -> bool {
        let mut headers = Headers::new();
        headers.append("x-user", "ann");
        headers.append("x-user", "bob");
        filter.takes(&Request {
            reporter: Reporter::Source,
            method: "GET",
            target: b"/api/pay?secret=/other",
            authority: b"payment:8080",
            headers: &headers,
            peer: "spiffe://cluster.local/ns/production/sa/frontend",
        })
    }

    #[test]
    fn every_condition_holds_or_does_not() {
        assert!(takes(&Filter::default()));
        let with = |edit: &dyn Fn(&mut observe::Filter)| takes(&filter(|it| edit(it)));
        for (direction, expected) in [("outbound", true), ("inbound", false)] {
            assert_eq!(with(&|it| it.direction = direction.into()), expected, "{direction}");
        }
        for (path, expected) in [
            ("/api/pay", true),
            ("/api/*", true),
            ("*/pay", true),
            ("*pi/p*", true),
            ("/other", false),
            ("*other", false),
        ] {
            assert_eq!(with(&|it| it.path = path.into()), expected, "{path}");
        }
        assert!(with(&|it| it.methods = vec!["POST".into(), "GET".into()]));
        assert!(!with(&|it| it.methods = vec!["get".into()]));
        assert!(with(&|it| it.authority = "payment*".into()) && !with(&|it| it.authority = "payment".into()));
        assert!(with(&|it| it.peer = "*/frontend".into()) && !with(&|it| it.peer = "*/back".into()));
        let header = |name: &str, value: &str| {
            let one = observe::HeaderFilter { name: name.into(), value: value.into() };
            with(&|it| it.headers = vec![one.clone()])
        };
        assert!(header("X-User", "bob") && header("x-user", "*") && !header("x-user", "eve"));
        assert!(!header("x-other", "*"));
    }

    #[test]
    fn statuses_are_numbers_classes_or_failures() {
        let of = |text: &str| filter(|it| it.statuses = vec![text.to_owned()]);
        assert!(of("404").takes_end(404, false) && !of("404").takes_end(403, false));
        assert!(of("5xx").takes_end(503, true) && !of("5xx").takes_end(0, true));
        assert!(of("failed").takes_end(0, false) && of("failed").takes_end(200, true));
        assert!(!of("failed").takes_end(404, false) && Filter::default().takes_end(0, true));
        for wrong in ["6xx", "abc", "", "600", "-1"] {
            let message = observe::Filter { statuses: vec![wrong.to_owned()], ..Default::default() };
            assert!(Filter::read(&message).is_err(), "{wrong}");
        }
        let message = observe::Filter { direction: "sideways".to_owned(), ..Default::default() };
        assert!(Filter::read(&message).unwrap_err().contains("sideways"));
        let message = observe::Filter { path: "x".repeat(LONGEST + 1), ..Default::default() };
        assert!(Filter::read(&message).is_err());
    }
}
