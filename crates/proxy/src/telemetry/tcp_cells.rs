//! The numbers of Istio's metrics of TCP connections.

use super::cells::Counter;
use super::series::Cells;

/// The numbers of one set of labels on one worker.
#[derive(Debug, Default)]
pub struct TcpCells {
    /// Connections that began.
    pub opened: Counter,
    /// Connections that ended.
    pub closed: Counter,
    /// Bytes of the called side.
    pub sent: Counter,
    /// Bytes of the caller.
    pub received: Counter,
}

/// All workers' numbers of one set of labels.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MergedTcp {
    /// `istio_tcp_connections_opened_total`.
    pub opened: u64,
    /// `istio_tcp_connections_closed_total`.
    pub closed: u64,
    /// `istio_tcp_sent_bytes_total`.
    pub sent: u64,
    /// `istio_tcp_received_bytes_total`.
    pub received: u64,
}

impl Cells for TcpCells {
    type Merged = MergedTcp;

    fn merge_into(&self, merged: &mut MergedTcp) {
        merged.opened = merged.opened.wrapping_add(self.opened.get());
        merged.closed = merged.closed.wrapping_add(self.closed.get());
        merged.sent = merged.sent.wrapping_add(self.sent.get());
        merged.received = merged.received.wrapping_add(self.received.get());
    }

    fn samples(&self) -> u64 {
        let all = [&self.opened, &self.closed, &self.sent, &self.received];
        all.into_iter().fold(0, |sum, cell| sum.wrapping_add(cell.get()))
    }
}
