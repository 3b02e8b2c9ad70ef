//! Reads `/proc/interrupts`.

/// One line: an interrupt and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    /// Linux's number for it.
    pub number: String,
    /// Times that it came, on all CPUs together.
    pub count: u64,
    /// Controller and trigger, for instance `xen-pirq -msi-x`.
    pub kind: String,
    /// Who handles it: names that the drivers gave, separated by commas.
    pub name: String,
}

/// The numbered interrupts; what the CPUs send themselves is left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Interrupt> {
    let cpus = text.lines().next().map_or(0, |header| header.split_whitespace().count());
    text.lines().skip(1).filter_map(|line| parse_line(line, cpus)).collect()
}

fn parse_line(line: &str, cpus: usize) -> Option<Interrupt> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim();
    number.parse::<u32>().ok()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (counts, description) = words.split_at_checked(cpus)?;
    let count = counts.iter().map(|word| word.parse::<u64>().ok()).sum::<Option<u64>>()?;
    // Controller, trigger, then names, of which there may be several: "eth0, eth1".
    let (kind, name) = description.split_at_checked(2)?;
    Some(Interrupt { number: number.to_owned(), count, kind: kind.join(" "), name: name.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_cpus_are_added_and_names_kept() {
        let text = "\
           CPU0       CPU1
 16:          3          4  xen-pirq    -ioapic-level  eth0, eth1
 57:         25          0  xen-pirq    -msi-x     nvme0q0
NMI:          0          0   Non-maskable interrupts
ERR:          0
";
        let interrupt = |number: &str, count, kind: &str, name: &str| Interrupt {
            number: number.into(),
            count,
            kind: kind.into(),
            name: name.into(),
        };
        assert_eq!(
            parse(text),
            [
                interrupt("16", 7, "xen-pirq -ioapic-level", "eth0, eth1"),
                interrupt("57", 25, "xen-pirq -msi-x", "nvme0q0"),
            ]
        );
    }
}
