//! Flow control (RFC 9113, section 5.2): a window for each stream and one for the connection, in each direction.

/// The largest window.
pub(crate) const LARGEST: i64 = (1 << 31) - 1;

/// What the peer may still send, and what was taken of it and not given back yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiveWindow {
    left: i64,
    taken: u32,
    size: u32,
}

impl ReceiveWindow {
    pub(crate) const fn new(size: u32) -> Self {
        ReceiveWindow { left: size as i64, taken: 0, size }
    }

    /// A frame came; false: the peer may not send that much.
    pub(crate) fn receive(&mut self, bytes: usize) -> bool {
        self.left -= bytes as i64;
        self.left >= 0
    }

    /// Bytes were taken by their reader. What to tell the peer: small steps are gathered to half of the window.
    pub(crate) fn release(&mut self, bytes: usize) -> Option<u32> {
        self.taken = self.taken.saturating_add(bytes as u32);
        if self.taken < self.size / 2 || self.taken == 0 {
            return None;
        }
        let step = std::mem::take(&mut self.taken);
        self.left += i64::from(step);
        Some(step)
    }
}

/// What may still be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) const fn new(size: u32) -> Self {
        SendWindow(size as i64)
    }

    pub(crate) fn left(self) -> usize {
        self.0.max(0) as usize
    }

    pub(crate) fn send(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// It changes by so much: by WINDOW_UPDATE, or below zero by SETTINGS. False: it is larger than a window can be.
    pub(crate) fn grow(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= LARGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_at_half() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(100) && !window.receive(1));
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(80));
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(31), Some(80));
        assert!(window.receive(100));
        let mut tiny = ReceiveWindow::new(1);
        assert!(tiny.receive(1));
        assert_eq!(tiny.release(1), Some(1));
    }

    #[test]
    fn a_window_may_fall_below_zero_and_not_grow_without_end() {
        let mut window = SendWindow::new(10);
        window.send(10);
        assert!(window.grow(-5));
        assert_eq!(window.left(), 0);
        assert!(window.grow(8));
        assert_eq!(window.left(), 3);
        assert!(window.grow(LARGEST - 3) && !window.grow(1));
    }
}
