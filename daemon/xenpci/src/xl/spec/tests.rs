use proptest::prelude::*;

use super::*;

/// What libxlutil makes of texts.
const RECORDED: &str = include_str!("libxlutil-4.17.tsv");

/// A result in the words of the recording.
fn told(result: Result<Spec, Malformed>) -> String {
    let spec = match result {
        Ok(spec) => spec,
        Err(Malformed::Form) => return "malformed".to_owned(),
        Err(error) => return format!("malformed: {error}"),
    };
    let mut words = vec![match &spec.device {
        Named::Bdf(bdf) => bdf.to_string(),
        Named::Name(name) => format!("name={name}"),
    }];
    // libxl keeps slot 0 as if there were none.
    words.extend(spec.slot.filter(|&slot| slot > 0).map(|slot| format!("slot={slot:x}")));
    let Options { msitranslate, power_mgmt, permissive, rdm_policy } = spec.options;
    for (word, is_set) in [
        ("seize", spec.seize),
        ("permissive", permissive),
        ("msitranslate", msitranslate),
        ("power_mgmt", power_mgmt),
        ("relaxed", rdm_policy == ReservedMemory::Relaxed),
    ] {
        words.extend(is_set.then(|| word.to_owned()));
    }
    words.join(" ")
}

#[test]
fn texts_are_taken_and_refused_as_libxlutil_does() {
    let rows = RECORDED.lines().filter(|line| !line.starts_with('#'));
    for row in rows.clone() {
        let [text, spec, bdf] = row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let text = text.replace("<TAB>", "\t");
        assert_eq!(told(Spec::parse(&text, Defaults::default())), spec, "{text:?} as PCI_SPEC_STRING");
        let own = Bdf::parse(&text).map_or_else(|| "malformed".to_owned(), |bdf| bdf.to_string());
        assert_eq!(own, bdf, "{text:?} as BDF");
    }
    assert!(rows.count() >= 200);
}

#[test]
fn slot_0_is_asked_for_like_any_other() {
    let spec = Spec::parse("01:00.0@0", Defaults::default()).unwrap();
    assert_eq!(spec.to_attach().slot, Some(0));
}

#[test]
fn numbers_of_more_than_32_bits_are_malformed() {
    for text in ["100000001:00.0", "01:00.0@100000005", "01:00.0,vslot=100000005"] {
        assert_eq!(Spec::parse(text, Defaults::default()), Err(Malformed::Form), "{text}");
    }
}

#[test]
fn defaults_hold_until_a_key_says_otherwise() {
    let options = Options { permissive: true, msitranslate: true, ..Options::default() };
    let defaults = Defaults { seize: true, options };
    let spec = Spec::parse("01:00.0,permissive=0", defaults).unwrap();
    assert_eq!((spec.seize, spec.options), (true, Options { permissive: false, ..options }));
}

#[test]
fn daemon_is_asked_for_what_was_written() {
    let attach = |text| Spec::parse(text, Defaults::default()).unwrap().to_attach();
    assert_eq!(attach("1:0.*@1f").device, "0000:01:00.*");
    assert_eq!(
        attach("name=disk,seize=1"),
        AttachDevice { device: "disk".to_owned(), seize: true, ..AttachDevice::default() }
    );
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text: String) {
        let _ = (Spec::parse(&text, Defaults::default()), Bdf::parse(&text));
    }

    #[test]
    fn text_that_is_nearly_right_is_taken_or_refused(text in "[0-9a-fx]{0,3}:?[ +-]?[0-9a-f]{0,2}[:.]{0,2}[0-9*]{0,2}(@[0-9a-fx]{0,3})?(,[a-z]{0,8}=?[0-9]{0,2}){0,3}") {
        let _ = (Spec::parse(&text, Defaults::default()), Bdf::parse(&text));
    }

    #[test]
    fn any_address_is_read_back(segment: u16, bus: u8, devfn: u8, slot in 0_u8..32) {
        let address = Sbdf::from_devfn(segment, bus, devfn);
        let spec = Spec::parse(&format!("{address}@{slot:x}"), Defaults::default()).unwrap();
        prop_assert_eq!(spec.device, Named::Bdf(Bdf { address, all: false }));
        prop_assert_eq!(spec.slot, Some(slot));
    }
}
