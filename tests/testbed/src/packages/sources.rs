//! Reads where this machine gets its Debian packages from, in both formats of apt's source lists (sources.list(5)).

use std::collections::BTreeMap;

/// Key that Debian signs its archive with; from the package debian-archive-keyring.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One place that packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As apt understands it; may be a mirror list.
    pub uri: String,
    /// For instance `bookworm-security`.
    pub suite: String,
    /// For instance `main`.
    pub components: Vec<String>,
    /// Keyring that must have signed it; none means any that apt trusts.
    pub signed_by: Option<String>,
}

/// Reads a file of deb822 stanzas (`*.sources`).
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<Source> {
    stanzas(text).iter().filter(is_enabled).flat_map(expand).collect()
}

/// Reads a file of one-line entries (`*.list`).
#[must_use]
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

/// The entries that carry Debian's own `release` (its name, as in `bookworm`), that release's updates and security
/// fixes, and, beside the release itself, its backports.
#[must_use]
pub fn of_release(sources: &[Source], release: &str) -> Vec<Source> {
    let wanted = [release.to_owned(), format!("{release}-updates"), format!("{release}-security")];
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| is_debians(source)) {
        let suite = source.suite.trim_end_matches('/');
        if wanted.iter().any(|name| name == suite) {
            found.push(Source { suite: suite.to_owned(), ..source.clone() });
        }
        if suite == release {
            found.push(Source { suite: format!("{release}-backports"), ..source.clone() });
        }
    }
    found
}

/// Writes a deb822 file of binary packages from component main, checked against Debian's keyring.
#[must_use]
pub fn render(sources: &[Source]) -> String {
    let stanza = |source: &Source| {
        format!("Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n", source.uri, source.suite)
    };
    sources.iter().map(stanza).collect::<Vec<_>>().join("\n")
}

/// Other people's repositories use Debian's release names too; they are signed with other keys.
fn is_debians(source: &Source) -> bool {
    source.components.iter().any(|component| component == "main")
        && !source.uri.starts_with("cdrom:")
        && source.signed_by.as_ref().is_none_or(|keyring| keyring.contains("debian-archive"))
}

type Fields = BTreeMap<String, String>;

fn stanzas(text: &str) -> Vec<Fields> {
    let mut all = vec![Fields::new()];
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            all.push(Fields::new());
        } else if let Some(fields) = all.last_mut() {
            if line.starts_with([' ', '\t']) {
                fields.entry(current.clone()).or_default().push_str(&format!(" {}", line.trim()));
            } else if let Some((name, value)) = line.split_once(':') {
                current = name.trim().to_ascii_lowercase();
                fields.insert(current.clone(), value.trim().to_owned());
            }
        }
    }
    all.retain(|fields| !fields.is_empty());
    all
}

fn is_enabled(fields: &&Fields) -> bool {
    let has_binaries = fields.get("types").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb"));
    let is_off = fields.get("enabled").is_some_and(|value| matches!(value.as_str(), "no" | "false" | "0" | "off"));
    has_binaries && !is_off
}

fn expand(fields: &Fields) -> Vec<Source> {
    let words = |name: &str| -> Vec<String> {
        fields.get(name).map(|value| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let (uris, suites) = (words("uris"), words("suites"));
    let one = |uri: &String, suite: &String| Source {
        uri: uri.clone(),
        suite: suite.clone(),
        components: words("components"),
        signed_by: fields.get("signed-by").cloned(),
    };
    uris.iter().flat_map(|uri| suites.iter().map(move |suite| one(uri, suite))).collect()
}

/// `deb [option=value ...] URI SUITE COMPONENT...`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !line.starts_with([' ', '\t', '[']) {
        return None; // deb-src
    }
    let (options, rest) = match line.trim_start().strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", line),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uri: words.next()?,
        suite: words.next()?,
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "\
Types: deb
# a snapshot could stand here
URIs: http://mirror.example/debian
Suites: trickle trickle-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: trickle-security
Components: main contrib
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://sources.example/debian
Suites: trickle
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trickle
Components: main
";

    fn suites(sources: &[Source]) -> Vec<(&str, &str)> {
        sources.iter().map(|source| (source.uri.as_str(), source.suite.as_str())).collect()
    }

    #[test]
    fn deb822_of_a_debian_image_gives_release_updates_security_and_adds_backports() {
        let found = of_release(&parse_deb822(IMAGE), "trickle");

        let debian = "http://mirror.example/debian";
        assert_eq!(
            suites(&found),
            [
                (debian, "trickle"),
                (debian, "trickle-backports"),
                (debian, "trickle-updates"),
                ("http://mirror.example/debian-security", "trickle-security"),
            ]
        );
    }

    #[test]
    fn one_line_entries_with_and_without_options_are_read() {
        let text = "\
# deb http://commented.example/debian trickle main
deb http://mirror.example/debian/ trickle main contrib # here
deb-src http://mirror.example/debian/ trickle main
deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] https://other.example/linux trickle main
deb [ signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] mirror+file:/etc/apt/mirrors.list trickle-security main
deb https://unsigned.example/apt trickle stable
";
        let all = parse_one_line(text);
        assert_eq!(all.len(), 4);

        let found = of_release(&all, "trickle");
        assert_eq!(
            suites(&found),
            [
                ("http://mirror.example/debian/", "trickle"),
                ("http://mirror.example/debian/", "trickle-backports"),
                ("mirror+file:/etc/apt/mirrors.list", "trickle-security"),
            ]
        );
    }

    #[test]
    fn another_release_is_not_found() {
        assert_eq!(of_release(&parse_deb822(IMAGE), "brook"), []);
    }

    #[test]
    fn rendered_sources_are_read_back_and_name_debians_key() {
        let found = of_release(&parse_deb822(IMAGE), "trickle");
        let again = parse_deb822(&render(&found));
        assert_eq!(suites(&again), suites(&found));
        assert!(again.iter().all(|source| source.signed_by.as_deref() == Some(KEYRING)));
    }
}
