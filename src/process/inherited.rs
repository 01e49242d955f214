//! What a process has from whoever started it, and how one that outlives that one does without.
//!
//! A pipe ends for its reader only when everybody who has its other end is gone: `daykeep run 2>&1 | head`, a cron job and an ssh session
//! wait for a process of ours that lives on with the stderr that it was given.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;

use jiff::tz::TimeZone;
use rustix::fs::{FileType, Mode, OFlags, fstat};

use crate::clock::{Clock as _, SystemClock};

/// Where syslog listens: journald, rsyslogd and others (syslog(3)).
const SYSLOG: &str = "/dev/log";
/// LOG_DAEMON with LOG_WARNING (RFC 3164, 4.1.1).
const PRIORITY: u32 = 3 * 8 + 4;
/// The descriptors that every program has: stdin, stdout, stderr.
const STANDARD: i32 = 3;

/// Lets go of all descriptors that this process was given but stdin, stdout and a stderr that is a log: the journal's stream, or a file.
/// To be called before anything of its own is opened.
pub fn let_go() {
    if !is_log() {
        // Without it, lines go to a stderr that nobody reads.
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            let _ = nix::unistd::dup2_stderr(null);
        }
    }
    for descriptor in given() {
        // One that is gone already, as that of the listing is, need not be closed.
        let _ = nix::unistd::close(descriptor);
    }
}

fn given() -> Vec<i32> {
    let Ok(names) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let names = names.filter_map(|entry| Some(entry.ok()?.file_name()));
    let number = |name: &OsStr| name.to_str()?.parse::<i32>().ok();
    names.filter_map(|name| number(&name)).filter(|number| *number >= STANDARD).collect()
}

/// A line for whoever looks after this machine: on a stderr that is a log, else to syslog. Nobody may be listening.
pub fn log_line(text: &str) {
    if is_log() {
        let _ = writeln!(io::stderr(), "{text}");
        return;
    }
    let now = SystemClock::new().now().to_zoned(TimeZone::system());
    let line = syslog_line(&now, std::process::id(), text);
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), SYSLOG));
}

/// `<PRI>Mmm dd hh:mm:ss TAG[PID]: text` (RFC 3164, 4.1), which syslog(3) sends, too.
fn syslog_line(now: &jiff::Zoned, pid: u32, text: &str) -> String {
    let text = text.strip_prefix("daykeep guard: ").unwrap_or(text);
    format!("<{PRIORITY}>{} daykeep[{pid}]: {text}", now.strftime("%b %e %H:%M:%S"))
}

/// Whether stderr is the journal's stream, or a file: whoever wrote that down waits for no end of it.
fn is_log() -> bool {
    let Ok(found) = fstat(io::stderr()) else { return false };
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
        || stream == format!("{}:{}", found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::syslog_line;

    #[test]
    fn a_line_is_what_syslog_reads() {
        let now: jiff::Zoned = "2026-11-02T01:02:03+01:00[Europe/Berlin]".parse().expect("a time");
        let line = syslog_line(&now, 42, "daykeep guard: app (run 7): released");
        assert_eq!(line, "<28>Nov  2 01:02:03 daykeep[42]: app (run 7): released");
    }
}
