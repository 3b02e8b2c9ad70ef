use proptest::prelude::*;

use super::*;

fn pci(text: &str) -> Vec<String> {
    XlCfg::parse(text).unwrap().texts("pci").unwrap()
}

#[test]
fn settings_are_found_as_xl_finds_them() {
    for (text, devices) in [
        ("", &[][..]),
        ("pci=[]\n", &[]),
        ("pci=['x']", &["x"]),
        ("pci = [ \"x\", 'y' ] # why\n", &["x", "y"]),
        ("pci=[\"x\",\n\"y\",\n]\n", &["x", "y"]),
        ("pci=[\n# c\n\"x\" , # d, ]\n \"y\"\n]\n", &["x", "y"]),
        ("name='a';pci=['x'];vcpus=1", &["x"]),
        (";;pci=['x'];;\n", &["x"]),
        ("pci=['x']\npci=['y']\n", &["y"]),
        ("pci=['x','y']\npci+=['z']\n", &["x", "y", "z"]),
        ("pci+=['z']\n", &["z"]),
        ("# pci=['x']\n", &[]),
        ("extra = \"pci=['x']\"\n", &[]),
        ("disk=['a,b',[1,'c']]\npci=['x']", &["x"]),
        (r#"extra="a\"b # c"; pci=['x']"#, &["x"]),
    ] {
        assert_eq!(pci(text), devices, "{text:?}");
    }
}

#[test]
fn text_and_numbers_stand_for_each_other_as_in_xl() {
    let file = XlCfg::parse("name='it''s'").unwrap_err();
    assert_eq!(file.line, 1);
    let file =
        XlCfg::parse("name = 'a\\'b\\\\c\\td'\na = 0x10\nb = 010\nc = \"1\"\nd = 0\ne = 'yes'\nf=[1]\n").unwrap();
    assert_eq!(file.text("name"), Ok(Some("a'b\\c\td".to_owned())));
    assert_eq!(file.text("a"), Ok(Some("16".to_owned())));
    assert_eq!(file.text("b"), Ok(Some("8".to_owned())));
    assert_eq!(
        ["a", "b", "c", "d", "none"].map(|key| file.flag(key).unwrap()),
        [Some(true), Some(true), Some(true), Some(false), None]
    );
    assert_eq!(file.flag("e").unwrap_err().to_string(), "e is not a number");
    assert_eq!(file.text("f").unwrap_err().to_string(), "f is not text");
    assert_eq!(file.texts("a").unwrap_err().to_string(), "a is not a list");
    assert_eq!(file.texts("f").unwrap_err().to_string(), "f is not a list of texts");
}

#[test]
fn what_xl_does_not_understand_is_an_error_with_its_line() {
    for (text, line) in [
        ("name=a\n", 1),
        ("\n\nname=-1\n", 3),
        ("name='a\nb'\n", 1),
        ("a=1\nname=\"unterminated\n", 2),
        ("name='a' pci=['x']\n", 1),
        ("pci=['x' 'y']\n", 1),
        ("pci=[\n'x'\n'y']\n", 3),
        ("pci=[,'x']\n", 1),
        ("pci=['x',,'y']\n", 1),
        ("pci=['x'\n", 2),
        ("pci\n=['x']\n", 1),
        ("pci=\n['x']\n", 1),
        ("Name='a'\n", 1),
        ("na-me='a'\n", 1),
        ("_x=1\n", 1),
        ("9x=1\n", 1),
        ("x=9z\n", 1),
        ("name='a'\r\n", 1),
        ("name='a'+'b'\n", 1),
        (r"name='\q'", 1),
        ("if x:\n  y=1\n", 1),
    ] {
        let error = XlCfg::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

#[test]
fn what_is_left_out_leaves_the_rest_as_it_was() {
    let file = XlCfg::parse("name='a' # pci\npci=['x', # one\n 'y']; vcpus=2\npci+=['z']\nextra='pci=1'\n").unwrap();
    assert_eq!(file.without(&["pci", "none"]), "name='a' # pci\n; vcpus=2\n\nextra='pci=1'\n");
    assert_eq!(file.without(&[]), file.text);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in r#"([a-z]{1,4} ?\+?= ?|[\["'\],;#\n\\0-9]|pci=\["a"\]|[äa-z ]){0,12}"#) {
        if let Ok(file) = XlCfg::parse(&text) {
            let rest = file.without(&["pci"]);
            let again = XlCfg::parse(&rest);
            prop_assert!(again.is_ok(), "{rest:?}");
            prop_assert_eq!(again.unwrap().texts("pci"), Ok(Vec::new()));
        }
    }
}
