//! QEMU's own view of the machine, for what nobody inside can tell: where its CPUs are when nothing answers, and that the emulator
//! has lost the end of an interrupt.
//!
//! QEMU 10.0.2 does the latter now and then when two threads emulate two CPUs: seen for certain once, in a run of all scenarios. A CPU's
//! local APIC goes on to have an interrupt of Xen's own in service that was handled long ago. As it holds back whatever has the
//! same priority or less, the CPU sleeps for good: guests that it ran hang, and Xen does when it next waits for that CPU. One
//! thread for both CPUs, or one CPU, takes twice as long. So it is proven after the fact, and the scenario is run anew.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Xen ends these interrupts (timer, calls to other CPUs, event checks: `asm-x86/mach-default/irq_vectors.h`) before it does
/// anything else for them, so no CPU sleeps with one in service. That of a device may stay in service until a guest ends it.
const FIRST_VECTOR_OF_XEN: u8 = 0xf9;

/// A CPU may go to sleep or wake between two questions, so each of so many answers has to be the same.
const SAMPLES: u32 = 5;
const BETWEEN_SAMPLES: Duration = Duration::from_millis(200);

/// QEMU answers at once, unless it is stopped itself.
const DEADLINE: Duration = Duration::from_secs(10);

/// How the lines of QEMU's answers begin that tell where a CPU is, and which interrupts it has or waits for.
const TELLING: [&str; 4] = ["RIP=", "ICR", "ISR", "IRR"];

/// A connection to QEMU's monitor (QMP: QEMU's documentation, interop/qmp-spec).
struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    fn connect(socket: &Path) -> Result<Self> {
        let io = || Error::io("speak with QEMU's monitor at", socket);
        let writer = UnixStream::connect(socket).map_err(io())?;
        writer.set_read_timeout(Some(DEADLINE)).map_err(io())?;
        let reader = BufReader::new(writer.try_clone().map_err(io())?);
        let mut monitor = Self { reader, writer };
        monitor.execute(&json!({ "execute": "qmp_capabilities" })).map_err(io())?;
        Ok(monitor)
    }

    /// Waits for the answer to one command; greetings and events come in between.
    fn execute(&mut self, command: &Value) -> std::io::Result<String> {
        writeln!(self.writer, "{command}")?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let message: Value = serde_json::from_str(&line)?;
            if let Some(answer) = message.get("return") {
                return Ok(answer.as_str().unwrap_or_default().to_owned());
            }
            if let Some(error) = message.get("error") {
                return Err(std::io::Error::other(error.to_string()));
            }
        }
    }

    /// A command as people type it, of one CPU, and its answer.
    fn ask(&mut self, cpu: usize, command: &str) -> std::io::Result<String> {
        let arguments = json!({ "command-line": command, "cpu-index": cpu });
        self.execute(&json!({ "execute": "human-monitor-command", "arguments": arguments }))
    }

    /// The interrupt of Xen's in which a CPU sleeps, whenever it is asked.
    fn stuck_in(&mut self, cpu: usize) -> std::io::Result<Option<u8>> {
        let mut vector = None;
        for sample in 0..SAMPLES {
            if sample > 0 {
                // That a CPU does nothing is nothing that could be waited for.
                thread::sleep(BETWEEN_SAMPLES);
            }
            let registers = self.ask(cpu, "info registers")?;
            let apic = self.ask(cpu, &format!("info lapic {cpu}"))?;
            vector = asleep_in(&registers, &apic)
                .ok_or_else(|| std::io::Error::other(format!("not understood: {registers}{apic}")))?;
            if vector.is_none() {
                break;
            }
        }
        Ok(vector)
    }
}

/// Which of the machine's CPUs sleeps for good, since the emulator has lost the end of one of its interrupts, if one does.
///
/// # Errors
/// If QEMU does not answer, or answers what is not understood.
pub fn lost_interrupt(socket: &Path, cpus: usize) -> Result<Option<String>> {
    let mut monitor = Monitor::connect(socket)?;
    for cpu in 0..cpus {
        if let Some(vector) = monitor.stuck_in(cpu).map_err(Error::io("ask QEMU's monitor at", socket))? {
            return Ok(Some(format!("CPU {cpu} sleeps with Xen's interrupt {vector:#x} in service")));
        }
    }
    Ok(None)
}

/// Each CPU's program counter, flags and local APIC, in QEMU's words: what tells where a machine hangs.
///
/// # Errors
/// If QEMU does not answer.
pub fn processors(socket: &Path, cpus: usize) -> Result<String> {
    let mut monitor = Monitor::connect(socket)?;
    let mut text = String::new();
    for cpu in 0..cpus {
        for command in ["info registers".to_owned(), format!("info lapic {cpu}")] {
            let answer = monitor.ask(cpu, &command).map_err(Error::io("ask QEMU's monitor at", socket))?;
            let lines = answer.lines().filter(|line| TELLING.iter().any(|word| line.starts_with(word)));
            lines.for_each(|line| text.push_str(&format!("CPU {cpu}: {line}\n")));
        }
    }
    Ok(text)
}

/// The interrupt of Xen's that a CPU has in service while it sleeps, by QEMU's answers about its registers and its local APIC.
/// `None` if they are not understood.
fn asleep_in(registers: &str, apic: &str) -> Option<Option<u8>> {
    let is_asleep = registers.split_whitespace().find_map(|word| word.strip_prefix("HLT="))? == "1";
    let in_service = apic.lines().find_map(|line| line.strip_prefix("ISR"))?;
    let vectors = in_service.split_whitespace().filter_map(|word| word.parse::<u8>().ok());
    Some(vectors.filter(|vector| is_asleep && *vector >= FIRST_VECTOR_OF_XEN).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded of a machine that hung, CPU 1 of 2.
    const ASLEEP: &str = "RIP=ffff82d0402f9c06 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\n";
    const AWAKE: &str = "RIP=ffff82d040326b9a RFL=00000097 [--S-APC] CPL=0 II=0 A20=1 SMM=0 HLT=0\n";
    const STUCK: &str = "ESR\t 0x00000000\nISR\t 252 \nIRR\t 57 73 250 251 252 \n\nAPR 0x01 TPR 0x10 PPR 0xf0\n";
    const FREE: &str = "ESR\t 0x00000000\nISR\t (none)\nIRR\t 241 \n\nAPR 0x00 TPR 0x10 PPR 0x10\n";

    #[test]
    fn cpu_that_sleeps_in_an_interrupt_of_xen_is_stuck() {
        assert_eq!(asleep_in(ASLEEP, STUCK), Some(Some(0xfc)));
    }

    #[test]
    fn cpu_that_works_or_waits_is_not_stuck() {
        assert_eq!(asleep_in(AWAKE, STUCK), Some(None));
        assert_eq!(asleep_in(ASLEEP, FREE), Some(None));
        assert_eq!(asleep_in(ASLEEP, "ISR\t 57 73 \nIRR\t (none)\n"), Some(None));
    }

    #[test]
    fn other_answers_are_not_taken_for_a_cpu_that_works() {
        assert_eq!(asleep_in("unknown command", STUCK), None);
        assert_eq!(asleep_in(ASLEEP, "No local APIC found"), None);
    }
}
