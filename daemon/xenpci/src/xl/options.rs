//! Options as xl reads them: getopt's way, and only before the first operand.

/// An option of a command, beside `-h` and `--help`, which each has.
#[derive(Debug)]
pub struct Switch {
    /// The letter after one hyphen.
    pub short: char,
    /// The word after two, which may be abbreviated.
    pub long: Option<&'static str>,
    /// Whether it takes a value.
    pub takes_value: bool,
}

const HELP: Switch = Switch { short: 'h', long: Some("help"), takes_value: false };

/// What stands on a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Letters of the options in their order, and their values.
    pub switches: Vec<(char, Option<String>)>,
    /// The rest.
    pub operands: Vec<String>,
}

impl Given {
    /// Whether the option is among them.
    pub fn has(&self, short: char) -> bool {
        self.switches.iter().any(|(given, _)| *given == short)
    }

    /// The last value of an option.
    pub fn value(&self, short: char) -> Option<&str> {
        self.switches.iter().rfind(|(given, _)| *given == short)?.1.as_deref()
    }
}

/// Why a command line cannot be read on.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Help is asked for.
    Help,
    /// There is no such option, or it lacks its value, or has one and takes none.
    NotSupported(String),
}

/// Reads a command line without the name of the command.
pub fn read(arguments: &[String], switches: &[Switch]) -> Result<Given, Stop> {
    let mut given = Given::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest.next();
        match letters.strip_prefix('-') {
            Some("") => break,
            Some(word) => given.switches.push(long(word, &mut rest, switches)?),
            None => short(letters, &mut rest, switches, &mut given)?,
        }
    }
    given.operands = rest.cloned().collect();
    Ok(given)
}

type Rest<'a> = std::slice::Iter<'a, String>;

/// `--word`, `--word=value` or `--word value`.
fn long(word: &str, rest: &mut Rest<'_>, switches: &[Switch]) -> Result<(char, Option<String>), Stop> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let matches = |switch: &&Switch| switch.long.is_some_and(|long| long.starts_with(name));
    let switch = switches.iter().chain([&HELP]).find(matches).ok_or_else(|| Stop::NotSupported(format!("--{name}")))?;
    match (switch.short, switch.takes_value, value) {
        ('h', ..) => Err(Stop::Help),
        (short, false, None) => Ok((short, None)),
        (short, true, value) => match value.or_else(|| rest.next().cloned()) {
            Some(value) => Ok((short, Some(value))),
            None => Err(Stop::NotSupported(short.to_string())),
        },
        (short, false, Some(_)) => Err(Stop::NotSupported(short.to_string())),
    }
}

/// `-abc`, of which the last may have a value, in the same word or the next.
fn short(letters: &str, rest: &mut Rest<'_>, switches: &[Switch], given: &mut Given) -> Result<(), Stop> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        match switches.iter().find(|switch| switch.short == letter) {
            None if letter == HELP.short => return Err(Stop::Help),
            None => return Err(Stop::NotSupported(letter.to_string())),
            Some(switch) if switch.takes_value => {
                let value = Some(letters.as_str().to_owned()).filter(|value| !value.is_empty());
                let value = value.or_else(|| rest.next().cloned());
                let value = value.ok_or_else(|| Stop::NotSupported(letter.to_string()))?;
                given.switches.push((letter, Some(value)));
                return Ok(());
            }
            Some(_) => given.switches.push((letter, None)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHES: &[Switch] = &[
        Switch { short: 'n', long: Some("name"), takes_value: true },
        Switch { short: 'f', long: None, takes_value: false },
        Switch { short: 's', long: Some("show-names"), takes_value: false },
    ];

    fn read_words(words: &str) -> Result<Given, Stop> {
        let arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        read(&arguments, SWITCHES)
    }

    #[test]
    fn options_are_letters_together_or_words_and_end_at_the_first_operand() {
        let given = |switches: &[(char, Option<&str>)], operands: &[&str]| Given {
            switches: switches.iter().map(|(short, value)| (*short, value.map(str::to_owned))).collect(),
            operands: operands.iter().map(|&operand| operand.to_owned()).collect(),
        };
        for (words, expected) in [
            ("a b", given(&[], &["a", "b"])),
            ("-f a -s", given(&[('f', None)], &["a", "-s"])),
            ("-fs a", given(&[('f', None), ('s', None)], &["a"])),
            ("-n x a", given(&[('n', Some("x"))], &["a"])),
            ("-nx a", given(&[('n', Some("x"))], &["a"])),
            ("-fn -s a", given(&[('f', None), ('n', Some("-s"))], &["a"])),
            ("--name x --name=y a", given(&[('n', Some("x")), ('n', Some("y"))], &["a"])),
            ("--na x --show", given(&[('n', Some("x")), ('s', None)], &[])),
            ("-- -f", given(&[], &["-f"])),
            ("-f -- -- a", given(&[('f', None)], &["--", "a"])),
            ("- -f", given(&[], &["-", "-f"])),
        ] {
            assert_eq!(read_words(words), Ok(expected), "{words}");
        }
        assert_eq!(read_words("-n x -ny").unwrap().value('n'), Some("y"));
    }

    #[test]
    fn first_that_is_wrong_or_asks_for_help_is_what_counts() {
        let wrong = |option: &str| Err(Stop::NotSupported(option.to_owned()));
        for (words, expected) in [
            ("-x", wrong("x")),
            ("-xh", wrong("x")),
            ("-hx", Err(Stop::Help)),
            ("--help=1", Err(Stop::Help)),
            ("--he a", Err(Stop::Help)),
            ("-n", wrong("n")),
            ("--name", wrong("n")),
            ("--show-names=1", wrong("s")),
            ("--foo", wrong("--foo")),
            ("-1 a", wrong("1")),
        ] {
            assert_eq!(read_words(words), expected, "{words}");
        }
    }
}
