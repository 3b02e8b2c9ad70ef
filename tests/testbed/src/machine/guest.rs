//! Guests: unmodified Linux in a PV domain, started by xl.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::images::{GUEST_KERNEL, GUEST_RAMDISK, INSTRUMENT_RAMDISK};
use crate::machine::Machine;
use crate::machine::channel::Channel;
use crate::machine::qemu::{GUEST_PORTS, KERNEL_OPTIONS, guest_port};

/// A guest is there in 15 s or so on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(300);

/// What a guest's xl.cfg says.
#[derive(Debug, Clone)]
pub struct GuestConfiguration {
    /// The domain's name.
    pub name: &'static str,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// MiB of memory.
    pub memory: u32,
    /// Whether the domain gets an IOMMU context (`passthrough="enabled"`), without which no device can be assigned.
    pub has_iommu: bool,
    /// Devices that xl passes through with the kernel's xen-pciback (`pci=`), by their addresses in dom0. Empty for
    /// guests of xenpcid.
    pub pci: Vec<String>,
    /// What speaks with the backend.
    pub frontend: Frontend,
}

/// A guest's end of the PCI protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend {
    /// The kernel's xen-pcifront, with drivers for the devices.
    Kernel,
    /// None but what the scenario starts: `pcifront-shim` is there, with the modules that it needs.
    Instrument,
}

impl GuestConfiguration {
    /// A guest with 2 vCPUs to which devices can be assigned.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, vcpus: 2, memory: 256, has_iommu: true, pci: Vec::new(), frontend: Frontend::Kernel }
    }

    /// The text of its xl.cfg. Nothing in it is for passthrough but `passthrough`, and `e820_host`, which makes the guest's
    /// memory map leave room for the devices' memory.
    fn text(&self) -> String {
        let Self { name, vcpus, memory, has_iommu, pci, frontend } = self;
        let passthrough = if *has_iommu { "enabled" } else { "disabled" };
        let pci: Vec<String> = pci.iter().map(|sbdf| format!("\"{sbdf}\"")).collect();
        let pci = if pci.is_empty() { String::new() } else { format!("pci = [{}]\n", pci.join(", ")) };
        // The kernel gives what it does not know to its first process, as environment.
        let (ramdisk, frontend) = match frontend {
            Frontend::Kernel => (GUEST_RAMDISK, "kernel"),
            Frontend::Instrument => (INSTRUMENT_RAMDISK, "instrument"),
        };
        format!(
            "name = \"{name}\"\n\
             type = \"pv\"\n\
             vcpus = {vcpus}\n\
             memory = {memory}\n\
             kernel = \"{GUEST_KERNEL}\"\n\
             ramdisk = \"{ramdisk}\"\n\
             extra = \"console=hvc0 {KERNEL_OPTIONS} frontend={frontend}\"\n\
             passthrough = \"{passthrough}\"\n\
             e820_host = 1\n\
             {pci}\
             on_poweroff = \"destroy\"\n\
             on_reboot = \"destroy\"\n\
             on_crash = \"destroy\"\n"
        )
    }
}

/// A running guest.
pub struct Guest {
    /// The domain's name.
    pub name: &'static str,
    /// The domain's number.
    pub domid: u32,
    channel: Channel,
    port: usize,
}

impl Guest {
    /// Commands in the guest.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Machine {
    /// Creates a guest and waits until it runs commands.
    ///
    /// # Errors
    /// If xl refuses, or the guest does not come up.
    pub fn start_guest(&mut self, configuration: &GuestConfiguration) -> Result<Rc<Guest>> {
        let name = configuration.name;
        let is_free = |port: &usize| self.guests.iter().all(|guest| guest.port != *port);
        let port = (0..GUEST_PORTS)
            .find(is_free)
            .ok_or_else(|| Error::Unsuitable(format!("no port is free for guest {name}: {GUEST_PORTS} are running")))?;
        self.progress.note(&format!("guest {name} starts"));
        let file = self.share().join(format!("{name}.cfg"));
        fs::write(&file, configuration.text()).map_err(Error::io("write", &file))?;

        self.dom0().sh_within(START_DEADLINE, &format!("xl create /host/{name}.cfg"))?;
        let domid = self.dom0().sh(&format!("xl domid {name}"))?;
        let domid = domid.trim().parse().map_err(|_| Error::Expectation {
            expected: format!("the number of domain {name}"),
            found: domid.clone(),
        })?;
        // Our end is open before the console's bytes come.
        let channel = Channel::connect(&self.files().socket(&guest_port(port)), name)?;
        let tty = format!("/local/domain/{domid}/console/tty");
        self.dom0().wait_until(&format!("a console for {name}"), &format!("xenstore-exists {tty}"))?;
        self.dom0().sh(&format!(
            "setsid xenpcid-testbed-agent bridge $(xenstore-read {tty}) /dev/virtio-ports/{} \
             < /dev/null > /dev/null 2> /host/bridge-{name}.log &",
            guest_port(port)
        ))?;
        let guest = Rc::new(Guest { name, domid, channel, port });
        self.guests.push(guest.clone());
        guest.channel.wait_for_agent(START_DEADLINE)?;
        self.progress.note(&format!("guest {name} is up"));
        Ok(guest)
    }

    /// Ends a guest at once, as pulling its plug would.
    ///
    /// # Errors
    /// If xl fails.
    pub fn destroy_guest(&mut self, guest: &Guest) -> Result<()> {
        self.progress.note(&format!("guest {} is destroyed", guest.name));
        self.dom0().sh(&format!("xl destroy {}", guest.domid))?;
        self.guest_ended(guest)
    }

    /// Waits until a guest that was told to power off has gone.
    ///
    /// # Errors
    /// If it has not gone after [`DEADLINE`](crate::machine::DEADLINE).
    pub fn wait_for_end(&mut self, guest: &Guest) -> Result<()> {
        let is_gone = format!("! xl domname {} > /dev/null 2>&1", guest.domid);
        self.dom0().wait_until(&format!("the end of {}", guest.name), &is_gone)?;
        self.guest_ended(guest)
    }

    /// The port can be used again when the process that connects it to the console has ended.
    fn guest_ended(&mut self, guest: &Guest) -> Result<()> {
        let has_no_console = format!("! pgrep -f 'agent bridge .*/{}$' > /dev/null", guest_port(guest.port));
        self.dom0().wait_until(&format!("the end of {}'s console", guest.name), &has_no_console)?;
        guest.channel.close();
        self.guests.retain(|other| other.port != guest.port);
        Ok(())
    }
}
