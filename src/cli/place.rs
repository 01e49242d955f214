//! Which repository is meant, and where its days are.

use std::path::{Path, PathBuf};

use super::failure::{Failure, Kind};
use super::session::Session;
use crate::config::{Config, Repository};
use crate::fs;
use crate::vault::{Day, Vault};

/// What a machine without a configuration needs.
const WITHOUT: &str = "without a configuration, name the vault: `--vault DIR`";

/// `--vault`, for the verbs that need nothing but the days.
#[derive(Debug, clap::Args)]
pub struct VaultArg {
    /// Read the days of this vault, without any configuration.
    #[arg(long, value_name = "DIR")]
    vault: Option<PathBuf>,
}

/// `[REPO] DAY...`: the repository may be left out where only one is configured.
pub fn split(words: &[String], days: usize) -> (Option<&str>, &[String]) {
    match words.split_first() {
        Some((repository, rest)) if rest.len() == days => (Some(repository), rest),
        _ => (None, words),
    }
}

/// A repository's days, by the directory of its vault and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The repository.
    pub name: String,
    /// The directory that holds the repository's.
    pub vault: PathBuf,
    /// Where the configuration says that PostgreSQL's programs are.
    pub bin_dir: Option<PathBuf>,
}

impl Place {
    /// Opens the vault.
    pub fn open(&self) -> Result<Vault, Failure> {
        Ok(Vault::open(&self.vault, &self.name)?)
    }

    /// The day that a word means.
    pub fn day(&self, which: &str, session: &Session) -> Result<Day, Failure> {
        Ok(self.open()?.choose(which, session.now())?)
    }
}

impl VaultArg {
    /// Whether a vault was named: then no configuration is read.
    pub fn is_given(&self) -> bool {
        self.vault.is_some()
    }

    /// As if `--vault` had been given.
    pub fn of(vault: &Path) -> Self {
        Self { vault: Some(vault.to_owned()) }
    }

    /// Every repository, or the one that is named.
    pub fn places(&self, session: &Session, name: Option<&str>) -> Result<Vec<Place>, Failure> {
        if let Some(name) = name {
            return self.place(session, Some(name)).map(|place| vec![place]);
        }
        self.all(session)
    }

    /// The one that is named, or the only one.
    pub fn place(&self, session: &Session, name: Option<&str>) -> Result<Place, Failure> {
        let mut all = self.all(session)?;
        let at = chosen(all.iter().map(|place| place.name.as_str()), name, &self.whereabouts(session))?;
        Ok(all.swap_remove(at))
    }

    /// `[REPO] [DAY]`: one word is a repository if there is one of that name, and else a day.
    pub fn place_and_day(
        &self,
        words: &[String],
        session: &Session,
    ) -> Result<(Place, Option<String>), Failure> {
        match words {
            [repository, day, ..] => Ok((self.place(session, Some(repository))?, Some(day.clone()))),
            [word] => {
                let all = self.places(session, None)?;
                match all.into_iter().find(|place| place.name == *word) {
                    Some(place) => Ok((place, None)),
                    None => Ok((self.place(session, None)?, Some(word.clone()))),
                }
            }
            [] => Ok((self.place(session, None)?, None)),
        }
    }

    fn whereabouts(&self, session: &Session) -> String {
        self.vault.as_ref().unwrap_or(&session.config_path).display().to_string()
    }

    fn all(&self, session: &Session) -> Result<Vec<Place>, Failure> {
        let Some(vault) = &self.vault else {
            let config = session.config().map_err(|failure| {
                if session.config_path.is_file() { failure } else { failure.hint(WITHOUT) }
            })?;
            let place = |of: &Repository| Place {
                name: of.name.clone(),
                vault: of.vault.clone(),
                bin_dir: of.database.as_ref().and_then(|database| database.bin_dir.clone()),
            };
            return Ok(config.repositories.values().map(place).collect());
        };
        let vault = std::path::absolute(vault).unwrap_or_else(|_| vault.clone());
        let mut found = Vec::new();
        for name in fs::names_in(&vault)? {
            let directory = vault.join(&name);
            if let (Some(name), true) = (name.to_str(), directory.join("days").is_dir()) {
                found.push(Place { name: name.to_owned(), vault: vault.clone(), bin_dir: None });
            }
        }
        // One level too deep is what a hand finds that looks for days: take it as it is meant.
        if found.is_empty() && vault.join("days").is_dir() {
            let name = vault.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Place { name, vault: fs::parent_of(&vault).to_owned(), bin_dir: None });
        }
        if found.is_empty() {
            let failure =
                Failure::new(Kind::NotFound, format!("there is no repository in {}", vault.display()));
            return Err(
                failure.hint("a vault holds one directory for each repository, with its days in `days`")
            );
        }
        Ok(found)
    }
}

/// The configured repository of this name.
pub fn repository<'a>(config: &'a Config, name: &str) -> Result<&'a Repository, Failure> {
    configured(config, Some(name))
}

/// The user, for the journal.
pub fn caller() -> String {
    let id = nix::unistd::getuid();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {id}"),
    }
}

/// The configured repository of this name, or the only one.
pub fn configured<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Repository, Failure> {
    let whereabouts = config.path.display().to_string();
    let at = chosen(config.repositories.keys().map(String::as_str), name, &whereabouts)?;
    config
        .repositories
        .values()
        .nth(at)
        .ok_or_else(|| Failure::new(Kind::NotFound, "no repository is configured"))
}

/// The index of the one that is named, or of the only one.
fn chosen<'a>(
    names: impl Iterator<Item = &'a str>,
    name: Option<&str>,
    whereabouts: &str,
) -> Result<usize, Failure> {
    let names: Vec<&str> = names.collect();
    match (name, names.as_slice()) {
        (None, [_]) => Ok(0),
        (None, _) => Err(Failure::new(Kind::Usage, "which repository? name one of them")
            .hint(format!("{whereabouts} has {}", names.join(", ")))),
        (Some(name), _) => names.iter().position(|known| *known == name).ok_or_else(|| {
            let failure =
                Failure::new(Kind::NotFound, format!("there is no repository `{name}` in {whereabouts}"));
            failure.hint(match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", names.join(", ")),
            })
        }),
    }
}

/// The one that was meant, if a slip or two lie between.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let typos = |known: &&str| strsim::damerau_levenshtein(name, known);
    names.iter().copied().filter(|known| typos(known) <= (known.len() / 3).max(1)).min_by_key(typos)
}

#[cfg(test)]
mod tests {
    use super::chosen;
    use crate::cli::failure::Kind;

    fn told(names: &[&str], name: Option<&str>) -> Result<usize, (Kind, String)> {
        chosen(names.iter().copied(), name, "x.toml")
            .map_err(|failure| (failure.kind(), anstream::adapter::strip_str(&failure.render()).to_string()))
    }

    #[test]
    fn the_only_one_need_not_be_named() {
        assert_eq!(told(&["gold"], None), Ok(0));
        assert_eq!(told(&["files", "gold"], Some("gold")), Ok(1));
    }

    #[test]
    fn a_choice_must_be_made() {
        let text = "error: which repository? name one of them\nhint: x.toml has files, gold\n";
        assert_eq!(told(&["files", "gold"], None), Err((Kind::Usage, text.to_owned())));
    }

    #[test]
    fn a_wrong_name_gets_a_suggestion() {
        let text = "error: there is no repository `godl` in x.toml\nhint: did you mean `gold`?\n";
        assert_eq!(told(&["files", "gold"], Some("godl")), Err((Kind::NotFound, text.to_owned())));
        let text = "error: there is no repository `web` in x.toml\nhint: there are: files, gold\n";
        assert_eq!(told(&["files", "gold"], Some("web")), Err((Kind::NotFound, text.to_owned())));
    }
}
