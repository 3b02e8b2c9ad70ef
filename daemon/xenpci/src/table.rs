//! Tables with columns as wide as what is in them.

use anstyle::Style;

use crate::screen::{self, HEADING, paint};

/// What is in one place of a table.
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// Text of others is printed without what would move the cursor.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: screen::harmless(text.as_ref()), style: None }
    }

    /// `-` where there is nothing.
    pub fn optional(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::new("-"), Self::new)
    }

    pub fn styled(self, style: Style) -> Self {
        Self { style: Some(style), ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// The heading, and a line for each row. Columns whose names begin with `#`, which is not printed, have numbers: they end at
/// the right.
pub fn table<const N: usize>(columns: [&str; N], rows: &[[Cell; N]]) -> String {
    let columns = columns.map(|name| name.strip_prefix('#').map_or((name, false), |name| (name, true)));
    let mut widths = columns.map(|(name, _)| name.len());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let lines = |texts: [(&str, Option<Style>); N]| {
        let places = texts.into_iter().zip(columns).zip(widths).enumerate();
        let cells = places.map(|(n, (((text, style), (_, is_number)), width))| {
            let text = match is_number {
                true => format!("{text:>width$}"),
                // The blanks after the last one are no part of the line.
                false if n + 1 == N => text.to_owned(),
                false => format!("{text:<width$}"),
            };
            style.map_or_else(|| text.clone(), |style| paint(style, &text))
        });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    let heading = lines(columns.map(|(name, _)| (name, Some(HEADING))));
    rows.iter().fold(heading, |out, row| out + &lines(row.each_ref().map(|cell| (cell.text.as_str(), cell.style))))
}
