//! Which functions can reach one another without the IOMMU between them: isolation groups.
//!
//! The IOMMU sees a request when it comes to the host bridge. What goes from one function to another before that, it does not
//! see, and requests that come under one identifier it cannot tell apart. So the functions of a group have to belong together.
//!
//! | together | because | unless |
//! |---|---|---|
//! | functions of one device | they may address each other inside of it | all of them have ACS |
//! | what is behind a bridge to conventional PCI, and the bridge | all requests come under the bridge's identifier, and the bus is shared | |
//! | what is behind the lower ports of a switch | the switch routes between them | all ports that something is behind have ACS |
//! | what is behind root ports that are functions of one device | likewise | likewise |
//! | a port and what is behind it | the port turns requests around | it has ACS |
//!
//! Access Control Services (PCI Express Base Specification 6.12) send requests up to the host bridge. Root ports of different
//! devices are taken to be apart, as host bridges do not route between them without ACS but where chipsets have errata.
//!
//! **Virtual functions** (SR-IOV) are apart from their physical function and from one another: that is what they are made for,
//! and the IOMMU tells them apart. A device that can send from one to the other inside of it, as the switch of a NIC does, does so
//! by its own rules, which the physical function's driver in dom0 sets. Ports and bridges above them count.

use std::collections::{BTreeMap, BTreeSet};

use xenpcid_address::Sbdf;

/// What a function is for those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is behind it.
    Endpoint,
    /// A port of the root complex.
    RootPort,
    /// The upper side of a switch.
    UpstreamPort,
    /// One of the lower sides of a switch.
    DownstreamPort,
    /// A bridge to conventional PCI, or between conventional buses.
    ConventionalBridge,
}

/// What counts of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The bridge above it.
    pub parent: Option<Sbdf>,
    /// What it is.
    pub kind: Kind,
    /// It has Access Control Services that are on.
    pub access_control: bool,
    /// It is a virtual function.
    pub is_virtual: bool,
}

/// The functions of a host in their groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(Vec<BTreeSet<Sbdf>>);

impl Groups {
    /// Puts functions into groups.
    #[must_use]
    pub fn new(nodes: &BTreeMap<Sbdf, Node>) -> Self {
        let mut groups = Self(nodes.keys().map(|function| BTreeSet::from([*function])).collect());
        let behind: BTreeMap<Sbdf, Vec<Sbdf>> = nodes.keys().map(|bridge| (*bridge, behind(nodes, *bridge))).collect();
        let behind = |bridge: &Sbdf| behind.get(bridge).map(Vec::as_slice).unwrap_or_default();
        for device in devices(nodes) {
            let is_open = |function: &Sbdf| nodes.get(function).is_some_and(|node| !node.access_control);
            let ports = device.iter().filter(|function| is_port(nodes, function));
            if device.len() > 1 && device.iter().any(is_open) {
                groups.join(&device);
                // Functions beside the upper side of a switch reach what is behind it, as they reach it.
                let is_upper =
                    |function: &&Sbdf| nodes.get(function).is_some_and(|node| node.kind == Kind::UpstreamPort);
                for upper in device.iter().filter(is_upper) {
                    groups.join_with(*upper, behind(upper));
                }
            }
            // A switch has each of its lower ports as a device of its own, hence these below.
            groups.join_across(nodes, ports.copied().collect(), behind);
        }
        for (function, node) in nodes {
            match node.kind {
                Kind::Endpoint => {}
                Kind::ConventionalBridge => groups.join_with(*function, behind(function)),
                Kind::UpstreamPort => {
                    let ports = nodes.iter().filter(|(_, port)| port.parent == Some(*function));
                    groups.join_across(nodes, ports.map(|(port, _)| *port).collect(), behind);
                }
                Kind::RootPort | Kind::DownstreamPort if node.access_control => {}
                Kind::RootPort | Kind::DownstreamPort => groups.join_with(*function, behind(function)),
            }
        }
        groups
    }

    /// The group of a function, with itself in it; empty if it is not one of the host's.
    #[must_use]
    pub fn of(&self, function: Sbdf) -> BTreeSet<Sbdf> {
        self.0.iter().find(|group| group.contains(&function)).cloned().unwrap_or_default()
    }

    /// Ports beside one another: if one of them that something is behind has no ACS, all is together.
    fn join_across<'a>(
        &mut self,
        nodes: &BTreeMap<Sbdf, Node>,
        ports: Vec<Sbdf>,
        behind: impl Fn(&Sbdf) -> &'a [Sbdf],
    ) {
        let is_open = |port: &&Sbdf| {
            nodes.get(port).is_some_and(|node| !node.access_control && is_port(nodes, port)) && !behind(port).is_empty()
        };
        if let Some(open) = ports.iter().find(is_open) {
            for port in &ports {
                self.join_with(*open, behind(port));
            }
        }
    }

    fn join_with(&mut self, function: Sbdf, others: &[Sbdf]) {
        let all: Vec<Sbdf> = others.iter().copied().chain([function]).collect();
        self.join(&all);
    }

    fn join(&mut self, functions: &[Sbdf]) {
        let (joined, apart): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|group| functions.iter().any(|one| group.contains(one)));
        self.0 = apart;
        self.0.push(joined.into_iter().flatten().collect());
    }
}

fn is_port(nodes: &BTreeMap<Sbdf, Node>, function: &Sbdf) -> bool {
    nodes.get(function).is_some_and(|node| matches!(node.kind, Kind::RootPort | Kind::DownstreamPort))
}

/// Every function below a bridge, at any depth.
fn behind(nodes: &BTreeMap<Sbdf, Node>, bridge: Sbdf) -> Vec<Sbdf> {
    let is_behind = |function: &Sbdf| {
        let mut step = nodes.get(function).and_then(|node| node.parent);
        // There are not more steps than functions, unless a host shows a bridge behind itself.
        for _ in 0..nodes.len() {
            match step {
                Some(above) if above == bridge => return true,
                Some(above) => step = nodes.get(&above).and_then(|node| node.parent),
                None => return false,
            }
        }
        false
    };
    nodes.keys().filter(|function| **function != bridge && is_behind(function)).copied().collect()
}

/// The functions of each device. A link of PCI Express has one device, whatever its functions' numbers are (ARI).
fn devices(nodes: &BTreeMap<Sbdf, Node>) -> Vec<Vec<Sbdf>> {
    let mut devices: BTreeMap<(u16, u8, Option<u8>), Vec<Sbdf>> = BTreeMap::new();
    for (function, node) in nodes.iter().filter(|(_, node)| !node.is_virtual) {
        let is_link = node.parent.is_some_and(|parent| is_port(nodes, &parent));
        let device = (!is_link).then(|| function.device());
        devices.entry((function.segment(), function.bus(), device)).or_default().push(*function);
    }
    devices.into_values().collect()
}

#[cfg(test)]
mod tests;
