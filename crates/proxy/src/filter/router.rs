//! `envoy.filters.http.router`: does what the route says: answers itself, or sends the request to a cluster.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use base::Reason;
use config::model::{Address, ConnectToTcp, Forward, HostRewrite, RouteAction, RouterFilter};

use super::deadlines::{Deadlines, Passed};
use super::exchange::{Exchange, UpstreamFacts};
use super::local_reply::LocalReply;
use super::timeouts::Timeouts;
use super::tracing;
use crate::http::{Body, Headers, Informational, RequestHead, ResponseHead, Scheme};
use crate::route::header_operations::{self, Values};
use crate::route::{Picked, rewrite};
use crate::telemetry::ResponseFlags;
use crate::telemetry::labels::Protocol;
use crate::telemetry::peer_metadata;
use crate::upstream::outlier::{self, Outcome};
use crate::upstream::retry::{self, Marks};
use crate::upstream::{Answer, Attempt, Call, CallFailure, Denied, Failed, RetryRules};

/// What the client asked for, when the host was rewritten.
const ORIGINAL_HOST: &str = "x-envoy-original-host";

/// Bytes of a request's body that are kept for a retry where the route does not say: Envoy's default buffer.
const RETRY_BUFFER: u64 = 1 << 20;

/// The filter.
#[derive(Debug, Default)]
pub struct Router {
    options: RouterFilter,
}

/// A request for the router.
pub struct Routed<'a> {
    /// The route, if there is one.
    pub picked: Option<Picked>,
    /// Where interim responses go.
    pub informational: &'a Informational,
}

/// A response of an upstream.
pub struct Response {
    /// Head.
    pub head: ResponseHead,
    /// Body; polling it moves the rest of the upload.
    pub body: Body,
    /// The times that it may still take.
    pub deadlines: Deadlines,
}

impl Router {
    /// A router with these options.
    pub fn new(options: RouterFilter) -> Self {
        Self { options }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The answer of the proxy itself.
    pub async fn run(
        &self,
        head: &mut RequestHead,
        body: Body,
        routed: Routed<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response, Box<LocalReply>> {
        let Some(picked) = routed.picked else { return Err(Box::new(LocalReply::no_route())) };
        let route = picked.route.clone();
        match &route.action {
            RouteAction::Forward(forward) => {
                self.forward(head, body, forward, &picked, routed.informational, exchange).await
            }
            RouteAction::Redirect(redirect) => {
                let location = rewrite::location(redirect, &route.matcher, head, scheme_seen_by_client(head));
                let reply = LocalReply::redirect(redirect.status, location, "direct_response");
                Err(configured(reply, head, &picked, exchange))
            }
            RouteAction::DirectResponse(direct) => {
                let body = bytes::Bytes::copy_from_slice(&direct.body);
                let mut reply =
                    LocalReply::new(Reason::DirectResponse, direct.status, body, "direct_response");
                if direct.status == 201 {
                    reply.headers.append("location", own_address(head));
                }
                Err(configured(reply, head, &picked, exchange))
            }
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site; the parts of a request belong to different owners"
    )]
    async fn forward(
        &self,
        head: &mut RequestHead,
        body: Body,
        forward: &Forward,
        picked: &Picked,
        informational: &Informational,
        exchange: &mut Exchange,
    ) -> Result<Response, Box<LocalReply>> {
        let worker = exchange.worker.clone();
        let (Some(chosen), Some(cluster)) = (&picked.chosen, exchange.cluster.clone()) else {
            return Err(Box::new(LocalReply::no_cluster(forward.cluster_not_found_status)));
        };
        self.finish_request(head, forward, picked, chosen.weighted, exchange);
        let host = picked.virtual_host();
        let policy = forward.retry.as_deref().or_else(|| host.and_then(|host| host.retry.as_deref()));
        let grpc = matches!(exchange.protocol, Protocol::Grpc(_));
        let connection = exchange.connection.clone();
        let timeouts = Timeouts::of(forward, policy, &connection.chain.config, &mut head.headers, grpc);
        let body_limit =
            forward.request_body_buffer_limit.or(host.and_then(|host| host.request_body_buffer_limit));
        let body_limit = body_limit.unwrap_or(RETRY_BUFFER);
        let rules = RetryRules { policy, per_try_timeout: timeouts.per_try, body_limit, grpc };
        let mut deadlines =
            Deadlines::new(timeouts.limits, exchange.record.begun, &exchange.progress, &connection.timers)
                .of_offer(head.is_tunnel());
        let counts_attempts = host.is_some_and(|host| host.include_request_attempt_count);
        let awaited = RefCell::new(None);
        let (mut sent_at, progress) = (exchange.record.begun, exchange.progress.clone());
        let outcome = {
            let mut on_attempt = |head: &mut RequestHead, attempt: &Attempt<'_>| {
                sent_at = attempt.now;
                self.tell_time_left(head, &timeouts, exchange);
                if counts_attempts {
                    head.headers.set_known("x-envoy-attempt-count", attempt.number.to_string());
                }
                self.begin_attempt(head, attempt, forward, exchange);
            };
            let call = Call {
                worker: &worker.upstream,
                random: &worker.random,
                cluster: &cluster,
                priority: forward.priority,
                informational,
                rules,
                raw: forward.connect_to_tcp.is_some_and(|connect| is_raw(head, connect)),
                awaited: &awaited,
                timeline: &progress.attempts,
            };
            let mut running = pin!(call.run(head, body, &mut on_attempt));
            std::future::poll_fn(|cx| match running.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Ok(result)),
                Poll::Pending => deadlines.poll_passed(cx).map(Err),
            })
            .await
        };
        match outcome {
            Err(passed) => {
                if passed == Passed::Route {
                    worker.upstream.cluster(&cluster).cells.timeouts.increment();
                    // The host whose answer did not come in time.
                    if let Some(host) = awaited.take() {
                        outlier::report(&cluster, &host, Outcome::TimedOut, &worker.random);
                    }
                }
                Err(Box::new(passed.reply(exchange.progress.end.get().is_some())))
            }
            Ok(Err(failed)) => Err(Box::new(failed_reply(&failed, exchange))),
            Ok(Ok(answer)) => {
                let idle = policy.and_then(|policy| policy.per_try_idle_timeout);
                deadlines.begin_response(answer.head.status, idle);
                let (head, body) = self.respond(head, answer, picked, chosen.weighted, sent_at, exchange);
                Ok(Response { head, body, deadlines })
            }
        }
    }

    /// What the host that was just chosen is told.
    fn begin_attempt(
        &self,
        head: &mut RequestHead,
        attempt: &Attempt<'_>,
        forward: &Forward,
        exchange: &mut Exchange,
    ) {
        if let (HostRewrite::Auto, Address::Name { host, .. }) =
            (&forward.host_rewrite, &attempt.host.endpoint.address)
        {
            self.rewrite_host(head, bytes::Bytes::copy_from_slice(host.as_bytes()));
        }
        note_attempt(exchange, attempt);
        tracing::inject(head, attempt.number, exchange);
        let connection = exchange.connection.clone();
        for filter in connection.chain.filters() {
            filter.on_attempt(head, attempt, exchange);
        }
        connection.chain.captures.capture_request(head, &mut exchange.record);
    }

    /// Header changes of the route, then host and path.
    fn finish_request(
        &self,
        head: &mut RequestHead,
        forward: &Forward,
        picked: &Picked,
        weighted: Option<usize>,
        exchange: &Exchange,
    ) {
        for operations in picked.request_operations(weighted) {
            if !operations.is_empty() {
                let before = head.clone();
                let context = exchange.log_context();
                let values = Values { request: &before, context };
                header_operations::apply(operations, &mut head.headers, Some(values));
            }
        }
        let by_weight = picked.weighted_host_rewrite(weighted);
        let new_host = by_weight.clone().or_else(|| rewrite::host(&forward.host_rewrite, head));
        if let Some(host) = new_host {
            if forward.append_x_forwarded_host {
                head.headers.append("x-forwarded-host", head.authority.clone());
            }
            if by_weight.is_some() {
                head.authority = host;
            } else {
                self.rewrite_host(head, host);
            }
        }
        if let Some(target) = rewrite::target(&forward.path_rewrite, &picked.route.matcher, &head.target) {
            if !self.options.suppress_envoy_headers {
                head.headers.set_known("x-envoy-original-path", head.target.clone());
            }
            head.target = target.into();
        }
    }

    /// How long the upstream has for this try.
    fn tell_time_left(&self, head: &mut RequestHead, timeouts: &Timeouts, exchange: &Exchange) {
        let elapsed = exchange.progress.end.get().filter(|_| exchange.record.attempts > 0);
        let elapsed = elapsed.map(|end| end.elapsed()).unwrap_or_default();
        if let Some(limit) = timeouts.expected(elapsed)
            && !self.options.suppress_envoy_headers
        {
            head.headers.set_known("x-envoy-expected-rq-timeout-ms", limit.as_millis().to_string());
        }
    }

    fn rewrite_host(&self, head: &mut RequestHead, host: bytes::Bytes) {
        let old = std::mem::replace(&mut head.authority, host);
        // The first rewrite knows what the client asked for.
        if !self.options.suppress_envoy_headers && !head.headers.contains(ORIGINAL_HOST) {
            head.headers.append(ORIGINAL_HOST, old);
        }
    }

    fn respond(
        &self,
        request: &RequestHead,
        answer: Answer,
        picked: &Picked,
        weighted: Option<usize>,
        sent_at: Instant,
        exchange: &mut Exchange,
    ) -> (ResponseHead, Body) {
        let Answer { mut head, body, pool, denied, said, at: now } = answer;
        exchange.record.flags.set(denied_flags(denied));
        exchange.marks = said.marks;
        if let Some((reason, told)) = said.failure {
            // The flag stays the other proxy's: for this one it is an answer like any other.
            exchange.record.reason = Some(reason);
            exchange.record.told = Some(told);
        }
        note_retried(exchange, fails(&head));
        exchange.record.response_begin = Some(now);
        exchange.record.details = "via_upstream".into();
        // Formats of added headers may name it.
        exchange.record.status = head.status;
        let mesh = exchange.upstream.as_ref().is_some_and(|upstream| upstream.host.transport.is_mesh());
        if mesh && let Some(said) = head.headers.get(peer_metadata::HEADER) {
            exchange.called = pool.peer.get(said, exchange.worker.metrics.registry());
        }
        change_response(&mut head.headers, request, picked, weighted, exchange);
        // As Envoy: nobody can tell how long an upstream took that answers before the request has come whole.
        if !self.options.suppress_envoy_headers && exchange.progress.end.get().is_some() {
            let milliseconds = now.saturating_duration_since(sent_at).as_millis();
            head.headers.set_known("x-envoy-upstream-service-time", milliseconds.to_string());
        }
        if picked.virtual_host().is_some_and(|host| host.include_attempt_count_in_response) {
            head.headers.set_known("x-envoy-attempt-count", exchange.record.attempts.to_string());
        }
        (head, body)
    }
}

/// Whether the bodies of the request and its answer are the bytes of a connection to the host.
fn is_raw(head: &RequestHead, connect: ConnectToTcp) -> bool {
    head.is_connect() || (connect.allow_post && head.method == http::Method::POST)
}

/// The answer to a call that got none.
fn failed_reply(failed: &Failed, exchange: &mut Exchange) -> LocalReply {
    if let CallFailure::Connect(failure) = &failed.failure {
        exchange.record.upstream_host = Some(failure.host.clone());
    }
    let mut reply = LocalReply::of_failure(&failed.failure, failed.retried);
    reply.flags.set(denied_flags(failed.denied));
    let retried = failed.retried || failed.denied.is_some();
    exchange.marks = Marks { unprocessed: failed.unprocessed, retried };
    note_retried(exchange, true);
    reply.marks = exchange.marks;
    reply
}

/// Remembers a request that failed after retries, and marks a failure that follows from one.
fn note_retried(exchange: &mut Exchange, failed: bool) {
    let Some(id) = exchange.request_id.as_ref().filter(|_| failed) else { return };
    let retried = &exchange.worker.shared.retried;
    if exchange.marks.retried {
        retried.remember(id);
    } else {
        exchange.marks.retried = retried.recall(id);
    }
}

/// Whether somebody might want to retry after that answer.
fn fails(head: &ResponseHead) -> bool {
    head.status >= 500 || retry::grpc_status(&head.headers).is_some_and(|status| status != 0)
}

/// What logs say of a retry that was wanted and not made.
fn denied_flags(denied: Option<Denied>) -> ResponseFlags {
    match denied {
        None => ResponseFlags::NONE,
        Some(Denied::LimitExceeded) => ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
        Some(Denied::Overflow) => ResponseFlags::UPSTREAM_OVERFLOW,
    }
}

/// An answer that the route's configuration gives: the route's changes of response headers act on it too.
fn configured(
    mut reply: LocalReply,
    request: &RequestHead,
    picked: &Picked,
    exchange: &mut Exchange,
) -> Box<LocalReply> {
    exchange.record.status = reply.status;
    exchange.record.details = reply.details.clone();
    change_response(&mut reply.headers, request, picked, None, exchange);
    Box::new(reply)
}

fn change_response(
    headers: &mut Headers,
    request: &RequestHead,
    picked: &Picked,
    weighted: Option<usize>,
    exchange: &Exchange,
) {
    for operations in picked.response_operations(weighted) {
        if !operations.is_empty() {
            let context = exchange.log_context();
            let values = Values { request, context };
            header_operations::apply(operations, headers, Some(values));
        }
    }
}

/// The absolute form of the request's own target.
fn own_address(head: &RequestHead) -> Vec<u8> {
    let mut address = format!("{}://", scheme_seen_by_client(head).as_str()).into_bytes();
    address.extend_from_slice(&head.authority);
    address.extend_from_slice(&head.target);
    address
}

/// The scheme with which the client reached the first proxy of ours.
fn scheme_seen_by_client(head: &RequestHead) -> Scheme {
    match head.headers.get("x-forwarded-proto") {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => head.scheme,
    }
}

fn note_attempt(exchange: &mut Exchange, attempt: &Attempt<'_>) {
    let record = &mut exchange.record;
    record.attempts = attempt.number;
    record.sent = Some(attempt.now);
    record.upstream_host = Some(attempt.host.address_text.clone());
    record.upstream_local = attempt.connection.local;
    exchange.upstream = Some(UpstreamFacts {
        host: attempt.host.clone(),
        peer_principal: attempt.connection.peer_principal.clone(),
        own_principal: attempt.connection.own_principal.clone(),
    });
}
