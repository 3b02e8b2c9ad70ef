//! The QEMU process: how it is started, and that it ends with its test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};
use crate::images::Images;
use crate::packages::Root;
use crate::{interrupt, process};

/// Options of the kernel in dom0 and in guests. `tsc=unstable`: under emulation the two clocks that the kernel compares do
/// drift, and it would find out in the middle of a scenario. The others leave out what costs much under emulation: a
/// check of all page tables at each boot, tests of cryptography, and defences against a CPU's speculation.
pub const KERNEL_OPTIONS: &str = "tsc=unstable rodata=off cryptomgr.notests mitigations=off rdinit=/init";

/// Guests that can be there at the same time: each has a port for its commands.
pub const GUEST_PORTS: usize = 6;

/// dom0's name among the ports.
pub const DOM0_PORT: &str = "dom0";

/// Name of the port behind dom0's second console, for people.
pub const CONSOLE: &str = "console";

/// `spec-ctrl`, `xpti`, `pv-l1tf`: switching page tables at each entry into Xen is what emulation is slowest at, and an
/// emulated CPU does not speculate. `eager-fpu`: without the defences Xen switches floating-point registers lazily, and under
/// emulation programs in dom0 and in guests then crash now and then, their vector registers not their own. `sched`: with Xen 4.17's default, credit2, one boot in several stopped in the creation
/// of a guest, dom0's vCPU runnable and both CPUs idle.
const XEN_OPTIONS: &str = "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all iommu=verbose \
                           bootscrub=0 spec-ctrl=no,eager-fpu xpti=no pv-l1tf=no sched=credit \
                           dom0=pv dom0_mem=1024M,max:1024M dom0_max_vcpus=1";

const DOM0_OPTIONS: &str = "console=hvc0 loglevel=5 log_buf_len=4M";

/// Name of the socket of QEMU's monitor.
pub const MONITOR: &str = "monitor";

/// CPUs of the machine.
pub const CPUS: usize = 2;

/// What runs in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Xen with dom0.
    Xen,
    /// dom0's kernel and programs alone.
    Linux,
}

/// A running QEMU. Killed when this is dropped, when this process is interrupted, and when this process ends in any
/// other way.
pub struct Qemu {
    child: Child,
    log: PathBuf,
}

/// Files of one run, on the host.
pub struct RunFolder<'a>(pub &'a Path);

impl RunFolder<'_> {
    /// What Xen and the kernel write on the serial line.
    pub fn xen_log(&self) -> PathBuf {
        self.0.join("xen.log")
    }

    /// The folder that dom0 sees as `/host`.
    pub fn share(&self) -> PathBuf {
        self.0.join("share")
    }

    /// Socket of a virtio port.
    pub fn socket(&self, port: &str) -> PathBuf {
        self.0.join(format!("{port}.sock"))
    }
}

/// Name of the port for guest commands with this number.
pub fn guest_port(number: usize) -> String {
    format!("guest{number}")
}

impl Qemu {
    /// Starts the machine with `devices` beside those that the testbed talks with. Must be called on a thread that lives as long as the machine: the kernel kills QEMU when the
    /// thread that started it ends.
    ///
    /// # Errors
    /// If QEMU cannot be started; not if it ends right away, which the channels notice.
    pub fn start(
        root: &Root,
        images: &Images,
        system: System,
        devices: &[String],
        folder: &RunFolder<'_>,
    ) -> Result<Self> {
        let log = folder.0.join("qemu.log");
        let output = File::create(&log).map_err(Error::io("create", &log))?;
        let errors = output.try_clone().map_err(Error::io("create", &log))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(root.command_line("usr/bin/qemu-system-x86_64"))
            .args(arguments(root, folder))
            .args(system.arguments(images))
            .args(devices)
            .env("QEMU_MODULE_DIR", root.path("usr/lib/x86_64-linux-gnu/qemu"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("run", "setpriv"))?;
        interrupt::kill_at_interrupt(child.id());
        Ok(Self { child, log })
    }

    /// Ends it, as pulling the machine's plug would.
    pub fn end(&mut self) {
        interrupt::forget(self.child.id());
        // Fails if it has ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// An error that says how QEMU ended, if it has.
    pub fn ended(&mut self) -> Option<Error> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Some(Error::MachineEnded(format!("{status}\n{}", process::tail(&log, 20))))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

impl System {
    /// What a person is told while it boots.
    pub const fn booting(self) -> &'static str {
        match self {
            Self::Xen => "booting Xen and dom0",
            Self::Linux => "booting Linux",
        }
    }

    /// What is booted.
    fn arguments(self, images: &Images) -> [String; 6] {
        let file = |path: &Path| path.display().to_string();
        let linux = format!("{DOM0_OPTIONS} {KERNEL_OPTIONS}");
        let (kernel, append, initrd) = match self {
            Self::Xen => {
                let modules = format!("{} {linux},{}", value(&images.kernel), value(&images.dom0));
                (file(&images.xen), XEN_OPTIONS.to_owned(), modules)
            }
            Self::Linux => (file(&images.kernel), format!("{linux} console=ttyS0"), file(&images.dom0)),
        };
        ["-kernel".to_owned(), kernel, "-append".to_owned(), append, "-initrd".to_owned(), initrd]
    }
}

/// A path in an option's value, where a comma is written twice.
fn value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn arguments(root: &Root, folder: &RunFolder<'_>) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        arguments.extend(["-L".to_owned(), root.path(data).display().to_string()]);
    }
    arguments.extend(
        [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            // MSIs of passed-through devices go astray with x2APIC; a newer CPU's SMAP ends a PV dom0.
            "-machine",
            "q35,kernel-irqchip=off,sata=off,smbus=off",
            "-cpu",
            "Haswell-noTSX,-x2apic",
            "-accel",
            "tcg,thread=multi",
            "-m",
            "3072",
            "-device",
            "intel-iommu,intremap=on",
        ]
        .map(str::to_owned),
    );
    arguments.extend(["-smp".to_owned(), CPUS.to_string()]);
    arguments.extend([
        "-chardev".to_owned(),
        format!("socket,id={MONITOR},path={},server=on,wait=off", value(&folder.socket(MONITOR))),
        "-mon".to_owned(),
        format!("chardev={MONITOR},mode=control"),
    ]);
    arguments.extend([
        "-chardev".to_owned(),
        format!(
            "socket,id=com1,path={},server=on,wait=off,logfile={},logappend=on",
            value(&folder.socket("xen")),
            value(&folder.xen_log())
        ),
        "-serial".to_owned(),
        "chardev:com1".to_owned(),
        "-fsdev".to_owned(),
        format!("local,id=share,path={},security_model=none", value(&folder.share())),
        "-device".to_owned(),
        "virtio-9p-pci,fsdev=share,mount_tag=host,addr=2".to_owned(),
        "-device".to_owned(),
        "virtio-serial-pci,addr=3".to_owned(),
    ]);
    arguments.extend([
        "-chardev".to_owned(),
        format!("socket,id={CONSOLE},path={},server=on,wait=off", value(&folder.socket(CONSOLE))),
        "-device".to_owned(),
        format!("virtconsole,chardev={CONSOLE},name={CONSOLE}"),
    ]);
    let ports = (0..GUEST_PORTS).map(guest_port).chain([DOM0_PORT.to_owned()]);
    for port in ports {
        arguments.extend([
            "-chardev".to_owned(),
            format!("socket,id={port},path={},server=on,wait=off", value(&folder.socket(&port))),
            "-device".to_owned(),
            format!("virtserialport,chardev={port},name={port}"),
        ]);
    }
    arguments
}
