use std::collections::btree_map::Entry;

use proptest::prelude::*;

use super::*;

fn at(bus: u8, device: u8, function: u8) -> Sbdf {
    Sbdf::new(0, bus, device, function).unwrap()
}

struct Host(BTreeMap<Sbdf, Node>);

impl Host {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn with(mut self, function: Sbdf, parent: Option<Sbdf>, kind: Kind, access_control: bool) -> Self {
        self.0.insert(function, Node { parent, kind, access_control, is_virtual: false });
        self
    }

    fn endpoint(self, function: Sbdf, parent: Option<Sbdf>) -> Self {
        self.with(function, parent, Kind::Endpoint, false)
    }

    fn virtual_function(mut self, function: Sbdf, parent: Option<Sbdf>) -> Self {
        self.0.insert(function, Node { parent, kind: Kind::Endpoint, access_control: false, is_virtual: true });
        self
    }

    fn group(&self, function: Sbdf) -> Vec<Sbdf> {
        Groups::new(&self.0).of(function).into_iter().collect()
    }
}

#[test]
fn single_devices_of_the_root_complex_are_alone() {
    let host = Host::new().endpoint(at(0, 2, 0), None).endpoint(at(0, 3, 0), None);

    assert_eq!(host.group(at(0, 2, 0)), [at(0, 2, 0)]);
    assert_eq!(host.group(at(0, 9, 0)), []);
}

#[test]
fn functions_of_one_device_are_together_unless_all_have_access_control() {
    let (first, second) = (at(0, 2, 0), at(0, 2, 1));
    let two = |one, other| Host::new().with(first, None, Kind::Endpoint, one).with(second, None, Kind::Endpoint, other);

    assert_eq!(two(false, false).group(first), [first, second]);
    assert_eq!(two(true, false).group(first), [first, second]);
    assert_eq!(two(true, true).group(first), [first]);
}

#[test]
fn endpoints_behind_root_ports_of_their_own_are_apart_without_access_control() {
    let (a, b) = (at(0, 1, 0), at(0, 2, 0));
    let host = Host::new()
        .with(a, None, Kind::RootPort, false)
        .with(b, None, Kind::RootPort, false)
        .endpoint(at(1, 0, 0), Some(a))
        .endpoint(at(2, 0, 0), Some(b));

    assert_eq!(host.group(at(1, 0, 0)), [a, at(1, 0, 0)]);
}

#[test]
fn root_ports_of_one_device_need_access_control_to_be_apart() {
    let (a, b) = (at(0, 0x1c, 0), at(0, 0x1c, 4));
    let ports = |one, other| {
        Host::new()
            .with(a, None, Kind::RootPort, one)
            .with(b, None, Kind::RootPort, other)
            .endpoint(at(1, 0, 0), Some(a))
            .endpoint(at(2, 0, 0), Some(b))
    };

    assert_eq!(ports(false, false).group(at(1, 0, 0)).len(), 4);
    assert!(ports(true, false).group(at(1, 0, 0)).contains(&at(2, 0, 0)));
    assert_eq!(ports(true, true).group(at(1, 0, 0)), [at(1, 0, 0)]);
}

#[test]
fn switch_keeps_its_ports_apart_only_if_all_have_access_control() {
    let (root, up, a, b) = (at(0, 1, 0), at(1, 0, 0), at(2, 0, 0), at(2, 1, 0));
    let switch = |one, other| {
        Host::new()
            .with(root, None, Kind::RootPort, true)
            .with(up, Some(root), Kind::UpstreamPort, false)
            .with(a, Some(up), Kind::DownstreamPort, one)
            .with(b, Some(up), Kind::DownstreamPort, other)
            .endpoint(at(3, 0, 0), Some(a))
            .endpoint(at(4, 0, 0), Some(b))
    };

    assert_eq!(switch(true, true).group(at(3, 0, 0)), [at(3, 0, 0)]);
    assert_eq!(switch(true, false).group(at(3, 0, 0)), [b, at(3, 0, 0), at(4, 0, 0)]);
    assert!(switch(false, false).group(at(3, 0, 0)).contains(&at(4, 0, 0)));
}

#[test]
fn everything_behind_a_bridge_to_conventional_pci_is_together_with_the_bridge() {
    let bridge = at(1, 0, 0);
    let host = Host::new()
        .with(at(0, 1, 0), None, Kind::RootPort, true)
        .with(bridge, Some(at(0, 1, 0)), Kind::ConventionalBridge, false)
        .endpoint(at(2, 0, 0), Some(bridge))
        .endpoint(at(2, 5, 0), Some(bridge))
        .endpoint(at(0, 2, 0), None);

    assert_eq!(host.group(at(2, 0, 0)), [bridge, at(2, 0, 0), at(2, 5, 0)]);
    assert_eq!(host.group(at(0, 2, 0)), [at(0, 2, 0)]);
}

#[test]
fn functions_beside_an_upstream_port_reach_what_is_behind_it() {
    let (root, up, beside, down, end) = (at(0, 1, 0), at(1, 0, 0), at(1, 0, 1), at(2, 0, 0), at(3, 0, 0));
    let host = Host::new()
        .with(root, None, Kind::RootPort, true)
        .with(up, Some(root), Kind::UpstreamPort, false)
        .endpoint(beside, Some(root))
        .with(down, Some(up), Kind::DownstreamPort, true)
        .endpoint(end, Some(down));

    assert!(host.group(end).contains(&beside));
}

#[test]
fn virtual_functions_are_apart_from_their_physical_one_and_each_other() {
    let (root, physical, first, second) = (at(0, 1, 0), at(1, 0, 0), at(1, 0x10, 0), at(1, 0x10, 2));
    let host = |access_control| {
        Host::new()
            .with(root, None, Kind::RootPort, access_control)
            .endpoint(physical, Some(root))
            .virtual_function(first, Some(root))
            .virtual_function(second, Some(root))
    };

    assert_eq!(host(true).group(first), [first]);
    assert_eq!(host(true).group(physical), [physical]);
    // What is above them counts.
    assert_eq!(host(false).group(first), [root, physical, first, second]);
}

#[test]
fn bridge_behind_itself_ends() {
    let host = Host::new().with(at(0, 1, 0), Some(at(0, 2, 0)), Kind::RootPort, false).with(
        at(0, 2, 0),
        Some(at(0, 1, 0)),
        Kind::RootPort,
        false,
    );

    assert_eq!(host.group(at(0, 1, 0)).len(), 2);
}

/// Hosts with a tree of bridges: each function is behind one before it, or on the root bus.
fn hosts() -> impl Strategy<Value = BTreeMap<Sbdf, Node>> {
    let kind = prop_oneof![
        3 => Just(Kind::Endpoint),
        1 => Just(Kind::RootPort),
        1 => Just(Kind::UpstreamPort),
        1 => Just(Kind::DownstreamPort),
        1 => Just(Kind::ConventionalBridge),
    ];
    let function = (any::<prop::sample::Index>(), any::<bool>(), 0..4_u8, 0..3_u8, kind, any::<bool>(), any::<bool>());
    prop::collection::vec(function, 1..24).prop_map(|functions| {
        let mut nodes = BTreeMap::new();
        // The bus behind each bridge.
        let mut bridges: Vec<(Sbdf, u8)> = Vec::new();
        for (number, (choice, is_root, device, function, kind, access_control, is_virtual)) in (1_u8..).zip(functions) {
            let above = (!is_root && !bridges.is_empty()).then(|| bridges[choice.index(bridges.len())]);
            let address = at(above.map_or(0, |(_, bus)| bus), device, function);
            let is_virtual = is_virtual && kind == Kind::Endpoint;
            let node = Node { parent: above.map(|(bridge, _)| bridge), kind, access_control, is_virtual };
            if let Entry::Vacant(place) = nodes.entry(address) {
                place.insert(node);
                if kind != Kind::Endpoint {
                    bridges.push((address, number));
                }
            }
        }
        nodes
    })
}

proptest! {
    #[test]
    fn groups_partition_the_functions(nodes in hosts()) {
        let groups = Groups::new(&nodes);

        let mut all: Vec<Sbdf> = groups.0.iter().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, nodes.keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn who_is_with_another_has_it_with_itself(nodes in hosts()) {
        let groups = Groups::new(&nodes);

        for function in nodes.keys() {
            for other in groups.of(*function) {
                prop_assert_eq!(groups.of(other), groups.of(*function));
            }
        }
    }

    #[test]
    fn more_access_control_never_brings_functions_together(nodes in hosts(), choice: prop::sample::Index) {
        let before = Groups::new(&nodes);
        let chosen = *nodes.keys().nth(choice.index(nodes.len())).unwrap();
        let mut more = nodes.clone();
        more.get_mut(&chosen).unwrap().access_control = true;

        let after = Groups::new(&more);

        for function in nodes.keys() {
            prop_assert!(after.of(*function).is_subset(&before.of(*function)));
        }
    }

    #[test]
    fn bridges_to_conventional_pci_are_with_all_that_is_behind_them(nodes in hosts()) {
        let groups = Groups::new(&nodes);

        for (function, node) in &nodes {
            let mut above = node.parent;
            while let Some(bridge) = above {
                if nodes[&bridge].kind == Kind::ConventionalBridge {
                    prop_assert!(groups.of(*function).contains(&bridge));
                }
                above = nodes[&bridge].parent;
            }
        }
    }
}
