//! A line of billing determinants, read key by key.
//!
//! In: one JSON object. Out: a rating input, or the key that is wrong.
//! Never here: rating, answers; numbers are taken from the text itself, never through a float.

use super::{LineError, MOST_LINE_BYTES};
use crate::{Determinants, RatingInput, Schedule, WindowUse, file};
use chrono::NaiveDate;
use model::{DeterminantKind, Period, Quantity};
use rust_decimal::Decimal;
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use std::fmt;

/// The keys of an object in their order, each once.
struct Keys<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Keys<'de>, A::Error> {
                let mut keys: Vec<(String, &RawValue)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if keys.iter().any(|(earlier, _)| *earlier == key) {
                        return Err(de::Error::custom(format!(
                            "the key {key:?} stands here twice"
                        )));
                    }
                    keys.push((key, value));
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl<'a> Keys<'a> {
    fn of(text: &'a str, path: &str) -> Result<Self, LineError> {
        serde_json::from_str(text).map_err(|error| LineError::new("json", path, error.to_string()))
    }

    fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let place = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(place).1)
    }
}

/// What a line asks, its values still as written.
pub(super) struct Question<'a> {
    /// Given back with the answer.
    pub(super) id: Option<&'a RawValue>,
    /// Whose windows to carry forward.
    pub(super) account: Option<String>,
    service: Period,
    window_start: Option<NaiveDate>,
    classes: Vec<String>,
    window_used: Option<&'a RawValue>,
    determinants: Vec<(DeterminantKind, Decimal)>,
}

/// Reads a line; what it says of windows is resolved by [`Question::input`].
pub(super) fn read(line: &str) -> Result<Question<'_>, LineError> {
    if line.len() > MOST_LINE_BYTES {
        let message = format!("{} bytes in one line, at most {MOST_LINE_BYTES}", line.len());
        return Err(LineError::new("too_big", "", message));
    }
    let mut keys = Keys::of(line, "")?;
    let id = keys.take("id");
    let account = keys.take("account").map(|value| text(value, "account")).transpose()?;
    let service = keys.take("service").ok_or_else(|| {
        LineError::new("missing", "service", "\"service\" is missing: the days of service")
    })?;
    let service = period(service)?;
    let window_start =
        keys.take("window_start").map(|value| day(value, "window_start")).transpose()?;
    let classes = keys.take("class").map(classes).transpose()?.unwrap_or_default();
    let window_used = keys.take("window_used");
    let mut determinants = Vec::new();
    for kind in DeterminantKind::ALL {
        if let Some(value) = keys.take(kind.name()) {
            determinants.push((*kind, decimal(value, kind.name())?));
        }
    }
    if let Some((key, _)) = keys.0.first() {
        let known: Vec<&str> = DeterminantKind::ALL.iter().map(|kind| kind.name()).collect();
        let message = format!(
            "{key:?} means nothing here; what can stand here: id, account, service, window_start, \
             window_used, class, {}",
            known.join(", ")
        );
        return Err(LineError::new("unknown_key", key.clone(), message));
    }
    Ok(Question { id, account, service, window_start, classes, window_used, determinants })
}

impl Question<'_> {
    /// The same as a rating input, in the units of the version in force at the end of service.
    pub(super) fn input(&self, schedule: &Schedule) -> Result<RatingInput, LineError> {
        let last_day = self.service.until().pred_opt().unwrap_or(self.service.from());
        let version = schedule.version_on(self.service.from())?;
        let ending = schedule.version_on(last_day)?;
        let determinants: Determinants = self
            .determinants
            .iter()
            .map(|(kind, value)| (*kind, Quantity::new(*value, version.unit_of(*kind))))
            .collect();
        let window_used = match self.window_used {
            None => Vec::new(),
            Some(given) => {
                let windows = match version.windows(self.service, self.window_start) {
                    Ok(windows) => windows,
                    Err(_) => ending.windows(self.service, self.window_start)?,
                };
                used(given, windows)?
            }
        };
        Ok(RatingInput {
            service: self.service,
            determinants,
            window_used,
            window_start: self.window_start,
            classes: self.classes.clone(),
        })
    }
}

/// `window_used`: one number for every tiered item, or a number per item; each is the use of the
/// first window the service touches.
fn used(given: &RawValue, windows: Vec<WindowUse>) -> Result<Vec<WindowUse>, LineError> {
    let mut first: Vec<WindowUse> = Vec::new();
    for window in windows {
        if !first.iter().any(|earlier| earlier.item == window.item) {
            first.push(window);
        }
    }
    if first.is_empty() {
        return Err(LineError::new(
            "no_window",
            "window_used",
            "no item of this schedule carries use from bill to bill",
        ));
    }
    if !given.get().trim_start().starts_with('{') {
        let value = decimal(given, "window_used")?;
        for row in &mut first {
            row.quantity.value = value;
        }
        return Ok(first);
    }
    let mut keys = Keys::of(given.get(), "window_used")?;
    let mut rows = Vec::new();
    for mut row in first.iter().cloned() {
        if let Some(value) = keys.take(&row.item) {
            row.quantity.value = decimal(value, &format!("window_used.{}", row.item))?;
            rows.push(row);
        }
    }
    if let Some((key, _)) = keys.0.first() {
        let known: Vec<&str> = first.iter().map(|row| &*row.item).collect();
        let message = format!(
            "{key:?} is no item with blocks that carry use; those are: {}",
            known.join(", ")
        );
        return Err(LineError::new("unknown_key", format!("window_used.{key}"), message));
    }
    Ok(rows)
}

fn text(value: &RawValue, path: &str) -> Result<String, LineError> {
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| LineError::new("wrong_kind", path, "must be text in quotes"))?;
    if text.is_empty() || text.len() > 128 {
        return Err(LineError::new("out_of_range", path, "must be 1 to 128 bytes of text"));
    }
    Ok(text)
}

fn classes(value: &RawValue) -> Result<Vec<String>, LineError> {
    if !value.get().starts_with('[') {
        return Ok(vec![text(value, "class")?]);
    }
    let list: Vec<&RawValue> = serde_json::from_str(value.get())
        .map_err(|error| LineError::new("wrong_kind", "class", error.to_string()))?;
    if list.len() > 16 {
        return Err(LineError::new("too_big", "class", "at most 16 classes"));
    }
    list.into_iter().map(|value| text(value, "class")).collect()
}

fn decimal(value: &RawValue, path: &str) -> Result<Decimal, LineError> {
    let raw = value.get();
    let digits = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    file::exact(digits).ok_or_else(|| {
        let message = format!(
            "{raw} is not a plain decimal number: digits, at most one point, at most 12 digits \
             before and 9 after it, no exponent"
        );
        LineError::new("not_exact", path, message)
    })
}

fn day(value: &RawValue, path: &str) -> Result<NaiveDate, LineError> {
    let text = text(value, path)?;
    text.parse().map_err(|_| {
        LineError::new("not_a_date", path, format!("{text:?} is not a day, write \"2026-03-01\""))
    })
}

fn period(value: &RawValue) -> Result<Period, LineError> {
    let mut keys = Keys::of(value.get(), "service")?;
    let mut end = |key: &str| {
        let path = format!("service.{key}");
        let missing = || LineError::new("missing", path.clone(), format!("{key:?} is missing"));
        day(keys.take(key).ok_or_else(missing)?, &path)
    };
    let (from, until) = (end("from")?, end("until")?);
    if let Some((key, _)) = keys.0.first() {
        let message = format!("{key:?} means nothing here; what can stand here: from, until");
        return Err(LineError::new("unknown_key", format!("service.{key}"), message));
    }
    Period::new(from, until)
        .map_err(|error| LineError::new("empty_period", "service", error.to_string()))
}
