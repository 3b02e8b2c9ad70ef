//! Programs of this machine.

use std::process::Command;

use crate::error::{Error, Result};

/// Lines of a failed program's output that are worth showing.
const TAIL: usize = 40;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// [`Error::Program`] with the last lines of both outputs if it does not succeed, [`Error::Io`] if it cannot be started.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().map_err(Error::io("run", command.get_program()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let both = [output.stdout, output.stderr].concat();
    Err(Error::Program {
        command: line(command),
        status: output.status,
        output: tail(&String::from_utf8_lossy(&both), TAIL),
    })
}

/// The last `count` lines of a text.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_both_outputs() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 4"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 4") && text.contains("out\nerr"), "{text}");
    }

    #[test]
    fn tail_of_a_short_text_is_the_text() {
        assert_eq!(tail("a\nb\n", 5), "a\nb");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
