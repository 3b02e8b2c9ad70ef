//! Takes the kernel's ELF file out of Debian's bzImage (Linux, Documentation/arch/x86/boot.rst), so that neither Xen nor
//! libxl has to decompress it under emulation at each start of a domain.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

use crate::error::{Error, Result};
use crate::packages::Root;
use crate::process;

/// Offsets in the setup header.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Size of the boot sector and of each setup sector in bytes.
const SECTOR: usize = 512;

/// Release of the kernel in the packages, as in `6.1.0-50-amd64`.
///
/// # Errors
/// If there is not exactly one.
pub fn release(root: &Root) -> Result<String> {
    let folder = root.path("boot");
    let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let releases: Vec<String> = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).collect();
    match releases.as_slice() {
        [one] => Ok(one.clone()),
        other => Err(Error::Malformed {
            object: folder.display().to_string(),
            problem: format!("has {} kernels, not one", other.len()),
        }),
    }
}

/// Writes the ELF kernel to `target`.
///
/// # Errors
/// If the image is not a bzImage with an xz payload, which is what Debian builds.
pub fn extract(root: &Root, image: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(image).map_err(Error::io("read", image))?;
    let payload = payload(&bytes).ok_or_else(|| Error::Malformed {
        object: image.display().to_string(),
        problem: "is no bzImage that says where its payload is".to_owned(),
    })?;
    let compressed = target.with_extension("xz");
    fs::write(&compressed, payload).map_err(Error::io("write", &compressed))?;
    let [loader, arguments @ ..] = root.command_line("usr/bin/xz");
    // Behind the one stream the image has the size of its content, which is no xz stream.
    let kernel = process::run(Command::new(loader).args(arguments).args(["-dc", "--single-stream"]).arg(&compressed))?;
    fs::remove_file(&compressed).map_err(Error::io("remove", &compressed))?;
    fs::write(target, kernel).map_err(Error::io("write", target))
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |offset: usize| -> Option<usize> {
        let bytes = image.get(offset..offset + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let protected_mode_part = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * SECTOR;
    let start = protected_mode_part.checked_add(word(PAYLOAD_OFFSET)?)?;
    image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
}

/// Xen itself, decompressed: QEMU's `-kernel` wants the ELF file.
///
/// # Errors
/// If there is not exactly one hypervisor in the packages.
pub fn hypervisor(root: &Root) -> Result<Vec<u8>> {
    let path: PathBuf = root.path("boot/xen-4.17-amd64.gz");
    let compressed = fs::read(&path).map_err(Error::io("read", &path))?;
    let mut bytes = Vec::new();
    GzDecoder::new(compressed.as_slice()).read_to_end(&mut bytes).map_err(Error::io("decompress", &path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_where_the_header_says() {
        let mut image = vec![0; 4 * SECTOR];
        image[SETUP_SECTORS] = 2;
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = 3;
        image[3 * SECTOR + 16..3 * SECTOR + 19].copy_from_slice(b"abc");
        assert_eq!(payload(&image), Some(b"abc".as_slice()));
    }

    #[test]
    fn payload_beyond_the_end_is_refused() {
        let mut image = vec![0; 4 * SECTOR];
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].fill(0xff);
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"too short"), None);
    }
}
