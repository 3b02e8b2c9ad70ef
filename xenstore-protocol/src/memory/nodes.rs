//! Requests that read or change nodes.

use xenpcid_address::DomainId;

use super::quota::Quota;
use super::tree::{Node, NodePermissions, View};
use crate::wire::{MessageType, PAYLOAD_MAX, decode_strings, encode_strings};
use crate::{ErrorName, Path, Permissions, RELATIVE_MAX};

/// Answer of a request that has nothing to say.
pub(super) const OK: &[u8] = b"OK\0";

/// Part of a node's size that is always there, in bytes.
const NODE_OVERHEAD: usize = 24;
/// What each permission adds to a node's size, in bytes.
const ENTRY_SIZE: usize = 8;

/// What a domain must be allowed to do.
#[derive(Clone, Copy)]
enum Need {
    Read,
    Write,
    Own,
}

impl Need {
    fn met_by(self, permissions: &NodePermissions, domain: DomainId) -> bool {
        let access = permissions.access(domain);
        match self {
            Self::Read => access.may_read(),
            Self::Write => access.may_write(),
            Self::Own => domain == DomainId::DOM0 || domain == permissions.listed.owner,
        }
    }
}

/// The nodes as one domain may use them.
pub(super) struct Nodes<'a> {
    pub(super) view: View<'a>,
    pub(super) domain: DomainId,
    pub(super) quota: Quota,
}

/// Seen from the root: a relative path starts at the domain's home.
pub(super) fn absolute(path: &Path, domain: DomainId) -> Option<Path> {
    if path.is_absolute() || path.is_special() { Some(path.clone()) } else { Path::domain(domain).child(path).ok() }
}

/// The argument of a request that has one: ended by NUL, without another.
pub(super) fn one(payload: &[u8]) -> Result<&[u8], ErrorName> {
    payload.strip_suffix(&[0]).filter(|argument| !argument.contains(&0)).ok_or(ErrorName::Einval)
}

/// The two arguments of a request that has two.
pub(super) fn two(payload: &[u8]) -> Result<(&[u8], &[u8]), ErrorName> {
    let mut strings = decode_strings(payload);
    match (strings.next(), strings.next(), strings.next()) {
        (Some(first), Some(second), None) if payload.ends_with(&[0]) => Ok((first, second)),
        _ => Err(ErrorName::Einval),
    }
}

/// Splits at the first NUL.
fn head(payload: &[u8]) -> Result<(&[u8], &[u8]), ErrorName> {
    let end = payload.iter().position(|byte| *byte == 0).ok_or(ErrorName::Einval)?;
    let (head, rest) = payload.split_at_checked(end).ok_or(ErrorName::Einval)?;
    Ok((head, rest.get(1..).unwrap_or_default()))
}

impl Nodes<'_> {
    /// Carries out a request of a type that is about nodes; any other is ENOSYS.
    pub(super) fn request(
        &mut self,
        kind: MessageType,
        payload: &[u8],
        known: impl Fn(DomainId) -> bool,
    ) -> Result<Vec<u8>, ErrorName> {
        let answer = match kind {
            MessageType::READ => self.node(one(payload)?, Need::Read).map(|(_, node)| node.value),
            MessageType::GET_PERMS => {
                self.node(one(payload)?, Need::Read).map(|(_, node)| node.permissions.listed.encode())
            }
            MessageType::DIRECTORY => self.directory(one(payload)?),
            MessageType::DIRECTORY_PART => two(payload).and_then(|(path, offset)| self.directory_part(path, offset)),
            MessageType::WRITE => head(payload).and_then(|(path, value)| self.write(path, value)),
            MessageType::MKDIR => self.mkdir(one(payload)?),
            MessageType::RM => self.rm(one(payload)?),
            MessageType::SET_PERMS => self.set_permissions(payload, known),
            _ => Err(ErrorName::Enosys),
        };
        if self.domain != DomainId::DOM0 && self.view.exceeds(self.quota.transaction_nodes) {
            self.view.fail();
            return Err(ErrorName::Enospc);
        }
        answer
    }

    fn path(&self, bytes: &[u8]) -> Result<Path, ErrorName> {
        let path = Path::try_from(bytes).ok().filter(|path| !path.is_special());
        let path = path.and_then(|path| absolute(&path, self.domain)).ok_or(ErrorName::Einval)?;
        let home = path.as_str().strip_prefix("/local/domain/").and_then(|rest| rest.split_once('/'));
        let counted = match home {
            Some((domain, below)) if domain.bytes().all(|byte| byte.is_ascii_digit()) => below,
            _ => path.as_str(),
        };
        if counted.len() > RELATIVE_MAX { Err(ErrorName::Einval) } else { Ok(path) }
    }

    /// A node that the domain may use so.
    fn node(&mut self, path: &[u8], need: Need) -> Result<(Path, Node), ErrorName> {
        let path = self.path(path)?;
        let domain = self.domain;
        match self.view.get(&path) {
            Some(node) if need.met_by(&node.permissions, domain) => {
                let node = node.clone();
                Ok((path, node))
            }
            Some(_) => {
                // xenstored looks above here as well, and so a transaction has used that node.
                self.absence(&path, need);
                Err(ErrorName::Eacces)
            }
            None => Err(self.absence(&path, need)),
        }
    }

    /// What a domain is told about a node that is not there: only who may use the nearest one above it learns so.
    fn absence(&mut self, path: &Path, need: Need) -> ErrorName {
        let domain = self.domain;
        let need = if matches!(need, Need::Own) { Need::Write } else { need };
        let above = std::iter::successors(path.parent(), Path::parent);
        for path in above {
            if let Some(node) = self.view.get(&path) {
                return if need.met_by(&node.permissions, domain) { ErrorName::Enoent } else { ErrorName::Eacces };
            }
        }
        ErrorName::Enoent
    }

    fn directory(&mut self, path: &[u8]) -> Result<Vec<u8>, ErrorName> {
        let (_, node) = self.node(path, Need::Read)?;
        let list = encode_strings(&node.children);
        if list.len() > PAYLOAD_MAX { Err(ErrorName::E2big) } else { Ok(list) }
    }

    fn directory_part(&mut self, path: &[u8], offset: &[u8]) -> Result<Vec<u8>, ErrorName> {
        let (_, node) = self.node(path, Need::Read)?;
        let offset: usize = crate::number::decimal(offset).ok_or(ErrorName::Einval)?;
        let list = encode_strings(&node.children);
        let rest = list.get(offset..).unwrap_or_default();
        let mut answer = encode_strings([node.generation.to_string()]);
        let room = PAYLOAD_MAX.saturating_sub(answer.len());
        if rest.len() < room {
            answer.extend_from_slice(rest);
            answer.push(0);
        } else {
            let part = rest.get(..room).unwrap_or_default();
            let whole = part.iter().rposition(|byte| *byte == 0).map_or(0, |last| last.saturating_add(1));
            answer.extend_from_slice(part.get(..whole).unwrap_or_default());
        }
        Ok(answer)
    }

    fn write(&mut self, path: &[u8], value: &[u8]) -> Result<Vec<u8>, ErrorName> {
        match self.node(path, Need::Write) {
            Ok((path, mut node)) => {
                node.value = value.to_vec();
                self.fits(&node)?;
                self.view.put(&path, node);
            }
            Err(ErrorName::Enoent) => self.create(path, value)?,
            Err(error) => return Err(error),
        }
        Ok(OK.to_vec())
    }

    fn mkdir(&mut self, path: &[u8]) -> Result<Vec<u8>, ErrorName> {
        match self.node(path, Need::Write) {
            Ok(_) => {}
            Err(ErrorName::Enoent) => self.create(path, b"")?,
            Err(error) => return Err(error),
        }
        Ok(OK.to_vec())
    }

    /// Creates a node and those above it that are missing. That the domain may do so is known.
    fn create(&mut self, path: &[u8], value: &[u8]) -> Result<(), ErrorName> {
        let path = self.path(path)?;
        let mut missing = vec![path.clone()];
        let mut nearest = None;
        for above in std::iter::successors(path.parent(), Path::parent) {
            nearest = self.view.get(&above).cloned();
            if nearest.is_some() {
                break;
            }
            missing.push(above);
        }
        let mut nearest = nearest.ok_or(ErrorName::Enoent)?;
        let mut permissions = nearest.permissions.clone();
        if self.domain != DomainId::DOM0 {
            permissions.listed.owner = self.domain;
            if self.view.owned_by(self.domain).saturating_add(missing.len()) > self.quota.nodes {
                return Err(ErrorName::Enospc);
            }
        }
        let mut node = Node::new(permissions.clone());
        node.value = value.to_vec();
        self.fits(&node)?;
        // The nearest node above becomes longer by a name.
        nearest.children.extend(missing.last().map(|top| top.name().to_owned()));
        self.fits(&nearest)?;
        for above in missing.iter().skip(1).rev() {
            self.view.put_silently(above, Node::new(permissions.clone()));
        }
        self.view.put(&path, node);
        Ok(())
    }

    /// Is a node small enough? If not, a transaction that wanted it has failed.
    fn fits(&mut self, node: &Node) -> Result<(), ErrorName> {
        if self.domain == DomainId::DOM0 {
            return Ok(());
        }
        let entries = node.permissions.listed.others.len().saturating_add(1);
        let names: usize = node.children.iter().map(|name| name.len().saturating_add(1)).sum();
        let parts = [NODE_OVERHEAD, entries.saturating_mul(ENTRY_SIZE), names];
        let size = parts.into_iter().fold(node.value.len(), usize::saturating_add);
        if size < self.quota.node_size {
            return Ok(());
        }
        self.view.fail();
        Err(ErrorName::Enospc)
    }

    fn rm(&mut self, path: &[u8]) -> Result<Vec<u8>, ErrorName> {
        match self.node(path, Need::Write) {
            Ok((path, _)) if path == Path::ROOT => return Err(ErrorName::Einval),
            Ok((path, _)) if !self.view.remove(&path) => return Err(ErrorName::Eio),
            Ok(_) => {}
            Err(ErrorName::Enoent) => {
                let parent = self.path(path)?.parent();
                if parent.is_none_or(|parent| self.view.get(&parent).is_none()) {
                    return Err(ErrorName::Enoent);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(OK.to_vec())
    }

    fn set_permissions(&mut self, payload: &[u8], known: impl Fn(DomainId) -> bool) -> Result<Vec<u8>, ErrorName> {
        let privileged = self.domain == DomainId::DOM0;
        let limit = if privileged { usize::MAX } else { self.quota.permissions };
        let (path, permissions) = path_and_permissions(payload, limit, known)?;
        let (path, mut node) = self.node(path, Need::Own)?;
        if !privileged && permissions.owner != node.permissions.listed.owner {
            return Err(ErrorName::Eperm);
        }
        node.permissions = NodePermissions::new(permissions);
        self.fits(&node)?;
        self.view.put(&path, node);
        Ok(OK.to_vec())
    }
}

/// The arguments of SET_PERMS. There may be at most `limit` permissions, and the owner must be known.
pub(super) fn path_and_permissions(
    payload: &[u8],
    limit: usize,
    known: impl Fn(DomainId) -> bool,
) -> Result<(&[u8], Permissions), ErrorName> {
    let (path, permissions) = head(payload)?;
    if !permissions.ends_with(&[0]) {
        return Err(ErrorName::Einval);
    }
    let permissions = Permissions::decode(permissions).map_err(|_| ErrorName::Einval)?;
    if permissions.others.len() >= limit {
        return Err(ErrorName::Enospc);
    }
    if known(permissions.owner) { Ok((path, permissions)) } else { Err(ErrorName::Enoent) }
}
