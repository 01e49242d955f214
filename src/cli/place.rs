//! Which repository is meant, and where its days are.

use super::failure::{Failure, Kind};
use crate::config::{Config, Repository};

/// The configured repository of this name.
pub fn repository<'a>(config: &'a Config, name: &str) -> Result<&'a Repository, Failure> {
    configured(config, Some(name))
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

fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let scored = names.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
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
