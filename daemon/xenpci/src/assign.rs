//! `xenpci attach`, `detach`, `claim` and `release`: devices change hands.

use std::time::Duration;

use serde::Serialize;
use xenpcid_address::Sbdf;
use xenpcid_control::{Attach, AttachDevice, Attached, Claim, Claimed, Detach, Method, Options, Release, Reset, Step};

use crate::arguments::{self, Places, Taking};
use crate::failure::Failure;
use crate::operation::{self, UNDER_WAY};
use crate::screen;

pub fn attach(places: &Places, arguments: arguments::Attach) -> Result<(), Failure> {
    let arguments::Attach { domain, devices, slot, policy, taking, seize, waiting } = arguments;
    if slot.is_some() && devices.len() > 1 {
        return Err(Failure::SlotOfSeveral);
    }
    let reset = reset(&taking);
    let device = |device| AttachDevice {
        device,
        slot,
        policy: policy.clone(),
        allow: taking.allow.clone(),
        reset,
        seize,
        options: Options::default(),
    };
    let devices = devices.into_iter().map(device).collect();
    let (timeout, wait) = (waiting.timeout.map(milliseconds), !waiting.no_wait);
    let shown = screen::harmless(&domain);
    let line = |Attached { device, guest_address }: &Attached| format!("{device} is {guest_address} in {shown}");
    operate(places, &Attach { domain, devices, timeout, wait }, waiting.json, line)
}

pub fn detach(places: &Places, arguments: arguments::Detach) -> Result<(), Failure> {
    let arguments::Detach { domain, devices, force, waiting } = arguments;
    let (timeout, wait) = (waiting.timeout.map(milliseconds), !waiting.no_wait);
    let shown = screen::harmless(&domain);
    let line = |device: &Sbdf| format!("{device} was taken from {shown}, and is in quarantine");
    operate(places, &Detach { domain, devices, force, timeout, wait }, waiting.json, line)
}

pub fn claim(places: &Places, arguments: arguments::Claim) -> Result<(), Failure> {
    let arguments::Claim { device, name, taking, json } = arguments;
    let reset = reset(&taking);
    let line = |Claimed { device, name, already }: &Claimed| {
        let state = if *already { "was in quarantine already" } else { "is in quarantine" };
        let name = name.as_ref().map(|name| format!(", and is called {}", screen::harmless(name))).unwrap_or_default();
        format!("{device} {state}{name}")
    };
    operate(places, &Claim { device, name, allow: taking.allow, reset }, json, line)
}

pub fn release(places: &Places, arguments: arguments::Release) -> Result<(), Failure> {
    let arguments::Release { device, unbound, json } = arguments;
    operate(places, &Release { device, rebind: !unbound }, json, |device| format!("{device} is dom0's"))
}

/// What the configuration says, unless the command line says otherwise.
fn reset(taking: &Taking) -> Option<Reset> {
    taking.best_effort_reset.then_some(Reset::BestEffort)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Has it done, and prints a line for each device.
fn operate<M, T>(places: &Places, call: &M, json: bool, line: impl Fn(&T) -> String) -> Result<(), Failure>
where
    M: Method<Reply = Step<Vec<T>>>,
    T: Serialize,
{
    match operation::run(places, call, None)? {
        result if json => screen::json(&result),
        Some(devices) => screen::print(&devices.iter().map(|device| line(device) + "\n").collect::<String>()),
        None => screen::print(UNDER_WAY),
    }
}
