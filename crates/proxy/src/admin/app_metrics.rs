//! The program's own page of metrics, to be shown beside the proxy's. It is distrusted: bounded in size and time, and
//! taken only when every line of it is one that Prometheus reads.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest page, in bytes.
const LONGEST: u64 = 4 << 20;
/// Names that are the mesh's: a program cannot say anything under them.
const OURS: [&str; 3] = ["istio_", "envoy_", "tulle_"];

/// Where the program shows its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPage {
    /// Its address.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
}

/// The lines of the program's page that may stand on ours.
///
/// # Errors
/// Why there is no such page, for the log.
pub async fn scrape(app: &AppPage, limit: Duration) -> Result<String, String> {
    let fetched = tokio::time::timeout(limit, fetch(app)).await;
    let answer =
        fetched.map_err(|_| format!("no answer within {limit:?}"))?.map_err(|error| error.to_string())?;
    if answer.len() as u64 > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    lines(body(&answer)?)
}

/// HTTP/1.0, so that the answer has no chunks and ends with the connection.
async fn fetch(app: &AppPage) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(app.address).await?;
    let AppPage { address, path } = app;
    let request = format!(
        "GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: text/plain;version=0.0.4\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST + 1).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Result<&str, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(answer).map_err(|error| format!("not an HTTP answer: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Err("the answer broke off".to_owned()) };
    if head.code != Some(200) {
        return Err(format!("status {}", head.code.unwrap_or_default()));
    }
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if field("transfer-encoding").is_some() {
        return Err("an answer to HTTP/1.0 has no transfer-encoding".to_owned());
    }
    let body = &answer[length..];
    if let Some(field) = field("content-length") {
        let promised =
            std::str::from_utf8(field.value).ok().and_then(|text| text.trim().parse::<usize>().ok());
        if promised != Some(body.len()) {
            return Err(format!("{} bytes came of {promised:?}", body.len()));
        }
    }
    std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())
}

/// All of the page or none of it: half a histogram would be worse than none.
fn lines(page: &str) -> Result<String, String> {
    let mut out = String::with_capacity(page.len());
    for (number, line) in page.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line == "# EOF" {
            continue;
        }
        let name = if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_ascii_whitespace();
            match words.next() {
                Some("TYPE" | "HELP" | "UNIT") => words.next(),
                _ => continue,
            }
        } else {
            sample(line)
        };
        let name = name.ok_or_else(|| format!("line {} is not one of metrics", number + 1))?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("line {} has control characters", number + 1));
        }
        if !OURS.iter().any(|ours| name.starts_with(ours)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

/// The name of a sample: `name{label="value",…} number [time]`.
fn sample(line: &str) -> Option<&str> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest,
    };
    let mut words = rest.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
    let number = |word: &str| word.parse::<f64>().is_ok() || matches!(word, "+Inf" | "-Inf" | "NaN" | "Nan");
    words.next().filter(|word| number(word))?;
    let time_is_one = words.next().is_none_or(number);
    (time_is_one && words.next().is_none()).then_some(name)
}

/// What follows the closing brace.
fn after_labels(mut rest: &str) -> Option<&str> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let mut value = after.trim_start().strip_prefix('"')?.char_indices();
        let text = after.trim_start().strip_prefix('"')?;
        let end = loop {
            match value.next()? {
                (_, '\\') => drop(value.next()?),
                (at, '"') => break at,
                _ => {}
            }
        };
        rest = text[end + 1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_page_is_taken_whole_without_the_meshs_names() {
        let page = "# HELP a_total what\n# TYPE a_total counter\na_total{x=\"a\\\"},b\",y=\"\"} 1\nb 2.5e3 1700000000000\n\
            c +Inf\nistio_requests_total{a=\"b\"} 7\n# TYPE envoy_x gauge\nenvoy_x 1\n# a remark\n\nd{} 1 # {trace_id=\"x\"} 1\n# EOF\n";
        let expected = "# HELP a_total what\n# TYPE a_total counter\na_total{x=\"a\\\"},b\",y=\"\"} 1\nb 2.5e3 1700000000000\n\
            c +Inf\nd{} 1 # {trace_id=\"x\"} 1\n";
        assert_eq!(lines(page).as_deref(), Ok(expected));
    }

    #[test]
    fn a_broken_page_is_not_taken_at_all() {
        for broken in [
            "<html>",
            "a",
            "a b",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "1a 1",
            "a 1 2 3",
            "a\u{1b}[31m 1",
            "a{x=\"\u{1b}\"} 1",
        ] {
            assert!(lines(&format!("ok 1\n{broken}\n")).is_err(), "{broken:?}");
        }
    }

    async fn answered(bytes: Vec<u8>, limit: Duration) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = AppPage { address: listener.local_addr().unwrap(), path: "/metrics".to_owned() };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Unread bytes would make the kernel reset the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let _ = stream.write_all(&bytes).await;
            if bytes.is_empty() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = scrape(&app, limit) => result,
            () = async { serve.await; std::future::pending().await } => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_program_is_held_to_size_and_time() {
        let limit = Duration::from_secs(30);
        let good = answered(b"HTTP/1.0 200 OK\r\n\r\na 1\n".to_vec(), limit).await;
        assert_eq!(good.as_deref(), Ok("a 1\n"));
        let mut long = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        long.resize(LONGEST as usize + 1024, b'\n');
        assert!(answered(long, limit).await.unwrap_err().contains("longer"));
        assert!(answered(Vec::new(), Duration::from_millis(50)).await.unwrap_err().contains("no answer"));
        let refused = answered(b"HTTP/1.0 503 no\r\n\r\n".to_vec(), limit).await;
        assert!(refused.unwrap_err().contains("503"));
        let cut = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1\n".to_vec(), limit).await;
        assert!(cut.unwrap_err().contains("4 bytes"));
    }
}
