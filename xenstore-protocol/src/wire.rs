//! The messages on the wire, without any I/O (xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt).
//!
//! A message is a 16-byte header of four host-endian `u32` (type, request id, transaction id, payload length) and a
//! payload of at most 4096 bytes. A reply repeats the type and the request id of its request, or has type
//! [`MessageType::ERROR`]. A watch event belongs to no request and may come at any time.
//!
//! | type | request payload | reply payload |
//! |---|---|---|
//! | DIRECTORY | path NUL | names, each with NUL |
//! | DIRECTORY_PART | path NUL offset NUL | generation NUL, names each with NUL; one more NUL after the last part |
//! | READ | path NUL | value |
//! | WRITE | path NUL value | `OK` NUL |
//! | MKDIR, RM | path NUL | `OK` NUL |
//! | GET_PERMS | path NUL | permissions, each with NUL |
//! | SET_PERMS | path NUL permissions, each with NUL | `OK` NUL |
//! | WATCH, UNWATCH | path NUL token NUL | `OK` NUL |
//! | RESET_WATCHES | NUL | `OK` NUL |
//! | TRANSACTION_START | NUL | transaction id in decimal, NUL |
//! | TRANSACTION_END | `T` or `F`, NUL | `OK` NUL |
//! | GET_DOMAIN_PATH | domain id NUL | path NUL |
//! | IS_DOMAIN_INTRODUCED | domain id NUL | `T` or `F`, NUL |
//! | WATCH_EVENT | (from the server only) | path NUL token NUL |
//! | ERROR | (from the server only) | name of the error, NUL |

use std::fmt;

/// Largest payload, in bytes. A longer one ends the connection.
pub const PAYLOAD_MAX: usize = 4096;

/// Size of a header, in bytes.
pub const HEADER_SIZE: usize = 16;

/// What a message is. A newtype and not an enum: an unknown number from the other side is data, not a fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u32);

macro_rules! message_types {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl MessageType {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// The protocol's name of this type; `None` if the number is not one of ours.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

message_types! {
    CONTROL = 0, "Debugging and control of the server itself.";
    DIRECTORY = 1, "Names of a node's children.";
    READ = 2, "Value of a node.";
    GET_PERMS = 3, "Permissions of a node.";
    WATCH = 4, "Start watching a node and everything below it.";
    UNWATCH = 5, "Stop watching.";
    TRANSACTION_START = 6, "Open a transaction.";
    TRANSACTION_END = 7, "Commit or abort a transaction.";
    INTRODUCE = 8, "Tell the server about a new domain.";
    RELEASE = 9, "Tell the server that a domain is gone.";
    GET_DOMAIN_PATH = 10, "Home directory of a domain.";
    WRITE = 11, "Set a node's value; creates the node and its parents.";
    MKDIR = 12, "Create a node with an empty value; an existing one is left alone.";
    RM = 13, "Remove a node and everything below it.";
    SET_PERMS = 14, "Set a node's permissions.";
    WATCH_EVENT = 15, "Something at or below a watched node changed.";
    ERROR = 16, "The request failed; the payload names the error.";
    IS_DOMAIN_INTRODUCED = 17, "Does the server know this domain.";
    RESUME = 18, "A domain was resumed.";
    SET_TARGET = 19, "Give one domain the rights of another.";
    RESET_WATCHES = 21, "Drop every watch and transaction of this connection.";
    DIRECTORY_PART = 22, "A part of a list of children that is too long for one message.";
    GET_FEATURE = 23, "Features of the server or of a domain's ring.";
    SET_FEATURE = 24, "Choose a domain's features.";
    GET_QUOTA = 25, "Read a quota.";
    SET_QUOTA = 26, "Set a quota.";
    INVALID = 0xffff, "Never sent.";
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageType,
    /// Chosen by the client, repeated in the reply; 0 in a watch event.
    pub request_id: u32,
    /// Transaction in which the request runs; 0 outside of any.
    pub transaction_id: u32,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Bytes or a message that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A payload longer than the protocol allows: in a header that was received, or in a message to be sent.
    #[error("{kind} with a payload of {length} bytes; the limit is {PAYLOAD_MAX}")]
    PayloadTooLong {
        /// Type of the message.
        kind: MessageType,
        /// Its length in bytes.
        length: usize,
    },
}

impl Message {
    /// The bytes to send.
    ///
    /// # Errors
    /// The payload is longer than [`PAYLOAD_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let too_long = WireError::PayloadTooLong { kind: self.kind, length: self.payload.len() };
        if self.payload.len() > PAYLOAD_MAX {
            return Err(too_long);
        }
        let length = u32::try_from(self.payload.len()).map_err(|_| too_long)?;
        let mut bytes = Vec::with_capacity(HEADER_SIZE.saturating_add(self.payload.len()));
        for word in [self.kind.0, self.request_id, self.transaction_id, length] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        Ok(bytes)
    }
}

/// Turns a stream of bytes, cut anywhere, into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// A decoder that has seen no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Call [`Decoder::next_message`] until it gives `None` before pushing more,
    /// so that no more than one unfinished message is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The header announces a payload longer than [`PAYLOAD_MAX`]. The stream cannot be used any further: every later
    /// call gives the same error.
    pub fn next_message(&mut self) -> Result<Option<Message>, WireError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        let mut words = header.chunks_exact(4).map(|word| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(word);
            u32::from_ne_bytes(bytes)
        });
        let mut word = || words.next().unwrap_or(0);
        let (kind, request_id, transaction_id, length) = (MessageType(word()), word(), word(), word());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > PAYLOAD_MAX {
            return Err(WireError::PayloadTooLong { kind, length });
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Message { kind, request_id, transaction_id, payload: payload.to_vec() };
        self.buffer.drain(..HEADER_SIZE.saturating_add(length));
        Ok(Some(message))
    }
}

/// A payload of strings, each ended by NUL.
#[must_use]
pub fn encode_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut payload = Vec::new();
    for string in strings {
        payload.extend_from_slice(string.as_ref());
        payload.push(0);
    }
    payload
}

/// The strings of a payload. The NUL after the last one may be missing; empty strings are kept.
pub fn decode_strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = Some(payload).filter(|payload| !payload.is_empty());
    let strings = payload.map(|payload| payload.strip_suffix(&[0]).unwrap_or(payload));
    strings.into_iter().flat_map(|strings| strings.split(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Message> {
        (any::<u32>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX)).prop_map(
            |(kind, request_id, transaction_id, payload)| Message {
                kind: MessageType(kind),
                request_id,
                transaction_id,
                payload,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire_however_the_stream_is_cut(
            messages in prop::collection::vec(message(), 0..5),
            cut in 1_usize..5000,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|m| m.encode().unwrap()).collect();
            let mut decoder = Decoder::new();
            let mut decoded = Vec::new();
            for chunk in bytes.chunks(cut) {
                decoder.push(chunk);
                while let Some(message) = decoder.next_message().unwrap() {
                    decoded.push(message);
                }
            }
            prop_assert_eq!(decoded, messages);
        }

        #[test]
        fn arbitrary_bytes_give_messages_or_an_error_within_the_bound(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..64),
        ) {
            let mut decoder = Decoder::new();
            'stream: for chunk in chunks {
                decoder.push(&chunk);
                loop {
                    match decoder.next_message() {
                        Ok(Some(message)) => prop_assert!(message.payload.len() <= PAYLOAD_MAX),
                        Ok(None) => break,
                        Err(error) => {
                            prop_assert_eq!(decoder.next_message(), Err(error));
                            break 'stream;
                        }
                    }
                }
                prop_assert!(decoder.buffer.len() <= HEADER_SIZE + PAYLOAD_MAX + 64);
            }
        }

        #[test]
        fn strings_survive_a_payload(strings in prop::collection::vec("[a-z]{0,5}", 0..8)) {
            let payload = encode_strings(&strings);
            let decoded: Vec<&[u8]> = decode_strings(&payload).collect();
            prop_assert_eq!(decoded, strings.iter().map(String::as_bytes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn payload_over_the_limit_is_refused_in_both_directions() {
        let message = Message {
            kind: MessageType::WRITE,
            request_id: 1,
            transaction_id: 0,
            payload: vec![b'x'; PAYLOAD_MAX.saturating_add(1)],
        };
        let too_long = WireError::PayloadTooLong { kind: MessageType::WRITE, length: 4097 };
        assert_eq!(message.encode(), Err(too_long.clone()));

        let mut decoder = Decoder::new();
        for word in [11_u32, 1, 0, 4097] {
            decoder.push(&word.to_ne_bytes());
        }
        assert_eq!(decoder.next_message(), Err(too_long));
    }

    #[test]
    fn header_is_four_host_endian_words_in_the_order_of_xs_wire_h() {
        let message =
            Message { kind: MessageType::DIRECTORY_PART, request_id: 2, transaction_id: 3, payload: b"/\0".to_vec() };
        let expected: Vec<u8> = [22_u32, 2, 3, 2].iter().flat_map(|w| w.to_ne_bytes()).chain(*b"/\0").collect();
        assert_eq!(message.encode().unwrap(), expected);
    }

    #[test]
    fn last_string_may_lack_its_nul() {
        assert_eq!(decode_strings(b"a\0\0b").collect::<Vec<_>>(), [b"a".as_slice(), b"", b"b"]);
        assert_eq!(decode_strings(b"").count(), 0);
        assert_eq!(decode_strings(b"\0").collect::<Vec<_>>(), [b"".as_slice()]);
    }

    #[test]
    fn unknown_type_is_data() {
        assert_eq!(MessageType(20).name(), None);
        assert_eq!(MessageType(20).to_string(), "message type 20");
        assert_eq!(MessageType::DIRECTORY_PART.to_string(), "DIRECTORY_PART");
    }
}
