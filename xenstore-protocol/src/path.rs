//! Paths of nodes, checked once.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use xenpcid_address::DomainId;

/// Longest absolute path, in bytes (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_MAX: usize = 3072;

/// Longest relative path, in bytes (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_MAX: usize = 2048;

/// Path of a node, in a form that xenstored accepts (docs/misc/xenstore.txt, "xenstore paths"):
///
/// * absolute: `/`, or `/name` one or more times; at most [`ABSOLUTE_MAX`] bytes;
/// * relative: names joined by `/`, seen from the home directory `/local/domain/<domid>` of the connection's domain;
///   at most [`RELATIVE_MAX`] bytes;
/// * special: `@introduceDomain` or `@releaseDomain`, which can only be watched.
///
/// Names consist of ASCII letters, digits, `-`, `_` and `@`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Cow<'static, str>);

/// Text that is not a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a xenstore path: {reason}")]
pub struct InvalidPath {
    text: String,
    reason: &'static str,
}

impl Path {
    /// Fires when a domain is introduced, that is, created. Can only be watched.
    pub const INTRODUCE_DOMAIN: Self = Self::from_static("@introduceDomain");
    /// Fires when a domain shuts down, crashes or is destroyed. Can only be watched.
    pub const RELEASE_DOMAIN: Self = Self::from_static("@releaseDomain");
    /// The root of the tree.
    pub const ROOT: Self = Self::from_static("/");

    /// A path known at compile time.
    ///
    /// # Panics
    /// The text is not a path. In a `const`, that is a compile error.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        #[expect(clippy::panic, reason = "the text is a literal: wrong ones do not compile when used in a const")]
        if fault(text.as_bytes()).is_some() {
            panic!("not a xenstore path");
        }
        Self(Cow::Borrowed(text))
    }

    /// Home directory of a domain: `/local/domain/<domid>`.
    #[must_use]
    pub fn domain(domain: DomainId) -> Self {
        Self::trusted(format!("/local/domain/{domain}"))
    }

    /// A path that this crate built from checked parts.
    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(fault(text.as_bytes()).is_none(), "{text:?}");
        Self(Cow::Owned(text))
    }

    /// This path followed by `/` and `name`, which may itself be several names joined by `/`.
    ///
    /// # Errors
    /// `name` is not a relative path, or the result is too long.
    pub fn child(&self, name: impl fmt::Display) -> Result<Self, InvalidPath> {
        let separator = if self.as_str() == "/" { "" } else { "/" };
        format!("{self}{separator}{name}").parse()
    }

    /// The path without its last name; `None` for the root, a special path or a single relative name.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::ROOT),
            (parent, _) => Some(Self(Cow::Owned(parent.to_owned()))),
        }
    }

    /// The last name of the path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Is `other` this path, or anything below it?
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&*self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.0 == "/",
            None => false,
        }
    }

    /// Does the path start at the root?
    #[must_use]
    pub fn is_absolute(&self) -> bool {
        self.0.starts_with('/')
    }

    /// Is it one of the paths that can only be watched?
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with the text of a path.
const fn fault(text: &[u8]) -> Option<&'static str> {
    let Some((first, _)) = text.split_first() else {
        return Some("it is empty");
    };
    if *first == b'/' && text.len() > ABSOLUTE_MAX {
        return Some("an absolute path has at most 3072 bytes");
    }
    if *first != b'/' && text.len() > RELATIVE_MAX {
        return Some("a relative path has at most 2048 bytes");
    }
    let mut rest = text;
    let mut previous = 0;
    while let Some((byte, after)) = rest.split_first() {
        match *byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' => {}
            b'/' if previous == b'/' => return Some("it has an empty name between two \"/\""),
            b'/' => {}
            _ => return Some("it has a character other than letters, digits and \"-_@/\""),
        }
        previous = *byte;
        rest = after;
    }
    if previous == b'/' && text.len() > 1 {
        return Some("it ends with \"/\"");
    }
    None
}

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        match fault(text.as_bytes()) {
            None => Ok(Self(Cow::Owned(text.to_owned()))),
            Some(reason) => Err(InvalidPath { text: text.to_owned(), reason }),
        }
    }
}

impl TryFrom<&[u8]> for Path {
    type Error = InvalidPath;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidPath> {
        String::from_utf8_lossy(bytes).parse()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Path {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn any_text_is_kept_as_it_is_or_refused_with_a_reason(text in ".{0,40}") {
            match text.parse::<Path>() {
                Ok(path) => prop_assert_eq!(path.as_str(), text),
                Err(error) => prop_assert!(error.to_string().contains(&text)),
            }
        }

        #[test]
        fn child_lies_below_its_parent(names in prop::collection::vec("[a-zA-Z0-9_@-]{1,8}", 1..6)) {
            let mut path = Path::ROOT;
            for name in &names {
                let child = path.child(name).unwrap();
                prop_assert_eq!(child.parent(), Some(path.clone()));
                prop_assert_eq!(child.name(), name);
                prop_assert!(path.contains(&child));
                prop_assert!(!child.contains(&path));
                path = child;
            }
        }
    }

    #[test]
    fn valid_forms_are_accepted() {
        for text in ["/", "/local/domain/0", "device/pci/0", "@releaseDomain", "/a@b/-_"] {
            assert!(text.parse::<Path>().is_ok(), "{text}");
        }
        assert!("/a".repeat(1536).parse::<Path>().is_ok());
        assert!("a".repeat(2048).parse::<Path>().is_ok());
    }

    #[test]
    fn invalid_forms_are_refused() {
        for text in ["", "//", "/a//b", "/a/", "a/", "/a b", "/a\0", "/ä", "/a.b", "/a:b"] {
            assert!(text.parse::<Path>().is_err(), "{text:?}");
        }
        assert!(format!("/{}", "a".repeat(3072)).parse::<Path>().is_err());
        assert!("a".repeat(2049).parse::<Path>().is_err());
    }

    #[test]
    fn containment_goes_by_whole_names() {
        assert!(path("/a").contains(&path("/a")));
        assert!(path("/").contains(&path("/a/b")));
        assert!(!path("/a").contains(&path("/ab")));
        assert!(!path("/a").contains(&path("a/b")));
    }

    #[test]
    fn child_cannot_smuggle_an_absolute_path() {
        assert!(path("/a").child("/b").is_err());
        assert!(path("/a").child("").is_err());
        assert_eq!(Path::ROOT.child("a/b").unwrap(), path("/a/b"));
        assert_eq!(Path::ROOT.parent(), None);
        assert_eq!(path("/a").parent(), Some(Path::ROOT));
        assert_eq!(path("a").parent(), None);
    }
}
