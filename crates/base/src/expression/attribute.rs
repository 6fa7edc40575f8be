//! What an expression can ask about: Envoy's attributes.

use std::sync::Arc;

/// Something that an expression can ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A value of the request or its connection.
    Plain(Plain),
    /// `request.headers['name']`, in lower case.
    RequestHeader(Arc<str>),
    /// `response.headers['name']`, in lower case.
    ResponseHeader(Arc<str>),
    /// `response.trailers['name']`, in lower case.
    ResponseTrailer(Arc<str>),
    /// Headers or trailers as a whole: only a name in them can be asked for.
    Whole(Whole),
    /// `xds.node` or `node` and what is in it: `["metadata", "LABELS", "app"]`.
    Node(Vec<Arc<str>>),
    /// `filter_state.downstream_peer` and what is in it: the caller's workload.
    DownstreamPeer(Vec<Arc<str>>),
    /// `filter_state.upstream_peer` and what is in it: the called workload.
    UpstreamPeer(Vec<Arc<str>>),
    /// One that has never a value here, with its path.
    Unknown(Arc<str>),
}

/// Headers or trailers as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// `request.headers`
    RequestHeaders,
    /// `response.headers`
    ResponseHeaders,
    /// `response.trailers`
    ResponseTrailers,
}

macro_rules! plain {
    ($($text:literal $name:ident,)*) => {
        /// Values of the request or its connection, each called as its path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Plain {
            $(#[doc = $text] $name,)*
        }

        const PLAIN: &[(&str, Plain)] = &[$(($text, Plain::$name),)*];
    };
}

plain! {
    "request.path" RequestPath,
    "request.url_path" RequestUrlPath,
    "request.host" RequestHost,
    "request.scheme" RequestScheme,
    "request.method" RequestMethod,
    "request.referer" RequestReferer,
    "request.useragent" RequestUserAgent,
    "request.id" RequestId,
    "request.protocol" RequestProtocol,
    "request.query" RequestQuery,
    "request.duration" RequestDuration,
    "request.size" RequestSize,
    "request.total_size" RequestTotalSize,
    "response.code" ResponseCode,
    "response.code_details" ResponseCodeDetails,
    "response.flags" ResponseFlags,
    "response.grpc_status" ResponseGrpcStatus,
    "response.size" ResponseSize,
    "response.total_size" ResponseTotalSize,
    "connection.mtls" ConnectionMtls,
    "connection.requested_server_name" ConnectionRequestedServerName,
    "connection.tls_version" ConnectionTlsVersion,
    "connection.subject_peer_certificate" ConnectionSubjectPeerCertificate,
    "connection.uri_san_local_certificate" ConnectionUriSanLocalCertificate,
    "connection.uri_san_peer_certificate" ConnectionUriSanPeerCertificate,
    "connection.transport_failure_reason" ConnectionTransportFailureReason,
    "connection.termination_details" ConnectionTerminationDetails,
    "upstream.address" UpstreamAddress,
    "upstream.port" UpstreamPort,
    "upstream.local_address" UpstreamLocalAddress,
    "upstream.transport_failure_reason" UpstreamTransportFailureReason,
    "upstream.request_attempt_count" UpstreamRequestAttemptCount,
    "source.address" SourceAddress,
    "source.port" SourcePort,
    "destination.address" DestinationAddress,
    "destination.port" DestinationPort,
    "xds.cluster_name" ClusterName,
    "xds.route_name" RouteName,
    "xds.virtual_host_name" VirtualHostName,
}

impl Attribute {
    /// The attribute at a path such as `["request", "headers", "x-user"]`.
    pub fn at(path: &[impl AsRef<str>]) -> Attribute {
        let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
        let rest = |from: usize| path[from..].iter().map(|name| Arc::from(*name)).collect();
        match path[..] {
            ["request", "headers"] => Attribute::Whole(Whole::RequestHeaders),
            ["response", "headers"] => Attribute::Whole(Whole::ResponseHeaders),
            ["response", "trailers"] => Attribute::Whole(Whole::ResponseTrailers),
            ["request", "headers", name] => Attribute::RequestHeader(lower(name)),
            ["response", "headers", name] => Attribute::ResponseHeader(lower(name)),
            ["response", "trailers", name] => Attribute::ResponseTrailer(lower(name)),
            ["xds", "node", ..] => Attribute::Node(rest(2)),
            ["node", ..] => Attribute::Node(rest(1)),
            ["filter_state", "downstream_peer", ..] => Attribute::DownstreamPeer(rest(2)),
            ["filter_state", "upstream_peer", ..] => Attribute::UpstreamPeer(rest(2)),
            _ => {
                let text = path.join(".");
                let known = PLAIN.iter().find(|(name, _)| *name == text);
                known.map_or_else(|| Attribute::Unknown(text.into()), |(_, plain)| Attribute::Plain(*plain))
            }
        }
    }

    /// The attribute with that name in this one; `None` where it holds none.
    pub fn entry(&self, name: &str) -> Option<Attribute> {
        let further = |path: &[Arc<str>]| path.iter().cloned().chain([name.into()]).collect();
        Some(match self {
            Attribute::Whole(Whole::RequestHeaders) => Attribute::RequestHeader(lower(name)),
            Attribute::Whole(Whole::ResponseHeaders) => Attribute::ResponseHeader(lower(name)),
            Attribute::Whole(Whole::ResponseTrailers) => Attribute::ResponseTrailer(lower(name)),
            Attribute::Node(path) => Attribute::Node(further(path)),
            Attribute::DownstreamPeer(path) => Attribute::DownstreamPeer(further(path)),
            Attribute::UpstreamPeer(path) => Attribute::UpstreamPeer(further(path)),
            Attribute::Plain(_)
            | Attribute::RequestHeader(_)
            | Attribute::ResponseHeader(_)
            | Attribute::ResponseTrailer(_)
            | Attribute::Unknown(_) => return None,
        })
    }
}

fn lower(name: &str) -> Arc<str> {
    name.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_envoy_calls_attributes() {
        assert_eq!(Attribute::at(&["response", "code"]), Attribute::Plain(Plain::ResponseCode));
        assert_eq!(Attribute::at(&["request", "headers", "X-A"]), Attribute::RequestHeader("x-a".into()));
        assert_eq!(Attribute::at(&["request", "time"]), Attribute::Unknown("request.time".into()));
        let node = Attribute::at(&["xds", "node"]);
        assert_eq!(node.entry("id"), Some(Attribute::at(&["node", "id"])));
        let headers = Attribute::at(&["response", "headers"]);
        assert_eq!(headers.entry("A"), Some(Attribute::ResponseHeader("a".into())));
        assert_eq!(Attribute::at(&["request", "path"]).entry("a"), None);
    }
}
