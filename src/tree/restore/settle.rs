//! The end of a plan: what lies aside is removed, and the plan with it.
//!
//! Killed: the plan is forgotten last, so that the same call goes on. Before the first name goes the plan says so: `dropping`, and it cannot be
//! taken back any more; `discarding`, and it cannot be carried out any more.

use std::path::Path;

use crate::event::{Context, Notices as _};
use crate::fs::attributes;
use crate::fs::dir::Dir;
use crate::fs::{self, remove_tree, swap};
use crate::tree::restore::ground::name_of;
use crate::tree::restore::plan::SUMMARY;
use crate::tree::restore::state::State;
use crate::tree::restore::{Error, Plan};

impl Plan {
    /// Removes what was moved aside, and the plan: the restore is confirmed.
    ///
    /// # Errors
    /// The tree is not switched, or what lies aside cannot be removed.
    pub fn drop_aside(self, context: &Context) -> Result<(), Error> {
        match self.state()? {
            State::Switched => State::Dropping.write(&self.directory)?,
            State::Dropping => {}
            state => return Err(self.wrong(state, "confirmed")),
        }
        // The repository may have gone on since: the root keeps the time that it has.
        let mtime = if self.summary.inside {
            Some(Dir::open_real(&self.summary.root)?.stat_self()?.mtime)
        } else {
            None
        };
        self.remove_aside(mtime, context)?;
        forget(&self.directory)
    }

    /// Removes what was staged, and the plan; the live tree is as it was before the restore.
    ///
    /// # Errors
    /// The tree is switched, or on its way, or what was staged cannot be removed.
    pub fn discard(self, context: &Context) -> Result<(), Error> {
        let state = self.state()?;
        match state {
            State::Planned | State::Staged | State::Back | State::Discarding => {}
            state => return Err(self.wrong(state, "discarded")),
        }
        // A plan that staged nothing has changed nothing, and the tree may have gone on since.
        let changed = state != State::Planned || fs::exists(&self.summary.aside)?;
        if changed {
            State::Discarding.write(&self.directory)?;
        }
        let mtime = self.summary.root_mtime.filter(|_| self.summary.inside && changed);
        self.remove_aside(mtime, context)?;
        self.remove_made_above(context)?;
        forget(&self.directory)
    }

    /// `mtime`: what the root's is to be, from which a name is removed.
    fn remove_aside(&self, mtime: Option<(i64, u32)>, context: &Context) -> Result<(), Error> {
        let aside = &self.summary.aside;
        if fs::exists(aside)? {
            let going = |_| !context.cancel.is_cancelled();
            if !remove_tree(aside, self.jobs.max(1), &going)? {
                return Err(Error::Cancelled);
            }
        }
        if let Some(mtime) = mtime {
            attributes::set_mtime(&Dir::open_real(&self.summary.root)?, b"", mtime)?;
        }
        Ok(())
    }

    /// The directories above the root that were made for it.
    fn remove_made_above(&self, context: &Context) -> Result<(), Error> {
        let Some(highest) = &self.summary.missing_above else { return Ok(()) };
        let mut made = fs::parent_of(&self.summary.root);
        while made.starts_with(highest) && fs::exists(made)? {
            let above = fs::parent_of(made);
            if !fs::names_in(made)?.is_empty() {
                context.observer.info(format!("{} stays: something else is in it", made.display()));
                return Ok(());
            }
            swap::remove_empty_dir(&Dir::open_real(above)?, name_of(made))?;
            made = above;
        }
        Ok(())
    }

    pub(crate) fn wrong(&self, state: State, wanted: &'static str) -> Error {
        Error::WrongState { root: self.summary.root.clone(), state: state.words(), wanted }
    }
}

/// Without its summary it is no plan.
fn forget(directory: &Path) -> Result<(), Error> {
    fs::remove_file_durable(&directory.join(SUMMARY))?;
    for name in fs::names_in(directory)? {
        fs::remove_file(&directory.join(name))?;
    }
    let above = Dir::open(fs::parent_of(directory))?;
    Ok(swap::remove_empty_dir(&above, name_of(directory))?)
}
