//! What the text of a statement says about how to run it.
//!
//! In: SQL as it came. Out: where an INSERT's data begins, which FORMAT is asked for, whether the
//! result may be streamed.
//! Never here: the engine; understanding SQL any further than words outside quotes and brackets.

/// An INSERT that carries data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InsertData<'a> {
    /// The statement up to its FORMAT or VALUES.
    pub(super) head: &'a str,
    /// Whether the head has a SETTINGS clause already.
    pub(super) has_settings: bool,
    /// Format of the data.
    pub(super) format: &'a str,
    /// Data that follows in the same text.
    pub(super) inline: &'a [u8],
}

/// A word or mark outside quotes, comments and brackets.
struct Word<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

/// The top-level words of a statement.
struct Words<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    const fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.sql.get(self.at..).unwrap_or_default()
    }

    /// Steps over what begins here with `open` up to and with `close`.
    fn skip_past(&mut self, open: &str, close: &str) {
        let from = self.at.saturating_add(open.len());
        let found = self.sql.get(from..).and_then(|rest| rest.find(close));
        self.at =
            found.map_or(self.sql.len(), |n| from.saturating_add(n).saturating_add(close.len()));
    }

    fn skip_quoted(&mut self, quote: char) {
        let mut escaped = false;
        for (n, c) in self.rest().char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                self.at = self.at.saturating_add(n).saturating_add(1);
                return;
            }
        }
        self.at = self.sql.len();
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let mut depth = 0_u32;
        loop {
            let rest = self.rest();
            let c = rest.chars().next()?;
            if rest.starts_with("--") {
                self.skip_past("--", "\n");
            } else if rest.starts_with("/*") {
                self.skip_past("/*", "*/");
            } else if matches!(c, '\'' | '"' | '`') {
                self.skip_quoted(c);
            } else if matches!(c, '(' | '[' | '{') {
                depth = depth.saturating_add(1);
                self.at = self.at.saturating_add(1);
            } else if matches!(c, ')' | ']' | '}') {
                depth = depth.saturating_sub(1);
                self.at = self.at.saturating_add(1);
            } else if c.is_alphanumeric() || c == '_' {
                let length =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let at = self.at;
                self.at = at.saturating_add(length);
                if depth == 0 {
                    let text = rest.get(..length).unwrap_or_default();
                    return Some(Word { text, at, end: self.at });
                }
            } else {
                self.at = self.at.saturating_add(c.len_utf8());
                if depth == 0 && c == ';' {
                    let at = self.at.saturating_sub(1);
                    return Some(Word { text: ";", at, end: self.at });
                }
            }
        }
    }
}

fn is(word: &Word<'_>, keyword: &str) -> bool {
    word.text.eq_ignore_ascii_case(keyword)
}

/// The first word, in capitals.
pub(super) fn first_word(sql: &str) -> String {
    Words::new(sql).next().map(|word| word.text.to_ascii_uppercase()).unwrap_or_default()
}

/// The parts of `INSERT … FORMAT x` or `INSERT … VALUES …`; `None` for any other statement, among
/// them `INSERT … SELECT`.
pub(super) fn insert_data(sql: &[u8]) -> Option<InsertData<'_>> {
    // Data after the statement may be binary: look at what is text.
    let text = match std::str::from_utf8(sql) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(sql.get(..error.valid_up_to())?).ok()?,
    };
    let mut words = Words::new(text);
    if !is(&words.next()?, "INSERT") {
        return None;
    }
    let mut has_settings = false;
    loop {
        let word = words.next()?;
        if is(&word, "SELECT") || is(&word, "WITH") || is(&word, "WATCH") {
            return None;
        }
        if is(&word, "SETTINGS") {
            has_settings = true;
        }
        let head = text.get(..word.at)?.trim_end();
        if is(&word, "VALUES") {
            let inline = sql.get(word.end..)?;
            return Some(InsertData { head, has_settings, format: "Values", inline });
        }
        if is(&word, "FORMAT") {
            let format = words.next()?;
            let inline = after_format(sql.get(format.end..)?);
            return Some(InsertData { head, has_settings, format: format.text, inline });
        }
    }
}

/// Data begins after the blanks and at most one line end behind the format's name.
fn after_format(rest: &[u8]) -> &[u8] {
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b';')).count();
    let rest = rest.get(blanks..).unwrap_or_default();
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
    rest.strip_prefix(b"\n").unwrap_or(rest)
}

/// The format a query ends with, where it names one.
pub(super) fn explicit_format(sql: &str) -> Option<&str> {
    let mut words = Words::new(sql).peekable();
    let mut found = None;
    while let Some(word) = words.next() {
        if is(&word, "FORMAT")
            && let Some(name) = words.next()
            && words.peek().is_none_or(|next| is(next, "SETTINGS") || is(next, ";"))
        {
            found = Some(name.text);
        }
    }
    found
}

/// Whether chunks of a result in `format` may be put one behind the other. Those with a frame
/// around the rows may not: the engine frames every chunk.
pub(super) fn streams_in_chunks(format: &str) -> bool {
    matches!(
        format,
        "RowBinary"
            | "RowBinaryWithNames"
            | "RowBinaryWithNamesAndTypes"
            | "Native"
            | "JSONEachRow"
            | "TabSeparated"
            | "TSV"
            | "CSV"
            | "Null"
    )
}

/// Length of the header of `RowBinaryWithNames` (and, `with_types`, `…AndTypes`) at the start of
/// `data`; the engine repeats it in every chunk.
pub(super) fn row_binary_header_len(data: &[u8], with_types: bool) -> Option<usize> {
    let (columns, mut rest) = leb128(data)?;
    let texts = if with_types { columns.checked_mul(2)? } else { columns };
    for _ in 0..texts {
        let (length, after) = leb128(rest)?;
        rest = after.get(usize::try_from(length).ok()?..)?;
    }
    data.len().checked_sub(rest.len())
}

fn leb128(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (n, byte) in data.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7_usize.checked_mul(n)?);
        if byte & 0x80 == 0 {
            return Some((value, data.get(n.checked_add(1)?..)?));
        }
    }
    None
}

/// A string literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Head, whether it has settings, format, data.
    type Parts = (&'static str, bool, &'static str, &'static str);

    #[test]
    fn an_insert_ends_where_its_data_begins() {
        let cases: [(&str, Option<Parts>); 12] = [
            (
                "INSERT INTO t(a, b) FORMAT RowBinary",
                Some(("INSERT INTO t(a, b)", false, "RowBinary", "")),
            ),
            ("insert into t format CSV\n1,2\n", Some(("insert into t", false, "CSV", "1,2\n"))),
            ("INSERT INTO t FORMAT CSV ;", Some(("INSERT INTO t", false, "CSV", ""))),
            (
                "INSERT INTO `format`(\"values\") SETTINGS a = 1 FORMAT TSV",
                Some(("INSERT INTO `format`(\"values\") SETTINGS a = 1", true, "TSV", "")),
            ),
            (
                "/* FORMAT x */ INSERT INTO t -- VALUES\n (v) VALUES ('a\n\nb')",
                Some((
                    "/* FORMAT x */ INSERT INTO t -- VALUES\n (v)",
                    false,
                    "Values",
                    " ('a\n\nb')",
                )),
            ),
            ("INSERT INTO t SELECT 1 FORMAT x", None),
            ("INSERT INTO t (a) WITH 1 AS x SELECT x", None),
            ("SELECT 'INSERT INTO t FORMAT x'", None),
            ("INSERT INTO t", None),
            ("", None),
            ("INSERT INTO t FORMAT", None),
            ("INSERT INTO t('it\\'s FORMAT x", None),
        ];
        for (sql, expected) in cases {
            let found = insert_data(sql.as_bytes());
            let found = found.as_ref().map(|i| {
                (i.head, i.has_settings, i.format, std::str::from_utf8(i.inline).unwrap())
            });
            assert_eq!(found, expected, "{sql}");
        }
    }

    #[test]
    fn binary_data_behind_an_insert_is_left_alone() {
        let sql = b"INSERT INTO t FORMAT RowBinary\n\xff\n\n\xfe";
        assert_eq!(insert_data(sql).unwrap().inline, b"\xff\n\n\xfe");
    }

    #[test]
    fn a_format_counts_only_at_the_end() {
        let cases = [
            ("SELECT 1 FORMAT JSON", Some("JSON")),
            ("SELECT 1 FORMAT JSON;", Some("JSON")),
            ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", Some("JSON")),
            ("SELECT format FROM t", None),
            ("SELECT ' FORMAT JSON'", None),
            ("SELECT x FROM (SELECT 1 FORMAT JSON)", None),
        ];
        for (sql, expected) in cases {
            assert_eq!(explicit_format(sql), expected, "{sql}");
        }
    }

    #[test]
    fn the_header_of_a_chunk_is_measured() {
        assert_eq!(row_binary_header_len(b"\x01\x01a\x05UInt8\x07", true), Some(9));
        assert_eq!(row_binary_header_len(b"\x01\x01a\x05", false), Some(3));
        assert_eq!(row_binary_header_len(b"\x01\x05a", true), None);
        assert_eq!(row_binary_header_len(b"", true), None);
    }

    proptest! {
        #[test]
        fn no_text_stops_the_reader(sql in "\\PC*", data: Vec<u8>) {
            let _kind = first_word(&sql);
            let _format = explicit_format(&sql);
            let _insert = insert_data(sql.as_bytes());
            let _binary = insert_data(&data);
            let _header = row_binary_header_len(&data, true);
        }
    }
}
