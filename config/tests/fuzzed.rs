//! What holds for any input, with inputs made by proptest; `tests/fuzz` runs the same under libFuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of a test are a test")]

#[path = "../../tests/fuzz/properties/mod.rs"]
mod properties;

use std::fs;

use properties::text_is_a_policy_or_is_refused_inside_of_it;
use proptest::prelude::*;
use proptest::sample::Index;

/// The shipped policies, each called `policy`.
fn shipped() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    let renamed = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        text.replacen(&format!("name = \"{name}\""), "name = \"policy\"", 1)
    };
    files.into_iter().map(renamed).collect()
}

/// What takes the place of a word of a policy.
const WORDS: &[&str] = &[
    "\"pass\"",
    "\"emulate\"",
    "\"discard\"",
    "\"deny\"",
    "0x0000",
    "0x0001",
    "0x0403",
    "0xffff",
    "0xffffffff",
    "-1",
    "1e9",
    "4",
    "\"command\"",
    "\"pm.pmcsr\"",
    "\"msi.control\"",
    "\"msix.control\"",
    "\"pcie.devctl\"",
    "\"bar0\"",
    "\"vendor\"",
    "\"sriov\"",
    "\"0x0010\"",
    "\"default\"",
    "\"policy\"",
    "[[rule]]",
    "[[hide]]",
    "[[show]]",
    "[match]",
    "[otherwise]",
    "mask",
    "write",
    "read",
    "reset_value",
    "offset",
    "width",
    "capability",
    "register",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "#",
    "=",
    "é",
    "\u{0}",
    "\"\"\"",
];

#[derive(Clone, Debug)]
enum Mutation {
    Remove(Index),
    Repeat(Index, Index),
    Replace(Index, &'static str),
    Insert(Index, char),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let word = prop::sample::select(WORDS);
    prop_oneof![
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Mutation::Repeat(from, to)),
        6 => (any::<Index>(), word).prop_map(|(at, word)| Mutation::Replace(at, word)),
        1 => any::<(Index, char)>().prop_map(|(at, c)| Mutation::Insert(at, c)),
    ]
}

fn mutated(mut text: String, mutation: &Mutation) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match mutation {
        _ if lines.is_empty() => {}
        Mutation::Remove(at) => drop(lines.remove(at.index(lines.len()))),
        Mutation::Repeat(from, to) => {
            let line = lines[from.index(lines.len())].clone();
            lines.insert(to.index(lines.len()), line);
        }
        Mutation::Replace(at, word) => {
            let places: Vec<(usize, usize)> = (lines.iter().enumerate())
                .flat_map(|(n, line)| (0..line.split(' ').count()).map(move |word| (n, word)))
                .collect();
            let (line, place) = places[at.index(places.len())];
            let mut words: Vec<&str> = lines[line].split(' ').collect();
            words[place] = word;
            lines[line] = words.join(" ");
        }
        Mutation::Insert(at, c) => {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            if !places.is_empty() {
                text.insert(places[at.index(places.len())], *c);
            }
            return text;
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn shipped_policies_under_another_name_are_policies() {
    for text in shipped() {
        assert!(text_is_a_policy_or_is_refused_inside_of_it(&text), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_a_policy_or_is_refused_inside_of_it(
        head in any::<bool>(),
        words in prop::collection::vec(prop_oneof![
            6 => prop::sample::select(WORDS).prop_map(str::to_owned),
            2 => Just("\n".to_owned()),
            1 => ".{0,6}".prop_map(|noise: String| noise),
        ], 0..40),
    ) {
        let head = if head { "name = \"policy\"\ndescription = \"A test.\"\n" } else { "" };
        text_is_a_policy_or_is_refused_inside_of_it(&format!("{head}{}", words.join(" ")));
    }

    #[test]
    fn any_change_to_a_shipped_policy_leaves_a_policy_or_is_refused_inside_of_it(
        which in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let shipped = shipped();
        let text = shipped[which.index(shipped.len())].clone();
        text_is_a_policy_or_is_refused_inside_of_it(&mutations.iter().fold(text, mutated));
    }
}
