//! Reserved Memory Region Reporting structures (Intel Virtualization Technology for Directed I/O, 8.4): memory that firmware has
//! a device use, whoever owns the device.

use std::path::Path;

use xenpcid_address::Sbdf;

/// Bytes of the table before its structures.
const TABLE_HEADER: usize = 48;
const RESERVED_MEMORY: u16 = 1;
/// Bytes of such a structure before its device scopes, and of a scope before its path.
const STRUCTURE_HEADER: usize = 24;
const SCOPE_HEADER: usize = 6;
/// Kinds of scopes: a device, and all that is behind a bridge.
const ENDPOINT: u8 = 1;
const BRIDGE: u8 = 2;

/// Whether the table names the function whose folder in sysfs, without links in it, is `folder`.
pub(super) fn reserves(table: &[u8], folder: &Path) -> bool {
    let Some((segment, bus, steps)) = steps(folder) else { return false };
    let mut rest = table.get(TABLE_HEADER..).unwrap_or_default();
    while let Some((kind, structure)) = structure(rest) {
        let is_ours = |scope: &Scope<'_>| {
            scope.bus == bus
                && match scope.kind {
                    ENDPOINT => scope.path == steps,
                    BRIDGE => steps.len() > scope.path.len() && steps.starts_with(scope.path),
                    _ => false,
                }
        };
        let of_segment = structure.get(6..8).is_some_and(|bytes| *bytes == u16::to_le_bytes(segment));
        if kind == RESERVED_MEMORY && of_segment && scopes(structure).iter().any(is_ours) {
            return true;
        }
        rest = rest.get(structure.len()..).unwrap_or_default();
    }
    false
}

/// Segment and root bus, and the path from there as the table has it: device and function of each step.
fn steps(folder: &Path) -> Option<(u16, u8, Vec<u8>)> {
    let mut names = folder.components().filter_map(|component| component.as_os_str().to_str());
    let root = names.by_ref().find_map(|name| name.strip_prefix("pci").filter(|rest| rest.contains(':')))?;
    let (segment, bus) = root.split_once(':')?;
    let steps = names.filter_map(|name| name.parse::<Sbdf>().ok()).flat_map(|step| [step.device(), step.function()]);
    Some((u16::from_str_radix(segment, 16).ok()?, u8::from_str_radix(bus, 16).ok()?, steps.collect()))
}

/// The first structure, and its kind.
fn structure(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let [kind_low, kind_high, length_low, length_high, ..] = *bytes else { return None };
    let length = usize::from(u16::from_le_bytes([length_low, length_high]));
    let structure = bytes.get(..length).filter(|_| length >= 4)?;
    Some((u16::from_le_bytes([kind_low, kind_high]), structure))
}

/// Where a device is, from its root bus.
struct Scope<'a> {
    kind: u8,
    bus: u8,
    path: &'a [u8],
}

fn scopes(structure: &[u8]) -> Vec<Scope<'_>> {
    let mut scopes = Vec::new();
    let mut rest = structure.get(STRUCTURE_HEADER..).unwrap_or_default();
    while let [kind, length, _, _, _, bus, ..] = *rest {
        let Some(path) = rest.get(SCOPE_HEADER..usize::from(length)) else { break };
        scopes.push(Scope { kind, bus, path });
        rest = rest.get(usize::from(length)..).unwrap_or_default();
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(scopes: &[&[u8]]) -> Vec<u8> {
        let mut table = vec![0; TABLE_HEADER];
        // Another structure first: a remapping unit.
        table.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let length = STRUCTURE_HEADER + scopes.iter().map(|scope| scope.len()).sum::<usize>();
        table.extend([1, 0, u8::try_from(length).unwrap(), 0, 0, 0, 0, 0]);
        table.extend([0; 16]);
        table.extend(scopes.concat());
        table
    }

    fn reserves(table: &[u8], path: &str) -> bool {
        super::reserves(table, Path::new("/sys/devices").join(path).as_path())
    }

    #[test]
    fn device_is_found_by_its_path_from_the_root_bus() {
        let table = table(&[&[1, 8, 0, 0, 0, 0, 0x1d, 0], &[1, 10, 0, 0, 0, 0, 0x1c, 4, 0, 1]]);

        assert!(reserves(&table, "pci0000:00/0000:00:1d.0"));
        assert!(reserves(&table, "pci0000:00/0000:00:1c.4/0000:07:00.1"));
        assert!(!reserves(&table, "pci0000:00/0000:00:1c.4/0000:07:00.0"));
        assert!(!reserves(&table, "pci0000:00/0000:00:1c.4"));
        assert!(!reserves(&table, "pci0000:80/0000:80:1d.0"));
        assert!(!reserves(&table, "pci0001:00/0001:00:1d.0"));
    }

    #[test]
    fn bridge_stands_for_what_is_behind_it() {
        let table = table(&[&[2, 8, 0, 0, 0, 0, 0x1c, 0]]);

        assert!(reserves(&table, "pci0000:00/0000:00:1c.0/0000:03:00.0"));
        assert!(!reserves(&table, "pci0000:00/0000:00:1c.0"));
    }

    #[test]
    fn table_that_is_cut_off_or_goes_nowhere_reserves_nothing() {
        let whole = table(&[&[1, 8, 0, 0, 0, 0, 0x1d, 0]]);
        for length in 0..whole.len() {
            assert!(!reserves(&whole[..length], "pci0000:00/0000:00:1d.0"));
        }
        assert!(!reserves(&table(&[&[1, 0, 0, 0, 0, 0, 0x1d, 0]]), "pci0000:00/0000:00:1d.0"));
        assert!(!reserves(&[0; 100], "pci0000:00/0000:00:1d.0"));
    }
}
