//! How large heads may be. A hop takes what the hop before it took, and what that one added: else the second sidecar
//! would refuse what the first has accepted.

use protos::envoy::envoy::config::core::v3::HttpProtocolOptions;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use crate::values;

/// Limits of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLimits {
    /// All fields together, in KiB.
    pub kilobytes: u32,
    /// Number of fields.
    pub count: u32,
}

/// Of what an app sends to the sidecar beside it: large cookies and tokens pass.
pub const FROM_APPS: HeaderLimits = HeaderLimits { kilobytes: 96, count: 200 };
/// Of what another sidecar sends: the same, and room for what it adds (certificates, metadata, tracing, forwarding).
pub const FROM_PEERS: HeaderLimits = HeaderLimits { kilobytes: 128, count: 250 };

impl HeaderLimits {
    /// Limits the requests that a connection manager takes.
    pub fn limit_requests(self, manager: &mut HttpConnectionManager) {
        manager.max_request_headers_kb = values::number(self.kilobytes);
        let common = manager.common_http_protocol_options.get_or_insert_default();
        common.max_headers_count = values::number(self.count);
    }

    /// Limits the responses that a cluster's connections take.
    pub fn limit_responses(self, common: Option<HttpProtocolOptions>) -> HttpProtocolOptions {
        HttpProtocolOptions {
            max_headers_count: values::number(self.count),
            max_response_headers_kb: values::number(self.kilobytes),
            ..common.unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_takes_what_the_hop_before_it_took_and_added() {
        // x-forwarded-client-cert, peer metadata, request id, tracing and forwarding fields.
        const {
            assert!(
                FROM_PEERS.kilobytes >= FROM_APPS.kilobytes + 24 && FROM_PEERS.count >= FROM_APPS.count + 40
            )
        };
        let kept =
            HttpProtocolOptions { max_requests_per_connection: values::number(3), ..Default::default() };
        let limited = FROM_PEERS.limit_responses(Some(kept));
        assert_eq!(
            (limited.max_requests_per_connection, limited.max_headers_count),
            (values::number(3), values::number(250))
        );
        let mut manager = HttpConnectionManager::default();
        FROM_APPS.limit_requests(&mut manager);
        assert_eq!(manager.max_request_headers_kb, values::number(96));
    }
}
