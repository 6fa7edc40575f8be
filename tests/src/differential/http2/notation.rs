//! The notation of what one side of an HTTP/2 connection does: one action a line. `docs/testing-notation.md` has the list.

use std::time::Duration;

use super::frame::{self, END_HEADERS, END_STREAM, Frame};
use super::hpack::{self, Fields};
use crate::differential::{case, text};

/// Which stream an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// That one; 0 is the connection.
    Number(u32),
    /// The next one that this side may open.
    Next,
    /// The one of the action before; for an upstream, the one of the request.
    Same,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Every stream has ended.
    All,
    /// A stream has ended.
    Ended(Which),
    /// A stream has a head that is no interim one.
    Head(Which),
    /// A stream has some of its body.
    Data(Which),
    /// The peer said GOAWAY.
    Goaway,
    /// The peer sent its settings.
    Settings,
    /// The connection has ended.
    Close,
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The settings that the preface carries, or no preface at all.
    Preface(Option<Vec<u8>>),
    /// HEADERS; what a request needs and does not name is added.
    Head(Which, Fields, bool),
    /// DATA, as the peer's window allows.
    Data(Which, Vec<u8>, bool),
    /// A frame as it stands, and the length that it tells.
    Frame(Which, Frame, Option<usize>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Waits for the peer.
    Read(Until),
    /// Lets time pass.
    Wait(Duration),
    /// No window is given back any more.
    Hold,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Abort,
    /// Closes the writing half.
    HalfClose,
}

/// Actions of a script.
///
/// # Errors
/// The line that is none.
pub fn parse(lines: &[String]) -> Result<Vec<Action>, String> {
    let mut actions = Vec::new();
    for line in lines {
        let fault = |reason: String| format!("{line:?}: {reason}");
        match line.split_once(" * ").and_then(|(count, rest)| Some((count.parse::<usize>().ok()?, rest))) {
            Some((count, rest)) => {
                let once: Result<Vec<Action>, String> = rest.split("; ").map(action).collect();
                actions.extend(std::iter::repeat_n(once.map_err(fault)?, count).flatten());
            }
            None => actions.push(action(line).map_err(fault)?),
        }
    }
    Ok(actions)
}

fn action(line: &str) -> Result<Action, String> {
    let (verb, rest) = line.trim_start().split_once(' ').unwrap_or((line.trim(), ""));
    Ok(match verb {
        "preface" if rest == "none" => Action::Preface(None),
        "preface" => Action::Preface(Some(frame::settings(rest).ok_or("settings are NAME=VALUE …")?)),
        "request" => on(rest, |stream, rest| Ok(Action::Head(stream, first_line(rest)?, true)))?,
        "head" => on(rest, |stream, rest| Ok(Action::Head(stream, first_line(rest)?, false)))?,
        "fields" => on(rest, |stream, rest| Ok(fields_only(stream, rest)))?,
        "trailers" => on(rest, |stream, rest| {
            let block = hpack::encode(&fields(rest));
            Ok(framed("HEADERS", END_STREAM | END_HEADERS, stream, block))
        })?,
        "data" => on(rest, |stream, rest| Ok(Action::Data(stream, text::bytes(rest), false)))?,
        "end" => on(rest, |stream, rest| Ok(Action::Data(stream, text::bytes(rest), true)))?,
        "reset" => on(rest, |stream, rest| {
            let code = frame::code(rest).ok_or("no such error code")?;
            Ok(framed("RST_STREAM", 0, stream, code.to_be_bytes().to_vec()))
        })?,
        "window" => on(rest, |stream, rest| {
            let count: u32 = rest.parse().map_err(|_| "window STREAM COUNT")?;
            Ok(framed("WINDOW_UPDATE", 0, stream, count.to_be_bytes().to_vec()))
        })?,
        "goaway" => {
            let (last, code) = rest.split_once(' ').ok_or("goaway LAST CODE")?;
            let mut payload = last.parse::<u32>().map_err(|_| "goaway LAST CODE")?.to_be_bytes().to_vec();
            payload.extend(frame::code(code).ok_or("no such error code")?.to_be_bytes());
            framed("GOAWAY", 0, Which::Number(0), payload)
        }
        "settings" => {
            let payload = frame::settings(rest).ok_or("settings are NAME=VALUE …")?;
            framed("SETTINGS", 0, Which::Number(0), payload)
        }
        "ping" => framed("PING", 0, Which::Number(0), text::bytes(rest)),
        "frame" => raw(rest)?,
        "bytes" => Action::Bytes(text::bytes(rest)),
        "read" => Action::Read(until(rest)?),
        "wait" => Action::Wait(case::duration(rest).ok_or("wait 0.1s")?),
        "hold" => Action::Hold,
        "close" => Action::Close,
        "abort" => Action::Abort,
        "half_close" => Action::HalfClose,
        _ => return Err("no such action".to_owned()),
    })
}

/// What an answer in short form, `200 body | name: value`, does to a stream. Its body is the upstream's name when it has
/// none.
///
/// # Errors
/// It is none.
pub fn answer(short: &str, upstream: &str) -> Result<Vec<Action>, String> {
    let (line, rest) = short.split_once(" | ").unwrap_or((short, ""));
    let (status, body) = line.split_once(' ').unwrap_or((line, upstream));
    let body = if matches!(status, "204" | "304") { Vec::new() } else { text::bytes(body) };
    let mut head = first_line(status)?;
    head.extend(fields(rest));
    if !matches!(status, "204" | "304") {
        head.push(("content-length".to_owned(), body.len().to_string()));
    }
    let mut actions = vec![Action::Head(Which::Same, head, body.is_empty())];
    if !body.is_empty() {
        actions.push(Action::Data(Which::Same, body, true));
    }
    Ok(actions)
}

fn on(text: &str, then: impl FnOnce(Which, &str) -> Result<Action, String>) -> Result<Action, String> {
    let (stream, rest) = text.split_once(' ').unwrap_or((text, ""));
    then(which(stream)?, rest)
}

fn which(word: &str) -> Result<Which, String> {
    match word {
        "next" => Ok(Which::Next),
        "same" => Ok(Which::Same),
        number => {
            number.parse().map(Which::Number).map_err(|_| "a stream is a number, next or same".to_owned())
        }
    }
}

fn framed(kind: &str, flags: u8, stream: Which, payload: Vec<u8>) -> Action {
    Action::Frame(stream, Frame::new(kind, flags, 0, payload), None)
}

fn fields_only(stream: Which, rest: &str) -> Action {
    framed("HEADERS", END_STREAM | END_HEADERS, stream, hpack::encode(&fields(rest)))
}

/// `name: value | name: value`; a name may begin with a colon.
fn fields(text: &str) -> Fields {
    let parts = text.split(" | ").filter(|part| !part.is_empty());
    let field = |part: &str| {
        let at = part[1..].find(':').map_or(part.len(), |at| at + 1);
        let value = part.get(at + 1..).unwrap_or_default();
        (text::expand(&part[..at]), text::expand(value.strip_prefix(' ').unwrap_or(value)))
    };
    parts.map(field).collect()
}

/// `GET /path | name: value` or `200 | name: value`. Pseudo-headers may be told among the fields.
fn first_line(short: &str) -> Result<Fields, String> {
    let (line, rest) = short.split_once(" | ").unwrap_or((short, ""));
    let mut told = fields(rest);
    let mut head = match line.split_once(' ') {
        None if line.len() == 3 => vec![(":status".to_owned(), line.to_owned())],
        Some((method, path)) => vec![
            (":method".to_owned(), method.to_owned()),
            (":scheme".to_owned(), String::new()),
            (":authority".to_owned(), "example.com".to_owned()),
            (":path".to_owned(), text::expand(path)),
        ],
        None => return Err("a head is `GET /path` or a status".to_owned()),
    };
    for (name, value) in &mut head {
        if let Some(at) = told.iter().position(|(own, _)| own == name) {
            *value = told.remove(at).1;
        }
    }
    head.extend(told);
    Ok(head)
}

/// `TYPE flags=5 stream=1 length=9 PAYLOAD`.
fn raw(text: &str) -> Result<Action, String> {
    let (kind, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    let known = frame::TYPES.iter().position(|name| *name == kind).and_then(|at| u8::try_from(at).ok());
    let kind = known.or(kind.parse().ok()).ok_or("no such type of frame")?;
    let (mut stream, mut flags, mut length) = (Which::Number(0), 0_u8, None);
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        match word.split_once('=') {
            Some(("stream", value)) => stream = which(value)?,
            Some(("flags", value)) => flags = value.parse().map_err(|_| "flags is a number")?,
            Some(("length", value)) => length = Some(value.parse().map_err(|_| "length is a number")?),
            _ => break,
        }
        rest = after;
    }
    let inner = |name: &str| rest.strip_prefix(name).and_then(|rest| rest.strip_suffix(')'));
    let payload = if let Some(inner) = inner("hpack(") {
        hpack::encode(&fields(inner))
    } else if let Some(inner) = inner("hex(") {
        let digits: String = text::expand(inner).split_whitespace().collect();
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16);
        (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>().map_err(|_| "hex(00 ff)")?
    } else {
        text::bytes(rest)
    };
    Ok(Action::Frame(stream, Frame { kind, flags, stream: 0, payload }, length))
}

fn until(text: &str) -> Result<Until, String> {
    Ok(match text.split_once(' ').unwrap_or((text, "")) {
        ("", _) => Until::All,
        ("head", stream) => Until::Head(which(stream)?),
        ("data", stream) => Until::Data(which(stream)?),
        ("goaway", _) => Until::Goaway,
        ("settings", _) => Until::Settings,
        ("close", _) => Until::Close,
        (stream, _) => Until::Ended(which(stream)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_actions() {
        let parse = |line: &str| parse(&[line.to_owned()]).unwrap();
        let Action::Head(Which::Number(1), fields, true) =
            &parse("request 1 GET /a | x: y | :scheme: https")[0]
        else {
            panic!("no head")
        };
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [":method", ":scheme", ":authority", ":path", "x"]);
        assert_eq!(fields[1].1, "https");
        assert_eq!(parse("3 * reset next CANCEL; read").len(), 6);
        let Action::Frame(_, frame, length) = &parse("frame PING flags=1 length=9 hex(00 0f)")[0] else {
            panic!("no frame")
        };
        assert_eq!(frame.bytes(*length), [0, 0, 9, 6, 1, 0, 0, 0, 0, 0, 15]);
        assert_eq!(parse("read head same"), [Action::Read(Until::Head(Which::Same))]);
    }

    #[test]
    fn what_is_no_action_is_refused() {
        for line in
            ["reset 1 NONSENSE", "jump", "data x y", "frame ODD", "window 1", "settings A", "head 1 x"]
        {
            assert!(super::parse(&[line.to_owned()]).is_err(), "{line}");
        }
    }
}
