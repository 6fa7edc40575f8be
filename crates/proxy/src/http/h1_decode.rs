//! Decodes a body whose framing its head decided.

use bytes::{Bytes, BytesMut};

use super::chunked::{ChunkedDecoder, Decoded};
use super::h1::Limits;
use super::head::BodyLength;
use super::headers::Headers;
use super::refusal::Refusal;

/// Where a body stands.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    /// At its clean end.
    Done,
    /// So many bytes are missing.
    Known(u64),
    /// In the chunked coding.
    Chunked(Box<ChunkedDecoder>),
    /// All bytes until the peer closes.
    UntilClose,
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes of the body, not empty.
    Data(Bytes),
    /// The end, with trailer fields.
    Trailers(Headers),
    /// The end.
    End,
    /// The buffer is used up.
    NeedMore,
}

impl BodyDecoder {
    /// For a body whose end is marked, never by the end of the connection.
    pub(crate) fn marked(length: BodyLength, limits: Limits) -> Self {
        match length {
            BodyLength::None | BodyLength::Known(0) => BodyDecoder::Done,
            BodyLength::Known(bytes) => BodyDecoder::Known(bytes),
            BodyLength::Unknown => BodyDecoder::Chunked(Box::new(ChunkedDecoder::new(limits))),
        }
    }

    /// Whether nothing is left to read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, BodyDecoder::Done)
    }

    /// Whether the end of the connection is a clean end now.
    pub(crate) fn may_close(&self) -> bool {
        matches!(self, BodyDecoder::Done | BodyDecoder::UntilClose)
    }

    /// How many bytes the next read should have room for.
    pub(crate) fn wants(&self) -> usize {
        match self {
            BodyDecoder::Done => 0,
            BodyDecoder::Known(bytes) => usize::try_from(*bytes).unwrap_or(usize::MAX),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => usize::MAX,
        }
    }

    /// Takes bytes from the front of `buffer`.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Step, Refusal> {
        match self {
            BodyDecoder::Done => Ok(Step::End),
            _ if buffer.is_empty() => Ok(Step::NeedMore),
            BodyDecoder::Known(missing) => {
                let take = usize::try_from(*missing).unwrap_or(usize::MAX).min(buffer.len());
                *missing -= take as u64;
                if *missing == 0 {
                    *self = BodyDecoder::Done;
                }
                Ok(Step::Data(buffer.split_to(take).freeze()))
            }
            BodyDecoder::UntilClose => Ok(Step::Data(buffer.split().freeze())),
            BodyDecoder::Chunked(decoder) => Ok(match decoder.decode(buffer)? {
                Decoded::Data(data) => Step::Data(data),
                Decoded::NeedMore => Step::NeedMore,
                Decoded::End(trailers) => {
                    *self = BodyDecoder::Done;
                    if trailers.is_empty() { Step::End } else { Step::Trailers(trailers) }
                }
            }),
        }
    }
}
