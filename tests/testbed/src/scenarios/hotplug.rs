//! Attach and detach in a running guest, with xl and xen-pciback, and with xenpcid, side by side in one boot.

use std::time::{Duration, Instant};

use crate::error::{Result, expect};
use crate::machine::devices::{E1000E, Model, NVME};
use crate::machine::{Daemon, Guest, GuestConfiguration, Machine};
use crate::scenarios::{configuration, in_guest, network, nvme, traffic};

/// Each device leaves and comes back this often.
const ROUNDS: usize = 10;

/// Rounds after which the daemon has all the memory that it needs.
const WARM_UP: usize = 2;

/// What the daemon's allocator may have taken from the kernel meanwhile, in KiB. A device that was forgotten takes more: each
/// has its configuration space and its policy's plan, 4 KiB and some 10, and there are 16 of them.
const MEMORY_GROWTH: usize = 128;

/// Threads that may have been begun for what blocks, a reset or a look at sysfs, and end 10 s after it. One that was forgotten
/// for each device would be 16 more.
const BLOCKING_THREADS: usize = 4;

/// Failures in a row after which the rest would tell nothing more.
const PATIENCE: usize = 2;

const NAME: &str = "hot";

/// How long the commands took that attached and detached a device.
struct Times {
    attach: Duration,
    detach: Duration,
}

pub fn hotplug(machine: &mut Machine) -> Result<()> {
    let devices = [(NVME, machine.find(NVME, 0)?), (E1000E, machine.find(E1000E, 0)?)];
    let addresses: Vec<String> = devices.iter().map(|(_, sbdf)| sbdf.clone()).collect();

    let configuration = GuestConfiguration { pci: addresses.clone(), ..GuestConfiguration::new(NAME) };
    let theirs = machine.with_pciback(&addresses, |machine| {
        let guest = machine.start_guest(&configuration)?;
        traffic::expect_use(&guest, E1000E)?;
        let rounds = with_pciback(machine, &guest, &devices);
        machine.destroy_guest(&guest)?;
        Ok(rounds)
    })?;
    tell(machine, "xl and xen-pciback", &theirs);

    let daemon = machine.start_daemon(&configuration::devices(&addresses))?;
    let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;
    let both = addresses.join(" ");
    machine.dom0().sh(&format!("for device in {both}; do xenpci pci-attach {NAME} $device || exit; done"))?;
    traffic::expect_use(&guest, E1000E)?;
    let ours = with_xenpcid(machine, &daemon, &guest, &devices)?;
    tell(machine, "xenpci and xenpcid", &ours);
    nvme::expect_queues(&guest)?;
    network::expect_e1000e(&guest)?;

    machine.dom0().sh(&format!("for device in {both}; do xenpci pci-detach {NAME} $device || exit; done"))?;
    let permissions = machine.permissions(guest.domid)?;
    expect(permissions.is_empty(), "no permission of the guest without devices", format!("{permissions:?}"))?;
    machine.expect_owner(&addresses, "DomIO")
}

/// What works and what does not is told, and is no failure of ours.
fn with_pciback(machine: &Machine, guest: &Guest, devices: &[(Model, String)]) -> Vec<Option<Times>> {
    let mut rounds = Vec::new();
    for (model, sbdf) in devices.iter().cycle().take(devices.len() * ROUNDS) {
        let round = replug(machine, "xl", guest, *model, sbdf);
        if let Err(error) = &round {
            machine.report(&format!("xl and xen-pciback, {model}: {}", error.to_string().replace('\n', " ")));
        }
        rounds.push(round.ok());
        if rounds.iter().rev().take(PATIENCE).filter(|round| round.is_none()).count() == PATIENCE {
            break;
        }
    }
    rounds
}

/// All of it works, and nothing is left behind.
fn with_xenpcid(
    machine: &Machine,
    daemon: &Daemon,
    guest: &Guest,
    devices: &[(Model, String)],
) -> Result<Vec<Option<Times>>> {
    let mut rounds = Vec::new();
    let mut replug_each = |times: usize| -> Result<()> {
        for (model, sbdf) in devices.iter().cycle().take(devices.len() * times) {
            rounds.push(Some(replug(machine, "xenpci", guest, *model, sbdf)?));
        }
        Ok(())
    };
    replug_each(WARM_UP)?;
    let early = machine.traces(daemon, guest)?;
    replug_each(ROUNDS - WARM_UP)?;
    let late = machine.traces(daemon, guest)?;
    expect(
        late.permissions.interrupts.len() == early.permissions.interrupts.len(),
        format!("as many interrupts in Xen as before: {:?}", early.permissions.interrupts),
        format!("{:?}", late.permissions.interrupts),
    )?;
    expect(late.permissions.memory == early.permissions.memory, early.permissions.memory, late.permissions.memory)?;
    expect(late.permissions.ports == early.permissions.ports, early.permissions.ports, late.permissions.ports)?;
    expect(
        late.nodes.len() == early.nodes.len(),
        format!("as many xenstore nodes as before: {:?}", early.nodes),
        format!("{:?}", late.nodes),
    )?;
    expect(
        late.descriptors <= early.descriptors && late.threads <= early.threads + BLOCKING_THREADS,
        format!(
            "{} open files and {} threads of the daemon, and {BLOCKING_THREADS} more",
            early.descriptors, early.threads
        ),
        format!("{} and {}", late.descriptors, late.threads),
    )?;
    expect(
        late.memory <= early.memory + MEMORY_GROWTH,
        format!("{} KiB of the daemon's memory, and {MEMORY_GROWTH} more", early.memory),
        late.memory.to_string(),
    )?;
    machine.report(&format!("the daemon's memory: {} KiB, then {} KiB", early.memory, late.memory));
    Ok(rounds)
}

/// A device leaves a guest and comes back, and works, while the guest uses the other one.
fn replug(machine: &Machine, tool: &str, guest: &Guest, model: Model, sbdf: &str) -> Result<Times> {
    let other = if model == NVME { E1000E } else { NVME };
    traffic::start(guest, other)?;
    let command = |verb: &str| {
        let begun = Instant::now();
        machine.dom0().sh(&format!("{tool} {verb} {NAME} {sbdf}")).map(|_| begun.elapsed())
    };
    let detach = command("pci-detach")?;
    in_guest::wait_for_absence(guest, model)?;
    let attach = command("pci-attach")?;
    traffic::expect_going_on(guest)?;
    traffic::stop(guest)?;
    traffic::expect_use(guest, model)?;
    Ok(Times { attach, detach })
}

fn tell(machine: &Machine, who: &str, rounds: &[Option<Times>]) {
    let worked: Vec<&Times> = rounds.iter().flatten().collect();
    let attach = summary(worked.iter().map(|times| times.attach).collect());
    let detach = summary(worked.iter().map(|times| times.detach).collect());
    let (count, tried) = (worked.len(), rounds.len());
    machine.report(&format!("{who}: {count} of {tried} worked; attach {attach}; detach {detach}"));
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(most)) => {
            format!("{:.1} s, at most {:.1} s", median.as_secs_f64(), most.as_secs_f64())
        }
        _ => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_median_and_maximum() {
        let seconds = |all: &[u64]| all.iter().map(|count| Duration::from_secs(*count)).collect();
        assert_eq!(summary(seconds(&[9, 1, 2])), "2.0 s, at most 9.0 s");
        assert_eq!(summary(Vec::new()), "never");
    }
}
