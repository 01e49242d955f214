//! Where vault, records and configuration are, as far as a command has to be told: a command that is shown is to work when it is typed.

use std::path::{Path, PathBuf};

use crate::config::DEFAULT_PATH;
use crate::restore::quoted;

/// What is not found by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `--vault`
    pub vault: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--trust-day`: what the configuration of the day names may be run.
    pub trust_day: bool,
}

impl Place {
    /// Of what a configuration says.
    #[must_use]
    pub fn of_config(config: &Path) -> Self {
        let config = Some(config).filter(|config| *config != Path::new(DEFAULT_PATH));
        Self { config: config.map(Path::to_owned), ..Self::default() }
    }

    /// The options of a restore and of its end, quoted for a shell, with paths that hold in every directory.
    #[must_use]
    pub fn options(&self) -> String {
        let Self { vault, state_dir, config, trust_day } = self;
        let mut options = written(&[("--vault", vault), ("--state-dir", state_dir), ("--config", config)]);
        if *trust_day {
            options.push_str(if options.is_empty() { "--trust-day" } else { " --trust-day" });
        }
        options
    }

    /// The options of a command that reads days and records nothing.
    #[must_use]
    pub fn of_the_day(&self) -> String {
        written(&[("--vault", &self.vault), ("--config", &self.config)])
    }
}

fn written(options: &[(&str, &Option<PathBuf>)]) -> String {
    let given = options.iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
    let words = given.map(|(name, path)| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        format!("{name} {}", quoted(&path.to_string_lossy()))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Place;

    #[test]
    fn only_what_is_not_found_by_itself_is_named() {
        assert_eq!(Place::of_config(Path::new("/etc/daykeep/daykeep.toml")).options(), "");
        let place = Place {
            vault: Some("/mnt/my vault".into()),
            state_dir: Some("/var/tmp/state".into()),
            trust_day: true,
            ..Place::of_config(Path::new("/root/day.toml"))
        };
        let options =
            "--vault '/mnt/my vault' --state-dir /var/tmp/state --config /root/day.toml --trust-day";
        assert_eq!(place.options(), options);
        assert_eq!(place.of_the_day(), "--vault '/mnt/my vault' --config /root/day.toml");
    }
}
