//! The backup of a repository: one readable function.
