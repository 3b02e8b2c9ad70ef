//! One block for each capability, a line for each register and for each group of its bits.

use std::collections::BTreeMap;
use std::ops::Range;

use xenpcid_policy::policy::{ReadAction, WriteAction};
use xenpcid_policy::{ExplainedBits, ExplainedCapability, ExplainedRegister};

use super::Explanation;
use crate::screen::{ADDRESS, DENIED, EMULATED, FAINT, GUARDED, HEADING, REACHES_DEVICE, hanging, paint};

/// Where groups of bits are, below their register.
const BITS_INDENT: usize = 6;
/// Width of an action and the space after it.
const ACTION: usize = 8;

pub fn render(explanation: &Explanation, width: usize) -> String {
    let plan = &explanation.plan;
    let registers = plan.explain();
    let capabilities: Vec<_> = plan.explain_capabilities().collect();
    let is_in = |register: &ExplainedRegister, range: &Range<u16>| range.contains(&register.access.offset());

    let mut page = Page { explanation, width, name: name_width(&registers), said: BTreeMap::new(), out: String::new() };
    page.introduction();
    let header: Vec<_> = registers.iter().filter(|r| r.access.offset() < HEADER_END).collect();
    page.block("Header", &(0..HEADER_END), &header);
    for capability in &capabilities {
        match &capability.hidden {
            Some(_) => page.hidden(capability),
            None => {
                let inside: Vec<_> = registers.iter().filter(|r| is_in(r, &capability.extent)).collect();
                page.block(&title(capability), &capability.extent, &inside);
            }
        }
    }
    let elsewhere = |r: &&ExplainedRegister| {
        r.access.offset() >= HEADER_END && !capabilities.iter().any(|capability| is_in(r, &capability.extent))
    };
    let outside: Vec<_> = registers.iter().filter(elsewhere).collect();
    if !outside.is_empty() {
        page.block("In no capability", &(HEADER_END..u16::MAX), &outside);
    }
    page.out
}

/// End of the type 0 header (PCI Local Bus Specification 6.1).
const HEADER_END: u16 = 0x40;

fn title(capability: &ExplainedCapability) -> String {
    format!("{} ({})", capability.title, capability.id)
}

fn name_width(registers: &[ExplainedRegister]) -> usize {
    registers.iter().map(|register| register.name.len()).max().unwrap_or_default().min(32)
}

/// Bits of a register that are treated alike.
struct Group {
    mask: u32,
    names: Vec<&'static str>,
    read: ReadAction,
    write: WriteAction,
    reason: Option<String>,
}

struct Page<'e> {
    explanation: &'e Explanation,
    width: usize,
    /// Columns of a register's name.
    name: usize,
    /// Reasons that the block has given already, and the registers where it did.
    said: BTreeMap<String, String>,
    out: String,
}

impl Page<'_> {
    fn introduction(&mut self) {
        let Self { explanation, width, .. } = *self;
        let otherwise = explanation.plan.otherwise();
        self.out.push_str(&paint(HEADING, explanation.title()));
        self.out.push('\n');
        let origin = otherwise.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
        let text = format!(
            "The {}. Below each register: its bits in hexadecimal, what becomes of reads and of writes, what they are, and \
             why. Bits without a reason, and bytes that are not listed: read {}, write {}: {}{origin}.",
            explanation.subject.source,
            otherwise.read,
            otherwise.write,
            otherwise.why.trim_end_matches('.'),
        );
        self.out.push_str(&hanging("", 0, &text, width));
    }

    fn heading(&mut self, title: &str, extent: &Range<u16>) {
        self.out.push('\n');
        self.out.push_str(&paint(HEADING, title));
        if extent.end != u16::MAX {
            self.out.push_str(&format!(", {:03x} to {:03x}", extent.start, extent.end.saturating_sub(1)));
        }
        self.out.push('\n');
    }

    fn hidden(&mut self, capability: &ExplainedCapability) {
        let Some(treatment) = &capability.hidden else { return };
        self.heading(&title(capability), &capability.extent);
        let origin = treatment.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
        let first = format!("  {} ", paint(DENIED, "hidden:"));
        self.out.push_str(&hanging(&first, 10, &format!("{}{origin}", treatment.why), self.width));
    }

    fn block(&mut self, title: &str, extent: &Range<u16>, registers: &[&ExplainedRegister]) {
        self.heading(title, extent);
        self.said.clear();
        for register in registers {
            self.register(register);
        }
    }

    fn register(&mut self, register: &ExplainedRegister) {
        let digits = usize::from(register.access.width().bytes()) * 2;
        let is_refused = register.bits.iter().all(|bits| bits.read == ReadAction::Deny);
        let shown = if is_refused { "refused".to_owned() } else { format!("{:0digits$x}", register.shown) };
        let line = format!(
            "  {}  {:<name$}  device {:<8}  guest {shown:<8}  ",
            paint(ADDRESS, format!("{:03x}", register.access.offset())),
            register.name,
            format!("{:0digits$x}", register.claimed),
            name = self.name,
        );
        self.out.push_str(&line);
        let groups = self.groups(register);
        match groups.as_slice() {
            // The whole register alike, and nothing more to say of it than its actions.
            [group] if group.reason.is_none() => self.out.push_str(&format!("{}\n", group.actions(0))),
            groups => {
                self.out.push_str(&format!("{}\n", paint(FAINT, register.spec.unwrap_or("named by a rule"))));
                for group in groups {
                    self.group(group, &register.name, digits);
                }
            }
        }
    }

    /// The bits of a register, those together that are treated alike for the same reason.
    fn groups(&self, register: &ExplainedRegister) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for bits in &register.bits {
            let reason = self.reason(bits);
            let name = Some(bits.name).filter(|name| !name.is_empty());
            let is_same =
                |group: &&mut Group| (group.read, group.write, &group.reason) == (bits.read, bits.write, &reason);
            match groups.iter_mut().find(is_same) {
                Some(group) => {
                    group.mask |= bits.mask;
                    group.names.extend(name);
                }
                None => {
                    let names = name.into_iter().collect();
                    groups.push(Group { mask: bits.mask, names, read: bits.read, write: bits.write, reason });
                }
            }
        }
        groups
    }

    fn group(&mut self, group: &Group, register: &str, digits: usize) {
        let mask = format!("{:0digits$x}", group.mask);
        let first = format!("{}{mask:<8}  {}", " ".repeat(BITS_INDENT), group.actions(ACTION));
        let names = group.names.join(", ");
        let reason = group.reason.as_ref().map(|reason| match self.said.get(reason) {
            Some(before) if before != register => format!("as for {before}"),
            _ => reason.to_string(),
        });
        let text = match (names.as_str(), reason) {
            (names, None) => names.to_owned(),
            ("", Some(reason)) => reason,
            (names, Some(reason)) => format!("{names}: {reason}"),
        };
        self.out.push_str(&hanging(&first, BITS_INDENT + 10 + 2 * ACTION, &text, self.width));
        if let Some(reason) = &group.reason {
            self.said.entry(reason.clone()).or_insert_with(|| register.to_owned());
        }
    }

    /// Why bits are treated as they are; nothing for those that are as all that no rule names.
    fn reason(&self, bits: &ExplainedBits) -> Option<String> {
        if self.explanation.is_ordinary(bits) {
            return None;
        }
        let guarded = |why: &str| format!("{} {why}", paint(GUARDED, "guarded:"));
        Some(match (&bits.origin, bits.guarded) {
            (None, Some((_, why))) => guarded(why),
            (None, None) => bits.why.to_string(),
            (Some(origin), Some((_, why))) => format!("{} ({origin}) {}", bits.why, guarded(why)),
            (Some(origin), None) => format!("{} ({origin})", bits.why),
        })
    }
}

impl Group {
    /// What becomes of reads and of writes, each in `width` columns at least.
    fn actions(&self, width: usize) -> String {
        let read_style = match self.read {
            ReadAction::Pass => FAINT,
            ReadAction::Emulate => EMULATED,
            ReadAction::Deny => DENIED,
        };
        let write_style = match self.write {
            WriteAction::Pass => REACHES_DEVICE,
            WriteAction::Emulate => EMULATED,
            WriteAction::Discard => FAINT,
            WriteAction::Deny => DENIED,
        };
        let read = paint(read_style, format!("{:<ACTION$}", self.read.to_string()));
        read + &paint(write_style, format!("{:<width$}", self.write.to_string()))
    }
}
