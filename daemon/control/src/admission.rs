use nix::unistd::geteuid;

/// Whose connections are taken, by the user that the kernel says is at the other end (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    uids: Vec<u32>,
}

impl Default for Admission {
    /// Root, and the user that this process itself is, which is root but in tests and demonstrations.
    fn default() -> Self {
        Self { uids: vec![0, geteuid().as_raw()] }
    }
}

impl Admission {
    /// As before, and another user.
    #[must_use]
    pub fn and(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// Whether a user's connection is taken.
    #[must_use]
    pub fn admits(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }

    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self { uids: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_are_admitted_and_others_only_when_named() {
        let own = geteuid().as_raw();
        let other = own.wrapping_add(1000).max(1);
        let admission = Admission::default();
        assert!(admission.admits(0) && admission.admits(own));
        assert!(!admission.admits(other) && !admission.admits(u32::MAX));
        assert!(admission.and(other).admits(other));
    }
}
