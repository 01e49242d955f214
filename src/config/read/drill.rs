//! `[repository.NAME.drill]`

use crate::config::across::Thing;
use crate::config::key::{Key, Kind, Section};
use crate::config::read::cron;
use crate::config::read::table::Table;
use crate::config::value::Value;
use crate::config::{Drill, DrillTrees, Schedule};

const SCHEDULE: Key = Key::optional(
    "schedule",
    Kind::Text,
    "days are drilled only by hand",
    "\"0 4 * * 0\"",
    "When the newest day is restored into a scratch place and compared, as a cron pattern. A day that was drilled with success is proven.",
);
const TIMEZONE: Key = Key::optional(
    "timezone",
    Kind::Text,
    "that of the repository's own schedule, else the machine's",
    "\"Europe/Berlin\"",
    "The time zone of the drill's schedule.",
);
const DIRECTORY: Key = Key::optional(
    "directory",
    Kind::Path,
    "<state_dir>/<NAME>/drill",
    "\"/srv/scratch\"",
    "Where drills make their server and their trees, and remove them again. It needs room for the databases and, with trees = \"copy\", for the trees.",
);
const TREES: Key = Key::defaulted(
    "trees",
    Kind::Word(&["copy", "hash"]),
    "\"copy\"",
    "What a drill does with the trees: `copy` restores them into the scratch directory, which measures how long that takes (quick and small where the \
     file system can reflink); `hash` reads every file in the day.",
);

/// `[repository.NAME.drill]`
pub(crate) static DRILL: Section = Section {
    name: "drill",
    named: None,
    doc: "How days are proven: restored into a scratch server and a scratch directory, compared with what was recorded, and thrown away.",
    keys: &[SCHEDULE, TIMEZONE, DIRECTORY, TREES],
    sections: &[],
};

/// Reads it; `of_repository` is the repository's own schedule.
pub(crate) fn drill(
    table: &Table<'_>,
    of_repository: Option<&Schedule>,
    claim: &mut impl FnMut(Thing, std::ops::Range<usize>),
) -> Option<Drill> {
    table.refuse_unknown();
    let schedule = cron::own_schedule(table, &SCHEDULE, &TIMEZONE, of_repository);
    let directory = table.get_optional(&DIRECTORY, Value::path);
    if let Some(Some(directory)) = &directory {
        claim(Thing::Scratch(directory.clone()), table.place_of_value(&DIRECTORY));
    }
    let trees = table.get(&TREES, |value| {
        Some(if value.word(&["copy", "hash"])? == "hash" { DrillTrees::Hash } else { DrillTrees::Copy })
    });
    Some(Drill { schedule: schedule?, directory: directory?, trees: trees? })
}
