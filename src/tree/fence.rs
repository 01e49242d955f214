//! The fence: inside the hold, the tree in the day becomes the source at this instant.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::event::{Context, Phase};
use crate::manifest::{self, RecordWriter, TreeRecord};
use crate::tree::apply::apply;
use crate::tree::bring::Stage;
use crate::tree::overlay::Overlay;
use crate::tree::site::Site;
use crate::tree::warm::{Listed, Warm, links};
use crate::tree::watch::Watch;
use crate::tree::{Error, finish};

/// A tree that was fenced. What is only held open is copied by [`Fenced::finish`].
pub struct Fenced {
    pub(crate) site: Site,
    pub(crate) overlay: Overlay,
    pub(crate) listed: Listed,
    pub(crate) how: &'static str,
    pub(crate) took: Duration,
    /// Ended after the release: waiting for its thread takes a moment.
    pub(crate) watch: Option<Watch>,
}

impl std::fmt::Debug for Fenced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fenced").field("tree", &self.site.tree.name).finish_non_exhaustive()
    }
}

impl Fenced {
    pub(crate) fn take(mut warm: Warm, context: &Context) -> Result<Self, Error> {
        let begun = context.clock.monotonic();
        warm.site.stop = context.cancel.child_token();
        warm.site.held.store(true, Ordering::Relaxed);
        let (dirty, how) = warm.dirty(Stage::Held)?;
        let Warm { site, mut overlay, listed, watch, .. } = warm;
        let applied = apply(&site, &dirty, &mut overlay, &links(&site.work), Stage::Held)?;
        site.tell_now(Phase::Freeze, applied.files);
        let took = context.clock.monotonic().saturating_sub(begun);
        Ok(Self { site, overlay, listed, how, took, watch })
    }

    /// Copies what is held open, gives the directories their attributes, and adds the tree's records to the day's; trees come in the
    /// order of their names.
    ///
    /// # Errors
    /// The day cannot be written, a file held open cannot be read, or the run is cancelled.
    pub fn finish(
        mut self,
        _released: &dyn manifest::Released,
        records: &mut RecordWriter,
        context: &Context,
    ) -> Result<TreeRecord, Error> {
        self.site.stop = context.cancel.child_token();
        finish::finish(self, records)
    }
}
