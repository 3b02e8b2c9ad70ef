//! The man pages of the commands, which are written from the command line's own description.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use crate::xenpci;

/// Pages of `xenpci` in a folder, by name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let own = named.filter(|(name, _)| name.starts_with("xenpci") && name.ends_with(".1"));
    own.map(|(name, path)| (name, std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn man_pages_say_what_the_commands_say() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man");
    let folder = TempDir::new().unwrap();
    xenpci(["man-pages", folder.path().to_str().unwrap()]).good();
    let (written, present) = (pages(folder.path()), pages(&shipped));
    if std::env::var_os("XENPCID_BLESS").is_some() {
        for name in present.keys().filter(|name| !written.contains_key(*name)) {
            std::fs::remove_file(shipped.join(name)).unwrap();
        }
        for (name, page) in &written {
            std::fs::write(shipped.join(name), page).unwrap();
        }
        return;
    }
    let stale: Vec<_> =
        written.iter().filter(|(name, page)| present.get(*name) != Some(page)).map(|(name, _)| name).collect();
    let others: Vec<_> = present.keys().filter(|name| !written.contains_key(*name)).collect();
    assert!(
        stale.is_empty() && others.is_empty(),
        "packaging/man: {stale:?} are stale, {others:?} are of no command; \
         `XENPCID_BLESS=1 cargo test -p xenpci --test xenpci man_pages` writes the pages anew"
    );
}

#[test]
fn each_page_names_what_it_is_about_and_where_to_read_on() {
    let folder = TempDir::new().unwrap();
    xenpci(["man-pages", folder.path().to_str().unwrap()]).good();
    for (name, page) in pages(folder.path()) {
        let command = name.strip_suffix(".1").unwrap();
        assert!(page.contains(&format!(".TH {command} 1 ")), "{page}");
        assert!(page.contains(&format!("{} \\- ", command.replace('-', "\\-"))), "{page}");
        assert!(page.contains(".SH \"SEE ALSO\"\n.BR xenpci"), "{page}");
    }
}
