//! Who asks: the credentials that the kernel tells of the other end of a unix socket.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixStream;

/// The process at the other end, as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its number, if the kernel tells.
    pub pid: Option<i32>,
}

impl Peer {
    /// Asks the kernel. None when the connection is gone already.
    #[must_use]
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let found = stream.peer_cred().ok()?;
        Some(Self { uid: found.uid(), gid: found.gid(), pid: found.pid() })
    }

    /// May it start and cancel runs? Root, the daemon's own user and the members of `group` may. Asks the machine's user
    /// database, which may take its time: not for the executor.
    #[must_use]
    pub fn may_control(&self, group: &str) -> bool {
        let uid = Uid::from_raw(self.uid);
        if uid.is_root() || uid == Uid::effective() {
            return true;
        }
        match Group::from_name(group) {
            Ok(Some(group)) => self.is_member(group.gid),
            Ok(None) | Err(_) => false,
        }
    }

    fn is_member(&self, group: Gid) -> bool {
        if self.gid == group.as_raw() {
            return true;
        }
        let Ok(Some(user)) = User::from_uid(Uid::from_raw(self.uid)) else {
            return false;
        };
        let Ok(name) = CString::new(user.name) else {
            return false;
        };
        getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
    }

    /// The user's name, or its number. Asks the user database: not for the executor.
    #[must_use]
    pub fn user(&self) -> String {
        match User::from_uid(Uid::from_raw(self.uid)) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {}", self.uid),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.pid {
            Some(pid) => write!(f, ", process {pid}"),
            None => Ok(()),
        }
    }
}
