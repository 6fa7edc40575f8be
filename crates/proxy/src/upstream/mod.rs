//! Where a request goes: clusters, their hosts, the balancers, and the pools of connections.
//!
//! [`ClusterSet`] is shared by all workers and immutable but for what must hold across them (active requests, failures, ejections) and the
//! answers of DNS. Pools and the balancers' places belong to one worker.

pub mod alpn;
pub mod balance;
pub mod balance_least_request;
pub mod balance_random;
pub mod balance_round_robin;
pub mod bell;
mod by_id;
pub mod call;
mod call_raw;
#[cfg(test)]
mod call_retry_tests;
pub mod checkout;
pub mod cluster;
pub mod connect;
pub mod failure;
pub mod host;
pub mod host_set;
pub mod idle_limit;
pub mod limits;
pub mod outlier;
pub mod outlier_events;
mod outlier_stats;
pub mod outlier_sweep;
pub mod pool;
mod pool_idle;
mod pool_open;
pub mod reach;
pub mod replay;
pub mod resolve;
pub mod retry;
pub mod retry_budget;
pub mod slots;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;
pub mod worker;

pub use call::{Answer, Attempt, Call, CallFailure, Denied, Failed, RetryRules};
pub use cluster::{Cluster, ClusterProblem, ClusterSet, Environment};
pub use host::{ActiveRequest, Host};
pub use host_set::HostSet;
pub use worker::UpstreamWorker;
