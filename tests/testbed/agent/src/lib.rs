//! The protocol between the testbed and the agent that runs inside dom0 and inside each guest.
//!
//! The channel is a byte pipe on which other people write too: a guest's PV console also carries its kernel's messages,
//! and a terminal may echo what it is sent. So everything is a line of printable ASCII that begins with `@`, payloads are
//! base64, and a line that is not of this form is somebody else's text, not an error.
//!
//! ```text
//! testbed                                        agent
//!   @7 ping                              ──►
//!                                        ◄──       @7 pong
//!   @8 run 30000 <base64 command>        ──►
//!                                        ◄──       @8 out 0 <base64 of bytes 0..>
//!                                        ◄──       @8 out 3072 <base64 of bytes 3072..>
//!                                        ◄──       @8 end exit 0 4000
//! ```
//!
//! `out` carries the offset of its first byte and `end` the number of bytes in all, so a line that was lost or spoilt by
//! foreign text is noticed. Several commands may run at once; the number tells their lines apart.
#![forbid(unsafe_code)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes of output that one `out` line carries at most. A PV console's ring holds 2 KiB towards dom0, so a longer line
/// gains nothing.
pub const CHUNK: usize = 3072;

/// Number by which the lines of one request and its answers are told apart. Chosen by the testbed.
pub type RequestId = u64;

/// What the testbed asks of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Answer with [`Reply::Pong`]; used to wait until the agent is there.
    Ping,
    /// Run a command with `/bin/sh -c`, its standard output and standard error together.
    Run {
        /// The agent kills the command's process group after this time.
        deadline: Duration,
        /// Text of the command; may be a script of several lines.
        command: String,
    },
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The agent is there.
    Pong,
    /// Part of a command's output.
    Output {
        /// Position of the first byte of `bytes` in the whole output.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The command is over; no more output follows.
    End {
        /// How it ended.
        ending: Ending,
        /// Bytes of output in all.
        length: u64,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exit(i32),
    /// A signal with this number ended it.
    Signal(i32),
    /// It was still running at its deadline, and was killed.
    Deadline,
    /// It could not be started; the output says why.
    NotStarted,
}

/// Writes a request as a line, with the newline.
#[must_use]
pub fn encode_request(id: RequestId, request: &Request) -> String {
    match request {
        Request::Ping => format!("@{id} ping\n"),
        Request::Run { deadline, command } => {
            format!("@{id} run {} {}\n", deadline.as_millis(), BASE64.encode(command))
        }
    }
}

/// Reads a line that an agent received. `None` if it is not a request of this protocol.
#[must_use]
pub fn decode_request(line: &str) -> Option<(RequestId, Request)> {
    let (id, verb, rest) = split(line)?;
    let request = match (verb, rest.as_slice()) {
        ("ping", []) => Request::Ping,
        ("run", [deadline, command]) => Request::Run {
            deadline: Duration::from_millis(deadline.parse().ok()?),
            command: String::from_utf8(BASE64.decode(command).ok()?).ok()?,
        },
        _ => return None,
    };
    Some((id, request))
}

/// Writes a reply as a line, with the newline.
#[must_use]
pub fn encode_reply(id: RequestId, reply: &Reply) -> String {
    match reply {
        Reply::Pong => format!("@{id} pong\n"),
        Reply::Output { offset, bytes } => format!("@{id} out {offset} {}\n", BASE64.encode(bytes)),
        Reply::End { ending, length } => {
            let (how, number) = match ending {
                Ending::Exit(status) => ("exit", *status),
                Ending::Signal(signal) => ("signal", *signal),
                Ending::Deadline => ("deadline", 0),
                Ending::NotStarted => ("not-started", 0),
            };
            format!("@{id} end {how} {number} {length}\n")
        }
    }
}

/// Reads a line that the testbed received. `None` if it is not a reply of this protocol.
#[must_use]
pub fn decode_reply(line: &str) -> Option<(RequestId, Reply)> {
    let (id, verb, rest) = split(line)?;
    let reply = match (verb, rest.as_slice()) {
        ("pong", []) => Reply::Pong,
        ("out", [offset, bytes]) => Reply::Output { offset: offset.parse().ok()?, bytes: BASE64.decode(bytes).ok()? },
        ("end", [how, number, length]) => {
            let number = number.parse().ok()?;
            let ending = match *how {
                "exit" => Ending::Exit(number),
                "signal" => Ending::Signal(number),
                "deadline" => Ending::Deadline,
                "not-started" => Ending::NotStarted,
                _ => return None,
            };
            Reply::End { ending, length: length.parse().ok()? }
        }
        _ => return None,
    };
    Some((id, reply))
}

/// `@<id> <verb> <words...>`, with whatever a terminal put before the `@`.
fn split(line: &str) -> Option<(RequestId, &str, Vec<&str>)> {
    let line = line.get(line.find('@')? + 1..)?;
    let mut words = line.split_ascii_whitespace();
    let id = words.next()?.parse().ok()?;
    let verb = words.next()?;
    Some((id, verb, words.collect()))
}

/// Puts the `out` lines of one command together again and checks that none is missing.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    gap: Option<Gap>,
}

/// Output lines were lost or spoilt on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("output lines were lost on the channel: {received} bytes arrived where the agent was at byte {sent}")]
pub struct Gap {
    /// Bytes that had arrived.
    pub received: u64,
    /// Where the agent's count was.
    pub sent: u64,
}

impl Output {
    /// Takes the next part.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) {
        self.note_gap(offset);
        self.bytes.extend_from_slice(bytes);
    }

    /// The whole output.
    ///
    /// # Errors
    /// [`Gap`] if a part is missing.
    pub fn finish(mut self, length: u64) -> Result<Vec<u8>, Gap> {
        self.note_gap(length);
        self.gap.map_or(Ok(self.bytes), Err)
    }

    fn note_gap(&mut self, sent: u64) {
        let received = self.bytes.len() as u64;
        if received != sent && self.gap.is_none() {
            self.gap = Some(Gap { received, sent });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Ping),
            (0u64..10_000_000, ".*")
                .prop_map(|(ms, command)| Request::Run { deadline: Duration::from_millis(ms), command }),
        ]
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let ending = prop_oneof![
            any::<i32>().prop_map(Ending::Exit),
            any::<i32>().prop_map(Ending::Signal),
            Just(Ending::Deadline),
            Just(Ending::NotStarted),
        ];
        prop_oneof![
            Just(Reply::Pong),
            (any::<u64>(), proptest::collection::vec(any::<u8>(), 1..CHUNK))
                .prop_map(|(offset, bytes)| Reply::Output { offset, bytes }),
            (ending, any::<u64>()).prop_map(|(ending, length)| Reply::End { ending, length }),
        ]
    }

    proptest! {
        #[test]
        fn request_survives_the_line(id: u64, request in any_request()) {
            let line = encode_request(id, &request);
            prop_assert_eq!(line.matches('\n').count(), 1);
            // An empty command has no second word; nobody sends one.
            prop_assume!(!matches!(&request, Request::Run { command, .. } if command.is_empty()));
            prop_assert_eq!(decode_request(&line), Some((id, request)));
        }

        #[test]
        fn reply_survives_the_line_and_a_terminals_carriage_return(id: u64, reply in any_reply()) {
            let line = encode_reply(id, &reply).replace('\n', "\r\n");
            prop_assert_eq!(decode_reply(&line), Some((id, reply)));
        }

        #[test]
        fn foreign_text_is_neither_request_nor_reply(text in "[^@]*") {
            prop_assert_eq!(decode_request(&text), None);
            prop_assert_eq!(decode_reply(&text), None);
        }
    }

    #[test]
    fn an_echoed_request_is_no_reply() {
        let echo = encode_request(3, &Request::Run { deadline: Duration::from_secs(1), command: "ls".into() });
        assert_eq!(decode_reply(&echo), None);
        assert_eq!(decode_reply("@1 ping"), None);
    }

    #[test]
    fn text_before_the_mark_is_skipped() {
        assert_eq!(decode_reply("[    1.5] random: crng init done@4 pong"), Some((4, Reply::Pong)));
    }

    #[test]
    fn output_in_order_is_whole() {
        let mut output = Output::default();
        output.push(0, b"abc");
        output.push(3, b"d");
        assert_eq!(output.finish(4), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn a_lost_line_is_noticed_even_if_it_was_the_last() {
        let mut middle = Output::default();
        middle.push(0, b"abc");
        middle.push(6, b"ghi");
        assert_eq!(middle.finish(9), Err(Gap { received: 3, sent: 6 }));

        let mut last = Output::default();
        last.push(0, b"abc");
        assert_eq!(last.finish(5), Err(Gap { received: 3, sent: 5 }));
    }
}
