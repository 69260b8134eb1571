//! A schedule file as a tree of keys that must all be understood.
//!
//! In: TOML text. Out: values with the path and line they stand at; a refusal of every key nobody
//! asked for. Numbers are taken from the text itself and never pass through a float.
//! Never here: what the keys mean (see `schedule`, `read_items`).

use crate::{Problem, ScheduleError};
use chrono::NaiveDate;
use rust_decimal::Decimal;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The most bytes a schedule file may have.
pub(crate) const MOST_BYTES: usize = 1 << 20;

type Fallible<T> = Result<T, ScheduleError>;

/// A value of the file, where it stands.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) path: String,
    text: &'a str,
    value: &'a Spanned<DeValue<'a>>,
}

/// A table of the file whose keys are taken one by one; what is left over at `finish` is refused.
pub(crate) struct Table<'a> {
    path: String,
    line: usize,
    entries: Vec<(&'a str, Option<Node<'a>>)>,
    asked: Vec<&'static str>,
}

/// The parsed file; `Table::of_file` reads it.
pub(crate) fn parse(text: &str) -> Fallible<Spanned<DeTable<'_>>> {
    let whole = |line, problem| ScheduleError { path: String::new(), line, problem };
    if text.len() > MOST_BYTES {
        let problem = Problem::TooBig { what: "bytes", found: text.len(), most: MOST_BYTES };
        return Err(whole(0, problem));
    }
    DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        whole(line, Problem::Syntax(error.message().to_owned()))
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl<'a> Table<'a> {
    /// The file's outermost table.
    pub(crate) fn of_file(text: &'a str, table: &'a DeTable<'a>) -> Self {
        Self::new(String::new(), 0, text, table)
    }

    fn new(path: String, line: usize, text: &'a str, table: &'a DeTable<'a>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let key: &str = key.get_ref();
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                (key, Some(Node { path, text, value }))
            })
            .collect();
        Self { path, line, entries, asked: Vec::new() }
    }

    /// The value of `key`, if it stands there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.push(key);
        self.entries.iter_mut().find(|(name, _)| *name == key).and_then(|(_, node)| node.take())
    }

    /// Whether `key` stands there and was not taken yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, node)| *name == key && node.is_some())
    }

    /// The value of `key`, which must stand there.
    pub(crate) fn require(&mut self, key: &'static str) -> Fallible<Node<'a>> {
        self.take(key).ok_or_else(|| self.problem(Problem::Missing { key }))
    }

    /// Refuses every key nobody asked for.
    pub(crate) fn finish(mut self) -> Fallible<()> {
        let Some(place) = self.entries.iter().position(|(_, node)| node.is_some()) else {
            return Ok(());
        };
        let (key, node) = self.entries.swap_remove(place);
        self.asked.sort_unstable();
        self.asked.dedup();
        let problem = Problem::UnknownKey { key: key.to_owned(), known: self.asked.join(", ") };
        Err(match node {
            Some(node) => node.problem(problem),
            None => self.problem(problem),
        })
    }

    /// A problem with the table as a whole.
    pub(crate) fn problem(&self, problem: Problem) -> ScheduleError {
        ScheduleError { path: self.path.clone(), line: self.line, problem }
    }

    /// Two things that cannot both hold in this table.
    pub(crate) fn contradiction(&self, text: impl Into<String>) -> ScheduleError {
        self.problem(Problem::Contradiction(text.into()))
    }

    /// Whether some key was not taken yet.
    pub(crate) fn has_any(&self) -> bool {
        self.entries.iter().any(|(_, node)| node.is_some())
    }
}

impl<'a> Node<'a> {
    /// A problem with this value.
    pub(crate) fn problem(&self, problem: Problem) -> ScheduleError {
        let line = line_of(self.text, self.value.span().start);
        ScheduleError { path: self.path.clone(), line, problem }
    }

    /// A value that makes no sense here, in words.
    pub(crate) fn out_of_range(&self, text: impl Into<String>) -> ScheduleError {
        self.problem(Problem::OutOfRange(text.into()))
    }

    fn wrong_kind(&self, expected: &'static str) -> ScheduleError {
        let found = match self.value.get_ref() {
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            other @ (DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)) => format!("a {}", other.type_str()),
        };
        self.problem(Problem::WrongKind { expected, found })
    }

    /// Whether the value is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether the value is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// The table that must stand here.
    pub(crate) fn table(&self) -> Fallible<Table<'a>> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong_kind("a table"))?;
        let line = line_of(self.text, self.value.span().start);
        Ok(Table::new(self.path.clone(), line, self.text, table))
    }

    /// The list that must stand here, with `1..=most` entries.
    pub(crate) fn list(&self, most: usize) -> Fallible<Vec<Node<'a>>> {
        let list = self.value.get_ref().as_array().ok_or_else(|| self.wrong_kind("a list"))?;
        if list.is_empty() {
            return Err(self.out_of_range("an empty list says nothing: leave the key out"));
        }
        if list.len() > most {
            let found = list.len();
            return Err(self.problem(Problem::TooBig { what: "entries", found, most }));
        }
        Ok(list
            .iter()
            .enumerate()
            .map(|(place, value)| Node {
                path: format!("{}[{place}]", self.path),
                text: self.text,
                value,
            })
            .collect())
    }

    /// The word or sentence that must stand here: not empty, at most 500 bytes.
    pub(crate) fn text(&self) -> Fallible<&'a str> {
        let text =
            self.value.get_ref().as_str().ok_or_else(|| self.wrong_kind("text in quotes"))?;
        if text.trim().is_empty() || text.len() > 500 {
            return Err(self.out_of_range("must be between 1 and 500 bytes of text"));
        }
        Ok(text)
    }

    /// A short name that programs use: lower case letters, digits, `_ - .`, at most 64.
    pub(crate) fn name(&self) -> Fallible<&'a str> {
        let name = self.text()?;
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        if name.len() > 64 || !name.chars().all(allowed) {
            return Err(self
                .out_of_range(format!("{name:?} is not a name: use at most 64 of a-z 0-9 _ - .")));
        }
        Ok(name)
    }

    /// The yes or no that must stand here.
    pub(crate) fn yes(&self) -> Fallible<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_kind("true or false"))
    }

    /// The exact decimal that must stand here, as text in quotes or as a number.
    pub(crate) fn decimal(&self) -> Fallible<Decimal> {
        let digits = match self.value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return Err(self.wrong_kind("a decimal number")),
        };
        exact(digits).ok_or_else(|| self.problem(Problem::NotExact(digits.to_owned())))
    }

    /// A decimal that is not negative.
    pub(crate) fn not_negative(&self) -> Fallible<Decimal> {
        let number = self.decimal()?;
        if number.is_sign_negative() && !number.is_zero() {
            return Err(self.out_of_range(format!("{number} must not be negative")));
        }
        Ok(number)
    }

    /// A whole number in `least..=most`.
    pub(crate) fn whole(&self, least: u32, most: u32) -> Fallible<u32> {
        let number = self.decimal()?;
        let whole = (number.scale() == 0).then(|| u32::try_from(number).ok()).flatten();
        whole.filter(|whole| (least..=most).contains(whole)).ok_or_else(|| {
            self.out_of_range(format!("{number} must be a whole number from {least} to {most}"))
        })
    }

    /// The day that must stand here, in quotes or as a TOML date.
    pub(crate) fn day(&self) -> Fallible<NaiveDate> {
        let text = match self.value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(stamp) => stamp.to_string(),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return Err(self.wrong_kind("a day like \"2026-03-01\"")),
        };
        text.parse().map_err(|_| self.problem(Problem::NotADate(text)))
    }

    /// One of the words of `choices`.
    pub(crate) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Fallible<T> {
        let word = self.text()?;
        choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let choices: Vec<String> =
                choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            let choices = choices.join(", ");
            self.problem(Problem::NotOneOf { found: word.to_owned(), choices })
        })
    }

    /// The value in a form that does not depend on layout, comments, the order of keys or the
    /// spelling of a number; the hash of a version is taken over it.
    pub(crate) fn canonical(&self, into: &mut String) {
        canonical(self.value.get_ref(), into);
    }
}

/// The decimal that `digits` spells, if it is a plain one of sensible length.
pub(crate) fn exact(digits: &str) -> Option<Decimal> {
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(part) || whole.len() > 12 || part.len() > 9 {
        return None;
    }
    Decimal::from_str_exact(digits).ok()
}

fn canonical(value: &DeValue<'_>, into: &mut String) {
    let scalar = |text: &str, into: &mut String| {
        let text =
            exact(text).map_or_else(|| text.to_owned(), |number| number.normalize().to_string());
        into.push_str(&serde_json::Value::String(text).to_string());
    };
    match value {
        DeValue::String(text) => scalar(text, into),
        DeValue::Integer(number) => scalar(number.as_str(), into),
        DeValue::Float(number) => scalar(number.as_str(), into),
        DeValue::Boolean(yes) => into.push_str(if *yes { "true" } else { "false" }),
        DeValue::Datetime(stamp) => scalar(&stamp.to_string(), into),
        DeValue::Array(list) => {
            into.push('[');
            for entry in list.iter() {
                canonical(entry.get_ref(), into);
                into.push(',');
            }
            into.push(']');
        }
        DeValue::Table(table) => {
            // The map is ordered by key already.
            into.push('{');
            for (key, entry) in table.iter() {
                scalar(key.get_ref(), into);
                into.push(':');
                canonical(entry.get_ref(), into);
                into.push(',');
            }
            into.push('}');
        }
    }
}
