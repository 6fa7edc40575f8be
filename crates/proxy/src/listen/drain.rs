//! The order in which listeners go when the process drains.
//!
//! First the ways in: their clients are told to go (`connection: close`, GOAWAY) while new connections are still taken,
//! because nobody outside knows yet; then they close. The ways out stay until the last request that came in is done,
//! since its program may need a new connection to finish it. One deadline bounds all of it.

use std::time::{Duration, Instant};

use config::model::Direction;

use super::manager::Listening;

/// How often it is looked whether the last connection has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Everything.
pub fn every(_: Direction) -> bool {
    true
}

/// Listeners that say they are inbound: Envoy's `inboundonly`.
pub fn inbound(direction: Direction) -> bool {
    direction == Direction::Inbound
}

/// Listeners through which requests can come from elsewhere.
fn ways_in(direction: Direction) -> bool {
    direction != Direction::Outbound
}

/// Takes the listeners down; returns when nothing is accepted any more. Connections may still be busy.
pub async fn run(listening: &Listening, minimum: Duration, deadline: Instant) {
    listening.drain(ways_in);
    tokio::time::sleep_until((Instant::now() + minimum).min(deadline).into()).await;
    listening.stop(ways_in);
    while !listening.is_over(ways_in) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    listening.stop(every);
}
