//! Counts the messages of a gRPC stream: each begins with a flag and its length in four bytes (gRPC over HTTP/2,
//! length-prefixed messages).

/// Bytes before each message.
const PREFIX: u8 = 5;

/// One direction of a call. A few bytes; the messages are not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrpcMessages {
    count: u64,
    /// Bytes of the current prefix that came.
    prefix: u8,
    /// What they say so far, then the bytes of the message that are still to come.
    left: u32,
}

impl GrpcMessages {
    /// These bytes came next.
    pub fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.prefix == PREFIX {
                let taken = bytes.len().min(self.left as usize);
                bytes = &bytes[taken..];
                // It fits: not more than `left` was taken.
                self.left -= u32::try_from(taken).unwrap_or(self.left);
                if self.left == 0 {
                    self.prefix = 0;
                }
                continue;
            }
            if self.prefix > 0 {
                self.left = (self.left << 8) | u32::from(bytes[0]);
            }
            bytes = &bytes[1..];
            self.prefix += 1;
            if self.prefix == PREFIX {
                self.count += 1;
                if self.left == 0 {
                    self.prefix = 0;
                }
            }
        }
    }

    /// Messages that began so far.
    pub fn count(self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(vec![0xff; length]);
        bytes
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream: Vec<u8> = [0, 1, 300, 0, 70_000].into_iter().flat_map(message).collect();
        for cut in [1, 2, 3, 5, 7, 100, stream.len()] {
            let mut messages = GrpcMessages::default();
            stream.chunks(cut).for_each(|chunk| messages.saw(chunk));
            assert_eq!(messages.count(), 5, "in pieces of {cut}");
        }
        let mut messages = GrpcMessages::default();
        messages.saw(&stream[..4]);
        assert_eq!(messages.count(), 0, "a prefix that is not whole is no message");
    }
}
