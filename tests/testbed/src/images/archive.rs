//! Writes an initial RAM file system: a cpio archive in the "newc" format
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeMap;

/// File type bits of a mode, from stat(2).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// A file system under construction. Folders above an entry come by themselves.
#[derive(Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    content: Vec<u8>,
}

impl Tree {
    /// Adds a folder.
    pub fn folder(&mut self, path: &str) {
        self.add(path, DIRECTORY | 0o755, Vec::new());
    }

    /// Adds a file that can only be read.
    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, REGULAR | 0o644, content.into());
    }

    /// Adds a file that can be executed.
    pub fn program(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, REGULAR | 0o755, content.into());
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.add(path, SYMBOLIC_LINK | 0o777, target.into());
    }

    /// The archive, not compressed: decompression costs more than it saves where every instruction is emulated.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Path order puts a folder before what is in it, as the kernel wants.
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut bytes, inode, path, entry.mode, &entry.content);
        }
        append(&mut bytes, 0, "TRAILER!!!", 0, &[]);
        bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let above = path.get(..end).unwrap_or_default();
            self.entries.entry(above.to_owned()).or_insert(Entry { mode: DIRECTORY | 0o755, content: Vec::new() });
        }
        self.entries.insert(path.to_owned(), Entry { mode, content });
    }
}

fn append(archive: &mut Vec<u8>, inode: usize, path: &str, mode: u32, content: &[u8]) {
    let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
    let name_size = path.len() + 1;
    archive.extend_from_slice(b"070701");
    // inode, mode, user, group, links, time, file size, device (2), special device (2), name size, checksum
    let mode = mode as usize;
    for field in [inode, mode, 0, 0, links, 0, content.len(), 0, 0, 0, 0, name_size, 0] {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

/// Header with name, and content, each end at a multiple of four.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads an archive as the format's description says: (path, mode, content) of each entry.
    fn read(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[6 + 8 * index..14 + 8 * index]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (u32::try_from(field(1)).unwrap(), field(6), field(11));
            let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(archive[110 + name_size - 1], 0);
            let content = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(archive.len(), content);
                return entries;
            }
            entries.push((name, mode, archive[content..content + size].to_vec()));
            archive = &archive[content + size.next_multiple_of(4)..];
        }
    }

    #[test]
    fn folders_above_a_file_come_before_it() {
        let mut tree = Tree::default();
        tree.program("/usr/bin/xl", b"elf".as_slice());
        tree.link("bin", "usr/bin");

        let paths: Vec<(String, u32)> = read(&tree.archive()).into_iter().map(|(path, mode, _)| (path, mode)).collect();
        assert_eq!(
            paths,
            [
                ("bin".to_owned(), 0o120_777),
                ("usr".to_owned(), 0o040_755),
                ("usr/bin".to_owned(), 0o040_755),
                ("usr/bin/xl".to_owned(), 0o100_755),
            ]
        );
    }

    proptest! {
        #[test]
        fn files_of_any_length_are_read_back(
            files in proptest::collection::btree_map("[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 0..40), 0..6)
        ) {
            let mut tree = Tree::default();
            for (name, content) in &files {
                tree.file(name, content.clone());
            }
            let read: Vec<_> = read(&tree.archive()).into_iter().map(|(name, _, content)| (name, content)).collect();
            prop_assert_eq!(read, files.into_iter().collect::<Vec<_>>());
        }
    }
}
