//! The database side of a day.

mod export;

pub use export::{ExportError, export};
