//! Everything that the tree lacks, made beside it: after this a restore only moves names.
//!
//! Killed: what is whole by digest is kept when it is staged again. `staged` is written when all of it is on the disk (syncfs(2)), so that a
//! switch never begins with content that a power cut could take.

use std::iter::Peekable;

use crate::event::{Context, Phase};
use crate::fs::dir::Dir;
use crate::fs::swap;
use crate::manifest::{FileKind, PathBytes, RecordReader};
use crate::tree::restore::build::{Builder, Top, build};
use crate::tree::restore::lines::{Leaders, Step, steps, wanted};
use crate::tree::restore::links::Links;
use crate::tree::restore::records::is_beneath;
use crate::tree::restore::slots::{Slot, Slots};
use crate::tree::restore::state::State;
use crate::tree::restore::yard::{Made, Yard};
use crate::tree::restore::{Built, Error, Plan};

impl Plan {
    /// Copies out of the day what the tree lacks, every byte held against its digest; the tree is not changed. What was staged already is kept.
    ///
    /// # Errors
    /// The day is damaged, what is staged cannot be written, or the job is cancelled: stage again, or [discard](Self::discard).
    pub fn stage(&self, context: &Context) -> Result<Built, Error> {
        match self.state()? {
            State::Planned => {}
            State::Staged | State::Back => return Ok(Built::default()),
            state => return Err(self.wrong(state, "staged")),
        }
        let summary = &self.summary;
        let (mut slots, resumed) = Slots::open(summary)?;
        let day = Dir::open(&summary.source.tree_dir)?;
        let live = summary.root_mtime.map(|_| Dir::open_real(&summary.root)).transpose()?;
        let target = slots.work().shown_as(&summary.aside)?;
        let leaders = Leaders::read(&self.directory)?;
        let yard = Yard {
            day: &day,
            target: &target,
            live: live.as_ref(),
            links: Links::live(leaders.origins()),
            resumed,
            onto_mount: false,
            tell: self.tell(Phase::Stage, Some(self.to_make()), context),
            made: Made::default(),
            stop: context.cancel.child_token(),
        };
        build(&yard, self.jobs, |builder| self.make_all(builder, &mut slots, &leaders))?;
        yard.tell.finish();
        swap::sync_volume_of(&target)?;
        State::Staged.write(&self.directory)?;
        Ok(yard.made.built())
    }

    fn make_all(
        &self,
        builder: &mut Builder<'_, '_>,
        slots: &mut Slots,
        leaders: &Leaders,
    ) -> Result<(), Error> {
        let mut records = wanted(&self.directory)?.peekable();
        for step in steps(&self.directory, leaders)? {
            let (Step::Create { n, path, .. } | Step::Replace { n, path, .. }) = step? else { continue };
            let record = loop {
                match records.next().transpose()? {
                    Some(record) if record.path == path => break record,
                    Some(_) => {}
                    None => return Err(self.no_record(&path)),
                }
            };
            let is_directory = record.kind == FileKind::Directory;
            let Slot { dir, path: dir_path, name } = slots.slot(n)?;
            builder.top(Top { record, dir, dir_path, name })?;
            if is_directory {
                all_below(&mut records, &path.0, builder)?;
            }
        }
        Ok(())
    }

    fn no_record(&self, path: &PathBytes) -> Error {
        let problem = format!("it has no record of {}", path.as_path().display());
        Error::BadPlan { path: self.directory.clone(), problem }
    }
}

/// Hands on the records below a directory.
fn all_below(
    records: &mut Peekable<RecordReader>,
    path: &[u8],
    builder: &mut Builder<'_, '_>,
) -> Result<(), Error> {
    loop {
        match records.peek() {
            Some(Ok(below)) if !is_beneath(&below.path.0, path) => return Ok(()),
            None => return Ok(()),
            _ => {}
        }
        if let Some(below) = records.next().transpose()? {
            builder.within(below)?;
        }
    }
}
