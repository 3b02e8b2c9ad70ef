//! The reviewed list of differences.
//!
//! ```toml
//! [[difference]]
//! where = "pm.pmcsr"      # a register, or "pm.*": everything in a capability
//! operation = "read"      # dump, read or write; without it any
//! function = "00:00.0"    # without it any
//! a = "value"             # what the first answers: value, success, nothing, or an error's name; without it anything
//! b = "access_denied"     # what the second answers
//! reason = "xenpcid emulates the power state"
//! ```

use serde::{Deserialize, Serialize};

use super::{Difference, Operation};

/// The list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(default)]
    difference: Vec<Entry>,
}

/// A difference that was reviewed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(rename = "where")]
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
    /// Why it is right.
    pub reason: String,
}

impl Expected {
    /// Reads the text of a list.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match list.difference.iter().find(|entry| entry.reason.trim().is_empty()) {
            Some(entry) => Err(format!("the entry for \"{}\" has no reason", entry.place)),
            None => Ok(list),
        }
    }

    /// The entries that list a difference, by their position.
    pub fn matching(&self, difference: &Difference) -> impl Iterator<Item = (usize, &Entry)> {
        self.difference.iter().enumerate().filter(|(_, entry)| entry.lists(difference))
    }

    /// The entries at none of these positions.
    #[must_use]
    pub fn unused(&self, used: &[usize]) -> Vec<&Entry> {
        let entries = self.difference.iter().enumerate();
        entries.filter(|(position, _)| !used.contains(position)).map(|(_, entry)| entry).collect()
    }
}

impl Entry {
    fn lists(&self, difference: &Difference) -> bool {
        let place = match self.place.strip_suffix('*') {
            // "pm.*" also means "pm+0x8", which has no name.
            Some(prefix) => {
                let rest = difference.place.strip_prefix(prefix.strip_suffix('.').unwrap_or(prefix));
                rest.is_some_and(|rest| rest.starts_with(['.', '+']))
            }
            None => self.place == difference.place,
        };
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        place
            && self.operation.is_none_or(|operation| operation == difference.operation)
            && is(&self.function, &difference.function)
            && is(&self.a, &difference.a)
            && is(&self.b, &difference.b)
    }

    /// What the entry is for, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let operation = self.operation.map(|operation| format!(" {operation}")).unwrap_or_default();
        let function = self.function.as_ref().map(|function| format!(" of {function}")).unwrap_or_default();
        format!("{}{operation}{function}: {}", self.place, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(place: &str) -> Difference {
        Difference {
            function: "00:00.0".to_owned(),
            place: place.to_owned(),
            operation: Operation::Read,
            a: "value".to_owned(),
            b: "access_denied".to_owned(),
        }
    }

    fn lists(entry: &str, place: &str) -> bool {
        let expected = Expected::parse(&format!("[[difference]]\nreason = \"because\"\n{entry}")).unwrap();
        expected.matching(&difference(place)).count() == 1
    }

    #[test]
    fn entry_lists_what_all_its_keys_say() {
        assert!(lists("where = \"pm.pmcsr\"", "pm.pmcsr"));
        assert!(!lists("where = \"pm.pmcsr\"", "pm.pmc"));
        for (key, right, wrong) in [
            ("operation", "read", "write"),
            ("function", "00:00.0", "00:01.0"),
            ("a", "value", "success"),
            ("b", "access_denied", "value"),
        ] {
            let entry = |value| format!("where = \"pm.pmcsr\"\n{key} = \"{value}\"");
            assert!(lists(&entry(right), "pm.pmcsr"), "{key}");
            assert!(!lists(&entry(wrong), "pm.pmcsr"), "{key}");
        }
    }

    #[test]
    fn capability_with_a_star_lists_everything_in_it_and_nothing_else() {
        assert!(lists("where = \"vc.*\"", "vc+0x8"));
        assert!(lists("where = \"msi.*\"", "msi.control"));
        assert!(!lists("where = \"msi.*\"", "msix.control"));
    }

    #[test]
    fn entry_without_reason_or_with_a_wrong_key_is_refused() {
        let parse = |text: &str| Expected::parse(&format!("[[difference]]\n{text}")).unwrap_err();
        assert!(parse("where = \"x\"").contains("reason"));
        assert!(parse("where = \"x\"\nreason = \" \"").contains("no reason"));
        assert!(parse("where = \"x\"\nreason = \"y\"\nregister = \"z\"").contains("register"));
        assert!(parse("where = \"x\"\nreason = \"y\"\noperation = \"exec\"").contains("exec"));
    }

    #[test]
    fn entries_that_list_nothing_are_unused() {
        let expected = Expected::parse(
            "[[difference]]\nwhere = \"a\"\nreason = \"x\"\n[[difference]]\nwhere = \"b\"\nreason = \"y\"\n",
        )
        .unwrap();
        let used: Vec<usize> = expected.matching(&difference("a")).map(|(position, _)| position).collect();
        let unused: Vec<String> = expected.unused(&used).into_iter().map(Entry::describe).collect();
        assert_eq!(unused, ["b: y"]);
    }
}
