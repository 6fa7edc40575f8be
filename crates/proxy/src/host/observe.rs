//! The reverse stream beside ADS (`tulle.v1.Observe`): the control plane asks on behalf of users what became of a
//! request, and this proxy answers from what it kept.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use protos::envoy::envoy::config::core::v3::Node;
use protos::observe::{self, Answer, FromProxy, ObserveClient, Question};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::filter::Shared;
use crate::telemetry::labels::Reporter;
use crate::telemetry::recent::{Found, Story};

/// The largest question, in bytes.
const LARGEST_QUESTION: usize = 16 * 1024;
/// Answers that may wait to be sent.
const WAITING: usize = 16;
/// The most stories in one answer: the latest.
const MOST_STORIES: usize = 32;
/// Pause before the stream is opened again on a connection that still stands.
const PAUSE: Duration = Duration::from_secs(5);

/// The channel of the ADS stream, told anew after every connect; `None` before the first.
pub type Channels = watch::Receiver<Option<Channel>>;

/// Answers questions, for ever: the stream comes and goes with the connection to the control plane.
pub async fn run(mut channels: Channels, node: Node, shared: Arc<Shared>) {
    loop {
        let channel = channels.borrow_and_update().clone();
        let ended = match channel {
            Some(channel) => attach(channel, node.clone(), &shared).await,
            None => Status::unavailable("not connected yet"),
        };
        tracing::debug!("no questions can be asked: {}", ended.message().escape_debug());
        // A server that does not know the service will not learn it on this connection.
        let again = ended.code() != Code::Unimplemented && channels.borrow().is_some();
        tokio::select! {
            changed = channels.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if again => {}
        }
    }
}

/// Opens the stream and answers until it ends; returns why.
async fn attach(channel: Channel, node: Node, shared: &Shared) -> Status {
    let (answers, outgoing) = mpsc::channel(WAITING);
    // The channel is empty, so that this cannot fail.
    let _ = answers.try_send(FromProxy { node: Some(node), answer: None });
    let mut client = ObserveClient::new(channel, LARGEST_QUESTION);
    match client.attach(ReceiverStream::new(outgoing)).await {
        Ok(response) => match talk(response.into_inner(), &answers, shared).await {
            Ok(()) => Status::unavailable("the control plane ended the stream"),
            Err(status) => status,
        },
        Err(status) => status,
    }
}

async fn talk(
    mut questions: Streaming<Question>,
    answers: &mpsc::Sender<FromProxy>,
    shared: &Shared,
) -> Result<(), Status> {
    while let Some(question) = questions.message().await? {
        let found = shared.recent.find(&question.request_id);
        let answer = Some(answer(question.id, found));
        if answers.send(FromProxy { node: None, answer }).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn answer(id: u64, found: Found) -> Answer {
    let surplus = found.stories.len().saturating_sub(MOST_STORIES);
    Answer { id, seen: found.seen, stories: found.stories.into_iter().skip(surplus).map(message).collect() }
}

fn message(story: Story) -> observe::Story {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let since = |duration: Option<Duration>| duration.map(micros).unwrap_or_default();
    let text = |text: Option<Arc<str>>| text.map(|it| it.to_string()).unwrap_or_default();
    let direction = match story.reporter {
        Reporter::Source => "outbound",
        Reporter::Destination => "inbound",
    };
    observe::Story {
        began: micros(story.start_time.duration_since(UNIX_EPOCH).unwrap_or_default()),
        direction: direction.to_owned(),
        method: story.method.to_string(),
        authority: story.authority.into(),
        path: story.path.into(),
        protocol: story.protocol.to_owned(),
        status: u32::from(story.status),
        flags: story.flags.to_string(),
        details: story.details.into(),
        transport_failure: story.transport_failure.into(),
        route: text(story.route),
        cluster: text(story.cluster),
        upstream: text(story.upstream),
        attempts: story.attempts,
        peer_address: story.peer_address.to_string(),
        peer: story.peer.into(),
        request_read: since(story.request_read),
        sent: since(story.sent),
        answered: since(story.answered),
        ended: micros(story.ended),
        request_bytes: story.request_bytes,
        response_bytes: story.response_bytes,
    }
}
