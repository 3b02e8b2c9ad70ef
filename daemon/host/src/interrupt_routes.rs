//! Reads what Xen writes to its console for the debug key `i`.
//!
//! ```text
//! (XEN)    IRQ:  16 vec:c8 IO-APIC-level   status=010 aff:{0-15}/{0-7} in-flight=0 d0: 16(---),d3: 16(---)
//! ```
//! The first set of CPUs is where the interrupt shall go, the second those that have the vector for it. It goes to the CPUs of
//! both; where the first one was changed and the interrupt has not moved yet, these have none in common, and it goes where it went.

use std::collections::BTreeSet;

use xenpcid_address::DomainId;

use crate::{InterruptRoute, Pirq};

/// The key of Xen's console that has it list its interrupts.
#[cfg_attr(not(feature = "libxenctrl"), expect(dead_code, reason = "only real Xen is asked"))]
pub const DEBUG_KEY: &std::ffi::CStr = c"i";

/// The interrupts that `console` lists, as the last list has them. Lines of other kinds are passed over.
#[cfg_attr(not(any(test, feature = "libxenctrl")), expect(dead_code, reason = "only real Xen is asked"))]
pub fn parse(console: &str) -> Vec<InterruptRoute> {
    // Before Xen 4.13 the heading was another.
    let heading = console.rfind("IRQ information:").or_else(|| console.rfind("Guest interrupt information:"));
    let list = console.get(heading.unwrap_or(0)..).unwrap_or_default();
    list.lines().filter_map(route).collect()
}

fn route(line: &str) -> Option<InterruptRoute> {
    let (_, line) = line.split_once("IRQ:")?;
    let (irq, line) = line.trim_start().split_once(' ')?;
    let (vector, line) = line.trim_start().strip_prefix("vec:")?.trim_start().split_once(' ')?;
    let (kind, line) = line.split_once("status=")?;
    let (_, line) = line.split_once("aff:{")?;
    let (wanted, line) = line.split_once("}/{")?;
    let (ready, line) = line.split_once('}')?;
    let (wanted, ready) = (cpu_set(wanted)?, cpu_set(ready)?);
    let both: BTreeSet<u32> = wanted.intersection(&ready).copied().collect();
    let guests = line.split_once("in-flight=").and_then(|(_, rest)| rest.split_once(' '));
    Some(InterruptRoute {
        irq: irq.parse().ok()?,
        vector: u8::from_str_radix(vector, 16).ok()?,
        kind: kind.trim().to_owned(),
        cpus: if both.is_empty() { ready } else { both },
        bound: guests.map(|(_, list)| list.split(',').filter_map(bound).collect()).unwrap_or_default(),
    })
}

/// `d3: 16(---)`: a domain and its pirq.
fn bound(text: &str) -> Option<(DomainId, Pirq)> {
    let (domain, rest) = text.trim().strip_prefix('d')?.split_once(':')?;
    let (pirq, _) = rest.split_once('(')?;
    Some((DomainId(domain.parse().ok()?), Pirq(pirq.trim().parse().ok()?)))
}

/// `0-3,8`.
fn cpu_set(text: &str) -> Option<BTreeSet<u32>> {
    /// More than Xen can be built for.
    const CPUS: u32 = 0x1_0000;
    let mut set = BTreeSet::new();
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CPUS {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
(XEN) *** Serial input to DOM0 (type 'CTRL-a' three times to switch input)
(XEN) IRQ information:
(XEN)    IRQ:   0 vec:f0 IO-APIC-edge    status=000 aff:{0}/{0} arch/x86/time.c#timer_interrupt()
(XEN)    IRQ:   3 vec:50 IO-APIC-edge    status=002 aff:{0}/{0} mapped, unbound
(XEN)    IRQ:   9 vec:c0 IO-APIC-level   status=010 aff:{0-15}/{0-2,8} in-flight=0 d0:  9(---)
(XEN)    IRQ:  16 vec:c8 IO-APIC-level   status=010 aff:{0-15}/{0-1} in-flight=1 d0: 16(---),d3: 16(-M-)
(XEN)    IRQ:  24 vec:30 DMA_MSI         status=000 aff:{0-1}/{0} drivers/passthrough/vtd/iommu.c#iommu_page_fault()
(XEN)    IRQ:  25 vec:b0 PCI-MSI/-X      status=010 aff:{0}/{0-1} in-flight=0 d0:231(---)
(XEN)    IRQ:  31 vec:91 PCI-MSI/-X      status=030 aff:{1}/{0} in-flight=0 d12: 55(---)
(XEN)    IRQ:  32 vec:99 PCI-MSI/-X      status=002 aff:{0-1}/{} mapped, unbound
(XEN) Direct vector information:
(XEN)    0xf5 -> arch/x86/cpu/mcheck/mce_intel.c#intel_thermal_interrupt()
(XEN) IO-APIC interrupt information:
(XEN)     IRQ  0 Vec240:
(XEN)       Apic 0x00, Pin  2: vec=f0 delivery=LoPri dest=L status=0 polarity=0 irr=0 trig=E mask=0 dest_id:00000001
";

    #[test]
    fn interrupts_are_read_with_their_cpus_and_guests() {
        let routes = parse(CONSOLE);

        assert_eq!(routes.len(), 8);
        assert_eq!(
            routes[2],
            InterruptRoute {
                irq: 9,
                vector: 0xc0,
                kind: "IO-APIC-level".to_owned(),
                cpus: [0, 1, 2, 8].into(),
                bound: vec![(DomainId(0), Pirq(9))],
            }
        );
        assert_eq!(routes[3].bound, [(DomainId(0), Pirq(16)), (DomainId(3), Pirq(16))]);
        assert_eq!((routes[5].kind.as_str(), &routes[5].bound[..]), ("PCI-MSI/-X", &[(DomainId(0), Pirq(231))][..]));
        assert!(routes[0].bound.is_empty() && routes[1].bound.is_empty() && routes[7].cpus.is_empty());
    }

    #[test]
    fn interrupt_goes_where_it_shall_go_if_it_can_and_where_it_went_until_then() {
        let cpus: Vec<_> = parse(CONSOLE).into_iter().map(|route| (route.irq, route.cpus)).collect();

        assert_eq!(cpus[5], (25, [0].into()));
        assert_eq!(cpus[6], (31, [0].into()));
    }

    #[test]
    fn only_the_last_list_counts_and_what_is_cut_off_is_passed_over() {
        let twice = format!("vec:c0 IO-APIC-level\n{CONSOLE}{}", CONSOLE.replace("d12: 55", "d13: 54"));

        let routes = parse(&twice);

        assert_eq!(routes.len(), 8);
        assert_eq!(routes[6].bound, [(DomainId(13), Pirq(54))]);
    }

    #[test]
    fn other_text_is_no_interrupt() {
        assert!(parse("").is_empty());
        assert!(
            parse("(XEN)    IRQ:  x vec:zz {} aff:{0}/{0}\n(XEN) IRQ: 1 vec:10 A status=0 aff:{0}/{0-4294967295}\n")
                .is_empty()
        );
    }
}
