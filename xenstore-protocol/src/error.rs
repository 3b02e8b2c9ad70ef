//! What can go wrong.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::str::FromStr;

use crate::path::InvalidPath;
use crate::permissions::InvalidPermissions;
use crate::wire::{MessageType, WireError};

macro_rules! error_names {
    ($($variant:ident $text:literal $kind:ident $meaning:literal;)*) => {
        /// Name of an error as the server sends it (`xsd_errors` of xen/include/public/io/xs_wire.h).
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorName {
            $(#[doc = $meaning] $variant,)*
            /// A name that is not in the list, kept as it came.
            Other(String),
        }

        impl ErrorName {
            /// The name on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// What the error means here, in a few words.
            #[must_use]
            pub fn meaning(&self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                    Self::Other(_) => "An error that this program does not know.",
                }
            }

            /// The nearest kind of the standard library.
            #[must_use]
            pub fn io_kind(&self) -> io::ErrorKind {
                match self {
                    $(Self::$variant => io::ErrorKind::$kind,)*
                    Self::Other(_) => io::ErrorKind::Other,
                }
            }
        }

        impl FromStr for ErrorName {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<Self, Infallible> {
                Ok(match text {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text.to_owned()),
                })
            }
        }
    };
}

error_names! {
    Einval "EINVAL" InvalidInput "The path or an argument is not valid.";
    Eacces "EACCES" PermissionDenied "The node's permissions do not allow it.";
    Eexist "EEXIST" AlreadyExists "It is already there.";
    Eisdir "EISDIR" IsADirectory "It is a directory.";
    Enoent "ENOENT" NotFound "There is no such node, transaction or watch.";
    Enomem "ENOMEM" OutOfMemory "The server is out of memory.";
    Enospc "ENOSPC" QuotaExceeded "A quota of this domain is used up.";
    Eio "EIO" Other "The server could not do it.";
    Enotempty "ENOTEMPTY" DirectoryNotEmpty "The directory is not empty.";
    Enosys "ENOSYS" Unsupported "The server does not know this request.";
    Erofs "EROFS" ReadOnlyFilesystem "It cannot be changed.";
    Ebusy "EBUSY" ResourceBusy "Too many at once.";
    Eagain "EAGAIN" WouldBlock "Another client changed what this transaction used.";
    Eisconn "EISCONN" AlreadyExists "The domain is already introduced.";
    E2big "E2BIG" ArgumentListTooLong "The answer or the argument is too long, or there are too many watches.";
    Eperm "EPERM" PermissionDenied "Only domain 0 may do this.";
}

impl ErrorName {
    /// Reads the payload of an ERROR message.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload.strip_suffix(&[0]).unwrap_or(payload));
        match text.parse() {
            Ok(name) => name,
            Err(never) => match never {},
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an error.
    #[error("xenstore {operation} {object}: {name}: {}", name.meaning())]
    Refused {
        /// What was asked.
        operation: MessageType,
        /// Path or other object of the request.
        object: String,
        /// The server's error.
        name: ErrorName,
    },
    /// The connection to the server broke before the answer came, is down at this moment, or broke since the
    /// transaction began. Whether the request was carried out is not known.
    #[error(
        "xenstore {operation} {object}: the connection to xenstored is lost; once it is back, read the current state \
         and try again"
    )]
    Disconnected {
        /// What was asked.
        operation: MessageType,
        /// Path or other object of the request.
        object: String,
    },
    /// No server could be reached.
    #[error("cannot connect to xenstored ({tried}): is xenstored running? XENSTORED_PATH names its socket")]
    Connect {
        /// Each place that was tried, and what happened.
        tried: String,
        /// Kind of the last failure.
        kind: io::ErrorKind,
    },
    /// A transaction met a conflict each time it was tried.
    #[error("xenstore transaction: given up after {attempts} conflicts with other clients")]
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },
    /// The server's answer is not what the protocol prescribes.
    #[error("xenstore {operation} {object}: the server's answer is not understood: {reason}")]
    Answer {
        /// What was asked.
        operation: MessageType,
        /// Path or other object of the request.
        object: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A node holds something else than what its reader expects. Guests write nodes: this is an answer, not a fault.
    #[error("xenstore node {path}: \"{text}\" is not {expected}")]
    Malformed {
        /// The node.
        path: String,
        /// Its value, shortened.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Not a path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// The request is too long for the protocol.
    #[error("xenstore request: {0}")]
    TooLong(#[from] WireError),
}

impl Error {
    /// The server's error name, if the server answered with one.
    #[must_use]
    pub fn name(&self) -> Option<&ErrorName> {
        match self {
            Self::Refused { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Did the server answer that there is no such node?
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.name() == Some(&ErrorName::Enoent)
    }

    /// Is the connection lost?
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected { .. })
    }

    /// A [`Error::Malformed`] about `value` of the node `path`.
    pub(crate) fn malformed(path: &crate::Path, value: &[u8], expected: &'static str) -> Self {
        /// More of a guest's text than this helps nobody.
        const SHOWN: usize = 64;
        let text = value.get(..SHOWN).unwrap_or(value).escape_ascii().to_string();
        Self::Malformed { path: path.to_string(), text, expected }
    }

    /// A [`Error::Answer`] about permissions that cannot be read.
    pub(crate) fn permissions(path: &crate::Path, error: &InvalidPermissions) -> Self {
        Self::Answer { operation: MessageType::GET_PERMS, object: path.to_string(), reason: error.to_string() }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Refused { name, .. } => name.io_kind(),
            Error::Disconnected { .. } => io::ErrorKind::NotConnected,
            Error::Connect { kind, .. } => *kind,
            Error::Conflict { .. } => io::ErrorKind::WouldBlock,
            Error::Answer { .. } | Error::Malformed { .. } => io::ErrorKind::InvalidData,
            Error::Path(_) | Error::TooLong(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_protocol_reads_back_as_itself() {
        let names = "EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS EBUSY EAGAIN EISCONN \
                     E2BIG EPERM";
        for text in names.split_whitespace() {
            let name = ErrorName::decode(format!("{text}\0").as_bytes());
            assert!(!matches!(name, ErrorName::Other(_)), "{text}");
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn unknown_name_is_kept_as_text() {
        assert_eq!(ErrorName::decode(b"EDQUOT\0"), ErrorName::Other("EDQUOT".to_owned()));
    }

    #[test]
    fn name_survives_the_conversion_to_an_io_error() {
        let error = Error::Refused { operation: MessageType::READ, object: "/a".to_owned(), name: ErrorName::Eagain };
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(error.to_string(), "xenstore READ /a: EAGAIN: Another client changed what this transaction used.");
    }
}
