//! SETTINGS (RFC 9113, section 6.5).

use super::code::{Code, Violation};
use super::windows::LARGEST;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// The table of header fields before anybody says something else.
pub(crate) const DEFAULT_TABLE: u32 = 4096;
/// A window before anybody says something else.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// What this side tells the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub header_table_size: u32,
    /// Of a server: streams at a time.
    pub max_concurrent_streams: Option<u32>,
    pub stream_window: u32,
    pub max_header_list_size: u32,
    /// Of a server: extended CONNECT is taken.
    pub connect_protocol: bool,
    /// Of a client: nothing may be pushed.
    pub no_push: bool,
}

impl Local {
    /// The payload of the frame; what has its usual value is left out.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let table = (self.header_table_size != DEFAULT_TABLE).then_some(self.header_table_size);
        let window = (self.stream_window != DEFAULT_WINDOW).then_some(self.stream_window);
        let all = [
            (HEADER_TABLE_SIZE, table),
            (ENABLE_PUSH, self.no_push.then_some(0)),
            (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, window),
            (MAX_HEADER_LIST_SIZE, Some(self.max_header_list_size)),
            (ENABLE_CONNECT_PROTOCOL, self.connect_protocol.then_some(1)),
        ];
        let mut payload = Vec::with_capacity(6 * all.len());
        for (name, value) in all {
            if let Some(value) = value {
                payload.extend(name.to_be_bytes());
                payload.extend(value.to_be_bytes());
            }
        }
        payload
    }
}

/// What the other side has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub header_table_size: u32,
    /// `None`: no limit.
    pub max_concurrent_streams: Option<u32>,
    pub stream_window: u32,
    pub connect_protocol: bool,
}

impl Default for Remote {
    fn default() -> Self {
        Remote {
            header_table_size: DEFAULT_TABLE,
            max_concurrent_streams: None,
            stream_window: DEFAULT_WINDOW,
            connect_protocol: false,
        }
    }
}

impl Remote {
    /// Takes the payload of a frame. `from_server`: a server may not speak of push at all (section 6.5.2).
    pub(crate) fn read(&mut self, payload: &[u8], from_server: bool) -> Result<(), Violation> {
        if !payload.len().is_multiple_of(6) {
            return Err(Violation::size("SETTINGS of a length that is no multiple of six"));
        }
        for [name, name_end, value @ ..] in payload.as_chunks::<6>().0 {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*name, *name_end]) {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                ENABLE_PUSH if value > u32::from(!from_server) => {
                    return Err(Violation::protocol("SETTINGS: ENABLE_PUSH is not allowed to be that"));
                }
                MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
                INITIAL_WINDOW_SIZE if i64::from(value) > LARGEST => {
                    let what = "SETTINGS: INITIAL_WINDOW_SIZE is above 2^31-1";
                    return Err(Violation::new(Code::FLOW_CONTROL_ERROR, what));
                }
                INITIAL_WINDOW_SIZE => self.stream_window = value,
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Violation::protocol(
                        "SETTINGS: MAX_FRAME_SIZE is not between 2^14 and 2^24-1",
                    ));
                }
                ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Violation::protocol("SETTINGS: ENABLE_CONNECT_PROTOCOL is not 0 or 1"));
                }
                ENABLE_CONNECT_PROTOCOL => self.connect_protocol = value == 1,
                // The others do not matter here, or to nobody (section 6.5.2).
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: u8, value: u32) -> Result<Remote, Code> {
        let mut remote = Remote::default();
        let [a, b, c, d] = value.to_be_bytes();
        remote.read(&[0, name, a, b, c, d], false).map(|()| remote).map_err(|violation| violation.code)
    }

    #[test]
    fn values_that_are_not_allowed_are_refused_with_their_code() {
        for (name, value, code) in [
            (2, 2, Code::PROTOCOL_ERROR),
            (4, 1 << 31, Code::FLOW_CONTROL_ERROR),
            (5, 16_383, Code::PROTOCOL_ERROR),
            (5, 1 << 24, Code::PROTOCOL_ERROR),
            (8, 2, Code::PROTOCOL_ERROR),
        ] {
            assert_eq!(read(name, value), Err(code), "{name}");
        }
        assert!(Remote::default().read(&[0, 1, 0, 0, 0], false).is_err());
        assert!(Remote::default().read(&[0, 2, 0, 0, 0, 1], true).is_err(), "a server cannot allow pushes");
        assert_eq!(read(4, (1 << 31) - 1).unwrap().stream_window, (1 << 31) - 1);
        assert_eq!(read(3, 7).unwrap().max_concurrent_streams, Some(7));
        assert_eq!(read(0x99, 7).unwrap(), Remote::default());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let local = Local {
            header_table_size: 2000,
            max_concurrent_streams: Some(7),
            stream_window: 70_000,
            max_header_list_size: 1,
            connect_protocol: true,
            no_push: false,
        };
        let mut remote = Remote::default();
        remote.read(&local.payload(), true).unwrap();
        assert_eq!((remote.header_table_size, remote.max_concurrent_streams), (2000, Some(7)));
        assert_eq!((remote.stream_window, remote.connect_protocol), (70_000, true));
    }
}
