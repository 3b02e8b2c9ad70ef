//! `xenpci status`: the devices, and who has them.

use xenpcid_control::{Client, Device, DeviceState, ListDevices};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, FAINT, GOOD, WRONG, hanging, paint};
use crate::table::{Cell, table};

const COLUMNS: [&str; 9] = ["DEVICE", "NAME", "IDENTITY", "DRIVER", "OWNER", "SLOT", "#VECTORS", "#DENIED", "SINCE"];

pub fn run(places: &Places, arguments: &arguments::Status) -> Result<(), Failure> {
    let reply = Client::connect(&places.socket)?.call(&ListDevices {})?;
    if arguments.json {
        return screen::json(&reply);
    }
    if reply.devices.is_empty() {
        return screen::print(
            "No device is declared or claimed: `xenpci claim DEVICE` claims one, `xenpci tree` lists them.\n",
        );
    }
    let mut text = table(COLUMNS, &reply.devices.iter().map(row).collect::<Vec<_>>());
    let width = screen::width();
    text.extend(reply.devices.iter().filter_map(|device| problem(device, width)));
    screen::print(&text)
}

fn row(device: &Device) -> [Cell; 9] {
    let address = device.address.map(|address| address.to_string());
    // What only repeats the address says nothing.
    let identity = Some(&device.identity).filter(|identity| Some(*identity) != address.as_ref());
    let assigned = |text: String| device.guest.is_some().then_some(text);
    [
        Cell::optional(address.as_ref()).styled(ADDRESS),
        Cell::optional(device.name.as_ref()),
        Cell::optional(identity),
        Cell::optional(device.driver.as_ref()),
        owner(device),
        slot(device),
        Cell::optional(assigned(device.vectors.to_string())),
        Cell::optional(assigned(device.denied.to_string())),
        screen::time(device.since).into(),
    ]
}

fn owner(device: &Device) -> Cell {
    match (device.state, &device.guest) {
        (DeviceState::Missing, _) => Cell::new("missing").styled(WRONG),
        (DeviceState::Unclaimed, _) => Cell::new("dom0"),
        (DeviceState::Claiming, _) => Cell::new("dom0, being claimed"),
        (DeviceState::Quarantined, _) => Cell::new("quarantine").styled(FAINT),
        (DeviceState::Broken, _) => Cell::new("quarantine, broken").styled(WRONG),
        (DeviceState::Assigned, Some(guest)) => Cell::from(screen::guest(guest)).styled(GOOD),
        (DeviceState::Assigned, None) => Cell::new("a guest"),
    }
}

/// Where the guest sees it; or which slot it is to have there.
fn slot(device: &Device) -> Cell {
    match (&device.guest_address, device.slot) {
        (Some(address), _) => Cell::new(address),
        (None, Some(slot)) => Cell::from(format!("({slot:02x})")),
        (None, None) => Cell::new("-"),
    }
}

fn problem(device: &Device, width: usize) -> Option<String> {
    let problem = device.problem.as_ref()?;
    let title = title(device);
    let first = format!("{}: ", paint(ADDRESS, &title));
    Some(hanging(&first, title.chars().count() + 2, &screen::harmless(problem), width))
}

/// What a device is called in a line of its own.
pub fn title(device: &Device) -> String {
    let address = device.address.map(|address| address.to_string());
    let name = device.name.as_deref().or(address.is_none().then_some(device.identity.as_str()));
    screen::harmless(&address.iter().map(String::as_str).chain(name).collect::<Vec<_>>().join(" "))
}
