//! Which exit code and which hint every error of the library gets.

use std::io::ErrorKind;

use super::failure::{Failure, Kind};
use super::output;
use crate::api::client;
use crate::database::ExportError;
use crate::postgres::ScratchError;
use crate::{drill, fs, hold, journal, restore, reunpack, run, vault, verify};

impl From<fs::Error> for Failure {
    fn from(error: fs::Error) -> Self {
        let failure = Self::of(Kind::Failed, &error);
        match error.kind() {
            ErrorKind::PermissionDenied => {
                failure.hint("run as root, or as the user that the daemon runs as")
            }
            _ => failure,
        }
    }
}

impl From<vault::Error> for Failure {
    fn from(error: vault::Error) -> Self {
        match error {
            vault::Error::File(error) => error.into(),
            vault::Error::NoVault { .. } => Self::of(Kind::NotFound, &error),
            vault::Error::NoSuchDay { .. } => {
                Self::of(Kind::NotFound, &error).hint("`daykeep list` shows the days there are")
            }
            vault::Error::Quarantined { .. } => Self::of(Kind::Damaged, &error),
            vault::Error::Locked { .. } => Self::of(Kind::Locked, &error)
                .hint("it is free again when that process ends; `daykeep status` shows what it does"),
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<hold::Error> for Failure {
    fn from(error: hold::Error) -> Self {
        match error {
            hold::Error::File(error) => error.into(),
            hold::Error::Busy { .. } => Self::of(Kind::Busy, &error),
            hold::Error::Locked { .. } | hold::Error::InUse { .. } | hold::Error::Kept { .. } => {
                Self::of(Kind::Locked, &error)
            }
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<journal::Error> for Failure {
    fn from(error: journal::Error) -> Self {
        match error {
            journal::Error::File(error) => error.into(),
            journal::Error::NoSuchJob { .. } => Self::of(Kind::NotFound, &error),
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::NoDatabase { .. } | ExportError::NoSuchDatabase { .. } => {
                Self::of(Kind::NotFound, &error)
            }
            ExportError::Out(error) => output::gone(&error),
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<verify::Error> for Failure {
    fn from(error: verify::Error) -> Self {
        match error {
            verify::Error::Vault(error) => error.into(),
            verify::Error::Journal(error) => error.into(),
            verify::Error::File(error) => error.into(),
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<drill::Error> for Failure {
    fn from(error: drill::Error) -> Self {
        match error {
            drill::Error::Vault(error) => error.into(),
            drill::Error::Journal(error) => error.into(),
            drill::Error::File(error) => error.into(),
            drill::Error::Scratch(ScratchError::Busy { .. }) => Self::of(Kind::Locked, &error)
                .hint("it is free again when that drill ends; --scratch names another place"),
            drill::Error::Space { .. } | drill::Error::Inodes { .. } | drill::Error::Full { .. } => {
                Self::of(Kind::Failed, &error).hint(
                    "name a place with room by --scratch or drill.directory; --hash-trees (trees = \"hash\") copies no tree",
                )
            }
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<reunpack::Error> for Failure {
    fn from(error: reunpack::Error) -> Self {
        match error {
            reunpack::Error::Scheduler(error) => error.into(),
            reunpack::Error::NotFossology { .. } => Self::of(Kind::Usage, &error)
                .hint("a check with `builtin = \"fossology\"` says where gold and files are"),
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let kind = match error.code() {
            Some("not_found" | "no_such_repository" | "no_such_day" | "no_such_job") => Kind::NotFound,
            Some("already_running") => Kind::Locked,
            _ => Kind::Failed,
        };
        let failure = Self::of(kind, &error);
        match (&error, error.hint()) {
            // The daemon speaks to programs: its hint would be an address.
            _ if kind == Kind::NotFound => failure.hint("`daykeep status` shows what there is"),
            (_, Some(hint)) => failure.hint(as_a_command(hint)),
            (client::Error::NotRunning { .. }, None) => {
                failure.hint("start it with `systemctl start daykeep`; `daykeep run` works without it")
            }
            _ => failure,
        }
    }
}

impl From<run::Error> for Failure {
    fn from(error: run::Error) -> Self {
        match error {
            run::Error::Vault(error) => error.into(),
            run::Error::Hold(error) => error.into(),
            run::Error::Journal(error) => error.into(),
            run::Error::File(error) => error.into(),
            run::Error::Locked { .. } => Self::of(Kind::Locked, &error)
                .hint("it is free again when that process ends; `daykeep status` shows what it does"),
            run::Error::Space { .. } | run::Error::Inodes { .. } | run::Error::Filled { .. } => {
                Self::of(Kind::Failed, &error).hint("make room, or remove days with `daykeep prune`")
            }
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

impl From<restore::Error> for Failure {
    fn from(error: restore::Error) -> Self {
        match error {
            restore::Error::Vault(error) => error.into(),
            restore::Error::Hold(error) => error.into(),
            restore::Error::Journal(error) => error.into(),
            restore::Error::File(error) => error.into(),
            restore::Error::NotThere { .. } | restore::Error::NothingPending { .. } => {
                Self::of(Kind::NotFound, &error)
            }
            restore::Error::Senseless { .. } => Self::of(Kind::Usage, &error),
            restore::Error::Pending { ref pending } if pending.is_over() => Self::of(Kind::Pending, &error),
            _ if error.is_damage() => Self::of(Kind::Damaged, &error),
            restore::Error::Locked { .. } | restore::Error::VaultLocked { .. } => {
                Self::of(Kind::Locked, &error)
                    .hint("it is free again when that process ends; `daykeep status` shows what it does")
            }
            _ => Self::of(Kind::Failed, &error),
        }
    }
}

/// A hint of the daemon that names an address is for programs: people have a command for it.
fn as_a_command(hint: &str) -> String {
    match hint.strip_prefix("GET /v1/").map(|address| address.strip_prefix("jobs/").unwrap_or_default()) {
        None => hint.to_owned(),
        Some(job) => match job.split_once(' ') {
            Some((number, rest)) => format!("`daykeep watch {number}` {rest}"),
            None => "`daykeep status` shows it".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::as_a_command;

    #[test]
    fn a_hint_names_a_command_and_no_address() {
        assert_eq!(
            as_a_command("GET /v1/jobs/63 shows how far it is"),
            "`daykeep watch 63` shows how far it is"
        );
        assert_eq!(as_a_command("GET /v1/status shows it"), "`daykeep status` shows it");
        assert_eq!(as_a_command("wait for its end"), "wait for its end");
    }
}
