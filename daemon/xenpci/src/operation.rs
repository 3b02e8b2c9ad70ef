//! What takes its time: done by the daemon, shown on a terminal, and left to itself with Ctrl-C.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use xenpcid_control::{Client, Method, Step};

use crate::arguments::Places;
use crate::failure::Failure;
use crate::screen;

/// What is said of one that is not waited for.
pub const UNDER_WAY: &str = "It is under way; `xenpci watch` shows how it goes on.\n";

/// How often progress is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Exit status of a command that a signal ended, as shells count it.
const INTERRUPTED: i32 = 130;

/// Has it done, and waits for it until `deadline`; nothing came of one that is not waited for at all.
pub fn run<M, T>(places: &Places, call: &M, deadline: Option<Instant>) -> Result<Option<T>, Failure>
where
    M: Method<Reply = Step<T>>,
{
    let mut client = Client::connect(&places.socket)?;
    if let Some(deadline) = deadline {
        client.give_up_at(deadline);
    }
    carry_out(&mut client, call)
}

/// Has it done over a connection, and waits for it as long as that does.
pub fn carry_out<M, T>(client: &mut Client, call: &M) -> Result<Option<T>, Failure>
where
    M: Method<Reply = Step<T>>,
{
    ctrlc::set_handler(|| {
        anstream::eprintln!("\nxenpci: it goes on without you: `xenpci watch` and `xenpci status` show how");
        std::process::exit(INTERRUPTED);
    })?;
    let bar = progress();
    let outcome = client.operate(call, |line| bar.set_message(screen::harmless(line)));
    bar.finish_and_clear();
    Ok(outcome?)
}

/// Where progress is drawn: on standard error, and only if that is a terminal.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
