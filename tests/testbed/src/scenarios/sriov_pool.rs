//! Virtual functions from a pool.

use crate::error::{Result, expect};
use crate::machine::devices::{IGB, IGBVF};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::{in_guest, network};

/// A guest, the MAC address that is declared for it, and its IP address.
const GUESTS: [(&str, &str, &str); 2] =
    [("left", "52:54:00:c0:00:01", "10.0.3.1"), ("right", "52:54:00:c0:00:02", "10.0.3.2")];

/// Each of two guests gets a virtual function of its own with the MAC address that is declared, and they reach each other
/// through the physical function's switch.
pub fn sriov_pool(machine: &mut Machine) -> Result<()> {
    let physical = machine.find(IGB, 0)?;
    // A virtual function's driver talks with the physical function's, which serves it while its interface is up.
    machine.dom0().sh(&format!("modprobe igb; ip link set $(ls /sys/bus/pci/devices/{physical}/net) up"))?;
    let mut text = format!(
        "[[pool]]\nname = \"ports\"\nphysical-function = {{ bdf = \"{physical}\" }}\ncount = {}\n\n",
        GUESTS.len()
    );
    for (name, mac, _) in GUESTS {
        text += &format!("[[domain]]\nname = \"{name}\"\ndevices = [{{ from = \"ports\", mac = \"{mac}\" }}]\n\n");
    }
    machine.start_daemon(&text)?;
    let guests = [
        machine.start_guest(&GuestConfiguration::new(GUESTS[0].0))?,
        machine.start_guest(&GuestConfiguration::new(GUESTS[1].0))?,
    ];
    for (guest, (_, mac, address)) in guests.iter().zip(GUESTS) {
        configure(guest, mac, address)?;
    }
    let addresses = GUESTS.iter().map(|(_, _, address)| address);
    for (guest, peer) in guests.iter().zip(addresses.rev()) {
        guest.channel().sh(&format!("ping -c 5 -i 0.2 -W 10 {peer}"))?;
    }
    let owners = machine.owners()?;
    let functions = [machine.find(IGBVF, 0)?, machine.find(IGBVF, 1)?];
    for guest in &guests {
        let count = functions.iter().filter(|sbdf| owners.get(*sbdf) == Some(&format!("d{}", guest.domid))).count();
        expect(count == 1, format!("one virtual function for {}", guest.name), count.to_string())?;
    }
    Ok(())
}

fn configure(guest: &Guest, mac: &str, address: &str) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, IGBVF)?;
    let interface = in_guest::network_interface(guest, &sbdf)?;
    let found = guest.channel().sh(&format!("cat /sys/class/net/{interface}/address"))?;
    expect(found.trim() == mac, format!("the MAC address {mac} in {}", guest.name), found)?;
    network::bring_up(guest, &interface, address)
}
