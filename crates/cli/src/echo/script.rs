//! What the header `x-echo-do` asks for: one failure, or several, of this one answer.

use std::str::FromStr;
use std::time::Duration;

/// Shown by `tulle echo --help`.
pub const HELP: &str = "\
Failures on request. The header `x-echo-do`, or for every request without it `POST /echo/do?SCRIPT`, holds actions
separated by commas:
  status=503     answers with this status
  delay=250ms    waits before the answer (ms or s)
  hang           never answers
  bytes=1000     a body of so many bytes instead of the report
  length=2000    announces so many bytes, whatever the body has
  dribble=10ms   sends the body byte by byte
  reset          resets the connection instead of answering; reset=100: after so many bytes of the body
  close          closes the connection after the answer without having said so
  grpc-status=14 the status of a gRPC answer
`POST /echo/do` without a script ends it. HTTP/1.1, HTTP/2 with prior knowledge (h2c), gRPC (each message comes back) and
WebSocket (each message comes back) are served on the same port.";

/// The most bytes of a body that is asked for.
const MAX_BYTES: u64 = 1 << 40;
/// The longest wait that is asked for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What one answer does beside answering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Status of the answer.
    pub status: Option<u16>,
    /// Waits first.
    pub delay: Duration,
    /// Never answers.
    pub hang: bool,
    /// Size of the body.
    pub bytes: Option<u64>,
    /// Announced size.
    pub length: Option<u64>,
    /// Pause before each byte.
    pub dribble: Option<Duration>,
    /// Resets after so many bytes of the body; before the head where it is zero.
    pub reset: Option<u64>,
    /// Closes after the answer.
    pub close: bool,
    /// Status of a gRPC answer.
    pub grpc_status: Option<u8>,
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Script, String> {
        let mut script = Script::default();
        for action in text.split([',', '&']).map(str::trim).filter(|action| !action.is_empty()) {
            let (name, value) = action.split_once('=').unwrap_or((action, ""));
            match name {
                "status" => script.status = Some(within(action, value, 200, 599)? as u16),
                "delay" => script.delay = duration(action, value)?,
                "hang" => script.hang = true,
                "bytes" => script.bytes = Some(within(action, value, 0, MAX_BYTES)?),
                "length" => script.length = Some(within(action, value, 0, MAX_BYTES)?),
                "dribble" => script.dribble = Some(duration(action, value)?),
                "reset" if value.is_empty() => script.reset = Some(0),
                "reset" => script.reset = Some(within(action, value, 1, MAX_BYTES)?),
                "close" => script.close = true,
                "grpc-status" => script.grpc_status = Some(within(action, value, 0, 16)? as u8),
                _ => return Err(format!("{action}: no such action; `tulle echo --help` lists them")),
            }
        }
        Ok(script)
    }
}

fn within(action: &str, value: &str, least: u64, most: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{action}: expected a number from {least} to {most}")),
    }
}

fn duration(action: &str, value: &str) -> Result<Duration, String> {
    let read = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
        (Some(number), _) => number.parse().ok().map(Duration::from_millis),
        (None, Some(number)) => number.parse().ok().map(Duration::from_secs),
        (None, None) => None,
    };
    read.filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(|| format!("{action}: expected a time such as 250ms or 2s, at most an hour"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_together_and_mistakes_are_named() {
        let script: Script = "status=503, delay=20ms,reset=7,close".parse().unwrap();
        let wanted = Script {
            status: Some(503),
            delay: Duration::from_millis(20),
            reset: Some(7),
            close: true,
            ..Script::default()
        };
        assert_eq!(script, wanted);
        assert_eq!("".parse(), Ok(Script::default()));
        assert_eq!("reset".parse::<Script>().unwrap().reset, Some(0));
        for wrong in ["status=99", "delay=5", "delay=2h", "bytes=x", "sleep=1s", "grpc-status=17"] {
            assert!(wrong.parse::<Script>().unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
