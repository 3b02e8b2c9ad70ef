//! The host's end of a command channel: to the agent in dom0, or to one in a guest.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use xenpcid_testbed_agent::{Ending, Output, Reply, Request, RequestId, decode_reply, encode_request};

use crate::error::{Error, Result};

/// A command may take this long unless the caller says otherwise. Nothing is expected to come near it: it is there so
/// that a hang ends, on a loaded machine too.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long after an agent should have killed a command its answer may take.
const GRACE: Duration = Duration::from_secs(30);

/// Time between two questions whether an agent is there.
const PING_PERIOD: Duration = Duration::from_secs(1);

/// A connection to an agent.
pub struct Channel {
    place: String,
    writer: UnixStream,
    pending: Pending,
    next: AtomicU64,
}

/// Who waits for answers to which request. `None` once the connection has ended.
type Pending = Arc<Mutex<Option<HashMap<RequestId, Sender<Reply>>>>>;

/// A command's ending and what it wrote.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Standard output and standard error together.
    pub text: String,
}

impl Channel {
    /// Connects to a socket of QEMU. `place` names the other side in messages: "dom0", or a guest.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(socket: &Path, place: &str) -> Result<Self> {
        let writer = UnixStream::connect(socket).map_err(Error::io("connect to", socket))?;
        let reader = writer.try_clone().map_err(Error::io("connect to", socket))?;
        let pending = Pending::new(Mutex::new(Some(HashMap::new())));
        let dispatched = pending.clone();
        thread::spawn(move || dispatch(reader, &dispatched));
        Ok(Self { place: place.to_owned(), writer, pending, next: AtomicU64::new(1) })
    }

    /// Waits until the agent is there.
    ///
    /// # Errors
    /// [`Error::Deadline`], or [`Error::MachineEnded`].
    pub fn wait_for_agent(&self, deadline: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < deadline {
            // An agent that comes late answers the earlier questions first, and this one right after.
            let answers = self.send(&Request::Ping)?;
            match self.receive(&answers, PING_PERIOD) {
                Err(Error::Deadline { .. }) => {}
                other => return other.map(drop),
            }
        }
        Err(Error::Deadline { what: format!("start of {}", self.place), deadline })
    }

    /// Runs a command and tells how it ended, whatever that is.
    ///
    /// # Errors
    /// If the channel does not work; a failing command is no error here.
    pub fn run(&self, command: &str, deadline: Duration) -> Result<Outcome> {
        let replies = self.send(&Request::Run { deadline, command: command.to_owned() })?;
        let patience = Instant::now() + deadline + GRACE;
        let mut output = Output::default();
        loop {
            match self.receive(&replies, patience.saturating_duration_since(Instant::now())) {
                Ok(Reply::Output { offset, bytes }) => output.push(offset, &bytes),
                Ok(Reply::End { ending, length }) => {
                    let bytes = output.finish(length).map_err(|gap| self.error(command, &gap.to_string(), ""))?;
                    return Ok(Outcome { ending, text: String::from_utf8_lossy(&bytes).into_owned() });
                }
                Ok(Reply::Pong) => {}
                Err(Error::Deadline { .. }) => return Err(self.error(command, "is not answered", "")),
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs a command that must succeed, and returns its output.
    ///
    /// # Errors
    /// [`Error::Command`] with its output if it does not.
    pub fn sh(&self, command: &str) -> Result<String> {
        self.sh_within(DEADLINE, command)
    }

    /// As [`Channel::sh`], for a command that may take longer, or must not take as long.
    ///
    /// # Errors
    /// As [`Channel::sh`].
    pub fn sh_within(&self, deadline: Duration, command: &str) -> Result<String> {
        let outcome = self.run(command, deadline)?;
        let ending = match outcome.ending {
            Ending::Exit(0) => return Ok(outcome.text),
            Ending::Exit(status) => format!("ended with status {status}"),
            Ending::Signal(signal) => format!("was ended by signal {signal}"),
            Ending::Deadline => format!("was not done after {} s", deadline.as_secs()),
            Ending::NotStarted => "could not be started".to_owned(),
        };
        Err(self.error(command, &ending, &outcome.text))
    }

    /// Waits until a shell condition holds. For what tells nobody that it has changed, such as sysfs.
    ///
    /// # Errors
    /// [`Error::Deadline`] that says `what` was waited for, or a failure of the channel.
    pub fn wait_until(&self, what: &str, condition: &str) -> Result<()> {
        let command = format!("until {condition}; do sleep 0.2; done");
        let outcome = self.run(&command, DEADLINE)?;
        match outcome.ending {
            Ending::Exit(0) => Ok(()),
            _ => Err(Error::Deadline { what: format!("in {}: {what}", self.place), deadline: DEADLINE }),
        }
    }

    /// Ends the connection, so that QEMU takes another one on this port. Commands fail from now on.
    pub fn close(&self) {
        // Fails if QEMU has ended, and the connection with it.
        let _ = self.writer.shutdown(Shutdown::Both);
    }

    /// The only sender of the replies is kept where [`dispatch`] drops it when the connection ends: whoever waits for a
    /// reply then knows at once.
    fn send(&self, request: &Request) -> Result<Receiver<Reply>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel();
        lock(&self.pending).as_mut().ok_or_else(|| self.ended())?.insert(id, sender);
        (&self.writer).write_all(encode_request(id, request).as_bytes()).map_err(|_| self.ended())?;
        Ok(replies)
    }

    fn receive(&self, replies: &Receiver<Reply>, patience: Duration) -> Result<Reply> {
        match replies.recv_timeout(patience) {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Err(Error::Deadline { what: self.place.clone(), deadline: patience }),
        }
    }

    fn ended(&self) -> Error {
        Error::MachineEnded(format!("the channel to {} is closed", self.place))
    }

    fn error(&self, command: &str, ending: &str, output: &str) -> Error {
        Error::Command {
            place: self.place.clone(),
            command: command.to_owned(),
            ending: ending.to_owned(),
            output: output.to_owned(),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Also ends the reading thread, which holds the other half.
        self.close();
    }
}

/// Gives each reply to who waits for it, until the connection ends. Anything else on the channel is a kernel's text,
/// which is in the logs.
fn dispatch(reader: UnixStream, pending: &Pending) {
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        if let Some((id, reply)) = decode_reply(&String::from_utf8_lossy(&line)) {
            let mut guard = lock(pending);
            let Some(waiting) = guard.as_mut() else { return };
            let is_last = !matches!(reply, Reply::Output { .. });
            if let Some(sender) = waiting.get(&id) {
                // Nobody listens any more after a deadline.
                let _ = sender.send(reply);
            }
            if is_last {
                waiting.remove(&id);
            }
        }
        line.clear();
    }
    *lock(pending) = None;
}

fn lock(pending: &Pending) -> MutexGuard<'_, Option<HashMap<RequestId, Sender<Reply>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use xenpcid_testbed_agent::{decode_request, encode_reply};

    use super::*;

    /// An agent that answers each request with `answer` and what it wants to write.
    fn agent(answer: impl Fn(RequestId, Request) -> Vec<String> + Send + 'static) -> (tempfile::TempDir, Channel) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines() {
                let (id, request) = decode_request(&line.unwrap()).unwrap();
                for reply in answer(id, request) {
                    writer.write_all(reply.as_bytes()).unwrap();
                }
            }
        });
        let channel = Channel::connect(&socket, "there").unwrap();
        (folder, channel)
    }

    fn output(id: RequestId, offset: u64, text: &str) -> String {
        encode_reply(id, &Reply::Output { offset, bytes: text.into() })
    }

    fn end(id: RequestId, ending: Ending, length: u64) -> String {
        encode_reply(id, &Reply::End { ending, length })
    }

    #[test]
    fn output_is_put_together_around_foreign_text() {
        let (_folder, channel) = agent(|id, _| {
            vec![
                output(id, 0, "one "),
                "[ 3.1] a kernel's line\n".into(),
                output(id, 4, "two"),
                end(id, Ending::Exit(0), 7),
            ]
        });
        assert_eq!(channel.sh("x").unwrap(), "one two");
    }

    #[test]
    fn a_failing_command_is_an_error_with_place_status_and_output() {
        let (_folder, channel) = agent(|id, _| vec![output(id, 0, "why"), end(id, Ending::Exit(5), 3)]);
        let text = channel.sh("do it").unwrap_err().to_string();
        for part in ["there", "do it", "status 5", "why"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn lost_output_is_an_error() {
        let (_folder, channel) = agent(|id, _| vec![end(id, Ending::Exit(0), 7)]);
        assert!(channel.sh("x").unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn a_closed_channel_is_reported_at_once() {
        let (_folder, channel) = agent(|_, _| panic!("the agent dies"));
        assert!(matches!(channel.sh("x"), Err(Error::MachineEnded(_))));
    }

    #[test]
    fn an_agent_that_answers_is_found() {
        let (_folder, channel) = agent(|id, _| vec![encode_reply(id, &Reply::Pong)]);
        channel.wait_for_agent(Duration::from_secs(60)).unwrap();
    }
}
