//! The reverse stream beside ADS (`tulle.v1.Observe`): the control plane asks on behalf of users: what became of a
//! request, what passes now, what a page of the admin server says.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use protos::envoy::envoy::config::core::v3::Node;
use protos::observe::{Answer, FromProxy, ObserveClient, Question, RaiseLog};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::observe_story::{message, sum};
use crate::admin::Context;
use crate::filter::Shared;
use crate::telemetry::recent::Story;
use crate::telemetry::start_time;
use crate::telemetry::watch::{OpenWatch, Wanted};
use crate::telemetry::watch_filter::Filter;

/// The largest question, in bytes.
const LARGEST_QUESTION: usize = 64 * 1024;
/// Answers that may wait to be sent.
const WAITING: usize = 16;
/// The most stories in one answer.
const MOST_STORIES: usize = 16;
/// The most sums in one answer.
const MOST_SUMS: usize = 32;
/// Stories of watches that may wait to be sent; more are dropped and counted.
const WATCHED: usize = 1024;
/// How often sums are told, and that a watch is still open.
const BEAT: Duration = Duration::from_secs(1);
/// The largest part of a page in one answer, in bytes.
const PART: usize = 64 * 1024;
/// Pause before the stream is opened again on a connection that still stands.
const PAUSE: Duration = Duration::from_secs(5);
/// The pages of the admin server that may be asked for: nothing that changes anything, nothing secret.
const PAGES: [(&str, &str, &str); 6] = [
    ("certs", "/certs", ""),
    ("config_dump", "/config_dump", "include_eds"),
    ("clusters", "/clusters", "format=json"),
    ("listeners", "/listeners", "format=json"),
    ("server_info", "/server_info", ""),
    ("trace_context", "/trace_context", ""),
];

/// The channel of the ADS stream, told anew after every connect; `None` before the first.
pub type Channels = watch::Receiver<Option<Channel>>;

/// What answers are made from.
pub struct Sources {
    /// What all workers share.
    pub shared: std::sync::Arc<Shared>,
    /// What the admin pages are made from.
    pub pages: Rc<Context>,
}

/// Answers questions, for ever: the stream comes and goes with the connection to the control plane.
pub async fn run(mut channels: Channels, node: Node, sources: Sources) {
    loop {
        let channel = channels.borrow_and_update().clone();
        let ended = match channel {
            Some(channel) => attach(channel, node.clone(), &sources).await,
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

/// Opens the stream and answers until it ends; returns why. Its watches end with it.
async fn attach(channel: Channel, node: Node, sources: &Sources) -> Status {
    let (answers, outgoing) = mpsc::channel(WAITING);
    // The channel is empty, so that this cannot fail.
    let _ = answers.try_send(FromProxy { node: Some(node), answer: None });
    let mut client = ObserveClient::new(channel, LARGEST_QUESTION);
    let questions = match client.attach(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    let (stories, watched) = mpsc::channel(WATCHED);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut talk = Talk { sources, answers, stories, open: BTreeMap::new() };
    match talk.run(questions, watched, beat).await {
        Ok(()) => Status::unavailable("the control plane ended the stream"),
        Err(status) => status,
    }
}

/// Nobody reads the answers any more.
struct Gone;

/// One stream.
struct Talk<'a> {
    sources: &'a Sources,
    answers: mpsc::Sender<FromProxy>,
    stories: mpsc::Sender<(u64, Story)>,
    open: BTreeMap<u64, OpenWatch>,
}

impl Talk<'_> {
    async fn run(
        &mut self,
        mut questions: Streaming<Question>,
        mut watched: mpsc::Receiver<(u64, Story)>,
        mut beat: Interval,
    ) -> Result<(), Status> {
        let mut several = Vec::new();
        loop {
            let told = tokio::select! {
                question = questions.message() => match question? {
                    Some(question) => self.answer(question).await,
                    None => return Ok(()),
                },
                _ = watched.recv_many(&mut several, MOST_STORIES) => self.tell(&mut several).await,
                _ = beat.tick(), if !self.open.is_empty() => self.beat().await,
            };
            if told.is_err() {
                return Ok(());
            }
        }
    }

    async fn send(&self, answer: Answer) -> Result<(), Gone> {
        self.answers.send(FromProxy { node: None, answer: Some(answer) }).await.map_err(|_| Gone)
    }

    async fn answer(&mut self, question: Question) -> Result<(), Gone> {
        let id = question.id;
        if question.stop {
            self.open.remove(&id);
            return Ok(());
        }
        if let Some(wanted) = question.watch {
            let filter = Filter::read(&wanted.filter.unwrap_or_default());
            let stories = (!wanted.sums).then(|| self.stories.clone());
            let opened = filter.and_then(|filter| {
                let wanted = Wanted { id, filter, per_million: wanted.per_million, stories };
                self.sources.shared.watches.open(wanted)
            });
            let mut answer = Answer { id, watching: true, more: true, ..Answer::default() };
            match opened {
                Ok(open) => drop(self.open.insert(id, open)),
                Err(reason) => (answer.refusal, answer.more) = (reason, false),
            }
            return self.send(answer).await;
        }
        if !question.page.is_empty() {
            return self.page(id, &question.page).await;
        }
        if let Some(wanted) = question.log {
            return self.raise(id, &wanted).await;
        }
        let found = self.sources.shared.recent.find(&question.request_id);
        let surplus = found.stories.len().saturating_sub(MOST_STORIES);
        let stories = found.stories.into_iter().skip(surplus).map(message).collect();
        self.send(Answer { id, seen: found.seen, stories, ..Answer::default() }).await
    }

    async fn raise(&self, id: u64, wanted: &RaiseLog) -> Result<(), Gone> {
        let request = Some(wanted.request_id.as_str()).filter(|it| !it.is_empty());
        let time = Duration::from_secs(wanted.seconds.into());
        let mut answer = Answer { id, ..Answer::default() };
        match self.sources.shared.sinks.raised.raise(request, time, SystemTime::now()) {
            Ok(end) => start_time::write_format(&mut answer.document, end, "%Y-%m-%dT%H:%M:%SZ"),
            Err(reason) => answer.refusal = reason,
        }
        self.send(answer).await
    }

    async fn page(&self, id: u64, name: &str) -> Result<(), Gone> {
        let Some((_, path, query)) = PAGES.iter().find(|(known, ..)| *known == name) else {
            let refusal = "there is no such page".to_owned();
            return self.send(Answer { id, refusal, ..Answer::default() }).await;
        };
        let page = crate::admin::render(&self.sources.pages, &http::Method::GET, path, query, "");
        let good = page.status().is_success();
        let Ok(whole) = page.into_body().collect().await.map(|it| it.to_bytes());
        if !good {
            let refusal = String::from_utf8_lossy(&whole).into_owned();
            return self.send(Answer { id, refusal, ..Answer::default() }).await;
        }
        let parts = whole.len().div_ceil(PART).max(1);
        for (number, part) in (1..).zip(whole.chunks(PART)) {
            let (document, more) = (part.to_vec(), number < parts);
            self.send(Answer { id, document, more, ..Answer::default() }).await?;
        }
        Ok(())
    }

    /// Passes on what taps saw, by tap.
    async fn tell(&self, several: &mut Vec<(u64, Story)>) -> Result<(), Gone> {
        let mut by_watch: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (id, story) in several.drain(..) {
            by_watch.entry(id).or_default().push(message(story));
        }
        for (id, stories) in by_watch {
            self.send(Answer { id, stories, watching: true, more: true, ..Answer::default() }).await?;
        }
        Ok(())
    }

    /// Sums and losses. An asker that has forgotten the watch stops it when it hears this.
    async fn beat(&self) -> Result<(), Gone> {
        for (id, open) in &self.open {
            let empty = || Answer { id: *id, watching: true, more: true, ..Answer::default() };
            let sums: Vec<_> = open.watch.take_sums().iter().map(|(kind, it)| sum(kind, it)).collect();
            for part in sums.chunks(MOST_SUMS) {
                self.send(Answer { sums: part.to_vec(), ..empty() }).await?;
            }
            self.send(Answer { dropped: open.watch.take_dropped(), ..empty() }).await?;
        }
        Ok(())
    }
}
