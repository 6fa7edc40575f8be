//! The operators of Istio's and Envoy's default lines, written straight into the line: they are most of what is ever logged.
//! They say what [`LogContext::value`] says.

use config::model::Operator;

use super::log_layout::Line;
use super::log_text;
use super::log_value::LogContext;
use super::record::Captured;

/// One of them. Small, so that a line is a short walk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Common {
    /// `%REQ%`, by its position among the values that are taken
    Request(u16),
    /// `%RESP%`, by its position
    Response(u16),
    /// `%START_TIME%`
    StartTime,
    /// `%PROTOCOL%`
    Protocol,
    /// `%RESPONSE_CODE%`
    Status,
    /// `%RESPONSE_FLAGS%`
    Flags,
    /// `%RESPONSE_CODE_DETAILS%`
    Details,
    /// `%CONNECTION_TERMINATION_DETAILS%`
    Termination,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    TransportFailure,
    /// `%BYTES_RECEIVED%`
    Received,
    /// `%BYTES_SENT%`
    Sent,
    /// `%DURATION%`
    Duration,
    /// `%UPSTREAM_HOST%`
    UpstreamHost,
    /// `%UPSTREAM_CLUSTER%`
    Cluster,
    /// `%UPSTREAM_LOCAL_ADDRESS%`
    UpstreamLocal,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`
    Local,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    Remote,
    /// `%REQUESTED_SERVER_NAME%`
    ServerName,
    /// `%ROUTE_NAME%`
    Route,
}

impl Common {
    /// The operator, if it is one of them.
    pub fn of(operator: &Operator, slot: usize) -> Option<Common> {
        let slot = u16::try_from(slot).ok()?;
        Some(match operator {
            Operator::Request(_) => Common::Request(slot),
            Operator::Response(_) => Common::Response(slot),
            Operator::StartTime(None) => Common::StartTime,
            Operator::Protocol => Common::Protocol,
            Operator::ResponseCode => Common::Status,
            Operator::ResponseFlags => Common::Flags,
            Operator::ResponseCodeDetails => Common::Details,
            Operator::ConnectionTerminationDetails => Common::Termination,
            Operator::UpstreamTransportFailureReason => Common::TransportFailure,
            Operator::BytesReceived => Common::Received,
            Operator::BytesSent => Common::Sent,
            Operator::Duration => Common::Duration,
            Operator::UpstreamHost => Common::UpstreamHost,
            Operator::UpstreamCluster => Common::Cluster,
            Operator::UpstreamLocalAddress => Common::UpstreamLocal,
            Operator::DownstreamLocalAddress => Common::Local,
            Operator::DownstreamRemoteAddress => Common::Remote,
            Operator::RequestedServerName => Common::ServerName,
            Operator::RouteName => Common::Route,
            _ => return None,
        })
    }

    /// Writes it; `false` where it has no value.
    #[inline]
    pub fn write(self, line: &mut Line<'_>, context: &LogContext<'_>) -> bool {
        let (record, connection) = (context.record, context.connection);
        match self {
            Common::Request(slot) => return captured(line, &record.request_values, slot),
            Common::Response(slot) => return captured(line, &record.response_values, slot),
            Common::StartTime => line.seconds.write(line.bytes, record.start_time),
            Common::Protocol => line.bytes.extend_from_slice(record.protocol.as_bytes()),
            Common::Status => log_text::number(line.bytes, record.status.into()),
            Common::Flags => record.flags.write(line.bytes),
            Common::Details => return text(line, &record.details),
            Common::Termination => return text(line, &record.termination),
            Common::TransportFailure => return text(line, &record.transport_failure),
            Common::Received => log_text::number(line.bytes, record.request_body_bytes),
            Common::Sent => log_text::number(line.bytes, record.response_body_bytes),
            Common::Duration => {
                let Some(end) = record.end else { return false };
                let lasted = end.saturating_duration_since(record.begun).as_millis();
                log_text::number(line.bytes, u64::try_from(lasted).unwrap_or(u64::MAX));
            }
            Common::UpstreamHost => return text(line, record.upstream_host.as_deref().unwrap_or_default()),
            Common::Cluster => return text(line, record.upstream_cluster.as_deref().unwrap_or_default()),
            Common::UpstreamLocal => match record.upstream_local {
                Some(address) => log_text::address(line.bytes, address),
                None => return false,
            },
            Common::Local => log_text::address(line.bytes, connection.local),
            Common::Remote => {
                log_text::address(line.bytes, record.client_address.unwrap_or(connection.remote));
            }
            Common::ServerName => return text(line, &connection.server_name),
            Common::Route => return text(line, record.route_name.as_deref().unwrap_or_default()),
        }
        true
    }
}

fn captured(line: &mut Line<'_>, values: &Captured, slot: u16) -> bool {
    match values.get(usize::from(slot)) {
        Some(Some(value)) if !value.is_empty() => {
            log_text::escaped(line.bytes, value);
            true
        }
        _ => false,
    }
}

fn text(line: &mut Line<'_>, text: &str) -> bool {
    if text.is_empty() {
        return false;
    }
    log_text::escaped(line.bytes, text.as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::start_time::Seconds;
    use crate::telemetry::testing::Ended;
    use config::model::HeaderSource;

    #[test]
    fn the_short_way_says_what_the_long_way_says() {
        let source = || HeaderSource { name: "a".into(), alternative: None };
        let operators = [
            Operator::Request(source()),
            Operator::Response(source()),
            Operator::StartTime(None),
            Operator::Protocol,
            Operator::ResponseCode,
            Operator::ResponseFlags,
            Operator::ResponseCodeDetails,
            Operator::ConnectionTerminationDetails,
            Operator::UpstreamTransportFailureReason,
            Operator::BytesReceived,
            Operator::BytesSent,
            Operator::Duration,
            Operator::UpstreamHost,
            Operator::UpstreamCluster,
            Operator::UpstreamLocalAddress,
            Operator::DownstreamLocalAddress,
            Operator::DownstreamRemoteAddress,
            Operator::RequestedServerName,
            Operator::RouteName,
        ];
        let (empty, mut full) = (Ended::default(), Ended::default());
        let record = &mut full.record;
        record.request_values = vec![Some("x\" \x1b".into())];
        record.response_values = vec![Some("plain".into())];
        record.status = 503;
        record.fail(base::Reason::NoRoute);
        record.details = "a b".into();
        record.termination = "rbac".into();
        record.transport_failure = "tls\n".to_owned().into();
        (record.request_body_bytes, record.response_body_bytes) = (7, 1_234_567);
        record.upstream_host = Some("10.0.0.1:80".into());
        record.upstream_cluster = Some("outbound|80||a".into());
        record.upstream_local = Some("[::1]:9".parse().unwrap());
        record.client_address = Some("9.8.7.6:5".parse().unwrap());
        record.route_name = Some("r".into());
        for ended in [&empty, &full] {
            for operator in &operators {
                let (mut short, mut long) = (Vec::new(), Vec::new());
                let mut seconds = Seconds::default();
                let mut line = Line { bytes: &mut short, seconds: &mut seconds };
                if !Common::of(operator, 0).unwrap().write(&mut line, &ended.context()) {
                    short.push(b'-');
                }
                ended.context().value(operator, 0).write_text(&mut long, None, &mut seconds);
                assert_eq!(String::from_utf8(short), String::from_utf8(long), "{operator:?}");
            }
        }
    }
}
