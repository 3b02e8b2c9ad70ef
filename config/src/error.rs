//! Mistakes in a file, shown where they are.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why there is no configuration. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a configuration.
    #[error("{}", Listed(problems))]
    Invalid {
        /// Its mistakes in the order of the file; at least one.
        problems: Vec<Problem>,
    },
}

/// A mistake in a file. Its text form shows the line with a caret below the mistake:
/// ```text
/// xenpcid.toml:3:12: "00:1f" is not a PCI address: ...
///   |
/// 3 | devices = ["00:1f"]
///   |            ^^^^^^^
///   = help: `lspci -D` lists the addresses of this host
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the file is called.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<Cow<'static, str>>,
    /// The text of the line.
    excerpt: String,
    /// How many characters of it are wrong.
    length: usize,
}

/// A mistake at a place in the text, in bytes.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<Cow<'static, str>>,
}

impl Mistake {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<Cow<'static, str>>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Self {
        Self { span: error.span().unwrap_or_default(), message: error.message().to_owned(), help: None }
    }
}

/// Line of the start of `span`, from 1.
pub(crate) fn line_of(text: &str, span: &Range<usize>) -> usize {
    before(text, span).matches('\n').count() + 1
}

fn before<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    text.get(..span.start).unwrap_or(text)
}

/// Turns places in the text into lines and columns, in their order.
pub(crate) fn locate(mut mistakes: Vec<Mistake>, text: &str, file: &str) -> Vec<Problem> {
    mistakes.sort_by_key(|mistake| mistake.span.start);
    let problem = |Mistake { span, message, help }| {
        let before = before(text, &span);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = line_of(text, &span);
        let excerpt = text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let wrong = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
        let length = wrong.chars().count().max(1);
        Problem { file: file.to_owned(), line, column, message, help, excerpt, length }
    };
    mistakes.into_iter().map(problem).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help, excerpt, length } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stays below its character.
        let indent: String = excerpt.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {excerpt}")?;
        write!(f, "{margin} | {indent}{}", "^".repeat(*length))?;
        match help {
            Some(help) => write!(f, "\n{margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

struct Listed<'p>(&'p [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
