//! Finds pg_dump and its kin: those of `bin_dir`, or the newest of this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Error;
use crate::fs;
use crate::process::Program;

/// Where packages put PostgreSQL's programs, one directory a major version (Debian, Red Hat).
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];
/// Where a build from source puts them.
const PLAIN: [&str; 1] = ["/usr/local/pgsql/bin"];
/// What daykeep calls.
const CALLED: [&str; 3] = ["pg_dump", "pg_dumpall", "pg_restore"];
/// What makes and runs a server.
const SERVING: [&str; 2] = ["initdb", "postgres"];
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client program's version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 15 of `15.18`.
    pub major: u32,
    /// 18 of `15.18`.
    pub minor: u32,
    /// As the program tells it, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    pub text: String,
}

impl Version {
    /// Of `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(said: &str) -> Option<Self> {
        let text = said.trim().split_once("(PostgreSQL) ")?.1;
        let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let mut parts = number.split('.');
        let major = parts.next()?.parse().ok()?;
        // `18beta1` and `18devel` have no minor version.
        let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        Some(Self { major, minor, text: text.to_owned() })
    }

    /// Whether scripts of its pg_restore forbid psql the commands that begin with a backslash, some of which run programs (CVE-2025-8714).
    #[must_use]
    pub fn restricts_psql(&self) -> bool {
        let since = match self.major {
            ..13 => return false,
            13 => 22,
            14 => 19,
            15 => 14,
            16 => 10,
            17 => 6,
            _ => 0,
        };
        self.minor >= since
    }
}

/// One installation's client programs.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
    /// The version of its pg_dump.
    pub version: Version,
}

impl Programs {
    /// The path of one of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The client programs for a server of this major version: those of `bin_dir`, else the best among PATH and the usual places.
///
/// The best are those of the server's own major version, then those nearest above it: an archive that a newer pg_dump wrote is
/// refused by the pg_restore of the server's own version, which may be the only one where the day is restored.
///
/// # Errors
/// There are none, or they are older than the server.
pub async fn find_programs(bin_dir: Option<&Path>, server_major: u32) -> Result<Programs, Error> {
    let places = match bin_dir {
        Some(dir) => vec![dir.to_owned()],
        None => usual_places(),
    };
    let mut best: Option<Programs> = None;
    for directory in &places {
        if best.is_some() && is_wrapped(directory) {
            // It would call one of those that were looked at, and is slow to say so.
            continue;
        }
        if let Some(version) = version_in(directory).await
            && best
                .as_ref()
                .is_none_or(|best| rank(&best.version, server_major) < rank(&version, server_major))
        {
            best = Some(Programs { directory: directory.clone(), version });
        }
    }
    let best = best.ok_or(Error::NoProgram { program: "pg_dump", places })?;
    if best.version.major < server_major {
        return Err(Error::OldProgram {
            program: "pg_dump",
            path: best.path("pg_dump"),
            found: best.version.text,
            server: server_major,
        });
    }
    Ok(best)
}

/// The programs that make and run a server which takes what a server of this major version gave, with the client programs beside
/// them: those of `bin_dir`, else the best of this machine. An older server is never taken; the nearest newer one is.
///
/// # Errors
/// There are none, or only older ones; the error says what to install.
pub async fn find_server_programs(bin_dir: Option<&Path>, server_major: u32) -> Result<Programs, Error> {
    // A bin_dir that was set for pg_dump may hold no server.
    let own = bin_dir.filter(|dir| SERVING.iter().all(|name| dir.join(name).is_file()));
    let places = own.map_or_else(usual_places, |dir| vec![dir.to_owned()]);
    let mut found: Vec<Programs> = Vec::new();
    for directory in &places {
        if SERVING.iter().all(|name| directory.join(name).is_file())
            && let Some(version) = version_in(directory).await
        {
            found.push(Programs { directory: directory.clone(), version });
        }
    }
    found.sort_by(|a, b| rank(&b.version, server_major).cmp(&rank(&a.version, server_major)));
    match found.first() {
        Some(best) if best.version.major >= server_major => Ok(best.clone()),
        _ => {
            let found = found.into_iter().map(|programs| programs.version.text).collect();
            Err(Error::NoServerPrograms { major: server_major, found, places })
        }
    }
}

/// Greater is better: not older than the server, then near to it, then the newest minor version.
fn rank(version: &Version, server_major: u32) -> (bool, u32, &Version) {
    let usable = version.major >= server_major;
    (usable, u32::MAX - version.major.abs_diff(server_major), version)
}

/// Whether the pg_dump here is Debian's script that calls one of the versioned places.
fn is_wrapped(directory: &Path) -> bool {
    let target = fs::link_target(&directory.join("pg_dump"));
    target.is_ok_and(|target| target.is_some_and(|target| target.ends_with("pg_wrapper")))
}

/// The version of the pg_dump here, when the others are beside it.
async fn version_in(directory: &Path) -> Option<Version> {
    if !CALLED.iter().all(|name| directory.join(name).is_file()) {
        return None;
    }
    let program = Program::new([directory.join("pg_dump")]).arg("--version").limit(PATIENCE);
    let said = program.run(&CancellationToken::new()).await.ok()?;
    Version::parse(&String::from_utf8_lossy(&said))
}

/// The versioned places come before PATH: of two equal ones the first is taken, and `/usr/bin/pg_dump` is on Debian a wrapper
/// that chooses a version by rules of its own.
fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    for (above, prefix) in VERSIONED {
        // A place that is not there or cannot be read holds no programs for us.
        let names = fs::names_in(Path::new(above)).unwrap_or_default();
        let is_versioned = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        places.extend(
            names
                .iter()
                .filter(|name| is_versioned(name))
                .map(|name| Path::new(above).join(name).join("bin")),
        );
    }
    places.extend(PLAIN.map(PathBuf::from));
    let path = std::env::var_os("PATH");
    places.extend(path.iter().flat_map(std::env::split_paths).filter(|dir| dir.is_absolute()));
    let mut seen = std::collections::HashSet::new();
    places.retain(|place| seen.insert(place.clone()));
    places
}

#[cfg(test)]
mod tests {
    use super::{Version, rank};

    #[test]
    fn versions_are_read_and_ordered() {
        let parse = |text| Version::parse(text).expect("parses");
        let debian = parse("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(
            (debian.major, debian.minor, debian.text.as_str()),
            (15, 18, "15.18 (Debian 15.18-0+deb12u1)")
        );
        assert_eq!(
            (parse("pg_dump (PostgreSQL) 18beta1").major, parse("pg_dump (PostgreSQL) 18beta1").minor),
            (18, 0)
        );
        assert!(parse("pg_dump (PostgreSQL) 15.18") < parse("pg_dump (PostgreSQL) 15.20"));
        assert!(Version::parse("something else").is_none());
    }

    #[test]
    fn who_keeps_psql_from_running_programs() {
        let does = |text: &str| {
            Version::parse(&format!("pg_dump (PostgreSQL) {text}")).expect("parses").restricts_psql()
        };
        assert!(does("15.14") && does("17.6") && does("17.11") && does("18.0") && does("18.6"));
        assert!(!does("12.22") && !does("15.13") && !does("17.5"));
    }

    #[test]
    fn the_servers_own_major_version_is_preferred() {
        let parse = |text: &str| Version::parse(&format!("pg_dump (PostgreSQL) {text}")).expect("parses");
        let mut found = ["13.9", "15.3", "18.6", "15.18", "16.1"].map(parse);
        found.sort_by(|a, b| rank(b, 15).cmp(&rank(a, 15)));
        let order: Vec<&str> = found.iter().map(|version| version.text.as_str()).collect();
        assert_eq!(order, ["15.18", "15.3", "16.1", "18.6", "13.9"]);
    }
}
