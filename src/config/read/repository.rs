//! `[repository.NAME]`, with the tables about time, keeping and limits.

use crate::config::across::{Claim, Thing};
use crate::config::key::{Key, Kind, MANY, Section};
use crate::config::read::table::Table;
use crate::config::read::{cron, database, drill, hold, tree, verify};
use crate::config::value::Value;
use crate::config::{Adapter, Limits, Repository, Schedule};
use crate::retention::Rules;

const VAULT: Key = Key::required(
    "vault",
    Kind::Path,
    "\"/srv/daykeep\"",
    "The directory that holds the days; this repository's are in <vault>/<NAME>/days. Several repositories may share \
     it. It must be on a file system with hard links, and neither in a tree nor around one.",
);
const SCHEDULE: Key = Key::optional(
    "schedule",
    Kind::Text,
    "runs only by hand",
    "\"0 1 * * *\"",
    "When to run: cron, as minute hour day-of-month month day-of-week, or six fields with seconds first. If a day of \
     the month and a day of the week are both given, either will do.",
);
const TIMEZONE: Key = Key::optional(
    "timezone",
    Kind::Text,
    "the machine's time zone",
    "\"Europe/Berlin\"",
    "The time zone of the schedule, by its IANA name. A time that is skipped or comes twice when the clocks change \
     gives one run.",
);
const CATCH_UP: Key = Key::defaulted(
    "catch_up",
    Kind::Switch,
    "true",
    "Run once, late, when the machine was off at the due time.",
);
const NEW_BASE_EVERY: Key = Key::optional(
    "new_base_every",
    Kind::Number(1, MANY),
    "one chain of days for ever",
    "30",
    "Begin a new base every so many days: a day that shares no file with any earlier one, so that no single bad block \
     can be in every day that is kept. Costs the space of a full copy each time.",
);

const LAST: Key = Key::defaulted("last", Kind::Number(0, MANY), "0", "The newest so many days.");
const HOURLY: Key = Key::defaulted(
    "hourly",
    Kind::Number(0, MANY),
    "0",
    "The newest day of each of the last so many hours that have one.",
);
const DAILY: Key = Key::defaulted(
    "daily",
    Kind::Number(0, MANY),
    "0",
    "The newest of each of the last so many calendar days that have one.",
);
const WEEKLY: Key = Key::defaulted(
    "weekly",
    Kind::Number(0, MANY),
    "0",
    "The newest of each of the last so many weeks (from Monday) that have one.",
);
const MONTHLY: Key = Key::defaulted(
    "monthly",
    Kind::Number(0, MANY),
    "0",
    "The newest of each of the last so many months that have one.",
);
const YEARLY: Key = Key::defaulted(
    "yearly",
    Kind::Number(0, MANY),
    "0",
    "The newest of each of the last so many years that have one.",
);
const WITHIN: Key = Key::optional(
    "within",
    Kind::Duration,
    "keeps nothing",
    "\"48h\"",
    "Every day younger than this, counted back from the newest good day.",
);

/// `[repository.NAME.keep]`
pub(crate) static KEEP: Section = Section {
    name: "keep",
    named: None,
    doc: "Which days are kept: a day stays when any rule keeps it, and so do the newest day and the newest that is \
          proven. Without this table: last = 7, daily = 14, \
          weekly = 8, monthly = 12. With it, a rule that is left out keeps nothing.",
    keys: &[LAST, HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY, WITHIN],
    sections: &[],
};

/// In force when there is no `[keep]` table at all.
const KEEP_WHEN_ABSENT: Rules =
    Rules { last: 7, hourly: 0, daily: 14, weekly: 8, monthly: 12, yearly: 0, within: None };

const COPY_RATE: Key = Key::optional(
    "copy_rate",
    Kind::Size,
    "no limit",
    "\"100 MB\"",
    "Bytes a second that copying files may read.",
);
const TREE_JOBS: Key =
    Key::defaulted("tree_jobs", Kind::Number(1, 64), "2", "Threads that walk and copy trees.");
const MIN_FREE: Key = Key::defaulted(
    "min_free",
    Kind::Size,
    "\"1 GB\"",
    "Space that must stay free in the vault: a run that needs it, by what days like it took, is refused, and one that takes it while trees are copied ahead is stopped, before anything is held.",
);
const MIN_FREE_INODES: Key = Key::defaulted(
    "min_free_inodes_percent",
    Kind::Number(0, 90),
    "1",
    "The share of inodes that must stay free in the vault.",
);
const IDLE_PRIORITY: Key = Key::defaulted(
    "idle_priority",
    Kind::Switch,
    "true",
    "Copy files while the repository runs, and remove old days, at niceness 19, from which Linux derives the lowest I/O priority. \
     Never inside the hold; nor the dump, because a long one keeps the server from cleaning up.",
);

/// `[repository.NAME.limits]`
pub(crate) static LIMITS: Section = Section {
    name: "limits",
    named: None,
    doc: "How much of the machine a run may use.",
    keys: &[COPY_RATE, TREE_JOBS, MIN_FREE, MIN_FREE_INODES, IDLE_PRIORITY],
    sections: &[],
};

/// `[repository.NAME]`
pub(crate) static REPOSITORY: Section = Section {
    name: "repository",
    named: Some("NAME"),
    doc: "One repository: what is held still together and kept together. At least a database or a tree.",
    keys: &[VAULT, SCHEDULE, TIMEZONE, CATCH_UP, NEW_BASE_EVERY],
    sections: &[
        &KEEP,
        &hold::HOLD,
        &database::DATABASE,
        &tree::TREE,
        &tree::CHECK,
        &verify::VERIFY,
        &drill::DRILL,
        &LIMITS,
    ],
};

/// Reads one repository; what it takes for itself is added to `claims`, even if something else in it is wrong.
pub(crate) fn repository(name: &str, table: &Table<'_>, claims: &mut Vec<Claim>) -> Option<Repository> {
    table.refuse_unknown();
    let mut claim = |thing, span| claims.push(Claim { repository: name.to_owned(), thing, span });
    let vault = table.get(&VAULT, Value::path);
    if let Some(vault) = &vault {
        claim(Thing::Vault(vault.clone()), table.place_of_value(&VAULT));
    }
    let schedule = schedule(table);
    let new_base_every = table.get_optional(&NEW_BASE_EVERY, small(1));
    let keep = keep(table);
    let hold = hold::hold(table, &mut claim);
    let database = database::database(table);
    let trees = tree::trees(table, &mut claim);
    let checks = tree::checks(table, database.as_ref());
    let own_schedule = schedule.as_ref().and_then(Option::as_ref);
    let verify = verify::verify(&table.section_or_empty(&verify::VERIFY), own_schedule);
    let drill = drill::drill(&table.section_or_empty(&drill::DRILL), own_schedule, &mut claim);
    let limits = limits(&table.section_or_empty(&LIMITS));

    let has_database = table.has(database::DATABASE.name);
    if !has_database && !table.has(tree::TREE.name) {
        table.source.fault_of_whole(
            table.span.clone(),
            format!("repository `{name}` has neither a database nor a tree: there is nothing to keep"),
            Some(format!(
                "write a table {} or {}",
                table.header_of("database"),
                table.header_of("tree.NAME")
            )),
        );
    }
    if let Some(hold) = &hold
        && matches!(hold.adapter, Adapter::Fossology(_))
        && !has_database
    {
        table.source.fault_of_whole(
            table.place_of("hold"),
            format!("the hold `fossology` of repository `{name}` asks the database, but there is none"),
            Some(format!("write a table {}", table.header_of("database"))),
        );
    }
    let mut repository = Repository {
        name: name.to_owned(),
        vault: vault?,
        schedule: schedule?,
        keep: keep?,
        new_base_every: new_base_every?,
        hold: hold?,
        database: database?,
        trees: trees?,
        checks: checks?,
        drill: drill?,
        verify: verify?,
        limits: limits?,
        as_toml: String::new(),
    };
    repository.as_toml = repository.to_toml();
    Some(repository)
}

#[expect(clippy::option_option, reason = "outer None: wrong, which has been told; inner None: not there")]
fn schedule(table: &Table<'_>) -> Option<Option<Schedule>> {
    let cron = table.get_optional(&SCHEDULE, cron::cron);
    let timezone = table.get_optional(&TIMEZONE, cron::timezone);
    let catch_up = table.get(&CATCH_UP, Value::switch);
    if !table.has(SCHEDULE.name) {
        for key in [&TIMEZONE, &CATCH_UP] {
            if table.has(key.name) {
                table.source.fault_of_whole(
                    table.place_of(key.name),
                    format!("`{}` without `schedule` does nothing", key.name),
                    Some(format!("write {} = {}, or remove it", SCHEDULE.name, SCHEDULE.sample)),
                );
            }
        }
        return Some(None);
    }
    let (cron, catch_up, timezone) = (cron??, catch_up?, timezone?);
    let timezone = match timezone {
        Some(name) => name,
        None => cron::machine_timezone(table, &TIMEZONE)?,
    };
    Some(Some(Schedule { cron, timezone, catch_up }))
}

fn keep(table: &Table<'_>) -> Option<Rules> {
    if !table.has(KEEP.name) {
        return Some(KEEP_WHEN_ABSENT);
    }
    let table = table.section(&KEEP)?;
    table.refuse_unknown();
    let number = |key| table.get(key, small(0));
    let (last, hourly, daily) = (number(&LAST), number(&HOURLY), number(&DAILY));
    let (weekly, monthly, yearly) = (number(&WEEKLY), number(&MONTHLY), number(&YEARLY));
    let within = table.get_optional(&WITHIN, Value::duration);
    let rules = Rules {
        last: last?,
        hourly: hourly?,
        daily: daily?,
        weekly: weekly?,
        monthly: monthly?,
        yearly: yearly?,
        within: within?,
    };
    if rules == Rules::default() {
        table.source.fault_of_whole(
            table.span.clone(),
            format!("{} keeps no day at all", table.header()),
            Some("write for example last = 7, or remove the table to have the defaults".to_owned()),
        );
        return None;
    }
    Some(rules)
}

fn limits(table: &Table<'_>) -> Option<Limits> {
    table.refuse_unknown();
    let copy_rate = table.get_optional(&COPY_RATE, |value| match value.size()? {
        0 => value.wrong("nothing could be copied at this rate", "leave it out for no limit".to_owned()),
        rate => Some(rate),
    });
    let tree_jobs = table.get(&TREE_JOBS, |value| value.number(1, 64));
    let min_free = table.get(&MIN_FREE, Value::size);
    let inodes = table.get(&MIN_FREE_INODES, |value| value.number(0, 90));
    let idle_priority = table.get(&IDLE_PRIORITY, Value::switch);
    Some(Limits {
        copy_rate: copy_rate?,
        tree_jobs: usize::try_from(tree_jobs?).ok()?,
        min_free: min_free?,
        min_free_inodes_percent: u8::try_from(inodes?).ok()?,
        idle_priority: idle_priority?,
    })
}

fn small(least: u64) -> impl Fn(&Value<'_>) -> Option<u32> {
    move |value| value.number(least, MANY).and_then(|number| u32::try_from(number).ok())
}
