//! `xenpci interrupts`: where the interrupts of assigned devices go.

use xenpcid_control::{Client, Interrupt, InterruptKind, ListInterrupts};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, GOOD, WRONG};
use crate::table::{Cell, table};

const COLUMNS: [&str; 10] =
    ["DEVICE", "GUEST", "KIND", "#ENTRY", "#PIRQ", "#IRQ", "VECTOR", "DELIVERED TO", "GUEST RUNS ON", "AGREE"];

pub fn run(places: &Places, arguments: &arguments::Interrupts) -> Result<(), Failure> {
    let reply = Client::connect(&places.socket)?.call(&ListInterrupts {})?;
    if arguments.json {
        return screen::json(&reply);
    }
    screen::print(&match reply.interrupts.as_slice() {
        [] => "No assigned device has an interrupt.\n".to_owned(),
        interrupts => table(COLUMNS, &interrupts.iter().map(row).collect::<Vec<_>>()),
    })
}

fn row(interrupt: &Interrupt) -> [Cell; 10] {
    let kind = match interrupt.kind {
        InterruptKind::Intx => "INTx",
        InterruptKind::Msi => "MSI",
        InterruptKind::Msix => "MSI-X",
    };
    let agrees = match interrupt.agrees {
        Some(true) => Cell::new("yes").styled(GOOD),
        Some(false) => Cell::new("no").styled(WRONG),
        None => Cell::new("-"),
    };
    [
        Cell::from(interrupt.device.to_string()).styled(ADDRESS),
        screen::guest(&interrupt.guest).into(),
        Cell::new(kind),
        interrupt.entry.to_string().into(),
        interrupt.pirq.to_string().into(),
        Cell::optional(interrupt.irq.map(|irq| irq.to_string())),
        Cell::optional(interrupt.vector.map(|vector| format!("{vector:02x}"))),
        cpus(&interrupt.cpus),
        cpus(&interrupt.guest_cpus),
        agrees,
    ]
}

/// CPUs as ranges, such as 0-3,6.
fn cpus(cpus: &[u32]) -> Cell {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let texts: Vec<_> = ranges.iter().map(text).collect();
    Cell::optional((!texts.is_empty()).then(|| texts.join(",")))
}
