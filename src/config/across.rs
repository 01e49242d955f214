//! What no single repository can tell: what two of them must not share.
//!
//! Paths are compared as they are written; where symbolic links lead is looked at by the probes of `config check`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::source::Source;

/// Something that a repository takes for itself, and where the file says so.
#[derive(Debug)]
pub(crate) struct Claim {
    pub repository: String,
    pub thing: Thing,
    pub span: Range<usize>,
}

/// What is taken.
#[derive(Debug)]
pub(crate) enum Thing {
    /// A vault; the repository's days are below its name in it.
    Vault(PathBuf),
    /// The root of a tree.
    Tree(String, PathBuf),
    /// Where drills make and remove what they need.
    Scratch(PathBuf),
    /// What the hold pauses, in words.
    Held(String),
}

/// Tells every claim that cannot be beside an earlier one of the file.
pub(crate) fn refuse_shared(source: &Source<'_>, claims: &mut [Claim]) {
    claims.sort_by_key(|claim| claim.span.start);
    for (at, later) in claims.iter().enumerate() {
        if let Some((message, help)) = claims[..at].iter().find_map(|earlier| conflict(earlier, later)) {
            source.fault_of_whole(later.span.clone(), message, Some(help));
        }
    }
}

fn conflict(earlier: &Claim, later: &Claim) -> Option<(String, String)> {
    let same_repository = earlier.repository == later.repository;
    match (&earlier.thing, &later.thing) {
        (Thing::Vault(a), Thing::Vault(b)) => {
            let (a, b) = (a.join(&earlier.repository), b.join(&later.repository));
            overlap(&a, &b).then(|| {
                (
                    format!(
                        "the days of repository `{}` would be in {}, and those of `{}` in {}",
                        later.repository,
                        b.display(),
                        earlier.repository,
                        a.display()
                    ),
                    "repositories may have the same vault, but none may have its days inside those of another"
                        .to_owned(),
                )
            })
        }
        (Thing::Tree(a, path), Thing::Tree(b, other)) if path == other => Some(if same_repository {
            (
                format!("the trees `{a}` and `{b}` are both {}", path.display()),
                "remove one of them; two sets of filter rules can be written as one".to_owned(),
            )
        } else {
            (
                format!(
                    "{} is tree `{b}` here and tree `{a}` of repository `{}`",
                    path.display(),
                    earlier.repository
                ),
                "a tree belongs to one repository: one would be copied while only the other is held"
                    .to_owned(),
            )
        }),
        (Thing::Vault(vault), Thing::Tree(name, tree)) => {
            nested(vault, &earlier.repository, tree, name, &later.repository)
        }
        (Thing::Tree(name, tree), Thing::Vault(vault)) => {
            nested(vault, &later.repository, tree, name, &earlier.repository)
        }
        (Thing::Scratch(scratch), Thing::Tree(name, tree))
        | (Thing::Tree(name, tree), Thing::Scratch(scratch)) => scratch_in_tree(scratch, tree, name),
        (Thing::Scratch(scratch), Thing::Vault(vault)) => scratch_in_vault(scratch, vault, &later.repository),
        (Thing::Vault(vault), Thing::Scratch(scratch)) => {
            scratch_in_vault(scratch, vault, &earlier.repository)
        }
        (Thing::Held(a), Thing::Held(b)) if a == b && !same_repository => Some((
            format!("{a} is held by repository `{}` already", earlier.repository),
            "what is held belongs to one repository: the other would start it again too early; \
             give one repository all the trees, or set off one from the other"
                .to_owned(),
        )),
        _ => None,
    }
}

fn scratch_in_tree(scratch: &Path, tree: &Path, name: &str) -> Option<(String, String)> {
    overlap(scratch, tree).then(|| {
        (
            format!(
                "the scratch directory {} and the tree `{name}` ({}) are not apart",
                scratch.display(),
                tree.display()
            ),
            "every day would hold what a drill left there: put the scratch directory elsewhere".to_owned(),
        )
    })
}

fn scratch_in_vault(scratch: &Path, vault: &Path, repository: &str) -> Option<(String, String)> {
    let days = vault.join(repository);
    overlap(scratch, &days).then(|| {
        (
            format!(
                "the scratch directory {} and the days of repository `{repository}` ({}) are not apart",
                scratch.display(),
                days.display()
            ),
            "a vault holds nothing but days: put the scratch directory beside it".to_owned(),
        )
    })
}

fn nested(vault: &Path, vault_of: &str, tree: &Path, name: &str, tree_of: &str) -> Option<(String, String)> {
    let (vault_is, tree_is) = (
        format!("the vault of repository `{vault_of}` ({})", vault.display()),
        format!("tree `{name}` of repository `{tree_of}` ({})", tree.display()),
    );
    if vault.starts_with(tree) {
        Some((
            format!("{vault_is} is inside {tree_is}"),
            "every day would hold all days before it: put the vault elsewhere, best on another disk"
                .to_owned(),
        ))
    } else if tree.starts_with(vault) {
        Some((
            format!("{tree_is} is inside {vault_is}"),
            "a vault holds nothing but days: put the vault elsewhere, best on another disk".to_owned(),
        ))
    } else {
        None
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
