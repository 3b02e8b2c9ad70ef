//! xl.cfg(5), as much of it as it takes to find settings in it and to leave some out.
//!
//! ```text
//! KEY = VALUE        ended by the line or by a semicolon; += appends to a list
//! VALUE              "text", 'text', a number (decimal, 0x, or octal after 0), [ VALUE, ... ] over several lines
//! # comment
//! ```

use std::ops::Range;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// In quotes of either kind.
    Text(String),
    /// A number.
    Number(u64),
    /// In brackets.
    List(Vec<Value>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    appends: bool,
    value: Value,
    /// Where it stands.
    place: Range<usize>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XlCfg {
    text: String,
    settings: Vec<Setting>,
}

/// What xl would not understand, either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct XlCfgError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// A value that is not of the kind that its key has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is not {wanted}")]
pub struct WrongKind {
    key: String,
    wanted: &'static str,
}

impl XlCfg {
    /// Reads a file.
    ///
    /// # Errors
    /// [`XlCfgError`].
    pub fn parse(text: &str) -> Result<Self, XlCfgError> {
        let mut reader = Reader { text, at: 0 };
        let mut settings = Vec::new();
        loop {
            reader.skip(|c| matches!(c, ' ' | '\t' | '\n' | ';'));
            match reader.peek() {
                None => return Ok(Self { text: text.to_owned(), settings }),
                Some('#') => reader.skip(|c| c != '\n'),
                Some(_) => settings.push(reader.setting()?),
            }
        }
    }

    /// What a key is set to: the last time, and what was appended to it since.
    fn value(&self, key: &str) -> Option<Value> {
        let mut current = None;
        for setting in self.settings.iter().filter(|setting| setting.key == key) {
            current = match (current, setting.appends, &setting.value) {
                (Some(Value::List(mut list)), true, Value::List(more)) => {
                    list.extend(more.iter().cloned());
                    Some(Value::List(list))
                }
                (_, _, value) => Some(value.clone()),
            };
        }
        current
    }

    /// Text; a number is text, too.
    ///
    /// # Errors
    /// [`WrongKind`] for a list.
    pub fn text(&self, key: &str) -> Result<Option<String>, WrongKind> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::List(_)) => Err(wrong(key, "text")),
        }
    }

    /// Whether a number is set, and not 0. Text of a number is one.
    ///
    /// # Errors
    /// [`WrongKind`] for anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, WrongKind> {
        let number = match self.value(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => Some(number),
            Some(Value::Text(text)) => number(&text),
            Some(Value::List(_)) => None,
        };
        Ok(Some(number.ok_or_else(|| wrong(key, "a number"))? != 0))
    }

    /// A list of texts; none if there is no such key.
    ///
    /// # Errors
    /// [`WrongKind`] for anything else.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, WrongKind> {
        let Some(value) = self.value(key) else {
            return Ok(Vec::new());
        };
        let Value::List(list) = value else {
            return Err(wrong(key, "a list"));
        };
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            Value::Number(_) | Value::List(_) => Err(wrong(key, "a list of texts")),
        };
        list.into_iter().map(text).collect()
    }

    /// The file without what it says of `keys`.
    pub fn without(&self, keys: &[&str]) -> String {
        let mut text = String::new();
        let mut from = 0;
        for setting in self.settings.iter().filter(|setting| keys.contains(&setting.key.as_str())) {
            text.push_str(self.text.get(from..setting.place.start).unwrap_or_default());
            from = setting.place.end;
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        text
    }
}

fn wrong(key: &str, wanted: &'static str) -> WrongKind {
    WrongKind { key: key.to_owned(), wanted }
}

/// A number as xl.cfg has them.
fn number(text: &str) -> Option<u64> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Byte that is read next.
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Whether that is next; if so, it is taken.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.rest().starts_with(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    fn skip(&mut self, of: impl Fn(char) -> bool) {
        self.word(of);
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let word = rest.find(|c| !of(c)).and_then(|end| rest.get(..end)).unwrap_or(rest);
        self.at += word.len();
        word
    }

    fn blanks(&mut self) {
        self.skip(|c| matches!(c, ' ' | '\t'));
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T, XlCfgError> {
        let before = self.text.get(..self.at).unwrap_or_default();
        Err(XlCfgError { line: before.matches('\n').count() + 1, reason: reason.into() })
    }

    fn setting(&mut self) -> Result<Setting, XlCfgError> {
        let start = self.at;
        let key = match self.peek() {
            Some('a'..='z') => self.word(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')).to_owned(),
            _ => return self.error("a setting begins with its name, in small letters"),
        };
        self.blanks();
        let appends = self.take("+=");
        if !appends && !self.take("=") {
            return self.error(format!("there is no = after {key}"));
        }
        self.blanks();
        let value = self.value()?;
        let end = self.at;
        self.blanks();
        match self.peek() {
            None | Some('\n' | ';' | '#') => Ok(Setting { key, appends, value, place: start..end }),
            Some(_) => {
                self.error(format!("something follows the value of {key}; a setting is ended by its line or by ;"))
            }
        }
    }

    fn value(&mut self) -> Result<Value, XlCfgError> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => Ok(Value::Text(self.quoted(quote)?)),
            Some('[') => self.list(),
            Some('0'..='9') => {
                let digits = self.word(|c| c.is_ascii_alphanumeric());
                match number(digits) {
                    Some(number) => Ok(Value::Number(number)),
                    None => self.error(format!("{digits} is not a number")),
                }
            }
            _ => self.error("a value is text in quotes, a number, or a list in brackets"),
        }
    }

    fn list(&mut self) -> Result<Value, XlCfgError> {
        self.take("[");
        let mut list = Vec::new();
        loop {
            self.between();
            if self.take("]") {
                return Ok(Value::List(list));
            }
            list.push(self.value()?);
            self.between();
            if !self.take(",") && self.peek() != Some(']') {
                return self.error("the values of a list have commas between them, and ] after the last");
            }
        }
    }

    /// What may stand between the values of a list.
    fn between(&mut self) {
        self.skip(|c| matches!(c, ' ' | '\t' | '\n'));
        while self.peek() == Some('#') {
            self.skip(|c| c != '\n');
            self.skip(|c| matches!(c, ' ' | '\t' | '\n'));
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, XlCfgError> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                    // xl understands some more, not all of them as it should.
                    _ => return self.error(r#"after \ in quotes stands one of n, t, r, \, " and '"#),
                },
                c if c == quote => {
                    self.at += at + c.len_utf8();
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        self.error("the quotes are not closed in their line")
    }
}

#[cfg(test)]
mod tests;
