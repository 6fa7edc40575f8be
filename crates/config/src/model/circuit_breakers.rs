//! Limits that protect a cluster's hosts, and this proxy, from too much at once.

/// Which limits a request counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Priority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

/// `CircuitBreakers`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CircuitBreakers {
    /// Limits of requests of the default priority.
    pub default: Thresholds,
    /// Limits of requests of the high priority.
    pub high: Thresholds,
    /// Connections to one host, over all workers; `None`: no limit.
    pub max_connections_per_host: Option<u32>,
}

impl CircuitBreakers {
    /// The limits of a priority.
    pub fn of(&self, priority: Priority) -> &Thresholds {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

/// `CircuitBreakers.Thresholds`: a number of `u32::MAX` means no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// Connections to all hosts.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests that run.
    pub max_requests: u32,
    /// Retries that run, where there is no `retry_budget`.
    pub max_retries: u32,
    /// Retries in proportion to requests.
    pub retry_budget: Option<RetryBudget>,
    /// Metrics say how much is left of each limit.
    pub track_remaining: bool,
}

impl Default for Thresholds {
    /// Envoy's.
    fn default() -> Self {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

/// `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Percent of the requests that run or wait (20 by default).
    pub percent: f64,
    /// So many retries are allowed in any case (3 by default).
    pub min_concurrency: u32,
}
