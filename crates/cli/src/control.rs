//! Asking a running `tulled` through its monitoring port.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::BodyExt;
use runtime::{Drain, Supervisor};
use serde_json::Value;

use crate::{Error, client};

/// The port on which `tulled` is asked.
const PORT: u16 = 15014;
/// The longest line of an answer, in bytes.
const LONGEST_LINE: usize = 16 << 20;

/// Where `tulled` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Control {
    /// Address of tulled's monitoring port: HOST:PORT, or its URL
    #[arg(
        long = "monitoring",
        visible_alias = "control",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15014"
    )]
    pub address: Address,
}

/// The address of a monitoring port: `127.0.0.1:15014`, `localhost`, `http://127.0.0.1:15014`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "an address such as 127.0.0.1:15014";
        if text.starts_with("https://") {
            return Err(format!("the monitoring port speaks plain HTTP: {wanted}"));
        }
        let host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if let Ok(address) = host.parse() {
            return Ok(Address(address));
        }
        let named = if host.contains(':') { host.to_owned() } else { format!("{host}:{PORT}") };
        let mut found = named.to_socket_addrs().map_err(|error| format!("{error}; give {wanted}"))?;
        found.next().map(Address).ok_or_else(|| format!("the name has no address; give {wanted}"))
    }
}

/// One question, one JSON answer. Blocks; for commands that do nothing else meanwhile.
///
/// # Errors
/// `tulled` is not there, or says no: the text names the address and what it said.
pub fn ask(address: Address, path: &str) -> Result<Value, Error> {
    let answer = fetch(address, path)?;
    if !answer.status.is_success() {
        return Err(refused(address, answer.status, &answer.text()));
    }
    serde_json::from_slice(&answer.body).map_err(|_| stranger(address))
}

/// Something that changes what proxies do, one JSON answer.
///
/// # Errors
/// `tulled` is not there, or says no.
pub fn command(address: Address, path: &str) -> Result<Value, Error> {
    let asking = async {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        let mut connection = client::Connection::open(address.0, &supervisor.tasks()).await?;
        let headers = [("x-tulle-command".to_owned(), "yes".to_owned())];
        let response =
            connection.send(client::request("POST", path, &address.to_string(), &headers)?).await?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), LONGEST_LINE);
        let body = body.collect().await.map_err(|error| format!("{address}: {error}"))?.to_bytes();
        Ok::<_, Error>((status, body))
    };
    let (status, body) = runtime::thread::block_on_local(asking)?.map_err(|error| absent(&error))?;
    if !status.is_success() {
        return Err(refused(address, status, &String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|_| stranger(address))
}

/// One question, whatever the answer.
///
/// # Errors
/// Nobody answers there.
pub fn fetch(address: Address, path: &str) -> Result<client::Answer, Error> {
    fetch_from(address.0, path).map_err(|error| absent(&error))
}

/// One question to whatever listens there.
///
/// # Errors
/// Nobody answers there.
pub fn fetch_from(address: SocketAddr, path: &str) -> Result<client::Answer, Error> {
    let asking = async {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        client::get(address, path, &supervisor.tasks()).await
    };
    runtime::thread::block_on_local(asking)?
}

/// A question whose answer comes line by line for as long as `each` wants more and `limit` allows.
///
/// # Errors
/// `tulled` is not there, says no, or goes away; or `each` has one.
pub fn lines(
    address: Address,
    path: &str,
    limit: Option<Duration>,
    mut each: impl FnMut(Value) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let reading = async {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        let opened = client::Connection::open(address.0, &supervisor.tasks()).await;
        let mut connection = opened.map_err(|error| absent(&error))?;
        let response = connection
            .send(client::request("GET", path, &address.to_string(), &[])?)
            .await
            .map_err(|it| absent(&it))?;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let text = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
            return Err(refused(address, head.status, &String::from_utf8_lossy(&text)));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("tulled at {address} went away: {error}"))?;
            rest.extend_from_slice(frame.data_ref().map(|data| &data[..]).unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let value = serde_json::from_slice(&line).map_err(|_| stranger(address))?;
                if each(value)?.is_break() {
                    return Ok(());
                }
            }
            if rest.len() > LONGEST_LINE {
                return Err(stranger(address));
            }
        }
        Err(format!("tulled at {address} has ended").into())
    };
    runtime::thread::block_on_local(async {
        match limit {
            None => reading.await,
            Some(limit) => tokio::time::timeout(limit, reading).await.unwrap_or(Ok(())),
        }
    })?
}

fn absent(error: &Error) -> Error {
    let remedy = "is tulled running, and is this its monitoring port? Name another with --monitoring (tulled's log and the demo print it)";
    format!("tulled cannot be asked: {error}; {remedy}").into()
}

fn refused(address: Address, status: hyper::StatusCode, text: &str) -> Error {
    let text = text.trim();
    if status == hyper::StatusCode::NOT_FOUND && !text.contains("what /debug lists") && !text.starts_with('{')
    {
        return stranger(address);
    }
    format!("tulled at {address} says {status}: {}", text.escape_debug()).into()
}

fn stranger(address: Address) -> Error {
    format!("what answers at {address} is not tulled's monitoring port; give its address with --monitoring")
        .into()
}

/// A text as part of a query (RFC 3986, section 2.1).
pub fn encoded(text: &str) -> String {
    use fmt::Write;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A String takes everything.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_written_as_people_write_them() {
        for text in ["127.0.0.1:15014", "http://127.0.0.1:15014/", "127.0.0.1", "http://127.0.0.1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), "127.0.0.1:15014", "{text}");
        }
        for wrong in ["https://127.0.0.1:15014", "127.0.0.1:x", "", "no such host"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn texts_are_encoded() {
        assert_eq!(encoded("a-1.b_~"), "a-1.b_~");
        assert_eq!(encoded("a b&c=%"), "a%20b%26c%3D%25");
    }

    #[test]
    fn nobody_there_is_said_with_a_remedy() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address(socket.local_addr().unwrap());
        drop(socket);
        let error = ask(address, "/debug/status").unwrap_err().to_string();
        assert!(error.contains("refused") && error.contains("is tulled running"), "{error}");
    }
}
