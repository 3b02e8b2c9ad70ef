//! The agent: `xenpcid-testbed-agent serve DEVICE` runs commands that arrive on a character device, `bridge A B` copies
//! bytes between two of them (in dom0: between a guest's console and a virtio port).
#![forbid(unsafe_code)]

mod bridge;
mod device;
mod run;
mod serve;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", device] => serve::serve(Path::new(device)),
        ["bridge", one, other] => bridge::bridge(Path::new(one), Path::new(other)),
        _ => {
            eprintln!("usage: xenpcid-testbed-agent serve DEVICE | bridge DEVICE DEVICE");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenpcid-testbed-agent: {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}
