//! Which processes there are: `/proc`, read once.
//!
//! A process id alone names nothing for long; [`Identity`] adds the start time and the boot, so that a record written
//! before a crash or a reboot never takes a stranger for the process that it knew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Error;

/// One process that is not a zombie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Clock ticks from boot to its start.
    pub started: u64,
    /// Its command line; empty for a kernel thread.
    pub argv: Vec<String>,
}

/// A process that is not mistaken for another one, on this boot or a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub pid: i32,
    /// Clock ticks from boot to its start (`/proc/PID/stat`, field 22).
    pub started: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

impl Identity {
    /// This process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn own() -> Result<Self, Error> {
        let path = Path::new("/proc/self/stat");
        let text = read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        let (pid, stat) =
            parse_stat(&text).ok_or_else(|| unreadable(path)(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { pid, started: stat.started, boot: boot_id()? })
    }

    /// The process that has this id now; None: none has, or it is a zombie.
    ///
    /// # Errors
    /// The boot's name cannot be read.
    pub fn of(pid: u32) -> Result<Option<Self>, Error> {
        let found = i32::try_from(pid).ok().and_then(look_at);
        Ok(match found {
            Some(Process { pid, started, .. }) => Some(Self { pid, started, boot: boot_id()? }),
            None => None,
        })
    }

    /// Whether it still runs (a zombie does not).
    ///
    /// # Errors
    /// The boot's name cannot be read.
    pub fn is_alive(&self) -> Result<bool, Error> {
        if boot_id()? != self.boot {
            return Ok(false);
        }
        Ok(look_at(self.pid).is_some_and(|process| process.started == self.started))
    }
}

fn boot_id() -> Result<String, Error> {
    let text = read(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "/proc is the way to other processes, and this is their door")]
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Table { path, source }
}

/// Every process that is not a zombie. One that ends meanwhile is left out.
///
/// # Errors
/// `/proc` cannot be listed.
pub fn all() -> Result<Vec<Process>, Error> {
    let root = Path::new("/proc");
    let mut processes = Vec::new();
    for entry in fs::read_dir(root).map_err(unreadable(root))? {
        let name = entry.map_err(unreadable(root))?.file_name();
        processes.extend(name.to_str().and_then(|name| name.parse().ok()).and_then(look_at));
    }
    Ok(processes)
}

/// The commands that were started with this in their environment (`NAME=value`) and still run: leaders of their process group,
/// but not of a session, so that a service which such a command left behind is not one of them.
///
/// # Errors
/// `/proc` cannot be listed.
pub fn commands_with(variable: &str) -> Result<Vec<Process>, Error> {
    let has = |process: &Process| {
        let path = Path::new("/proc").join(process.pid.to_string()).join("environ");
        let environ = read(&path).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let leads = |process: &Process| process.pid == process.group && process.pid != process.session;
    Ok(all()?.into_iter().filter(|process| leads(process) && has(process)).collect())
}

/// Sends a signal to a process group; a group that is gone already is no error.
///
/// # Errors
/// There is no right to. `EINVAL` for what is no group that may be meant: 0, which a group of another pid namespace is shown as and
/// killpg(2) takes for the caller's own, 1, which it takes for every process there is, and the caller's own.
pub fn signal_group(group: i32, signal: nix::sys::signal::Signal) -> Result<(), nix::Error> {
    if group <= 1 || nix::unistd::getpgrp().as_raw() == group {
        return Err(nix::Error::EINVAL);
    }
    match nix::sys::signal::killpg(Pid::from_raw(group), signal) {
        Err(nix::Error::ESRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sends SIGKILL to exactly this process; one that is gone already is no error.
///
/// # Errors
/// There is no right to, or `/proc` cannot be read.
pub fn kill(identity: &Identity) -> Result<(), Error> {
    if !identity.is_alive()? {
        return Ok(());
    }
    match nix::sys::signal::kill(Pid::from_raw(identity.pid), nix::sys::signal::Signal::SIGKILL) {
        Err(nix::Error::ESRCH) | Ok(()) => Ok(()),
        Err(source) => Err(Error::Kill { pid: identity.pid, source }),
    }
}

fn look_at(pid: i32) -> Option<Process> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = read(&directory.join("stat")).ok()?;
    let (pid, stat) = parse_stat(&String::from_utf8_lossy(&stat))?;
    if matches!(stat.state, 'Z' | 'X') {
        return None;
    }
    let cmdline = read(&directory.join("cmdline")).unwrap_or_default();
    let argv = cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    Some(Process {
        pid,
        parent: stat.parent,
        group: stat.group,
        session: stat.session,
        started: stat.started,
        argv,
    })
}

struct Stat {
    state: char,
    parent: i32,
    group: i32,
    session: i32,
    started: u64,
}

/// proc(5): `pid (comm) state ppid pgrp ... starttime(22) ...`; comm may hold anything, `)` and newlines too.
fn parse_stat(text: &str) -> Option<(i32, Stat)> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let stat = Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    };
    Some((pid.trim().parse().ok()?, stat))
}

#[cfg(test)]
mod tests {
    use super::{Identity, all, parse_stat, signal_group};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) S (b) S 7 9 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 555 1 1";
        let (pid, stat) = parse_stat(line).expect("parses");
        assert_eq!((pid, stat.state, stat.parent, stat.group, stat.started), (42, 'S', 7, 9, 555));
    }

    #[test]
    fn nobody_is_signalled_by_a_number_that_is_no_group() {
        // SIGCHLD does no harm if this fails.
        for group in [-1, 0, 1, nix::unistd::getpgrp().as_raw()] {
            let sent = signal_group(group, nix::sys::signal::Signal::SIGCHLD);
            assert_eq!(sent, Err(nix::Error::EINVAL), "{group}");
        }
    }

    #[test]
    fn this_process_is_there_and_alive() {
        let own = Identity::own().expect("is readable");
        assert!(own.is_alive().expect("is readable"));
        assert_eq!(Identity::of(std::process::id()).expect("is readable"), Some(own.clone()));
        assert!(all().expect("is readable").iter().any(|process| process.pid == own.pid));
        let earlier = Identity { boot: "another boot".to_owned(), ..own.clone() };
        assert!(!earlier.is_alive().expect("is readable"), "a process of another boot is gone");
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.is_alive().expect("is readable"), "another process with this id is not it");
    }
}
