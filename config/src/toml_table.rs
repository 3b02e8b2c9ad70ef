//! TOML tables, read key by key, with the place of each key and value. What is wrong is collected, not returned, so that
//! one look at a file finds all of it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Mistake;
use crate::nearest::nearest;

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// A table, and the keys of it that were asked for.
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// Its header, or all of it if it is an inline table.
    pub(crate) span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub(crate) fn new(entries: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self { entries, span, asked: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.get(key)
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key`, which has to be there.
    pub(crate) fn require(
        &mut self,
        key: &'static str,
        help: &'static str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<&'t Spanned<DeValue<'t>>> {
        let value = self.get(key);
        if value.is_none() {
            mistakes.push(Mistake::new(self.span.clone(), format!("there is no `{key}`")).help(help));
        }
        value
    }

    /// Finds the keys that nobody asked for.
    pub(crate) fn finish(self, mistakes: &mut Vec<Mistake>) {
        for key in self.entries.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let known: Vec<String> = self.asked.iter().map(|key| format!("`{key}`")).collect();
            let meant = match nearest(key.get_ref(), self.asked.iter().copied()) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None => String::new(),
            };
            let message = format!("unknown key `{}`{meant}", key.get_ref());
            mistakes.push(Mistake::new(key.span(), message).help(format!("the keys here are {}", known.join(", "))));
        }
    }
}

/// A string.
pub(crate) fn string(value: &Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Option<Written<String>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Written { value: text.clone().into_owned(), span: value.span() }),
        other => wrong_type(value.span(), "a string in quotation marks", other, mistakes),
    }
}

/// Text for people to read: not empty.
pub(crate) fn prose(value: &Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Option<Written<String>> {
    let text = string(value, mistakes)?;
    let value = text.value.split_whitespace().collect::<Vec<_>>().join(" ");
    if value.is_empty() {
        mistakes.push(Mistake::new(text.span, "the text is empty").help("write a sentence"));
        return None;
    }
    Some(Written { value, span: text.span })
}

/// A number from 0 to `max`.
pub(crate) fn number(value: &Spanned<DeValue<'_>>, max: u32, mistakes: &mut Vec<Mistake>) -> Option<Written<u32>> {
    let DeValue::Integer(digits) = value.get_ref() else {
        return wrong_type(value.span(), "a number, such as 0x0010", value.get_ref(), mistakes);
    };
    match i128::from_str_radix(digits.as_str(), digits.radix()).ok().and_then(|number| u32::try_from(number).ok()) {
        Some(number) if number <= max => Some(Written { value: number, span: value.span() }),
        _ => {
            mistakes.push(Mistake::new(value.span(), format!("the number is not from 0 to {max:#x}")));
            None
        }
    }
}

/// A table.
pub(crate) fn table<'t>(value: &'t Spanned<DeValue<'t>>, mistakes: &mut Vec<Mistake>) -> Option<Table<'t>> {
    match value.get_ref() {
        DeValue::Table(entries) => Some(Table::new(entries, value.span())),
        other => wrong_type(value.span(), "a table", other, mistakes),
    }
}

/// A list of tables, `[[key]]`; no table if the key is not there.
pub(crate) fn tables<'t>(
    key: &'static str,
    value: Option<&'t Spanned<DeValue<'t>>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Table<'t>> {
    let Some(value) = value else { return Vec::new() };
    let DeValue::Array(list) = value.get_ref() else {
        let message = format!("`{key}` is a list of tables, and this is {}", article(value.get_ref()));
        mistakes.push(Mistake::new(value.span(), message).help(format!("write [[{key}]], with two brackets")));
        return Vec::new();
    };
    list.iter().filter_map(|value| table(value, mistakes)).collect()
}

/// One value or a list of them that is not empty.
pub(crate) fn one_or_more<'t, T>(
    value: &'t Spanned<DeValue<'t>>,
    mistakes: &mut Vec<Mistake>,
    read: impl Fn(&'t Spanned<DeValue<'t>>, &mut Vec<Mistake>) -> Option<T>,
) -> Vec<T> {
    match value.get_ref() {
        DeValue::Array(list) => {
            if list.is_empty() {
                let mistake = Mistake::new(value.span(), "the list is empty, so nothing would fit");
                mistakes.push(mistake.help("write the values that fit, or remove the key"));
            }
            list.iter().filter_map(|value| read(value, mistakes)).collect()
        }
        _ => read(value, mistakes).into_iter().collect(),
    }
}

fn wrong_type<T>(span: Range<usize>, wanted: &str, found: &DeValue<'_>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    mistakes.push(Mistake::new(span, format!("this has to be {wanted}, and is {}", article(found))));
    None
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
