//! Who may call what, by what the kernel says of the process at the other end.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Group, geteuid};
use tokio::net::unix::UCred;

/// What a caller is allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rights {
    /// To see what is public among the host's operators.
    Reads,
    /// To change everything, and to see everything.
    Changes,
}

/// Whose connections are taken: `SO_PEERCRED` (unix(7)) tells user and group of the process that connected, and
/// proc_pid_status(5) its other groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    uids: Vec<u32>,
    readers: Option<u32>,
}

/// A group that there is not.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The system does not know it.
    #[error("there is no group {0}: `groupadd --system {0}` makes one; or change `read-only-group`")]
    Unknown(String),
    /// The system could not be asked.
    #[error("the group {name} cannot be looked up")]
    LookUp {
        /// The group.
        name: String,
        /// What the system said.
        source: Errno,
    },
}

impl Default for Admission {
    /// Root, and the user that this process itself is, which is root but in tests and demonstrations.
    fn default() -> Self {
        Self { uids: vec![0, geteuid().as_raw()], readers: None }
    }
}

impl Admission {
    /// As before, and the members of a group, who may only read.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn with_readers(self, group: &str) -> Result<Self, GroupError> {
        match Group::from_name(group) {
            Ok(Some(found)) => Ok(Self { readers: Some(found.gid.as_raw()), ..self }),
            Ok(None) => Err(GroupError::Unknown(group.to_owned())),
            Err(source) => Err(GroupError::LookUp { name: group.to_owned(), source }),
        }
    }

    /// The group whose members may only read, if there is one.
    pub(crate) fn readers(&self) -> Option<u32> {
        self.readers
    }

    /// What the process at the other end of a connection is allowed to; `None` if nothing.
    pub(crate) fn rights(&self, peer: &UCred) -> Option<Rights> {
        if self.uids.contains(&peer.uid()) {
            return Some(Rights::Changes);
        }
        let group = self.readers?;
        let is_member = || peer.pid().and_then(groups).is_some_and(|groups| groups.contains(&group));
        (peer.gid() == group || is_member()).then_some(Rights::Reads)
    }

    #[cfg(test)]
    pub(crate) fn nobody_but(readers: Option<u32>) -> Self {
        Self { uids: Vec::new(), readers }
    }
}

/// The supplementary groups of a process. Should it have ended and its number be another's by now, that is no way in for
/// those whom the socket's permissions kept out: they have no connection.
fn groups(process: i32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(PathBuf::from("/proc").join(process.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    line.split_whitespace().map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, getegid, getgroups};
    use tokio::net::UnixStream;

    use super::*;

    async fn rights(admission: &Admission) -> Option<Rights> {
        let (own, _other) = UnixStream::pair().unwrap();
        admission.rights(&own.peer_cred().unwrap())
    }

    #[tokio::test]
    async fn own_user_may_change_and_a_member_of_the_group_read_and_others_nothing() {
        let (own, other) = (getegid().as_raw(), getegid().as_raw().wrapping_add(54_321));
        assert_eq!(rights(&Admission::default()).await, Some(Rights::Changes));
        assert_eq!(rights(&Admission::nobody_but(Some(own))).await, Some(Rights::Reads));
        assert_eq!(rights(&Admission::nobody_but(Some(other))).await, None);
        assert_eq!(rights(&Admission::nobody_but(None)).await, None);
        assert_eq!(rights(&Admission { readers: Some(own), ..Admission::default() }).await, Some(Rights::Changes));
    }

    #[test]
    fn supplementary_groups_are_those_that_the_kernel_tells_the_process_itself() {
        let own: i32 = std::process::id().try_into().unwrap();
        let mut found = groups(own).unwrap();
        let mut expected: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(groups(-1), None);
    }

    #[test]
    fn group_that_there_is_not_is_named_with_a_remedy() {
        let error = Admission::default().with_readers("no-such-group").unwrap_err();
        assert!(error.to_string().contains("groupadd --system no-such-group"), "{error}");
        let root = Admission::default().with_readers("root").unwrap();
        assert_eq!(root.readers(), Some(0));
    }
}
