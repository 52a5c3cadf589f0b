//! Lines out of bytes that come in pieces.

/// A line is cut here: no log entry is larger (7.2 "≤ 256 KB (unconfirmed)").
pub const LINE_MAX: usize = 240 * 1024;

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// Bytes of it beyond [`LINE_MAX`], which are not kept.
    beyond: usize,
}

impl Lines {
    /// Calls `take` with each line that these bytes end, without its end, and with how many bytes
    /// were cut off.
    pub fn cut(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8], usize)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) if self.begun.is_empty() && line.len() <= LINE_MAX => {
                    take(line.strip_suffix(b"\r").unwrap_or(line), 0);
                }
                Some(line) => {
                    self.begin(line);
                    self.end(take);
                }
                None => self.begin(piece),
            }
        }
    }

    /// As if the line that has begun had ended.
    pub fn end(&mut self, take: &mut impl FnMut(&[u8], usize)) {
        let line = std::mem::take(&mut self.begun);
        take(line.strip_suffix(b"\r").unwrap_or(&line), std::mem::take(&mut self.beyond));
    }

    fn begin(&mut self, piece: &[u8]) {
        let room = (LINE_MAX - self.begun.len()).min(piece.len());
        self.begun.extend_from_slice(&piece[..room]);
        self.beyond += piece.len() - room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<(Vec<u8>, usize)> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut take = |line: &[u8], cut| seen.push((line.to_vec(), cut));
        for piece in pieces {
            lines.cut(piece, &mut take);
        }
        lines.end(&mut take);
        seen
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let text = b"one\ntwo\r\n\nth\xffree\nfour";
        let whole = cut(&[text]);
        let lines: Vec<&[u8]> = whole.iter().map(|(line, _)| line.as_slice()).collect();
        assert_eq!(lines, [&b"one"[..], b"two", b"", b"th\xffree", b"four"]);
        for size in 1..text.len() {
            assert_eq!(cut(&text.chunks(size).collect::<Vec<_>>()), whole, "{size}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; LINE_MAX + 7];
        text.extend_from_slice(b"\nnext\n");
        for size in [1000, text.len()] {
            let seen = cut(&text.chunks(size).collect::<Vec<_>>());
            assert_eq!((seen[0].0.len(), seen[0].1), (LINE_MAX, 7));
            assert_eq!(seen[1], (b"next".to_vec(), 0));
        }
    }
}
