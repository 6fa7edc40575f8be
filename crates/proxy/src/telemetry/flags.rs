//! Envoy's response flags: what went wrong with a request, in the short form of logs and metrics.

use base::Reason;
use std::fmt;

/// A set of flags; empty prints as `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ResponseFlags(u32);

/// Short forms, in the order in which Envoy prints them; the position is the bit.
const NAMES: [&str; 15] =
    ["UH", "UF", "NR", "UT", "UC", "DC", "UPE", "DPE", "NC", "URX", "UO", "UR", "SI", "DT", "DR"];

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl ResponseFlags { $($(#[$doc])* pub const $name: ResponseFlags = ResponseFlags(1 << $bit);)* }
    };
}

flags! {
    /// `UH`: the cluster has no usable endpoint.
    NO_HEALTHY_UPSTREAM = 0;
    /// `UF`: the connection to the upstream failed.
    UPSTREAM_CONNECTION_FAILURE = 1;
    /// `NR`: no route.
    NO_ROUTE = 2;
    /// `UT`: the route's timeout passed.
    UPSTREAM_REQUEST_TIMEOUT = 3;
    /// `UC`: the upstream closed the connection before the answer was whole.
    UPSTREAM_CONNECTION_TERMINATION = 4;
    /// `DC`: the client went away.
    DOWNSTREAM_CONNECTION_TERMINATION = 5;
    /// `UPE`: the upstream's answer broke the protocol.
    UPSTREAM_PROTOCOL_ERROR = 6;
    /// `DPE`: the request broke the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 7;
    /// `NC`: the route names a cluster that is not there.
    NO_CLUSTER = 8;
    /// `URX`: every retry was used up.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 9;
    /// `UO`: a limit of the circuit breaker is reached.
    UPSTREAM_OVERFLOW = 10;
    /// `UR`: the upstream reset the stream.
    UPSTREAM_REMOTE_RESET = 11;
    /// `SI`: nothing moved for the stream's idle timeout.
    STREAM_IDLE_TIMEOUT = 12;
    /// `DT`: the stream's longest duration passed.
    DURATION_TIMEOUT = 13;
    /// `DR`: the client reset the stream.
    DOWNSTREAM_REMOTE_RESET = 14;
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags(0);

    /// Adds the flags of `other`.
    pub fn set(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
    }

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Long names, comma-separated; `-` for none.
    pub fn long(self) -> String {
        const LONG: [&str; 15] = [
            "NoHealthyUpstream",
            "UpstreamConnectionFailure",
            "NoRouteFound",
            "UpstreamRequestTimeout",
            "UpstreamConnectionTermination",
            "DownstreamConnectionTermination",
            "UpstreamProtocolError",
            "DownstreamProtocolError",
            "NoClusterFound",
            "UpstreamRetryLimitExceeded",
            "UpstreamOverflow",
            "UpstreamRemoteReset",
            "StreamIdleTimeout",
            "DurationTimeout",
            "DownstreamRemoteReset",
        ];
        let set: Vec<_> =
            LONG.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| *n).collect();
        if set.is_empty() { "-".to_owned() } else { set.join(",") }
    }

    /// The set as Envoy's `response.flags` has it: each flag at the place of its own in Envoy's list.
    pub fn envoy_bits(self) -> u64 {
        const PLACES: [u32; 15] = [1, 5, 8, 2, 6, 14, 23, 18, 24, 15, 7, 4, 16, 22, 28];
        let set = PLACES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        set.fold(0, |all, (_, place)| all | (1 << place))
    }

    /// Writes the short names, comma-separated; `-` for none.
    pub fn write(self, line: &mut Vec<u8>) {
        if self.0 == 0 {
            return line.push(b'-');
        }
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        for (place, (_, name)) in set.enumerate() {
            if place > 0 {
                line.push(b',');
            }
            line.extend_from_slice(name.as_bytes());
        }
    }

    /// The flag that stands for a reason.
    pub fn of(reason: Reason) -> Self {
        Self::named(reason.flag()).unwrap_or(Self::NONE)
    }

    /// The flag with that short name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|it| *it == name).map(|bit| Self(1 << bit))
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_envoy_does() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let mut flags = ResponseFlags::of(Reason::ConnectFailed);
        assert_eq!(flags, ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        assert_eq!(flags.to_string(), "UF,URX");
        assert_eq!(flags.envoy_bits(), 0x20 | 0x8000);
        assert_eq!(ResponseFlags::of(Reason::PolicyDenied), ResponseFlags::NONE);
        assert_eq!(ResponseFlags::of(Reason::NoCluster).to_string(), "NC");
        assert_eq!(ResponseFlags::of(Reason::DownstreamReset).to_string(), "DC");
        assert_eq!(ResponseFlags::of(Reason::BadRequest).to_string(), "DPE");
    }
}
