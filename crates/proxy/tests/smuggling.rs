//! Every case of the smuggling corpus through the real server loop, whole and one byte at a time: what is refused never
//! reaches the handler.

mod corpus;

use base::Reason;
use corpus::{Case, Recorder};
use proxy::http::h1::server::{Closed, ConnectionError, ServerOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// What reached the handler, and how the connection ended.
async fn run(case: &Case, step: usize) -> (Vec<String>, &'static str) {
    // A pipe as small as the step makes the server read the bytes as they are cut.
    let (client, server) = duplex(step.min(1 << 20));
    let (_drain, watch) = runtime::Drain::new();
    let recorder = Recorder::default();
    let options = ServerOptions::default();
    let (mut read, mut write) = tokio::io::split(client);
    let sending = async {
        // The server may close before it has read everything.
        if write.write_all(&case.bytes).await.is_ok() {
            let _ = write.shutdown().await;
        }
    };
    let receiving = async {
        let mut output = Vec::new();
        let _ = read.read_to_end(&mut output).await;
        String::from_utf8_lossy(&output).into_owned()
    };
    let (ended, (), output) = tokio::join!(serve(server, &recorder, &options, &watch), sending, receiving);
    let broken = recorder.broken.take();
    let ends = match ended {
        Ok(Closed::Refused(refusal)) => {
            assert!(output.contains(&format!("HTTP/1.1 {} ", refusal.status())), "{}: {output}", case.name);
            "refused"
        }
        _ if broken == Some(Reason::BadRequest) => "refused",
        _ if broken.is_some() => "waiting",
        Ok(Closed::ByClient) => "open",
        Ok(Closed::AfterResponse) => "closed",
        Err(ConnectionError::ClientGone | ConnectionError::Io(_)) => "waiting",
        other => panic!("{}: {other:?}", case.name),
    };
    (recorder.seen.into_inner(), ends)
}

#[tokio::test]
async fn refused_requests_never_reach_the_handler() {
    let mut failures = Vec::new();
    for case in corpus::load() {
        for step in [case.bytes.len(), 1] {
            let (seen, ends) = run(&case, step).await;
            if seen != case.reaches || ends != case.ends {
                failures.push(format!(
                    "{} in pieces of {step}: reached {seen:?}, ended {ends}; expected {:?}, {}",
                    case.name, case.reaches, case.ends
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_difference_from_envoy_is_explained() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences-from-envoy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (same, looser) = page.split_once("## Looser").unwrap();
    let section = |text: &str, name: &str| text.contains(&format!("`{name}`"));
    for case in corpus::load() {
        let found = (section(same, &case.name), section(looser, &case.name));
        let expected = (case.envoy == "stricter", case.envoy == "looser");
        assert_eq!(found, expected, "{}", case.name);
    }
}
