//! Whether a vault and a tree are apart, wherever symbolic links lead.

use std::path::{Path, PathBuf};

use crate::fs;

/// A vault and a tree that are not apart: the days would be copied into the days.
#[derive(Debug, thiserror::Error)]
pub enum Overlap {
    /// The vault is below the tree.
    #[error("the vault {} is inside the tree {}: put the vault elsewhere", vault.display(), tree.display())]
    VaultInTree {
        /// The vault's real path.
        vault: PathBuf,
        /// The tree's.
        tree: PathBuf,
    },
    /// The tree is below the vault.
    #[error("the tree {} is inside the vault {}: put the vault elsewhere", tree.display(), vault.display())]
    TreeInVault {
        /// The vault's real path.
        vault: PathBuf,
        /// The tree's.
        tree: PathBuf,
    },
}

/// How they overlap, if they do.
///
/// # Errors
/// The tree is not there, or the way to it cannot be read.
pub fn overlap(vault: &Path, tree: &Path) -> Result<Option<Overlap>, fs::Error> {
    let tree = fs::real_path(tree)?;
    let Some(vault) = real_place(vault) else { return Ok(None) };
    Ok(if vault.starts_with(&tree) {
        Some(Overlap::VaultInTree { vault, tree })
    } else if tree.starts_with(&vault) {
        Some(Overlap::TreeInVault { vault, tree })
    } else {
        None
    })
}

/// The real path of the nearest directory that is there, and the rest: a vault may still have to be made.
#[must_use]
pub fn real_place(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|dir| {
        let real = fs::real_path(dir).ok()?;
        let rest = path.strip_prefix(dir).ok()?;
        Some(real.join(rest))
    })
}

#[cfg(test)]
mod tests {
    use super::{Overlap, overlap};
    use crate::fs::create_dir_durable;

    #[test]
    fn a_symbolic_link_does_not_hide_a_vault_in_a_tree() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        create_dir_durable(&at("tree/deep")).unwrap();
        create_dir_durable(&at("vault/app")).unwrap();
        std::os::unix::fs::symlink(at("tree/deep"), at("link")).unwrap();
        assert!(matches!(overlap(&at("link/vault"), &at("tree")), Ok(Some(Overlap::VaultInTree { .. }))));
        assert!(matches!(overlap(&at("vault"), &at("vault/app")), Ok(Some(Overlap::TreeInVault { .. }))));
        assert!(matches!(overlap(&at("vault"), &at("tree")), Ok(None)));
        assert!(matches!(overlap(&at("tree-two"), &at("tree")), Ok(None)));
        assert!(overlap(&at("vault"), &at("missing")).is_err());
    }
}
