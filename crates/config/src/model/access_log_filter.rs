//! Which requests an access log writes (`envoy.config.accesslog.v3.AccessLogFilter`).

use super::expression::Expression;
use super::matcher::HeaderMatcher;
use std::sync::Arc;

/// A condition on a request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogFilter {
    /// On the status that the client got; 0 when it got none.
    StatusCode(Comparison),
    /// On the time from the request's first byte to the response's last, in milliseconds.
    Duration(Comparison),
    /// The request is no health check. No filter of ours tells health checks apart, so every request passes.
    NotHealthCheck,
    /// A share of the requests.
    Sample {
        /// In millionths.
        millionths: u32,
        /// Chosen by chance, not by the request's id, so that the proxies on the way do not agree.
        independent: bool,
    },
    /// All hold.
    And(Vec<AccessLogFilter>),
    /// One holds.
    Or(Vec<AccessLogFilter>),
    /// On a header of the request, as it goes upstream.
    Header(HeaderMatcher),
    /// One of these short flags is set; empty: any flag is.
    ResponseFlag(Vec<Arc<str>>),
    /// The gRPC status is one of these.
    GrpcStatus {
        /// Numbers.
        statuses: Vec<u8>,
        /// It is none of them.
        exclude: bool,
    },
    /// The expression holds; one without a value does not.
    Expression(Arc<Expression>),
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// How.
    pub operator: ComparisonOperator,
    /// With what.
    pub value: u32,
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonOperator {
    /// Equal.
    Equal,
    /// Greater or equal.
    GreaterOrEqual,
    /// Less or equal.
    LessOrEqual,
    /// Not equal.
    NotEqual,
}

impl Comparison {
    /// Whether a number compares so.
    pub fn holds(&self, number: u64) -> bool {
        let value = u64::from(self.value);
        match self.operator {
            ComparisonOperator::Equal => number == value,
            ComparisonOperator::GreaterOrEqual => number >= value,
            ComparisonOperator::LessOrEqual => number <= value,
            ComparisonOperator::NotEqual => number != value,
        }
    }
}
