//! Which declaration is for a domain.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use proptest::prelude::*;
use xenpcid_config::{Config, DomainSelector, Uuid};

const UUID: Uuid = Uuid::from_u128(0x5a1f_9f3e_8f57_4a0c_9d7c_0d4b_7f1a_2c33);

/// What the domain called `name`, with [`UUID`], finds among these selectors.
fn chosen(selectors: &[&str], name: &str) -> Option<String> {
    let table = |selector: &&str| format!("[[domain]]\n{selector}\ndevices = []\n");
    let config = Config::parse(&selectors.iter().map(table).collect::<String>(), "test.toml").unwrap();
    config.domain_for(name.as_bytes(), UUID.as_bytes()).map(|domain| domain.selector.to_string())
}

#[test]
fn name_precedes_uuid_and_that_a_glob_wherever_they_stand() {
    let by_uuid = format!("uuid = '{UUID}'");
    let all = ["name = '*'", &by_uuid, "name = 'web*'", "name = 'web1'"];
    assert_eq!(chosen(&all, "web1").unwrap(), "web1");
    assert_eq!(chosen(&all, "web2").unwrap(), UUID.to_string());
    assert_eq!(chosen(&["name = 'w*'", "name = 'web*'"], "web1").unwrap(), "w*");
    assert_eq!(chosen(&["name = 'web?'"], "web10"), None);
}

#[test]
fn bytes_that_are_no_text_are_like_nothing_but_can_have_a_uuid() {
    let name = b"web\xff";
    assert!(!DomainSelector::Glob("web*".to_owned()).matches(name, UUID.as_bytes()));
    assert!(DomainSelector::Uuid(UUID).matches(name, UUID.as_bytes()));
}

/// By what each pattern means, one character after the other.
fn is_like(name: &[char], pattern: &[char]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        (['*', rest @ ..], name) => (0..=name.len()).any(|taken| is_like(&name[taken..], rest)),
        (['?', rest @ ..], [_, name @ ..]) => is_like(name, rest),
        ([wanted, rest @ ..], [found, name @ ..]) => wanted == found && is_like(name, rest),
        (_, []) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_name_is_like_a_glob_if_it_can_be_read_as_one(name in "[abé*?]{0,8}", glob in "[abé?*]{0,7}[*?]") {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(
            DomainSelector::Glob(glob.clone()).matches(name.as_bytes(), &[0; 16]),
            is_like(&letters(&name), &letters(&glob))
        );
    }
}
