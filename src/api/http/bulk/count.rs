//! Counts a block of lines.

use super::{
    super::json::{self, MemberKind, MemberValue},
    LineFormat,
    lines::LineBlock,
};
use crate::{
    base::limits::MAX_WORD_BYTES,
    data::counts::word_counts::{self, PartitionedCounter, WordCounts},
    engine::leader::WriteError,
    text::charset::{Charset, check_no_nul},
    text::tokenizer::{Analyzer, decode_utf8},
};
use std::{borrow::Cow, ops::Range};

/// The words and the lines of a counted block.
pub(super) struct BlockCounts {
    /// The block's buffer, to be used again.
    pub(super) spare: Vec<u8>,
    pub(super) tally: WordCounts,
    pub(super) words: u64,
    pub(super) left_out: u64,
    pub(super) refused: u64,
    /// The first of the lines that are refused, with the reason.
    pub(super) refusals: Vec<RefusedLine>,
}

/// A line that is refused.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub(super) struct RefusedLine {
    /// Its number, from 1.
    pub(super) line: u64,
    /// The reason, for the client.
    pub(super) reason: String,
}

/// Bytes of lines that are looked at together: they stay in the second-level cache.
const PIECE_BYTES: usize = 64 << 10;
/// A byte-order mark, which is no part of a word, whatever the analyzer.
const MARK: &str = "\u{feff}";
/// Lines that are told with their reason; of more, only the number.
pub(super) const REFUSALS_TOLD: usize = 100;

/// The rules by which lines become words.
#[derive(Clone, Copy)]
pub(super) struct LineOptions {
    pub(super) format: LineFormat,
    pub(super) analyzer: Analyzer,
    /// The most bytes a line may have.
    pub(super) limit: usize,
    /// The charset that the body was decoded from.
    pub(super) charset: Option<Charset>,
}

/// Counts the words of a block into `tally`, which is empty, by way of `parts` and `other`, which are empty too.
pub(super) fn count(
    block: LineBlock,
    options: &LineOptions,
    (tally, other): (WordCounts, WordCounts),
    parts: &mut PartitionedCounter,
) -> BlockCounts {
    let mut counted = BlockCounts::new(tally);
    let first = if block.done == 0 { MARK } else { "" };
    let is_text = check_no_nul(&block.bytes).is_ok();
    if options.format == LineFormat::Plain && block.longest <= options.limit && !block.first_too_long && is_text {
        // No word goes over a line end: all lines are counted as one text.
        match String::from_utf8(block.bytes) {
            Ok(text) => counted.add_whole((text, first), options.analyzer, parts, other),
            Err(error) => counted.add_lines(LineBlock { bytes: error.into_bytes(), ..block }, options),
        }
    } else {
        counted.add_lines(block, options);
    }
    counted
}

/// Counts the words of a block into `tally`, which is empty, line by line: a line with which a word would leave the
/// 64-bit range is refused. `count_of` gives the count of a word in front of the block.
pub(super) fn count_what_fits(
    block: LineBlock,
    options: &LineOptions,
    mut tally: WordCounts,
    count_of: impl Fn(&str) -> i64,
) -> BlockCounts {
    let hasher = tally.hasher();
    let mut counted = BlockCounts::new(WordCounts::new(hasher));
    let (mut line, mut words) = (BlockCounts::new(WordCounts::new(hasher)), WordCounts::new(hasher));
    counted.refuse_or_add(&block, options, |counted, text| {
        words.clear();
        (line.words, line.left_out) = (0, 0);
        line.add(text, options.analyzer, &mut words);
        let fits = |word: &word_counts::WordAmount<'_>| {
            let before = count_of(word.word).checked_add(tally.get(word.hash, word.word).unwrap_or(0));
            before.and_then(|before| before.checked_add(word.amount)).is_some()
        };
        if let Some(word) = words.iter().find(|word| !fits(word)) {
            return Err(WriteError::Overflow { word: word.word.to_owned() }.to_string());
        }
        for word in words.iter() {
            tally.add_hashed(word.hash, word.word, word.amount).expect("a block has fewer words than an i64 counts");
        }
        (counted.words, counted.left_out) = (counted.words + line.words, counted.left_out + line.left_out);
        Ok(())
    });
    tally.order_by_hash();
    (counted.tally, counted.spare) = (tally, block.bytes);
    counted
}

impl BlockCounts {
    fn new(tally: WordCounts) -> Self {
        Self { spare: Vec::new(), tally, words: 0, left_out: 0, refused: 0, refusals: Vec::new() }
    }

    /// Takes the words out.
    pub(super) fn take_tally(&mut self) -> WordCounts {
        let empty = WordCounts::new(self.tally.hasher());
        std::mem::replace(&mut self.tally, empty)
    }

    /// Adds lines that are no longer needed. ASCII is counted where it stands, the words of other lines go through
    /// `other`. `mark` in front is left out.
    fn add_whole(
        &mut self,
        (mut text, mark): (String, &str),
        analyzer: Analyzer,
        parts: &mut PartitionedCounter,
        mut other: WordCounts,
    ) {
        let mut from = if text.starts_with(mark) { mark.len() } else { 0 };
        while from < text.len() {
            let mut upto = behind_lines(&text, from, PIECE_BYTES);
            if !self.add_ascii(&mut text, from..upto, analyzer, parts) {
                upto = behind_alike(&text, from, upto);
                if !self.add_ascii(&mut text, from..upto, analyzer, parts) {
                    self.add(&text[from..upto], analyzer, &mut other);
                }
            }
            from = upto;
        }
        parts.take_over(&mut text, &other);
        parts.count_into(&text, &mut self.tally);
        self.spare = text.into_bytes();
    }

    /// Adds a part of a text if it is ASCII; `false`, and nothing is done, if it is not.
    fn add_ascii(
        &mut self,
        text: &mut str,
        part: Range<usize>,
        analyzer: Analyzer,
        parts: &mut PartitionedCounter,
    ) -> bool {
        let is_ascii = analyzer.normalize_ascii(&mut text[part.clone()]);
        if is_ascii {
            let (text, hasher, words) = (&*text, self.tally.hasher(), &mut self.words);
            self.left_out += analyzer.ascii_words_within(&text[part], MAX_WORD_BYTES, |word| {
                parts.push(text, hasher.hash(word), word);
                *words += 1;
            });
        }
        is_ascii
    }

    /// Adds line by line.
    fn add_lines(&mut self, block: LineBlock, options: &LineOptions) {
        let mut tally = self.take_tally();
        self.refuse_or_add(&block, options, |counted, text| {
            counted.add(text, options.analyzer, &mut tally);
            Ok(())
        });
        tally.order_by_hash();
        (self.tally, self.spare) = (tally, block.bytes);
    }

    /// Gives each line's text to `add`, and notes the lines that are refused, by that too.
    fn refuse_or_add(
        &mut self,
        block: &LineBlock,
        options: &LineOptions,
        mut add: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) {
        let mut from = 0;
        for (at, end) in memchr::memchr_iter(b'\n', &block.bytes).enumerate() {
            let line = &block.bytes[from..end];
            from = end + 1;
            let too_long = line.len() > options.limit || (at == 0 && block.first_too_long);
            let longer = || format!("longer than {} bytes", options.limit);
            let is_marked = block.done == 0 && at == 0 && line.starts_with(MARK.as_bytes());
            let line = if is_marked { &line[MARK.len()..] } else { line };
            let read = if too_long { Err(longer()) } else { text(line, options) };
            if let Err(reason) = read.and_then(|text| add(self, &text)) {
                self.refuse(block.done + 1 + at as u64, reason);
            }
        }
    }

    fn add(&mut self, text: &str, analyzer: Analyzer, tally: &mut WordCounts) {
        self.left_out += analyzer.words_within(text, MAX_WORD_BYTES, |word| {
            tally.add(word, 1).expect("a block has fewer words than an i64 counts");
            self.words += 1;
        });
    }

    fn refuse(&mut self, line: u64, reason: String) {
        self.refused += 1;
        if self.refusals.len() < REFUSALS_TOLD {
            self.refusals.push(RefusedLine { line, reason });
        }
    }
}

/// Finds the end of the first line that ends at least `least` bytes behind `from`.
fn behind_lines(text: &str, from: usize, least: usize) -> usize {
    let rest = &text.as_bytes()[from..];
    let least = least.min(rest.len());
    from + memchr::memchr(b'\n', &rest[least..]).map_or(rest.len(), |at| least + at + 1)
}

/// Finds the end of the run of lines that are all ASCII, or all not ASCII, as the one at `from` is.
fn behind_alike(text: &str, from: usize, upto: usize) -> usize {
    let mut end = behind_lines(text, from, 0);
    let is_ascii = text[from..end].is_ascii();
    while end < upto {
        let next = behind_lines(text, end, 0);
        if text[end..next].is_ascii() != is_ascii {
            break;
        }
        end = next;
    }
    end
}

fn text<'a>(line: &'a [u8], options: &LineOptions) -> Result<Cow<'a, str>, String> {
    let line = decode_utf8(line).map_err(|error| match options.charset {
        None => error.to_string(),
        // Its bytes are those of the decoded text: their offsets would say nothing.
        Some(charset) => format!("the text is not {}, the charset that was declared", charset.name()),
    })?;
    let format = options.format;
    let line = if format == LineFormat::Json { line.strip_prefix(MARK).unwrap_or(line) } else { line };
    let text = match format {
        LineFormat::Plain => Ok(Cow::Borrowed(line)),
        LineFormat::Json if line.trim_ascii().is_empty() => Ok(Cow::Borrowed("")),
        LineFormat::Json => {
            json_text(line).map_err(|wrong| format!("{wrong}; a JSON object with a string member text is wanted"))
        }
    }?;
    check_no_nul(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(text)
}

fn json_text(line: &str) -> Result<Cow<'_, str>, String> {
    let mut text = None;
    let wanted = |name: &str| if name == "text" { MemberKind::Scalar } else { MemberKind::Nothing };
    json::read_object(line, wanted, |name, value| match value {
        MemberValue::String(value) => match text.replace(value) {
            Some(_) => Err(json::member_error(&name, "is given twice")),
            None => Ok(()),
        },
        other => Err(json::member_error(&name, format_args!("is {}, not a string", other.kind()))),
    })?;
    text.ok_or_else(|| "the member text is missing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::WordHasher;

    fn counted(bytes: &[u8], format: LineFormat, limit: usize) -> BlockCounts {
        let options = LineOptions { format, analyzer: Analyzer::Standard, limit, charset: None };
        counted_by(&options, bytes, 10)
    }

    fn counted_by(options: &LineOptions, bytes: &[u8], done: u64) -> BlockCounts {
        let longest = bytes.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
        let bytes = bytes.to_vec();
        let block = LineBlock { bytes, done, upto: 0, so_far: 0, hash: 0, first_too_long: false, longest };
        let tally = || WordCounts::new(WordHasher::new(1));
        count(block, options, (tally(), tally()), &mut PartitionedCounter::default())
    }

    fn told(counted: &BlockCounts) -> (u64, usize, Vec<u64>) {
        (counted.words, counted.tally.len(), counted.refusals.iter().map(|refusal| refusal.line).collect())
    }

    #[test]
    fn lines_that_cannot_be_read_are_refused_and_the_others_count() {
        assert_eq!(told(&counted(b"a b\n\nb c\n", LineFormat::Plain, 99)), (4, 3, vec![]));
        assert_eq!(told(&counted(b"a b\n\xff\nb c\n", LineFormat::Plain, 99)), (4, 3, vec![12]));
        assert_eq!(told(&counted(b"a b\naaaaaa bbbb\nb c\n", LineFormat::Plain, 9)), (4, 3, vec![12]));
        assert_eq!(told(&counted(b"a b\nh\0i\0\nb c\n", LineFormat::Plain, 99)), (4, 3, vec![12]));
        let marked = b"\xef\xbb\xbf{\"text\":\"a\"}\n{\"text\":\"h\\u0000\"}\n\xef\xbb\xbf\n";
        assert_eq!(told(&counted(marked, LineFormat::Json, 99)), (1, 1, vec![12]));
        let json =
            b"{\"text\":\"a b\",\"n\":1}\n \n{\"text\":1}\n{}\nx\n{\"text\":\"\xff\"}\n{\"text\":\"A\\u0020\"}\n";
        assert_eq!(told(&counted(json, LineFormat::Json, 99)), (3, 2, vec![13, 14, 15, 16]));
    }

    #[test]
    fn a_mark_in_front_of_a_body_is_in_no_word_and_one_within_is_for_the_analyzer() {
        let marked = format!("{MARK}one two\n{MARK}one\n").into_bytes();
        // Whole, line by line for a line that cannot be read, and what fits.
        let broken = [&marked, b"\xff\n".as_slice()].concat();
        let options = |format| LineOptions { format, analyzer: Analyzer::Whitespace, limit: 99, charset: None };
        let words = |counted: &BlockCounts| {
            let mut words: Vec<_> = counted.tally.iter().map(|word| word.word.to_owned()).collect();
            words.sort_unstable();
            words
        };
        let within = format!("{MARK}one");
        for bytes in [&marked, &broken] {
            assert_eq!(words(&counted_by(&options(LineFormat::Plain), bytes, 0)), ["one", "two", &within]);
            let later = counted_by(&options(LineFormat::Plain), bytes, 10);
            assert_eq!(words(&later), ["two", &within], "the front of a block is not that of the body");
        }
        let block =
            LineBlock { bytes: marked, done: 0, upto: 0, so_far: 0, hash: 0, first_too_long: false, longest: 99 };
        let fitting = count_what_fits(block, &options(LineFormat::Plain), WordCounts::new(WordHasher::new(1)), |_| 0);
        assert_eq!(words(&fitting), ["one", "two", &within]);
        let json = format!("{MARK}{{\"text\":\"a\"}}\n{MARK}{{\"text\":\"b\"}}\n");
        assert_eq!(words(&counted_by(&options(LineFormat::Json), json.as_bytes(), 0)), ["a", "b"]);
    }

    #[test]
    fn a_refused_line_names_the_charset_that_was_declared() {
        let charset = Charset::of_label("utf-16le").expect("known");
        let options = LineOptions { format: LineFormat::Plain, analyzer: Analyzer::Standard, limit: 99, charset };
        let counted = counted_by(&options, b"a\n\xff\n", 0);
        assert_eq!(counted.refusals[0].reason, "the text is not UTF-16LE, the charset that was declared");
    }

    #[test]
    fn lines_of_ascii_and_of_other_text_count_together() {
        // Larger than a piece, with long and short lines, and other text in some of them.
        let ascii = "Words that are written in plain letters, 3.5 of them and more\n".repeat(1_500);
        let text = format!(
            "caf\u{e9} caf\u{e9}\n{ascii}\u{201c}Plain\u{201d} letters\n\n{ascii}la caf\u{e9}teria, e\u{301}t\u{e9}"
        );
        let all = counted(format!("{text}\n").as_bytes(), LineFormat::Plain, 1 << 20);
        let (mut plain, mut words) = (WordCounts::new(WordHasher::new(1)), 0);
        Analyzer::Standard.words_within(&text, MAX_WORD_BYTES, |word| {
            plain.add(word, 1).expect("few words");
            words += 1;
        });
        let told = |tally: &WordCounts| {
            let mut told: Vec<_> = tally.iter().map(|word| (word.word.to_owned(), word.amount)).collect();
            told.sort_unstable();
            told
        };
        assert_eq!((told(&all.tally), all.words), (told(&plain), words));
        assert!(all.tally.hashes().map(|hash| hash >> 56).is_sorted());
    }

    #[test]
    fn lines_with_which_a_count_would_overflow_are_refused_and_those_that_fit_count() {
        let fits = |bytes: &[u8], format, count_of: fn(&str) -> i64| {
            let first = counted(bytes, format, 99);
            let mut bytes = first.spare;
            bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
            let block = LineBlock { bytes, done: 10, upto: 0, so_far: 0, hash: 0, first_too_long: false, longest: 99 };
            let options = LineOptions { format, analyzer: Analyzer::Standard, limit: 99, charset: None };
            count_what_fits(block, &options, WordCounts::new(WordHasher::new(1)), count_of)
        };
        let nearly = |word: &str| if word == "the" { i64::MAX - 2 } else { 0 };
        // Two fit: of line 12 there would be two more than those of line 11, so that the one of 13 counts in their
        // place.
        let text = b"The whale\nthe the\nthe sea\na \xff\nthe\nwhale caf\xc3\xa9\n";
        let all = fits(text, LineFormat::Plain, nearly);
        assert_eq!(told(&all), (6, 4, vec![12, 14, 15]));
        assert!(all.refusals[0].reason.contains("the count of \"the\" would leave"), "{}", all.refusals[0].reason);
        let json = b"{\"text\":\"a the\"}\n{\"text\":\"the the\"}\n{}\n{\"text\":\"b\"}\n";
        assert_eq!(told(&fits(json, LineFormat::Json, nearly)), (3, 3, vec![12, 13]));
        assert_eq!(told(&fits(b"the\nthe\n", LineFormat::Plain, |_| i64::MAX)), (0, 0, vec![11, 12]));
        assert_eq!(told(&fits(b"the\nsea\n", LineFormat::Plain, |_| i64::MIN)), (2, 2, vec![]));
    }

    #[test]
    fn of_many_refused_lines_the_first_are_told() {
        let all = counted(&b"\xff\n".repeat(1_000), LineFormat::Plain, 99);
        assert_eq!((all.refused, all.refusals.len()), (1_000, REFUSALS_TOLD));
    }
}
