//! Configuration space in the text form of `lspci -xxxx`.
//!
//! ```text
//! 00:00.0 0200: 8086:10d3
//! 00: 86 80 d3 10 03 01 10 00 00 00 00 02 00 00 00 00
//! ...
//! ff0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
//! ```
//! Functions are separated by an empty line. Lines that start with `#` or a blank are passed over.

use std::fmt;

use pcifront_shim::abi::ErrorCode;
use xenpcid_address::Sbdf;

/// One function's configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    /// The function.
    pub address: Sbdf,
    /// Its bytes, 64 to 4096.
    pub config: Vec<u8>,
    /// Dwords that the backend refused to read; their bytes are all ones. Written as comments only.
    pub refused: Vec<(u16, ErrorCode)>,
}

/// Bytes in a row of the text.
const ROW: usize = 16;

impl ConfigText {
    /// The little-endian 16-bit register at `offset`, all ones beyond the end.
    fn word(&self, offset: usize) -> u16 {
        let bytes = self.config.get(offset..).and_then(|rest| rest.first_chunk());
        u16::from_le_bytes(bytes.copied().unwrap_or([0xff; 2]))
    }

    /// Reads the functions of a text.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut functions: Vec<Self> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with(['#', ' ', '\t']) {
                continue;
            }
            let wrong = |problem: &str| format!("line {number}, \"{line}\": {problem}");
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match first.strip_suffix(':').filter(|offset| !offset.contains(['.', ':'])) {
                Some(offset) => {
                    let function = functions.last_mut().ok_or_else(|| wrong("there is no function's line before"))?;
                    if usize::from_str_radix(offset, 16).ok() != Some(function.config.len()) {
                        return Err(wrong(&format!("the offset should be {:x}", function.config.len())));
                    }
                    let before = function.config.len();
                    for byte in rest.split_whitespace() {
                        let byte =
                            u8::from_str_radix(byte, 16).map_err(|_| wrong("a byte is two hexadecimal digits"))?;
                        function.config.push(byte);
                    }
                    if function.config.len() != before + ROW {
                        return Err(wrong("a row has 16 bytes"));
                    }
                }
                None => {
                    let address = first.parse().map_err(|error| wrong(&format!("{error}")))?;
                    functions.push(Self { address, config: Vec::new(), refused: Vec::new() });
                }
            }
        }
        let whole = |function: &&Self| ![64, 256, 4096].contains(&function.config.len());
        match functions.iter().find(whole) {
            Some(Self { address, config, .. }) => {
                Err(format!("function {address} has {} bytes; it should have 64, 256 or 4096", config.len()))
            }
            None if functions.is_empty() => Err("there is no function in it".to_owned()),
            None => Ok(functions),
        }
    }
}

impl fmt::Display for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, config, refused } = self;
        let (class, vendor, device) = (self.word(0x0a), self.word(0), self.word(2));
        write!(f, "{} {class:04x}: {vendor:04x}:{device:04x}", short(*address))?;
        match config.get(8) {
            None | Some(0) => writeln!(f)?,
            Some(revision) => writeln!(f, " (rev {revision:02x})")?,
        }
        for (offset, error) in refused {
            writeln!(f, "# {offset:#x}: {error}")?;
        }
        for (row, bytes) in config.chunks(ROW).enumerate() {
            write!(f, "{:02x}:", row * ROW)?;
            bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// An address as lspci writes it: without segment 0.
pub fn short(address: Sbdf) -> String {
    let text = address.to_string();
    match text.strip_prefix("0000:") {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROWS_OF_ZEROES: &str = "10: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
30: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
";

    #[test]
    fn text_of_lspci_is_read_and_written_back() {
        let text = format!(
            "00:02.1 0200: 8086:10d3 (rev 03)\n00: 86 80 d3 10 03 01 10 00 03 00 00 02 00 00 00 00\n{ROWS_OF_ZEROES}"
        );
        let functions = ConfigText::parse(&format!("# a comment\n{text}\n")).unwrap();
        assert_eq!(functions.len(), 1);
        assert_eq!(functions[0].address, Sbdf::new(0, 0, 2, 1).unwrap());
        assert_eq!(functions[0].to_string(), text);
    }

    #[test]
    fn offsets_above_255_have_three_digits_and_refused_dwords_are_comments() {
        let function = ConfigText {
            address: Sbdf::new(1, 0, 0, 0).unwrap(),
            config: vec![0xff; 4096],
            refused: vec![(0x40, ErrorCode::ACCESS_DENIED)],
        };
        let text = function.to_string();
        assert!(
            text.starts_with("0001:00:00.0 ffff: ffff:ffff (rev ff)\n# 0x40: access_denied (-3)\n00: ff"),
            "{text}"
        );
        assert!(text.contains("\nf0: ") && text.contains("\n100: ") && text.contains("\nff0: "), "{text}");
    }

    #[test]
    fn what_is_not_a_dump_is_refused_with_its_line() {
        let first = "00: 86 80 d3 10 03 01 10 00 03 00 00 02 00 00 00 00\n";
        for (text, problem) in [
            (String::new(), "there is no function"),
            (first.to_owned(), "line 1, "),
            (format!("00:00.0 x\n{first}{first}"), "line 3, "),
            (format!("00:00.0 x\n{first}10: 00\n"), "a row has 16 bytes"),
            (format!("00:00.0 x\n{first}10: 0g\n"), "two hexadecimal digits"),
            (format!("00:00.0 x\n{first}"), "has 16 bytes"),
            ("00:00.9 x\n".to_owned(), "the function is not 0 to 7"),
        ] {
            let error = ConfigText::parse(&text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_space_comes_back_from_its_text(segment: u16, devfn: u8, byte: u8, size in prop::sample::select(vec![64, 256, 4096])) {
            let config = (0..size).map(|offset: usize| byte.wrapping_mul(offset.to_le_bytes()[0])).collect();
            let function = ConfigText { address: Sbdf::from_devfn(segment, 0, devfn), config, refused: Vec::new() };
            prop_assert_eq!(ConfigText::parse(&format!("{function}\n{function}")), Ok(vec![function.clone(), function]));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _either = ConfigText::parse(&text);
        }
    }
}
