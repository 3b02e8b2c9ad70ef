//! Every byte as one letter: the strongest thing that a guest can do there.

use anstyle::{AnsiColor, Style};
use xenpcid_policy::policy::{ReadAction, WriteAction};
use xenpcid_policy::{ExplainedBits, ExplainedRegister};

use super::Explanation;
use crate::screen::{ADDRESS, DENIED, EMULATED, FAINT, GUARDED, HEADING, REACHES_DEVICE, READ_ONLY, hanging, paint};

/// What a guest can do with a byte, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// In no known register, where writes are not passed.
    Unknown,
    /// In no known register, where they are.
    UnknownWrite,
    Hidden,
    ReadOnly,
    Denied,
    Guarded,
    Emulated,
    Write,
}

const LEGEND: &[(Reach, &str)] = &[
    (Reach::Write, "writes reach the device, of some bits at least"),
    (Reach::Emulated, "answered or kept by xenpcid, as the policy says"),
    (Reach::Guarded, "answered by xenpcid, whatever a policy says"),
    (Reach::Denied, "accesses are refused"),
    (Reach::ReadOnly, "the device is read, writes are discarded"),
    (Reach::Hidden, "belongs to a hidden capability: reads zero, writes are discarded"),
    (Reach::UnknownWrite, "no known register; writes reach the device"),
    (Reach::Unknown, "no known register; writes are not passed on"),
];

impl Reach {
    fn letter(self) -> char {
        match self {
            Self::Unknown => '.',
            Self::UnknownWrite => 'w',
            Self::Hidden => 'h',
            Self::ReadOnly => 'r',
            Self::Denied => 'D',
            Self::Guarded => 'G',
            Self::Emulated => 'E',
            Self::Write => 'W',
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Unknown => FAINT,
            Self::UnknownWrite => AnsiColor::Red.on_default(),
            Self::Hidden => FAINT.invert(),
            Self::ReadOnly => READ_ONLY,
            Self::Denied => DENIED,
            Self::Guarded => GUARDED,
            Self::Emulated => EMULATED,
            Self::Write => REACHES_DEVICE,
        }
    }

    fn of(bits: &ExplainedBits) -> Self {
        match (bits.read, bits.write) {
            _ if bits.is_hidden => Self::Hidden,
            (_, WriteAction::Pass) => Self::Write,
            _ if bits.guarded.is_some() && bits.origin.is_none() => Self::Guarded,
            (ReadAction::Emulate, _) | (_, WriteAction::Emulate) => Self::Emulated,
            (ReadAction::Deny, _) | (_, WriteAction::Deny) => Self::Denied,
            (ReadAction::Pass, WriteAction::Discard) => Self::ReadOnly,
        }
    }

    fn paint(self, text: &str) -> String {
        paint(self.style(), text)
    }
}

pub fn render(explanation: &Explanation, width: usize) -> String {
    let bytes = bytes(explanation);
    let per_row = if bytes.len() > 256 { 32 } else { 16 };
    let mut out = paint(HEADING, explanation.title()) + "\n";
    out.push_str(&hanging("", 0, &format!("The {}.", explanation.subject.source), width));
    out.push('\n');
    let rows: Vec<(usize, &[Reach])> = bytes.chunks(per_row).enumerate().map(|(n, row)| (n * per_row, row)).collect();
    let is_empty = |row: &[Reach]| row.iter().all(|reach| *reach <= Reach::UnknownWrite);
    for run in rows.chunk_by(|(_, a), (_, b)| is_empty(a) && is_empty(b)) {
        match run {
            [(first, row), .., (last, _)] if is_empty(row) => {
                let end = last + per_row - 1;
                let alike = row.iter().take(1).map(|reach| reach.paint(&reach.letter().to_string()));
                let range = paint(ADDRESS, format!("{first:03x} to {end:03x}"));
                out.push_str(&format!("  {range}  {}\n", alike.collect::<String>()));
            }
            [(offset, row), ..] => out.push_str(&line(explanation, *offset, row)),
            [] => {}
        }
    }
    out.push('\n');
    let shown = |reach: &Reach| bytes.contains(reach);
    for (reach, meaning) in LEGEND.iter().filter(|(reach, _)| shown(reach)) {
        out.push_str(&format!("  {}  {meaning}\n", reach.paint(&reach.letter().to_string())));
    }
    out
}

/// A row: its offset, its bytes in fours, and the capabilities that start in it.
fn line(explanation: &Explanation, offset: usize, row: &[Reach]) -> String {
    let mut cells = String::new();
    for four in row.chunks(4) {
        cells.push(' ');
        for alike in four.chunk_by(|a, b| a == b) {
            if let [reach, ..] = alike {
                cells.push_str(&reach.paint(&reach.letter().to_string().repeat(alike.len())));
            }
        }
    }
    let is_here = |start: u16| (offset..offset + row.len()).contains(&usize::from(start));
    let header = (offset == 0).then(|| "header".to_owned());
    let mut capabilities: Vec<_> =
        explanation.plan.explain_capabilities().filter(|capability| is_here(capability.extent.start)).collect();
    capabilities.sort_by_key(|capability| capability.extent.start);
    let named = capabilities.iter().map(|capability| format!("{:02x} {}", capability.extent.start, capability.id));
    let names: Vec<String> = header.into_iter().chain(named).collect();
    let names = if names.is_empty() { String::new() } else { format!("  {}", paint(FAINT, names.join(", "))) };
    format!("  {} {cells}{names}\n", paint(ADDRESS, format!("{offset:03x}")))
}

/// The strongest thing for each byte of the space.
fn bytes(explanation: &Explanation) -> Vec<Reach> {
    let unknown = match explanation.plan.otherwise().write {
        WriteAction::Pass => Reach::UnknownWrite,
        _ => Reach::Unknown,
    };
    let mut bytes = vec![unknown; explanation.subject.snapshot.config.len()];
    for capability in explanation.plan.explain_capabilities().filter(|capability| capability.hidden.is_some()) {
        for offset in capability.extent {
            if let Some(byte) = bytes.get_mut(usize::from(offset)) {
                *byte = Reach::Hidden;
            }
        }
    }
    for register in explanation.plan.explain() {
        for (offset, reach) in reaches(&register) {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = reach.max(*byte);
            }
        }
    }
    bytes
}

/// For each byte of a register, by its offset in the space.
fn reaches(register: &ExplainedRegister) -> impl Iterator<Item = (usize, Reach)> {
    let start = usize::from(register.access.offset());
    (0..usize::from(register.access.width().bytes())).filter_map(move |n| {
        let of_byte = register.bits.iter().filter(move |bits| bits.mask >> (8 * n) & 0xff != 0);
        Some((start + n, of_byte.map(Reach::of).max()?))
    })
}
