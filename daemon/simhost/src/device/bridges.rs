//! Bridges and ports (PCI-to-PCI Bridge Architecture Specification 3.2, PCI Express Base Specification 7.5).

use super::models::Image;

/// What stands between a function and its host bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// A port of the root complex.
    RootPort,
    /// The upper side of a switch.
    UpstreamPort,
    /// One of the lower sides of a switch.
    DownstreamPort,
    /// From PCI Express to conventional PCI.
    ToConventional,
    /// Between two conventional buses: without a PCI Express capability.
    Conventional,
}

/// Its configuration space.
pub(super) fn image(bridge: Bridge) -> Image {
    // Device/Port Type of the PCI Express Capabilities register (7.5.3.2).
    let kind: Option<u8> = match bridge {
        Bridge::RootPort => Some(4),
        Bridge::UpstreamPort => Some(5),
        Bridge::DownstreamPort => Some(6),
        Bridge::ToConventional => Some(7),
        Bridge::Conventional => None,
    };
    let mut image = Image::bridge(if kind.is_some() { 4096 } else { 256 });
    if let Some(kind) = kind {
        image.express(kind);
    }
    image
}
