//! What is booted: Xen, the kernel, an initial RAM file system for dom0 with one for guests inside it, and the content of
//! the emulated disks. Made from the packages, from the agent and from nothing else.

mod archive;
mod disk;
mod kernel;
mod libraries;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{self, Cache};
use crate::error::{Error, Result};
use crate::packages::Root;
use crate::progress::Progress;
use archive::Tree;

pub use disk::DISK_SHA256;

/// Modules in dom0's image. xen-pciback is there for the scenario that wants it loaded, pci-stub for the daemon, and the
/// devices' own drivers because a dom0 has them.
const DOM0_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "9p",
    "9pnet_virtio",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "pci-stub",
    "xen-pciback",
    "igb",
    "nvme",
    "e1000",
    "e1000e",
];

/// Modules in a guest's image: the frontend and drivers, or what a frontend in userspace needs.
const GUEST_MODULES: &[&str] =
    &["xen-pcifront", "nvme", "e1000e", "e1000", "igbvf", "ahci", "sd_mod", "xen-gntalloc", "xen-evtchn"];

/// Programs in dom0's image: where they are in the packages, and in the image.
const DOM0_PROGRAMS: &[(&str, &str)] = &[
    ("usr/lib/xen-4.17/bin/xl", "usr/sbin/xl"),
    ("usr/lib/xen-4.17/bin/xenstored", "usr/sbin/xenstored"),
    ("usr/lib/xen-4.17/bin/xenconsoled", "usr/sbin/xenconsoled"),
    ("usr/lib/xen-4.17/bin/xen-init-dom0", "usr/sbin/xen-init-dom0"),
    ("usr/bin/lspci", "usr/bin/lspci"),
];

/// xenstore's tools are one program under several names.
const XENSTORE_TOOLS: &[&str] = &["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"];

/// Libraries that no program in the image names, but that are needed: xl loads libgcc_s when it cancels a thread, and the
/// rest is what the daemon, which comes at run time, is linked with.
const DOM0_LIBRARIES: &[&str] = &[
    "usr/lib/x86_64-linux-gnu/libxenctrl.so.4.17",
    "lib/x86_64-linux-gnu/libgcc_s.so.1",
    "lib/x86_64-linux-gnu/libm.so.6",
];

const DOM0_INIT: &str = include_str!("dom0-init.sh");
const GUEST_INIT: &str = include_str!("guest-init.sh");

/// xen-pciback is in the image, and must not come by itself.
const MODPROBE_CONFIGURATION: &str = "blacklist xen_pciback\n";

/// Where dom0 finds what a guest is started from.
pub const GUEST_KERNEL: &str = "/guest/vmlinux";
/// The guests' initial RAM file system, in dom0.
pub const GUEST_RAMDISK: &str = "/guest/initrd";
/// The same with the instrument in it, once [`Machine::install_instrument`](crate::machine::Machine) has put it there.
pub const INSTRUMENT_RAMDISK: &str = "/guest/initrd-instrument";

/// Name of this part of the cache, and of its folder.
const PART: &str = "images";

/// Files that QEMU is started with.
pub struct Images {
    /// Xen, as an ELF file.
    pub xen: PathBuf,
    /// Linux, as an ELF file.
    pub kernel: PathBuf,
    /// dom0's initial RAM file system.
    pub dom0: PathBuf,
    /// Known content for emulated disks, with the hash [`DISK_SHA256`].
    pub disk: PathBuf,
}

/// Makes the images if what they are made from has changed.
///
/// # Errors
/// If a package does not have what is expected in it, or a file cannot be written.
pub fn provide(cache: &Cache, root: &Root, agent: &Path, progress: &Progress) -> Result<Images> {
    let folder = cache.path(PART);
    let images = Images {
        xen: folder.join("xen.elf"),
        kernel: folder.join("vmlinux"),
        dom0: folder.join("dom0.cpio"),
        disk: folder.join("disk.img"),
    };
    let agent_bytes = fs::read(agent).map_err(Error::io("read", agent))?;
    let tables = format!(
        "{DOM0_MODULES:?}{GUEST_MODULES:?}{DOM0_PROGRAMS:?}{XENSTORE_TOOLS:?}{DOM0_LIBRARIES:?}{MODPROBE_CONFIGURATION}{DISK_SHA256}"
    );
    let key =
        cache::key([root.key.as_bytes(), &agent_bytes, DOM0_INIT.as_bytes(), GUEST_INIT.as_bytes(), tables.as_bytes()]);
    cache.provide(PART, &key, false, || {
        let step = progress.step("making the images");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let release = kernel::release(root)?;
        kernel::extract(root, &root.path(format!("boot/vmlinuz-{release}")), &images.kernel)?;
        write(&images.xen, &kernel::hypervisor(root)?)?;
        write(&images.disk, &disk::content())?;
        let builder = Builder { root, release: &release, agent };
        let guest = builder.guest()?.archive();
        let kernel = fs::read(&images.kernel).map_err(Error::io("read", &images.kernel))?;
        write(&images.dom0, &builder.dom0(kernel, guest)?.archive())?;
        step.done();
        Ok(())
    })?;
    Ok(images)
}

struct Builder<'a> {
    root: &'a Root,
    release: &'a str,
    agent: &'a Path,
}

impl Builder<'_> {
    fn guest(&self) -> Result<Tree> {
        let mut tree = self.start(GUEST_INIT, GUEST_MODULES)?;
        self.programs(&mut tree, &[("usr/bin/lspci", "usr/bin/lspci")], &[])?;
        Ok(tree)
    }

    fn dom0(&self, guest_kernel: Vec<u8>, guest_ramdisk: Vec<u8>) -> Result<Tree> {
        let mut tree = self.start(DOM0_INIT, DOM0_MODULES)?;
        self.programs(&mut tree, DOM0_PROGRAMS, DOM0_LIBRARIES)?;
        self.programs(&mut tree, &[("usr/bin/xenstore", "usr/bin/xenstore")], &[])?;
        for tool in XENSTORE_TOOLS {
            tree.link(&format!("usr/bin/xenstore-{tool}"), "xenstore");
        }
        tree.file("etc/modprobe.d/xen-pciback.conf", MODPROBE_CONFIGURATION);
        // xl wants its configuration to exist; empty means its defaults.
        tree.file("etc/xen/xl.conf", "");
        for folder in ["host", "var/lib/xen", "var/log/xen", "run"] {
            tree.folder(folder);
        }
        tree.link("var/run", "../run");
        tree.link("var/lock", "../run/lock");
        tree.file(GUEST_KERNEL, guest_kernel);
        tree.file(GUEST_RAMDISK, guest_ramdisk);
        Ok(tree)
    }

    /// What both images have: busybox, the agent, modules, and an init that the kernel starts.
    fn start(&self, init: &str, module_names: &[&str]) -> Result<Tree> {
        let mut tree = Tree::default();
        for folder in ["dev", "proc", "sys", "tmp", "sbin", "usr/sbin", "usr/bin", "root"] {
            tree.folder(folder);
        }
        tree.program("init", init);
        tree.program("bin/busybox", self.read("bin/busybox")?);
        tree.file("usr/share/misc/pci.ids", self.read("usr/share/misc/pci.ids")?);
        self.programs(&mut tree, &[], &[])?;
        let modules = modules::closure(&self.root.path(format!("lib/modules/{}/kernel", self.release)), module_names)?;
        let folder = format!("lib/modules/{}", self.release);
        for module in modules.values() {
            let name = module.path.file_name().unwrap_or_default().to_string_lossy();
            tree.file(&format!("{folder}/{name}"), fs::read(&module.path).map_err(Error::io("read", &module.path))?);
        }
        tree.file(&format!("{folder}/modules.dep"), modules::dependency_file(&modules));
        Ok(tree)
    }

    /// Adds programs, libraries, the agent, and every library that one of them needs.
    fn programs(&self, tree: &mut Tree, programs: &[(&str, &str)], libraries: &[&str]) -> Result<()> {
        let mut files = vec![self.agent.to_owned()];
        tree.program("usr/bin/xenpcid-testbed-agent", fs::read(self.agent).map_err(Error::io("read", self.agent))?);
        for (source, target) in programs {
            tree.program(target, self.read(source)?);
            files.push(self.root.path(source));
        }
        for library in libraries {
            let name = library.rsplit('/').next().unwrap_or(library);
            tree.program(&format!("lib/x86_64-linux-gnu/{name}"), self.read(library)?);
            files.push(self.root.path(library));
        }
        add_libraries(tree, self.root, &files)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.root.path(path);
        fs::read(&path).map_err(Error::io("read", &path))
    }
}

/// A program of this machine with the libraries that it needs, as an archive that can be appended to an image.
///
/// # Errors
/// If the program cannot be read, or needs a library that no package has.
pub fn addition(root: &Root, program: &Path, target: &str) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    tree.program(target, fs::read(program).map_err(Error::io("read", program))?);
    add_libraries(&mut tree, root, &[program.to_owned()])?;
    Ok(tree.archive())
}

/// Adds every library that one of `files` needs.
fn add_libraries(tree: &mut Tree, root: &Root, files: &[PathBuf]) -> Result<()> {
    for (name, path) in libraries::closure(files, &root.library_folders())? {
        let folder = if name.starts_with("ld-linux") { "lib64" } else { "lib/x86_64-linux-gnu" };
        tree.program(&format!("{folder}/{name}"), fs::read(&path).map_err(Error::io("read", &path))?);
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}
