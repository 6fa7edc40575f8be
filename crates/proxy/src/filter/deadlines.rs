//! The times that a request may take: the route's timeout, the stream's idle timeout and its longest duration.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use base::Reason;

use super::local_reply::LocalReply;
use super::request_body::Progress;
use super::timers::Timers;

/// The status of a gRPC call that came to no end in its time.
const DEADLINE_EXCEEDED: u8 = 4;

/// Which time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// The route's timeout: from the end of the request to the end of the response.
    Route,
    /// The request has not come in whole, nor its response begun, for the connection manager's `request_timeout`.
    Request,
    /// Nothing moved for the stream's idle timeout.
    Idle,
    /// The stream's longest duration.
    Duration,
    /// The response was silent for longer than a try may be.
    PerTryIdle,
}

/// Limits of one request; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The route's timeout.
    pub route: Option<Duration>,
    /// From the request's head to its end, or the response's begin if that is first.
    pub request: Option<Duration>,
    /// Without progress.
    pub idle: Option<Duration>,
    /// From the request's head on.
    pub duration: Option<Duration>,
}

/// The clock of one request. Without limits it costs nothing.
pub struct Deadlines {
    limits: Limits,
    per_try_idle: Option<Duration>,
    begun: Instant,
    /// The request is an offer of another protocol: what the client sends behind it is no part of the request.
    offer: bool,
    progress: Rc<Progress>,
    timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadlines {
    /// For a request that began then.
    pub fn new(limits: Limits, begun: Instant, progress: &Rc<Progress>, timers: &Timers) -> Self {
        progress.watched.set(limits.idle.is_some());
        let (progress, timers) = (progress.clone(), timers.clone());
        Self { limits, per_try_idle: None, begun, offer: false, progress, timers, sleep: None }
    }

    /// For an offer of another protocol the route's timeout counts from its head on, until it is accepted.
    pub fn of_offer(mut self, offer: bool) -> Self {
        self.offer = offer;
        self
    }

    /// The response with that status has begun: from now on a try's own idle limit counts too.
    pub fn begin_response(&mut self, status: u16, per_try_idle: Option<Duration>) {
        if self.offer && matches!(status, 101 | 200..=299) {
            self.limits.route = None;
        }
        self.per_try_idle = per_try_idle;
        self.limits.request = None;
        if per_try_idle.is_some() {
            self.progress.watched.set(true);
        }
        self.moved();
    }

    /// Something moved.
    pub fn moved(&self) {
        if self.limits.idle.is_some() || self.per_try_idle.is_some() {
            self.progress.moved.set(Some(Instant::now()));
        }
    }

    /// Ready when a time is over; to be asked whenever the request waits.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Passed> {
        match self.next() {
            Some((at, which)) => self.timers.poll(&mut self.sleep, at, cx).map(|()| which),
            None => Poll::Pending,
        }
    }

    /// The first time that will be over.
    fn next(&self) -> Option<(Instant, Passed)> {
        let end = if self.offer { Some(self.begun) } else { self.progress.end.get() };
        let route = self.limits.route.zip(end).map(|(limit, end)| (end + limit, Passed::Route));
        let request = self.limits.request.filter(|_| end.is_none());
        let request = request.map(|limit| (self.begun + limit, Passed::Request));
        let moved = self.progress.moved.get().unwrap_or(self.begun);
        let idle = self.limits.idle.map(|limit| (moved + limit, Passed::Idle));
        let duration = self.limits.duration.map(|limit| (self.begun + limit, Passed::Duration));
        let per_try = self.per_try_idle.map(|limit| (moved + limit, Passed::PerTryIdle));
        [route, request, idle, duration, per_try].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        if let Some(sleep) = self.sleep.take() {
            self.timers.give_back(sleep);
        }
    }
}

impl Passed {
    /// The answer before the response has begun, as Envoy gives it. `request_ended`: the client has sent everything.
    pub fn reply(self, request_ended: bool) -> LocalReply {
        // A client that is slow with its request is told so; else the upstream was slow.
        let status = if request_ended { 504 } else { 408 };
        let (reason, details) = (self.reason(request_ended), self.details());
        match self {
            Passed::Route => LocalReply::timeout(),
            Passed::PerTryIdle => {
                LocalReply { details: "response_timeout".into(), ..LocalReply::per_try_timeout(details) }
            }
            Passed::Request => LocalReply::new(reason, 408, "request timeout", details),
            Passed::Idle => LocalReply::new(reason, status, "stream timeout", details),
            Passed::Duration => LocalReply {
                // A call's deadline becomes such a limit.
                grpc_status: Some(DEADLINE_EXCEEDED),
                ..LocalReply::new(reason, status, "downstream duration timeout", details)
            },
        }
    }

    /// The row of the table. `request_ended`: the client has sent everything, so that it was not the one who is slow.
    pub fn reason(self, request_ended: bool) -> Reason {
        match self {
            Passed::Route => Reason::Timeout,
            Passed::PerTryIdle => Reason::PerTryTimeout,
            Passed::Request => Reason::RequestTimeout,
            Passed::Idle if request_ended => Reason::StreamIdle,
            Passed::Idle => Reason::SlowClient,
            Passed::Duration => Reason::MaxDuration,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> &'static str {
        match self {
            Passed::Route => "response_timeout",
            Passed::Request => "request_overall_timeout",
            Passed::Idle => "stream_idle_timeout",
            Passed::Duration => "max_duration_timeout",
            Passed::PerTryIdle => "upstream_per_try_idle_timeout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn passed(deadlines: &mut Deadlines) -> Passed {
        std::future::poll_fn(|cx| deadlines.poll_passed(cx)).await
    }

    #[tokio::test]
    async fn the_first_limit_passes_and_the_routes_waits_for_the_request() {
        let progress = Rc::new(Progress::default());
        let begun = Instant::now();
        let limits = Limits { route: Some(MS), duration: Some(20 * MS), ..Limits::default() };
        let mut deadlines = Deadlines::new(limits, begun, &progress, &Timers::default());
        assert_eq!(passed(&mut deadlines).await, Passed::Duration, "the request has not ended");
        progress.end.set(Some(begun));
        assert_eq!(passed(&mut deadlines).await, Passed::Route);
    }

    #[tokio::test]
    async fn the_routes_limit_holds_for_an_offer_until_it_is_accepted() {
        let limits = Limits { route: Some(MS), duration: Some(20 * MS), ..Limits::default() };
        let offered =
            || Deadlines::new(limits, Instant::now(), &Rc::default(), &Timers::default()).of_offer(true);
        assert_eq!(passed(&mut offered()).await, Passed::Route);
        for (status, next) in [(101, Passed::Duration), (200, Passed::Duration), (403, Passed::Route)] {
            let mut deadlines = offered();
            deadlines.begin_response(status, None);
            deadlines.progress.end.set(Some(Instant::now()));
            assert_eq!(passed(&mut deadlines).await, next, "{status}");
        }
    }

    #[tokio::test]
    async fn progress_moves_the_idle_limit() {
        let progress = Rc::new(Progress::default());
        let limits = Limits { idle: Some(40 * MS), ..Limits::default() };
        let begun = Instant::now();
        let mut deadlines = Deadlines::new(limits, begun, &progress, &Timers::default());
        let early = tokio::time::timeout(25 * MS, passed(&mut deadlines)).await;
        assert!(early.is_err());
        deadlines.moved();
        let moved = progress.moved.get().unwrap();
        assert_eq!(passed(&mut deadlines).await, Passed::Idle);
        assert!(moved.elapsed() >= 40 * MS);
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_told_so_unless_its_response_has_begun() {
        let progress = Rc::new(Progress::default());
        let limits = Limits { request: Some(MS), duration: Some(20 * MS), ..Limits::default() };
        let mut deadlines = Deadlines::new(limits, Instant::now(), &progress, &Timers::default());
        assert_eq!(passed(&mut deadlines).await, Passed::Request);
        assert_eq!(Passed::Request.reply(false).status, 408);
        deadlines.begin_response(200, None);
        assert_eq!(passed(&mut deadlines).await, Passed::Duration);
        let mut deadlines = Deadlines::new(limits, Instant::now(), &progress, &Timers::default());
        progress.end.set(Some(Instant::now()));
        assert_eq!(passed(&mut deadlines).await, Passed::Duration, "the request has ended");
    }

    #[tokio::test]
    async fn without_limits_nothing_passes() {
        let mut deadlines =
            Deadlines::new(Limits::default(), Instant::now(), &Rc::default(), &Timers::default());
        assert!(tokio::time::timeout(10 * MS, passed(&mut deadlines)).await.is_err());
        assert!(deadlines.sleep.is_none());
    }
}
