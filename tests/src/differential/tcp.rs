//! The notation of what one side of a TCP connection does, and the doing. `docs/testing-notation.md` has the list.

use std::time::Duration;

use serde_json::{Value, json};

use super::message::{End, Reader};
use super::upstream::reset;
use super::{case, text};

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Reads that many bytes.
    Read(usize),
    /// Reads up to and with a text.
    Until(Vec<u8>),
    /// Reads to the end of the other side.
    End,
    /// Reads to the end of the other side and forgets what comes.
    Forget,
    /// Lets time pass.
    Wait(Duration),
    /// Closes the writing half.
    HalfClose,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Leaves the connection as it is, for the next step.
    Keep,
}

/// Actions of a script.
///
/// # Errors
/// The line that is none.
pub fn parse(lines: &[String]) -> Result<Vec<Action>, String> {
    lines.iter().map(|line| action(line).ok_or_else(|| format!("{line:?}: no such action"))).collect()
}

fn action(line: &str) -> Option<Action> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match verb {
        "send" => Action::Send(text::bytes(rest)),
        "read" if rest == "end" => Action::End,
        "forget" => Action::Forget,
        "read" => Action::Read(rest.parse().ok()?),
        "until" => Action::Until(text::bytes(rest)),
        "wait" => Action::Wait(case::duration(rest)?),
        "half_close" => Action::HalfClose,
        "close" => Action::Close,
        "reset" => Action::Reset,
        "keep" => Action::Keep,
        _ => return None,
    })
}

/// Does what a script says; then reads to the end unless the script ended the connection. Returns what was received, and
/// how it ended.
pub fn run(reader: &mut Reader, actions: &[Action]) -> Value {
    let mut received = Vec::new();
    let mut end = End::Whole;
    let (mut closed, mut kept) = (false, false);
    for action in actions {
        match action {
            Action::Send(bytes) => reader.send(bytes),
            Action::Read(count) => {
                let (bytes, how) = reader.exactly(*count);
                received.extend(bytes);
                end = how;
            }
            Action::Until(text) => match reader.until(text) {
                Ok(bytes) => received.extend(bytes),
                Err(how) => end = how,
            },
            Action::End => {
                end = reader.to_end();
                received.extend(reader.take(reader.rest().len()));
            }
            Action::Forget => {
                end = reader.to_end();
                reader.take(reader.rest().len());
            }
            Action::Wait(time) => std::thread::sleep(*time),
            Action::HalfClose => reader.half_close(),
            Action::Close | Action::Reset => {
                if *action == Action::Reset {
                    reset(reader.socket());
                }
                closed = true;
            }
            Action::Keep => kept = true,
        }
        if closed || end == End::Timeout {
            break;
        }
    }
    if !closed && !kept && end == End::Whole {
        end = reader.to_end();
    }
    received.extend(reader.take(reader.rest().len()));
    let ended = match end {
        _ if closed => "by us",
        End::Whole => "open",
        End::Timeout => "never",
        End::Closed => "closed",
    };
    json!({ "received": text::brief(&text::text(&received)), "ended": ended })
}
