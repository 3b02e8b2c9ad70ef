//! Guests: unmodified Linux in a PV domain, started by xl.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use xenpcid_testbed_agent::decode_reply;

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
    /// Devices that `pci=` lists, by their addresses in dom0: xl passes them through with the kernel's xen-pciback, xenpci with
    /// xenpcid.
    pub pci: Vec<String>,
    /// What creates the domain: `xl` or `xenpci`.
    pub creator: &'static str,
    /// What speaks with the backend.
    pub frontend: Frontend,
    /// Whether xl starts the domain anew, with another number, when it reboots or crashes. If not, it is gone.
    pub restarts: bool,
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
        Self {
            name,
            vcpus: 2,
            memory: 256,
            has_iommu: true,
            pci: Vec::new(),
            creator: "xl",
            frontend: Frontend::Kernel,
            restarts: false,
        }
    }

    /// The text of its xl.cfg. Nothing in it is for passthrough but `passthrough`, and `e820_host`, which makes the guest's
    /// memory map leave room for the devices' memory.
    fn text(&self) -> String {
        let Self { name, vcpus, memory, has_iommu, pci, creator: _, frontend, restarts } = self;
        let restart = if *restarts { "restart" } else { "destroy" };
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
             on_reboot = \"{restart}\"\n\
             on_crash = \"{restart}\"\n"
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
        let guest = self.create_guest(configuration)?;
        self.wait_for_guest(&guest)?;
        Ok(guest)
    }

    /// Creates a guest, which may be paused for all we know.
    ///
    /// # Errors
    /// If xl refuses.
    pub fn create_guest(&mut self, configuration: &GuestConfiguration) -> Result<Rc<Guest>> {
        let name = configuration.name;
        let is_free = |port: &usize| self.guests.iter().all(|guest| guest.port != *port);
        let port = (0..GUEST_PORTS)
            .find(is_free)
            .ok_or_else(|| Error::Unsuitable(format!("no port is free for guest {name}: {GUEST_PORTS} are running")))?;
        self.progress.note(&format!("guest {name} starts"));
        let file = self.share().join(format!("{name}.cfg"));
        fs::write(&file, configuration.text()).map_err(Error::io("write", &file))?;

        self.dom0().sh_within(START_DEADLINE, &format!("{} create /host/{name}.cfg", configuration.creator))?;
        self.connect(name, port)
    }

    /// Waits until xl has started a guest anew that was told to reboot, or has crashed, and until it runs commands. The guest
    /// that was is not to be used any more.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn wait_for_restart(&mut self, guest: &Guest) -> Result<Rc<Guest>> {
        let Guest { name, domid, port, .. } = *guest;
        let is_new = format!("id=$(xl domid {name} 2> /dev/null) && [ $id != {domid} ]");
        self.dom0().wait_until(&format!("another domain {name}"), &is_new)?;
        self.guest_ended(guest)?;
        let guest = self.connect(name, port)?;
        self.wait_for_guest(&guest)?;
        Ok(guest)
    }

    /// Waits until a guest runs commands.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_for_guest(&self, guest: &Guest) -> Result<()> {
        guest.channel.wait_for_agent(START_DEADLINE)?;
        self.progress.note(&format!("guest {} is up", guest.name));
        Ok(())
    }

    /// Whether Xen lets none of the domain's CPUs run.
    ///
    /// # Errors
    /// If there is no such domain.
    pub fn is_paused(&self, guest: &Guest) -> Result<bool> {
        // A column of letters, with - for what does not hold: running, blocked, paused, shut down, crashed, dying.
        let states = self.dom0().sh(&format!("xl list {} | awk 'NR == 2 {{ print $5 }}'", guest.domid))?;
        Ok(states.contains('p'))
    }

    /// The channel to a domain that is there.
    fn connect(&mut self, name: &'static str, port: usize) -> Result<Rc<Guest>> {
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
        Ok(guest)
    }

    /// All that kernels of this and of earlier guests of this name have written on their console.
    ///
    /// # Errors
    /// If there is no log.
    pub fn console_log(&self, guest: &Guest) -> Result<String> {
        let path = self.share().join(format!("console/guest-{}.log", guest.name));
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| decode_reply(line).is_none()).collect();
        Ok(lines.join("\n"))
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

    /// Ends every guest, one after the other.
    ///
    /// # Errors
    /// If xl fails; the guests after that one are still there.
    pub fn destroy_guests(&mut self) -> Result<()> {
        for guest in self.guests.clone() {
            self.destroy_guest(&guest)?;
        }
        Ok(())
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
        let has_no_console =
            format!("! ps -o args | grep -q '^xenpcid-testbed-agent bridge .*/{}$'", guest_port(guest.port));
        self.dom0().wait_until(&format!("the end of {}'s console", guest.name), &has_no_console)?;
        guest.channel.close();
        self.guests.retain(|other| other.port != guest.port);
        Ok(())
    }
}
