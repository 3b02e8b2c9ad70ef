//! One emulated machine with real Xen in it.

pub mod channel;
mod daemon;
pub mod devices;
mod follow;
mod guest;
mod instrument;
pub mod interrupts;
mod monitor;
mod pciback;
mod qemu;
mod traces;
pub mod xen_log;
mod xen_state;

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::interrupt;
use crate::process::tail;
use crate::progress::Progress;
use crate::testbed::Testbed;
use crate::workspace::Program;
use devices::{Found, Layout, Model};
use qemu::{DOM0_PORT, Qemu, RunFolder, System};

pub use channel::{Channel, DEADLINE};
pub use daemon::{Daemon, Startup};
pub use guest::{Frontend, Guest, GuestConfiguration};

/// dom0 is there in 10 to 30 s on an idle machine. The limit is for one that does not come at all.
const BOOT_DEADLINE: Duration = Duration::from_secs(300);

/// Lines of the log that tell why a boot has failed.
const BOOT_LOG_LINES: usize = 40;

/// A booted machine. Everything of it on the host is in its run folder, which goes with it unless it is kept.
pub struct Machine {
    // Dropped in this order: the channels end before QEMU does, and QEMU before its folder is removed.
    guests: Vec<Rc<Guest>>,
    dom0: Channel,
    daemons: Vec<Daemon>,
    daemon_count: u32,
    is_verbose: bool,
    progress: Rc<Progress>,
    testbed: Rc<Testbed>,
    /// Programs that are put into dom0 at each boot.
    installed: Vec<Program>,
    layout: Layout,
    qemu: Qemu,
    folder: TempDir,
}

impl Machine {
    /// Boots, and waits until dom0 has xenstored, xenconsoled and its agent running.
    ///
    /// `is_verbose` makes xenpcid write everything it can.
    ///
    /// # Errors
    /// [`Error::MachineEnded`] or [`Error::Deadline`]; the end of Xen's log is shown.
    pub fn boot(testbed: &Rc<Testbed>, is_verbose: bool) -> Result<Self> {
        Self::boot_with(testbed, System::Xen, &devices_of(testbed, Layout::Usual), is_verbose)
    }

    /// Boots dom0's kernel without Xen, with these arguments of QEMU for devices. [`Machine::dom0`] is the channel to it;
    /// there can be no guests.
    ///
    /// # Errors
    /// As [`Machine::boot`].
    pub fn boot_linux(testbed: &Rc<Testbed>, devices: &[String]) -> Result<Self> {
        Self::boot_with(testbed, System::Linux, devices, false)
    }

    fn boot_with(testbed: &Rc<Testbed>, system: System, devices: &[String], is_verbose: bool) -> Result<Self> {
        interrupt::check()?;
        let step = testbed.progress.step(system.booting());
        let folder = tempfile::Builder::new()
            .prefix("xenpcid-testbed-")
            .tempdir()
            .map_err(Error::io("create", std::env::temp_dir()))?;
        let files = RunFolder(folder.path());
        fs::create_dir(files.share()).map_err(Error::io("create", files.share()))?;
        let mut qemu = Qemu::start(&testbed.root, &testbed.images, system, devices, &files)?;
        let dom0 = connect(&mut qemu, &files.socket(DOM0_PORT))?;
        let booted = dom0.wait_for_agent(BOOT_DEADLINE);
        let mut machine = Self {
            guests: Vec::new(),
            dom0,
            daemons: Vec::new(),
            daemon_count: 0,
            is_verbose,
            progress: testbed.progress.clone(),
            testbed: testbed.clone(),
            installed: Vec::new(),
            layout: Layout::Usual,
            qemu,
            folder,
        };
        machine.expect_boot(booted)?;
        step.done();
        Ok(machine)
    }

    /// Pulls the plug of the whole machine and boots it anew, with these devices and the programs that were installed. Guests
    /// and daemons are gone; the instrument is not there any more. The runner does not use the machine for another scenario.
    ///
    /// # Errors
    /// As [`Machine::boot`].
    pub fn reboot(&mut self, layout: Layout) -> Result<()> {
        let progress = self.progress.clone();
        let step = progress.step(System::Xen.booting());
        self.guests.clear();
        self.daemons.clear();
        self.qemu.end();
        let files = RunFolder(self.folder.path());
        let devices = devices_of(&self.testbed, layout);
        self.qemu = Qemu::start(&self.testbed.root, &self.testbed.images, System::Xen, &devices, &files)?;
        self.dom0 = connect(&mut self.qemu, &files.socket(DOM0_PORT))?;
        self.layout = layout;
        let booted = self.dom0.wait_for_agent(BOOT_DEADLINE);
        self.expect_boot(booted)?;
        step.done();
        self.installed.iter().try_for_each(|program| self.copy_to_dom0(*program))
    }

    fn expect_boot(&mut self, booted: Result<()>) -> Result<()> {
        let Err(error) = booted else { return Ok(()) };
        eprintln!("--- the serial line's log ends with\n{}", tail(&self.xen_log()?, BOOT_LOG_LINES));
        Err(self.explain(error))
    }

    /// The devices that it was booted with last.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Commands in dom0.
    pub fn dom0(&self) -> &Channel {
        &self.dom0
    }

    /// The guests that were started and not ended.
    pub fn guests(&self) -> &[Rc<Guest>] {
        &self.guests
    }

    /// The folder that dom0 sees as `/host`.
    pub fn share(&self) -> PathBuf {
        self.files().share()
    }

    /// Socket of dom0's second console.
    pub fn console(&self) -> PathBuf {
        self.files().socket(qemu::CONSOLE)
    }

    /// All that Xen, and dom0's kernel in trouble, have written so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn xen_log(&self) -> Result<String> {
        let path = self.files().xen_log();
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every PCI function that dom0 sees.
    ///
    /// # Errors
    /// If dom0 does not answer.
    pub fn functions(&self) -> Result<Vec<Found>> {
        Ok(devices::parse(&self.dom0.sh(devices::LIST)?))
    }

    /// The address of the device of this model with number `index`, counted from 0 in the order of addresses.
    ///
    /// # Errors
    /// If there are not that many.
    pub fn find(&self, model: Model, index: usize) -> Result<String> {
        let mut functions = self.functions()?;
        functions.retain(|found| (found.vendor, found.device) == (model.vendor, model.device));
        functions.sort_by(|one, other| one.sbdf.cmp(&other.sbdf));
        let count = functions.len();
        functions.into_iter().nth(index).map(|found| found.sbdf).ok_or_else(|| Error::Expectation {
            expected: format!("at least {} {model} in dom0", index + 1),
            found: count.to_string(),
        })
    }

    /// Tells the person who runs the testbed what was measured, on standard output.
    pub fn report(&self, text: &str) {
        println!("     {text}");
    }

    /// Keeps the run folder after the end, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// The cause of an error, if it only came of the machine's end, or of the emulator's fault.
    pub fn explain(&mut self, error: Error) -> Error {
        if let Err(interrupted) = interrupt::check() {
            return interrupted;
        }
        if let Some(ended) = self.qemu.ended() {
            return ended;
        }
        match self.lost_interrupt() {
            Ok(Some(what)) => Error::LostInterrupt { what, error: Box::new(error) },
            Ok(None) => error,
            Err(unknown) => {
                eprintln!("whether the emulator is at fault is not known: {unknown}");
                error
            }
        }
    }

    /// Which of the machine's CPUs the emulator has made useless, if it has.
    ///
    /// # Errors
    /// If QEMU does not say.
    pub fn lost_interrupt(&self) -> Result<Option<String>> {
        monitor::lost_interrupt(&self.files().socket(qemu::MONITOR), qemu::CPUS)
    }

    /// Where each of the machine's CPUs is, in QEMU's words.
    ///
    /// # Errors
    /// If QEMU does not say.
    pub fn processors(&self) -> Result<String> {
        monitor::processors(&self.files().socket(qemu::MONITOR), qemu::CPUS)
    }

    fn files(&self) -> RunFolder<'_> {
        RunFolder(self.folder.path())
    }
}

fn devices_of(testbed: &Testbed, layout: Layout) -> Vec<String> {
    devices::arguments(layout, &testbed.images.disk.display().to_string())
}

/// QEMU makes its sockets before it starts the machine, but after we have started it.
fn connect(qemu: &mut Qemu, socket: &std::path::Path) -> Result<Channel> {
    let begun = Instant::now();
    loop {
        match Channel::connect(socket, "dom0") {
            Err(error) if begun.elapsed() < BOOT_DEADLINE => {
                if let Some(ended) = qemu.ended() {
                    return Err(ended);
                }
                interrupt::check()?;
                // Until QEMU has started there is nothing to wait on.
                std::thread::sleep(Duration::from_millis(20));
                drop(error);
            }
            other => return other,
        }
    }
}
