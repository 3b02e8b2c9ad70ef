//! Runs one command and sends its output and its ending.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};
use xenpcid_testbed_agent::{CHUNK, Ending, Reply, RequestId};

use crate::serve::Replies;

/// Runs `command` and reports to `replies`. The command is over when its shell is: a process that it left in the
/// background may go on holding the output, which nobody reads any more.
pub fn run(id: RequestId, command: &str, deadline: Duration, replies: &Replies) {
    let mut length = 0;
    // A reply that cannot be written has nobody to be told to: the host has gone.
    let mut send = |bytes: &[u8]| {
        drop(replies.send(id, &Reply::Output { offset: length, bytes: bytes.to_vec() }));
        length += bytes.len() as u64;
    };
    let ending = start(command).and_then(|(child, output)| follow(child, output, deadline, &mut send));
    let ending = ending.unwrap_or_else(|error| {
        send(error.to_string().as_bytes());
        Ending::NotStarted
    });
    drop(replies.send(id, &Reply::End { ending, length }));
}

/// Starts the command in a process group of its own, both outputs on one pipe, and returns the pipe's reading end.
fn start(command: &str) -> io::Result<(Child, File)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    // Only the reading end: the child may go on sharing the writing end, which has flags of its own.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((child, File::from(reader)))
}

/// Sends the output on as it comes, until the command ends or is killed at its deadline.
fn follow(mut child: Child, mut output: File, deadline: Duration, send: &mut impl FnMut(&[u8])) -> io::Result<Ending> {
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    // The end of a child is no file event, so a thread waits for it and then lets go of the writing end of a pipe.
    let (ended, keep_until_ended) = pipe2(OFlag::O_CLOEXEC)?;
    let waiter = thread::spawn(move || {
        let status = child.wait();
        drop(keep_until_ended);
        status
    });
    let started = Instant::now();
    let mut killed = false;
    let mut output_open = true;
    loop {
        let left = if killed { None } else { Some(deadline.saturating_sub(started.elapsed())) };
        let mut events = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        if output_open {
            events.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
        }
        let count = poll(&mut events, timeout(left))?;
        let is_over = events.first().is_some_and(|event| event.any().unwrap_or(true));
        drop(events);
        if count == 0 && left.is_some_and(|left| left.is_zero()) {
            killed = true;
            // ESRCH: it ended by itself just now.
            let _ = killpg(group, Signal::SIGKILL);
        }
        output_open = output_open && pass_on(&mut output, send)?;
        if is_over {
            let status = waiter.join().map_err(|_| io::Error::other("the waiting thread ended"))??;
            return Ok(if killed { Ending::Deadline } else { ending(status) });
        }
    }
}

/// Sends what is there now. False at the end of the output.
fn pass_on(output: &mut File, send: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = [0; CHUNK];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => send(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Rounds up to a millisecond, so that a poll that timed out really is past the deadline.
fn timeout(left: Option<Duration>) -> PollTimeout {
    left.map_or(PollTimeout::NONE, |left| {
        let milliseconds = left.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
    })
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::NotStarted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_here(command: &str, deadline: Duration) -> (Ending, String) {
        let mut bytes = Vec::new();
        let (child, output) = start(command).unwrap();
        let ending = follow(child, output, deadline, &mut |part| bytes.extend_from_slice(part)).unwrap();
        (ending, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn both_outputs_and_the_status_arrive() {
        let (ending, output) = run_here("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!((ending, output.as_str()), (Ending::Exit(3), "out\nerr\n"));
    }

    #[test]
    fn output_larger_than_a_pipe_arrives_whole() {
        let (ending, output) = run_here("seq 1 50000", Duration::from_secs(60));
        assert_eq!(ending, Ending::Exit(0));
        assert_eq!(output.lines().count(), 50_000);
    }

    #[test]
    fn a_background_process_does_not_hold_the_command_up() {
        // Would be noticed as a test that lasts an hour.
        let (ending, output) = run_here("sleep 3600 & echo $!", Duration::from_secs(3000));
        assert_eq!(ending, Ending::Exit(0));
        let left_over = Pid::from_raw(output.trim().parse().unwrap());
        nix::sys::signal::kill(left_over, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn the_deadline_ends_the_whole_group_and_keeps_its_output() {
        let (ending, output) = run_here("echo before; sleep 3600; echo after", Duration::from_millis(300));
        assert_eq!((ending, output.as_str()), (Ending::Deadline, "before\n"));
    }

    #[test]
    fn a_signal_is_reported_as_one() {
        let (ending, _) = run_here("kill -TERM $$", Duration::from_secs(60));
        assert_eq!(ending, Ending::Signal(15));
    }
}
