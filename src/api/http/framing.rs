//! Follows the framing of HTTP/1 messages, so that the guard knows where the next head begins.
//!
//! Only counts: hyper decodes, and refuses what is malformed. Chunks that make no sense end the counting; what
//! follows is then hyper's alone, which refuses it and closes.

/// The rest of the current message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// Nothing: a head comes next.
    Ended,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(ChunkState),
    /// Nobody knows: everything that follows is passed on.
    Unknown,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// In the size of a chunk, of which so much was read in so many digits.
    Size { size: u64, digits: u8 },
    /// In an extension, or the line end, after the size.
    Extension { size: u64 },
    /// In the data, of which so many bytes are left.
    Data { left: u64 },
    /// In the line end after the data.
    DataEnd,
    /// In the trailer, at the start of a line or within it.
    Trailer { at_line_start: bool },
}

impl BodyFraming {
    pub(super) const CHUNKED: BodyFraming = BodyFraming::Chunked(ChunkState::Size { size: 0, digits: 0 });

    /// Counts `bytes` and gives how many of them belong to this message. Fewer than all: it has ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            match self {
                BodyFraming::Ended => return taken,
                BodyFraming::Unknown => return bytes.len(),
                BodyFraming::Length(left) => {
                    let part = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= part as u64;
                    taken += part;
                    if *left == 0 {
                        *self = BodyFraming::Ended;
                    }
                }
                BodyFraming::Chunked(ChunkState::Data { left }) if *left > 0 => {
                    let part = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= part as u64;
                    taken += part;
                }
                BodyFraming::Chunked(chunk) => {
                    *self = chunk.after(rest[0]);
                    taken += 1;
                }
            }
        }
        taken
    }
}

impl ChunkState {
    fn after(self, byte: u8) -> BodyFraming {
        let next = match (self, byte) {
            (ChunkState::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                ChunkState::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (ChunkState::Size { size, digits: 1.. }, b'\n') | (ChunkState::Extension { size }, b'\n') => match size {
                0 => ChunkState::Trailer { at_line_start: true },
                _ => ChunkState::Data { left: size },
            },
            (ChunkState::Size { size, digits: 1.. }, b'\r' | b';' | b' ' | b'\t')
            | (ChunkState::Extension { size }, _) => ChunkState::Extension { size },
            (ChunkState::Data { .. } | ChunkState::DataEnd, b'\r') => ChunkState::DataEnd,
            (ChunkState::Data { .. } | ChunkState::DataEnd, b'\n') => ChunkState::Size { size: 0, digits: 0 },
            (ChunkState::Trailer { at_line_start: true }, b'\n') => return BodyFraming::Ended,
            (ChunkState::Trailer { at_line_start }, b'\r') => ChunkState::Trailer { at_line_start },
            (ChunkState::Trailer { .. }, byte) => ChunkState::Trailer { at_line_start: byte == b'\n' },
            (ChunkState::Size { .. } | ChunkState::Data { .. } | ChunkState::DataEnd, _) => {
                return BodyFraming::Unknown;
            }
        };
        BodyFraming::Chunked(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of the bytes belongs to the message, fed in pieces of every size.
    fn ends_after(start: BodyFraming, bytes: &[u8]) -> Vec<(usize, BodyFraming)> {
        let in_pieces = |size: usize| {
            let (mut framing, mut taken) = (start, 0);
            for piece in bytes.chunks(size) {
                let part = framing.take(piece);
                taken += part;
                if part < piece.len() {
                    break;
                }
            }
            (taken, framing)
        };
        let mut ends: Vec<_> = (1..=bytes.len()).map(in_pieces).collect();
        ends.dedup();
        ends
    }

    #[test]
    fn finds_the_end_however_the_bytes_are_cut() {
        let next = b"GET / HTTP/1.1\r\n";
        for (start, message) in [
            (BodyFraming::Length(5), b"hello".as_slice()),
            (BodyFraming::CHUNKED, b"0\r\n\r\n"),
            (BodyFraming::CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
            (BodyFraming::CHUNKED, b"A;name=value\r\n0123456789\r\n2 \r\nab\r\n000\r\n\r\n"),
            (BodyFraming::CHUNKED, b"1\na\n0\n\n"),
            (BodyFraming::CHUNKED, b"0\r\nTrailer: x\r\nOther: y\r\n\r\n"),
        ] {
            let bytes = [message, next].concat();
            assert_eq!(ends_after(start, &bytes), [(message.len(), BodyFraming::Ended)], "{message:?}");
        }
    }

    #[test]
    fn chunks_without_sense_end_the_counting() {
        for message in [b"x\r\n".as_slice(), b"\r\n", b"1\r\nab\r\n", b"11111111111111111\r\n", b"-1\r\n"] {
            let (_, framing) = ends_after(BodyFraming::CHUNKED, message)[0];
            assert_eq!(framing, BodyFraming::Unknown, "{message:?}");
        }
    }
}
