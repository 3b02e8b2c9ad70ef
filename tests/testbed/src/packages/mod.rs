//! The Debian packages that only the testbed needs: downloaded with an apt configuration of our own and unpacked into
//! the cache. The host's package sources, its package database and its installed programs stay as they are.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Cache};
use crate::error::{Error, Result};
use crate::process;
use crate::progress::Progress;
use sources::Source;

/// The Debian release that everything comes from; also the only host it is done on, since the programs built on the
/// host run in the images.
pub const RELEASE: &str = "bookworm";

/// What is asked for; apt finds what these depend on.
const WANTED: &[&str] = &[
    "busybox-static",
    "linux-image-amd64",
    "pciutils",
    "qemu-system-x86",
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "xenstore-utils",
    "xz-utils",
];

/// Dependencies that are kept beside those asked for: shared libraries, firmware, data. The rest (package management,
/// Python, udev, ...) serves an installed system, which this is not.
const KEPT_PREFIXES: &[&str] = &["ipxe-qemu", "lib", "linux-image-6", "pci.ids", "qemu-system-", "seabios", "zlib1g"];

/// Libraries of interpreters that nothing here runs.
const DROPPED_PREFIXES: &[&str] = &["libpython", "libperl"];

/// The release's own QEMU has no igb, the network card with virtual functions.
const PREFERENCES: &str = "\
Package: src:qemu:any src:seabios:any
Pin: release n=bookworm-backports
Pin-Priority: 990
";

/// Name of this part of the cache, and of its folder.
const PART: &str = "packages";

/// The unpacked packages, as a root folder.
pub struct Root {
    folder: PathBuf,
    /// Changes when the packages do.
    pub key: String,
}

impl Root {
    /// Where a file of a package is; `path` as the package names it, without the first slash.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// Folders of shared libraries, in the order in which they are searched.
    #[must_use]
    pub fn library_folders(&self) -> [PathBuf; 3] {
        ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"].map(|folder| self.path(folder))
    }

    /// The loader and the library path that let a program of the packages run on the host with the packages' own
    /// libraries, libc included; followed by the program itself.
    #[must_use]
    pub fn command_line(&self, program: &str) -> [String; 4] {
        let libraries = self.library_folders().map(|folder| folder.display().to_string()).join(":");
        let loader = self.path("lib64/ld-linux-x86-64.so.2").display().to_string();
        [loader, "--library-path".to_owned(), libraries, self.path(program).display().to_string()]
    }
}

/// Downloads and unpacks what is missing. With nothing missing, neither the network nor apt is touched.
///
/// # Errors
/// If the host is no Debian of this release, or has no usable package source, or apt fails.
pub fn provide(cache: &Cache, progress: &Progress, refresh: bool) -> Result<Root> {
    let lists = [WANTED, KEPT_PREFIXES, DROPPED_PREFIXES].concat().join(" ");
    let key = cache::key([RELEASE.as_bytes(), lists.as_bytes(), PREFERENCES.as_bytes()]);
    let folder = cache.path(PART);
    let versions = cache.path("packages.txt");
    cache.provide(PART, &key, refresh, || {
        let apt = Apt::configure(cache, &host_sources()?)?;
        let step = progress.step("reading the package lists");
        apt.update()?;
        step.done();
        let names = apt.resolve()?;
        let step = progress.step(format!("downloading {} packages", names.len()));
        let archives = apt.download(&names)?;
        step.done();
        let step = progress.step(format!("unpacking them into {}", folder.display()));
        replace_folder(&folder)?;
        for archive in &archives {
            process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&folder))?;
        }
        fs::write(&versions, names.join("\n")).map_err(Error::io("write", &versions))?;
        apt.remove()?;
        step.done();
        Ok(())
    })?;
    let versions = fs::read(&versions).map_err(Error::io("read", &versions))?;
    Ok(Root { folder, key: cache::key([key.as_bytes(), &versions]) })
}

/// Where the host gets the release from, with its backports added.
fn host_sources() -> Result<Vec<Source>> {
    let release = fs::read_to_string("/etc/os-release").map_err(Error::io("read", "/etc/os-release"))?;
    let has = |field: &str| release.lines().any(|line| line.replace('"', "") == field);
    if !has("ID=debian") || !has(&format!("VERSION_CODENAME={RELEASE}")) || std::env::consts::ARCH != "x86_64" {
        return Err(Error::Unsuitable(format!(
            "the testbed runs on Debian 12 ({RELEASE}) for amd64 only: what it builds on the host runs in images made from \
             that release's packages. Run it in a container or a virtual machine of that release."
        )));
    }
    let mut all = Vec::new();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => all.extend(sources::parse_deb822(&text)),
            Some("list") => all.extend(sources::parse_one_line(&text)),
            _ => {}
        }
    }
    let found = sources::of_release(&all, RELEASE);
    if found.is_empty() {
        return Err(Error::Unsuitable(format!(
            "no source of Debian's {RELEASE} main in /etc/apt/sources.list or /etc/apt/sources.list.d (looked for one that \
             is signed with {} or names no key): add one, for apt as well as for the testbed",
            sources::KEYRING
        )));
    }
    Ok(found)
}

/// apt with a state of its own. The host's other settings (proxies above all) stay in force.
struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    fn configure(cache: &Cache, sources: &[Source]) -> Result<Self> {
        let folder = cache.path("apt");
        replace_folder(&folder)?;
        for sub in ["state/lists/partial", "cache/archives/partial", "archives", "empty"] {
            let sub = folder.join(sub);
            fs::create_dir_all(&sub).map_err(Error::io("create", &sub))?;
        }
        let at = folder.display();
        // The clears: a host's hooks act on the host, for instance by emptying its package cache.
        let configuration = format!(
            "Dir::State \"{at}/state\";\n\
             Dir::State::status \"{at}/status\";\n\
             Dir::Cache \"{at}/cache\";\n\
             Dir::Etc::SourceList \"{at}/debian.sources\";\n\
             Dir::Etc::SourceParts \"{at}/empty\";\n\
             Dir::Etc::Preferences \"{at}/preferences\";\n\
             Dir::Etc::PreferencesParts \"{at}/empty\";\n\
             #clear APT::Update::Pre-Invoke;\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             #clear Acquire::IndexTargets::deb::DEP-11;\n\
             #clear Acquire::IndexTargets::deb::CNF;\n\
             Acquire::Languages \"none\";\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n"
        );
        let files = [
            ("apt.conf", configuration),
            ("debian.sources", sources::render(sources)),
            ("preferences", PREFERENCES.to_owned()),
            ("status", String::new()),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        let configuration = folder.join("apt.conf");
        Ok(Self { folder, configuration })
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .arg("--config-file")
            .arg(&self.configuration)
            .env("LC_ALL", "C")
            .current_dir(self.folder.join("archives"));
        command
    }

    fn update(&self) -> Result<()> {
        // apt-get ends well when a source cannot be reached, and uses what it has: nothing, here.
        process::run(self.apt_get().args(["--error-on=any", "update"])).map(drop)
    }

    /// The packages to download, as `name=version`.
    fn resolve(&self) -> Result<Vec<String>> {
        let plan = process::run(self.apt_get().args(["--simulate", "install"]).args(WANTED))?;
        Ok(planned(&String::from_utf8_lossy(&plan)))
    }

    fn download(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        process::run(self.apt_get().arg("download").args(names))?;
        let folder = self.folder.join("archives");
        let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        archives.sort();
        Ok(archives)
    }

    /// The lists and archives are large, and not needed again.
    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(Error::io("remove", &self.folder))
    }
}

/// Reads `Inst NAME (VERSION ...` lines and keeps what the images and QEMU can use.
fn planned(plan: &str) -> Vec<String> {
    let starts_with_one_of = |name: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut names = Vec::new();
    for line in plan.lines() {
        let mut words = line.split_whitespace();
        let (Some("Inst"), Some(name), Some(version)) = (words.next(), words.next(), words.next()) else { continue };
        let is_kept = WANTED.contains(&name) || starts_with_one_of(name, KEPT_PREFIXES);
        if is_kept && !starts_with_one_of(name, DROPPED_PREFIXES) {
            names.push(format!("{name}={}", version.trim_matches(['(', ')'])));
        }
    }
    names
}

fn replace_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_keeps_what_was_asked_for_and_libraries_with_their_versions() {
        let plan = "\
Reading package lists...
Inst libc6 (2.36-9 Debian:12.11/oldstable [amd64]) []
Inst dpkg (1.21.22 Debian:12.11/oldstable [amd64])
Inst libpython3.11-stdlib (3.11.2-6 Debian:12.11/oldstable [amd64])
Inst linux-image-6.1.0-50-amd64 (6.1.1-1 Debian-Security:12/oldstable-security [amd64])
Inst qemu-system-x86 (1:10.0.2+ds-2~bpo12+1 Debian Backports:bookworm-backports [amd64])
Conf libc6 (2.36-9 Debian:12.11/oldstable [amd64])
";
        assert_eq!(
            planned(plan),
            ["libc6=2.36-9", "linux-image-6.1.0-50-amd64=6.1.1-1", "qemu-system-x86=1:10.0.2+ds-2~bpo12+1"]
        );
    }
}
