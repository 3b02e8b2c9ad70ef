//! Preload library (`LD_PRELOAD`) under which the xenstored of Xen 4.17 runs on a machine without Xen.
//!
//! It stands in for the hypervisor and the libraries that reach it: libxenctrl, libxenevtchn, libxengnttab, and the two
//! files in which Linux names domain 0's ring. Clients of xenstored's unix socket are domain 0, as on a real host. So
//! that the server's treatment of guests can be tested as well, guests are made of files in `$XENSTORED_RUNDIR`:
//!
//! 1. a domain `N` exists while there is a file `domain-N`;
//! 2. when domain 0 sends INTRODUCE for it, with any frame and port, the library gives xenstored a ring for it, and
//!    serves `domain-N.socket`: what is written to that socket appears in the ring as the guest's requests, and what
//!    xenstored answers can be read from it. One client at a time; the server does not notice when it changes.
//!
//! A line `ready` on standard output says that clients can connect. xenstored ends when its standard input does, so that
//! it cannot outlive the test that started it.
//!
//! The signatures are those of xenctrl.h, xenevtchn.h and xengnttab.h of Xen 4.17.
#![expect(unsafe_code, reason = "it implements C functions, and shares memory with the C program that calls them")]

mod guest;
mod ring;

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{LazyLock, Once};
use std::{ptr, thread};

use nix::libc;

/// Any port will do for domain 0's ring, on which nobody talks.
const DOM0_PORT: &str = "3";
/// Port of the virtual interrupt that tells of dying domains; it never comes.
const VIRQ_PORT: c_int = 5;
/// Port of domain 0; that of domain N is N more.
const FIRST_PORT: c_int = 0x1_0000;

/// What xenstored polls, and where we tell it of an event: each event is a port in four bytes.
static EVENTS: LazyLock<Option<(UnixStream, UnixStream)>> = LazyLock::new(|| UnixStream::pair().ok());

/// What is handed out for library handles, which nobody looks into.
static HANDLE: u8 = 0;

fn handle() -> *mut c_void {
    ptr::from_ref(&HANDLE).cast_mut().cast()
}

/// A file in the server's folder.
fn in_rundir(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("XENSTORED_RUNDIR").unwrap_or_default()).join(name)
}

/// Wakes xenstored, which then looks at every ring.
fn tell_xenstored(domain: u16) {
    if let Some((_, ours)) = EVENTS.as_ref() {
        let port = FIRST_PORT.wrapping_add(c_int::from(domain));
        // If there is no room, enough events are waiting already.
        let _ = (&*ours).write(&port.to_ne_bytes());
    }
}

/// Takes the place of libc's `open`, which gets its third argument only if a file may be created.
///
/// # Safety
/// As for libc's: `path` is a string ended by NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller promises a string.
    let name = unsafe { CStr::from_ptr(path) };
    let replaced = match OsStr::from_bytes(name.to_bytes()).to_str() {
        Some("/proc/xen/xsd_port" | "/dev/xen/xsd_port") => Some(("xsd_port", DOM0_PORT.as_bytes().to_vec())),
        Some("/proc/xen/xsd_kva" | "/dev/xen/xsd_kva") => Some(("xsd_kva", vec![0; ring::PAGE_SIZE])),
        _ => None,
    };
    if let Some((name, content)) = replaced {
        let path = in_rundir(name);
        let file = fs::write(&path, content).and_then(|()| File::options().read(true).write(true).open(&path));
        return file.map_or(-1, IntoRawFd::into_raw_fd);
    }
    // SAFETY: the same string; openat at the current directory is open. An argument that the caller did not pass is a
    // register with any content on the architectures of Xen, and is ignored unless flags say that it was passed.
    unsafe { libc::openat(libc::AT_FDCWD, path, flags, mode) }
}

/// Opens nothing, as every handle here.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_open(_logger: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

/// As [`xenevtchn_open`].
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_fdopen(_logger: *mut c_void, _fd: c_int, _flags: c_uint) -> *mut c_void {
    handle()
}

/// Says that xenstored has reached its main loop, and starts to look after its standard input.
static READY: Once = Once::new();

fn ready() {
    let _ = writeln!(io::stdout(), "ready");
    thread::spawn(|| {
        // Whether it ends or fails: whoever holds the other end is gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // SAFETY: always sound; without exit handlers, since the other thread goes on meanwhile.
        unsafe { libc::_exit(0) };
    });
}

/// The descriptor that is readable while [`xenevtchn_pending`] has an answer. The main loop asks for it each time,
/// after everything else has been set up.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_fd(_handle: *mut c_void) -> c_int {
    READY.call_once(ready);
    EVENTS.as_ref().map_or(-1, |(theirs, _)| theirs.as_raw_fd())
}

/// Tells the guest that its ring has changed.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_notify(_handle: *mut c_void, port: c_uint) -> c_int {
    let domain = c_int::try_from(port).ok().and_then(|port| u16::try_from(port.wrapping_sub(FIRST_PORT)).ok());
    if let Some(ring) = domain.and_then(guest::ring) {
        ring.wake();
    }
    0
}

/// A port for a domain's ring.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_bind_interdomain(_handle: *mut c_void, domain: u32, _remote_port: c_uint) -> c_int {
    u16::try_from(domain).map_or(-1, |domain| FIRST_PORT.wrapping_add(c_int::from(domain)))
}

/// A port that never fires.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_bind_virq(_handle: *mut c_void, _virq: c_uint) -> c_int {
    VIRQ_PORT
}

/// Does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_unbind(_handle: *mut c_void, _port: c_uint) -> c_int {
    0
}

/// The port of the next event. xenstored calls it when its descriptor is readable.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_pending(_handle: *mut c_void) -> c_int {
    let mut port = [0; 4];
    match EVENTS.as_ref().map(|(theirs, _)| (&*theirs).read_exact(&mut port)) {
        Some(Ok(())) => c_int::from_ne_bytes(port),
        _ => -1,
    }
}

/// Does nothing: events are not masked.
#[unsafe(no_mangle)]
pub extern "C" fn xenevtchn_unmask(_handle: *mut c_void, _port: c_uint) -> c_int {
    0
}

/// Opens nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xengnttab_open(_logger: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

/// Closes nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xengnttab_close(_handle: *mut c_void) -> c_int {
    0
}

/// Does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xengnttab_set_max_grants(_handle: *mut c_void, _count: u32) -> c_int {
    0
}

/// The page of a guest's ring, which from now on can be reached by its socket; null if that cannot be made.
#[unsafe(no_mangle)]
pub extern "C" fn xengnttab_map_grant_ref(_handle: *mut c_void, domain: u32, _ref: u32, _prot: c_int) -> *mut c_void {
    u16::try_from(domain).ok().and_then(guest::introduce).map_or(ptr::null_mut(), |ring| ring.page().cast())
}

/// Leaves the page where it is, since the guest's thread still uses it.
#[unsafe(no_mangle)]
pub extern "C" fn xengnttab_unmap(_handle: *mut c_void, _page: *mut c_void, _count: u32) -> c_int {
    0
}

/// Opens nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xc_interface_open(_logger: *mut c_void, _dombuild: *mut c_void, _flags: c_uint) -> *mut c_void {
    handle()
}

/// Closes nothing.
#[unsafe(no_mangle)]
pub extern "C" fn xc_interface_close(_handle: *mut c_void) -> c_int {
    0
}

/// Start of `xc_dominfo_t`: all that xenstored looks at.
#[repr(C)]
struct DomainInfo {
    domid: u32,
    ssidref: u32,
    /// `dying`, `crashed`, `shutdown` and others.
    flags: c_uint,
}

/// Tells whether a domain exists. Asked for one domain at a time by xenstored.
///
/// # Safety
/// `info` points to a `xc_dominfo_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xc_domain_getinfo(
    _handle: *mut c_void,
    first_domain: u32,
    _max_domains: c_uint,
    info: *mut c_void,
) -> c_int {
    if !in_rundir(&format!("domain-{first_domain}")).exists() {
        return 0;
    }
    // SAFETY: the caller's structure starts with these fields, and is aligned for its larger ones.
    unsafe { info.cast::<DomainInfo>().write(DomainInfo { domid: first_domain, ssidref: 0, flags: 0 }) };
    1
}
