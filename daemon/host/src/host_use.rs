use std::fmt;
use std::path::PathBuf;

/// Something that dom0 does with a function, and would lose with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostUse {
    /// A mounted filesystem is on it.
    Filesystem {
        /// The block device that is mounted: a disk or partition of the function, or a device mapper or MD device over such.
        block_device: String,
        /// Where it is mounted.
        mount_point: PathBuf,
    },
    /// dom0 swaps to it.
    Swap {
        /// The block device.
        block_device: String,
    },
    /// It is dom0's console.
    Console {
        /// The terminal or the framebuffer; `VGA` for the adapter that firmware used.
        name: String,
    },
    /// The network is reached by it.
    DefaultRoute {
        /// The interface of the route: the function's own, or a bridge, bond or VLAN over it.
        interface: String,
    },
}

impl fmt::Display for HostUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem { block_device, mount_point } => {
                write!(f, "{block_device} is mounted on {}", mount_point.display())
            }
            Self::Swap { block_device } => write!(f, "{block_device} is swap space"),
            Self::Console { name } => write!(f, "{name} is the console"),
            Self::DefaultRoute { interface } => write!(f, "the default route goes by {interface}"),
        }
    }
}
