//! Cuts a text of any length into posts, the same ones each time.
//!
//! Pure: bytes in, posts out, at most one post and one chunk in memory. What the posts are depends on the bytes,
//! [`PostUnit`] and the limit only, never on how the bytes arrive, because a repeat has to number them as the first run
//! did:
//!
//! - A line (or the whole text) is one post. One over the limit is cut at the last ASCII white space within it: every
//!   analyzer ends words there, so the counts are those of the whole. (Not at other white space: U+202F joins words.)
//! - Blank posts, ASCII white space alone, take no number.
//! - What cannot be posted takes no number either and is a [`InputFault`]: invalid UTF-8, and more bytes than the limit
//!   without ASCII white space.
//! - Of lines that are JSON ([`PostUnit::JsonLine`]) none is cut, and each takes a number; in place of a fault stands
//!   an empty one.

use crate::text::charset::Charset;
use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter};
use std::fmt;

/// The unit of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostUnit {
    /// A line.
    Line,
    /// A whole text, which is sent as a JSON object with a member `text`.
    File,
    /// A line that holds a JSON object with a member `text`: it cannot be cut, and a blank one is sent too, so that the
    /// leader numbers the lines as the text does.
    JsonLine,
}

/// Something that cannot be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFault {
    /// The line it is on, from 1.
    pub line: u64,
    /// The offset of the first bad byte in the text, from 0.
    pub offset: u64,
    /// The kind of the fault.
    pub kind: FaultKind,
}

/// The reason why a line (or text) cannot be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// More bytes than a post may have, without white space to cut at.
    TooLong,
    /// More bytes than a post may have, of JSON.
    JsonTooLong,
}

impl InputFault {
    /// Describes it in a text that was decoded from `charset`, or is UTF-8.
    pub fn told(&self, charset: Option<Charset>) -> String {
        match (self.kind, charset) {
            (FaultKind::NotUtf8, Some(charset)) => {
                let (line, name, offset) = (self.line, charset.name(), self.offset);
                format!("line {line} is not {name} (byte {offset} of the text, as UTF-8)")
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for InputFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InputFault { line, offset, kind } = self;
        match kind {
            FaultKind::NotUtf8 => write!(f, "line {line} is not UTF-8 (byte {offset} of the text)"),
            FaultKind::TooLong => write!(f, "line {line} has no white space to cut it at (byte {offset} of the text)"),
            FaultKind::JsonTooLong => {
                write!(f, "line {line} is too long, and JSON cannot be cut (byte {offset} of the text)")
            }
        }
    }
}

/// Lines that are a post each, and ended by a line feed each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRun {
    /// All of them.
    pub bytes: Bytes,
    /// The number of posts.
    pub posts: u64,
    /// Bytes of the longest, without its line feed.
    pub longest: usize,
}

impl LineRun {
    /// A single post.
    pub fn of(post: &[u8]) -> Self {
        LineRun { bytes: [post, b"\n"].concat().into(), posts: 1, longest: post.len() }
    }

    /// Bytes of [`LineRun::json`] beside the text.
    pub const JSON_BYTES: usize = r#"{"text":""}"#.len();

    /// A single post, which is UTF-8, as JSON.
    pub fn json(post: &[u8]) -> Self {
        let mut line = Vec::with_capacity(post.len() + post.len() / 16 + Self::JSON_BYTES);
        line.extend_from_slice(br#"{"text":""#);
        for &byte in post {
            match byte {
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
                b'\n' => line.extend_from_slice(br"\n"),
                b'\r' => line.extend_from_slice(br"\r"),
                b'\t' => line.extend_from_slice(br"\t"),
                0..0x20 => line.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => line.push(byte),
            }
        }
        line.extend_from_slice(br#""}"#);
        LineRun::of(&line)
    }
}

/// Bytes that a byte of a text takes in [`LineRun::json`].
fn json_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Cuts bytes into posts as they arrive.
#[derive(Debug)]
pub struct PostSplitter {
    per: PostUnit,
    limit: usize,
    buffer: BytesMut,
    /// Bytes at the front of the buffer that hold no line feed, or, of a whole text, that fit into a post.
    searched: usize,
    /// Bytes that the searched members take in a post.
    searched_bytes: usize,
    /// Offset and line of the front of the buffer.
    offset: u64,
    line: u64,
    finished: bool,
    /// Inside a stretch that is too long: everything up to the next white space is dropped.
    dropping: bool,
    /// An empty line is to come in place of a fault.
    owes_line: bool,
    cut: bool,
    /// Bytes at the front in which [`PostSplitter::next_lines`] looks for lines.
    run: usize,
}

/// Bounds of [`PostSplitter::run`].
const LEAST_RUN: usize = 4 << 10;
const MOST_RUN: usize = 1 << 20;

impl PostSplitter {
    /// A splitter whose posts have at most `limit` bytes, as they are sent.
    pub fn new(per: PostUnit, limit: usize) -> Self {
        assert!(limit > 0, "a post holds at least a byte");
        PostSplitter {
            per,
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            searched_bytes: 0,
            offset: 0,
            line: 1,
            finished: false,
            dropping: false,
            owes_line: false,
            cut: false,
            run: LEAST_RUN,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// No more bytes come: what is left is the last post.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Returns whether a line (or text) was over the limit, so that there are more posts than lines (or texts).
    pub fn has_cut(&self) -> bool {
        self.cut
    }

    /// The next post or fault; `None` if it takes more bytes to tell, or, after [`PostSplitter::finish`], at the end.
    pub fn next_post(&mut self) -> Option<Result<Bytes, InputFault>> {
        let is_json = self.per == PostUnit::JsonLine;
        if std::mem::take(&mut self.owes_line) {
            return Some(Ok(Bytes::new()));
        }
        loop {
            if self.dropping && !self.drop_stretch() {
                return None;
            }
            let (line, offset) = (self.line, self.offset);
            let len = match self.post_len()? {
                Some(len) => len,
                None => {
                    (self.dropping, self.owes_line) = (true, is_json);
                    let kind = if is_json { FaultKind::JsonTooLong } else { FaultKind::TooLong };
                    return Some(Err(InputFault { line, offset, kind }));
                }
            };
            let post = self.take(len);
            if !is_json && post.trim_ascii().is_empty() {
                continue;
            }
            return Some(match std::str::from_utf8(&post) {
                Ok(_) => Ok(post),
                Err(error) => {
                    self.owes_line = is_json;
                    let before = &post[..error.valid_up_to()];
                    Err(InputFault {
                        line: line + memchr_iter(b'\n', before).count() as u64,
                        offset: offset + before.len() as u64,
                        kind: FaultKind::NotUtf8,
                    })
                }
            });
        }
    }

    /// The lines at the front that are a post each as they stand, up to the first that is blank, too long, or no UTF-8;
    /// `None` if that is the first, or no whole line is there. Whoever sends lines takes them so, and asks
    /// [`PostSplitter::next_post`] for what is behind them.
    pub fn next_lines(&mut self) -> Option<LineRun> {
        if self.per == PostUnit::File || self.dropping || self.owes_line {
            return None;
        }
        loop {
            let within = self.buffer.len().min(self.run);
            let (valid, mut odd) = match std::str::from_utf8(&self.buffer[..within]) {
                Ok(_) => (within, false),
                Err(error) => (error.valid_up_to(), error.error_len().is_some()),
            };
            let (mut len, mut posts, mut longest) = (0, 0, 0);
            for at in memchr_iter(b'\n', &self.buffer[..valid]) {
                let line = &self.buffer[len..at];
                let is_blank = || self.per == PostUnit::Line && line.iter().all(|&byte| is_space(byte));
                if line.len() > self.limit || is_blank() {
                    odd = true;
                    break;
                }
                (len, posts, longest) = (at + 1, posts + 1, longest.max(line.len()));
            }
            // Whatever is odd is looked at again with what follows it, so that must not be much.
            self.run = if odd { LEAST_RUN } else { (self.run * 2).min(MOST_RUN) };
            if posts > 0 {
                self.offset += len as u64;
                self.line += posts;
                self.searched = 0;
                return Some(LineRun { bytes: self.buffer.split_to(len).freeze(), posts, longest });
            }
            if odd || within == self.buffer.len() || within > self.limit || within == MOST_RUN {
                return None;
            }
        }
    }

    /// Finds the length of the post at the front: `None` if that is not known yet, `Some(None)` if it cannot be cut.
    fn post_len(&mut self) -> Option<Option<usize>> {
        if self.per == PostUnit::File {
            self.search_fitting();
            if self.searched < self.buffer.len() {
                self.cut = true;
                return Some(self.buffer[..=self.searched].iter().rposition(|&byte| is_space(byte)));
            }
        } else {
            let within = self.buffer.len().min(self.limit + 1);
            if let Some(at) = memchr(b'\n', &self.buffer[self.searched.min(within)..within]) {
                return Some(Some(self.searched + at));
            }
            self.searched = within;
            if self.buffer.len() > self.limit && self.per == PostUnit::JsonLine {
                return Some(None);
            }
            if self.buffer.len() > self.limit {
                self.cut = true;
                return Some(self.buffer[..=self.limit].iter().rposition(|&byte| is_space(byte)));
            }
        }
        let whole = self.finished && !self.buffer.is_empty();
        whole.then_some(Some(self.buffer.len()))
    }

    /// Looks at bytes of a whole text as long as they fit into a post.
    fn search_fitting(&mut self) {
        for &byte in &self.buffer[self.searched..] {
            let bytes = self.searched_bytes + json_bytes(byte);
            if bytes > self.limit {
                break;
            }
            (self.searched, self.searched_bytes) = (self.searched + 1, bytes);
        }
    }

    /// Takes a post off the front, and the white space that ends it.
    fn take(&mut self, len: usize) -> Bytes {
        let mut taken = self.buffer.split_to(self.buffer.len().min(len + 1));
        self.offset += taken.len() as u64;
        self.line += memchr_iter(b'\n', &taken).count() as u64;
        (self.searched, self.searched_bytes) = (0, 0);
        taken.truncate(len);
        taken.freeze()
    }

    /// Drops bytes up to the next white space, of JSON up to the next line end; whether it was there.
    fn drop_stretch(&mut self) -> bool {
        let is_json = self.per == PostUnit::JsonLine;
        let end = self.buffer.iter().position(|&byte| if is_json { byte == b'\n' } else { is_space(byte) });
        let _ = self.take(end.unwrap_or(self.buffer.len()));
        self.dropping = end.is_none();
        !self.dropping
    }
}

/// ASCII white space, vertical tab included: `u8::is_ascii_whitespace` leaves it out.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that comes out of `text`, handed in in pieces of `step` bytes.
    fn split(per: PostUnit, limit: usize, text: &[u8], step: usize) -> Vec<Result<String, InputFault>> {
        let mut splitter = PostSplitter::new(per, limit);
        let mut out = Vec::new();
        for piece in text.chunks(step) {
            splitter.push(piece);
            while let Some(next) = splitter.next_post() {
                out.push(next);
            }
        }
        splitter.finish();
        while let Some(next) = splitter.next_post() {
            out.push(next);
        }
        out.into_iter().map(|next| next.map(|text| String::from_utf8(text.to_vec()).expect("checked"))).collect()
    }

    fn posts(per: PostUnit, limit: usize, text: &str) -> Vec<String> {
        split(per, limit, text.as_bytes(), 7).into_iter().map(|post| post.expect("no faults")).collect()
    }

    #[test]
    fn lines_are_posts_and_blank_ones_are_none() {
        assert_eq!(posts(PostUnit::Line, 100, "a b\n\n \t\r\nc\n"), ["a b", "c"]);
        assert_eq!(posts(PostUnit::Line, 100, "no line feed"), ["no line feed"]);
        assert_eq!(posts(PostUnit::Line, 100, ""), Vec::<String>::new());
        assert_eq!(posts(PostUnit::File, 100, "a b\n\nc\n"), ["a b\n\nc\n"]);
        assert_eq!(posts(PostUnit::File, 100, "\n\n"), Vec::<String>::new());
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_over_is_cut_at_white_space() {
        assert_eq!(posts(PostUnit::Line, 5, "ab cd\nx"), ["ab cd", "x"]);
        assert_eq!(posts(PostUnit::Line, 5, "ab cde\nx"), ["ab", "cde", "x"]);
        assert_eq!(posts(PostUnit::Line, 5, "abcde f"), ["abcde", "f"]);
        assert_eq!(posts(PostUnit::File, 6, "ab\ncd\nef"), ["ab\ncd", "ef"], "a line feed takes two bytes as JSON");
        assert_eq!(posts(PostUnit::File, 5, "ab\ncd\nef"), ["ab", "cd", "ef"]);
    }

    #[test]
    fn a_narrow_space_joins_words_and_is_no_place_to_cut() {
        assert_eq!(posts(PostUnit::Line, 8, "a b\u{202f}cdef"), ["a", "b\u{202f}cdef"]);
    }

    #[test]
    fn a_text_that_cannot_be_cut_is_a_fault_with_its_place() {
        let out = split(PostUnit::Line, 4, b"ab\nxxxxxxxxxx yy\nz", 3);
        let fault = InputFault { line: 2, offset: 3, kind: FaultKind::TooLong };
        assert_eq!(out, [Ok("ab".to_owned()), Err(fault), Ok("yy".to_owned()), Ok("z".to_owned())]);
    }

    #[test]
    fn invalid_utf8_is_a_fault_with_line_and_byte_and_the_rest_is_posted() {
        let out = split(PostUnit::Line, 100, b"good\nba\xffd\ngood\n", 4);
        let fault = InputFault { line: 2, offset: 7, kind: FaultKind::NotUtf8 };
        assert_eq!(out, [Ok("good".to_owned()), Err(fault), Ok("good".to_owned())]);
        let out = split(PostUnit::File, 100, b"one\ntwo \xc3(", 4);
        assert_eq!(out, [Err(InputFault { line: 2, offset: 8, kind: FaultKind::NotUtf8 })]);
    }

    #[test]
    fn json_lines_are_never_cut_and_each_takes_a_number() {
        let out = split(PostUnit::JsonLine, 4, b"{}\n\n \nxx yy zz\n\xff\n[]", 3);
        let too_long = InputFault { line: 4, offset: 6, kind: FaultKind::JsonTooLong };
        let not_utf8 = InputFault { line: 5, offset: 15, kind: FaultKind::NotUtf8 };
        let [empty, space] = ["", " "].map(|line| Ok(line.to_owned()));
        let expected = [
            Ok("{}".to_owned()),
            empty.clone(),
            space,
            Err(too_long),
            empty.clone(),
            Err(not_utf8),
            empty,
            Ok("[]".into()),
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn a_text_as_json_has_the_bytes_that_were_reckoned_and_says_the_same() {
        let text: String = (1..0x250_u32).filter_map(char::from_u32).collect();
        let lines = LineRun::json(text.as_bytes());
        assert_eq!(lines.longest, text.bytes().map(json_bytes).sum::<usize>() + LineRun::JSON_BYTES);
        let value: serde_json::Value = serde_json::from_slice(&lines.bytes).expect("JSON");
        assert_eq!(value, serde_json::json!({ "text": text }));
        assert_eq!(memchr_iter(b'\n', &lines.bytes).count(), 1);
    }

    #[test]
    fn a_line_longer_than_any_run_is_left_to_be_taken_alone() {
        let mut splitter = PostSplitter::new(PostUnit::Line, 4 * MOST_RUN);
        splitter.push(&vec![b'x'; 2 * MOST_RUN]);
        assert_eq!(splitter.next_lines(), None);
        splitter.push(b"\nb\n");
        assert_eq!(splitter.next_lines(), None);
        assert_eq!(splitter.next_post().map(|post| post.expect("ASCII").len()), Some(2 * MOST_RUN));
        assert_eq!(splitter.next_lines().map(|lines| lines.posts), Some(1));
    }

    /// As [`split`], with the lines that can be had together taken so.
    fn split_by_lines(per: PostUnit, limit: usize, text: &[u8], step: usize) -> Vec<Result<String, InputFault>> {
        let mut splitter = PostSplitter::new(per, limit);
        let mut out = Vec::new();
        for piece in text.chunks(step).map(Some).chain([None]) {
            match piece {
                Some(piece) => splitter.push(piece),
                None => splitter.finish(),
            }
            loop {
                while let Some(LineRun { bytes, posts, longest }) = splitter.next_lines() {
                    let lines = str::from_utf8(&bytes).expect("checked");
                    assert!(lines.ends_with('\n') && lines.lines().count() as u64 == posts, "{lines:?}");
                    let each = lines.split_terminator('\n').map(str::to_owned);
                    assert_eq!(each.clone().map(|line| line.len()).max(), Some(longest));
                    assert!(longest <= limit);
                    out.extend(each.map(Ok));
                }
                match splitter.next_post() {
                    Some(next) => out.push(next.map(|post| String::from_utf8(post.to_vec()).expect("checked"))),
                    None => break,
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn lines_taken_together_are_the_posts_one_by_one(
            text in proptest::collection::vec(
                prop_oneof![2 => Just(b' '), 3 => Just(b'\n'), 9 => Just(b'a'), 1 => any::<u8>()], 0..300),
            limit in 1_usize..20,
            step in 1_usize..100,
        ) {
            for per in [PostUnit::Line, PostUnit::JsonLine] {
                prop_assert_eq!(split_by_lines(per, limit, &text, step), split(per, limit, &text, step));
            }
        }

        #[test]
        fn how_bytes_arrive_makes_no_difference(
            text in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            limit in 1_usize..20,
            step in 1_usize..30,
        ) {
            for per in [PostUnit::Line, PostUnit::File, PostUnit::JsonLine] {
                prop_assert_eq!(split(per, limit, &text, step), split(per, limit, &text, text.len().max(1)));
            }
        }

        #[test]
        fn no_word_is_lost_or_torn(
            words in proptest::collection::vec("[a-zé北]{1,3}", 0..60),
            gaps in proptest::collection::vec(prop_oneof![Just(" "), Just("\n"), Just("\t \n")], 60),
            limit in 12_usize..30,
        ) {
            let text: String = words.iter().zip(&gaps).flat_map(|(word, gap)| [word.as_str(), gap]).collect();
            for per in [PostUnit::Line, PostUnit::File] {
                let posts = posts(per, limit, &text);
                prop_assert!(posts.iter().all(|post| post.len() <= limit));
                let found: Vec<_> = posts.iter().flat_map(|post| post.split_whitespace()).collect();
                prop_assert_eq!(&found, &words);
            }
        }
    }
}
