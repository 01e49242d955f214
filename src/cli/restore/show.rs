//! The plan of a restore, for people.

use jiff::Timestamp;

use crate::cli::failure::{Failure, Kind};
use crate::cli::figures::{self, Page};
use crate::journal::RestorePhase;
use crate::restore::{
    DatabasePlan, EndPlan, HoldPlan, PendingRestore, Plan, ServerPlan, Space, TableChange, TreePlan,
};
use crate::vault::Standing;

/// All of it but the warnings.
pub fn shown(plan: &Plan, now: Timestamp) -> Page {
    let mut page = Page::default();
    let age = figures::age(plan.freeze_point, now);
    page.line(format!("{}: the day {} ({age}), {}", plan.repository, plan.day, standing(plan, now)));
    if let Some(newest) = &plan.newest_proven {
        let age = figures::age(newest.freeze_point, now);
        page.line(format!("  proven is  {} ({age}), the newest that is", newest.day));
    }
    if let Some(pending) = &plan.continues {
        goes_on(pending, &mut page);
    }
    page.line(match &plan.hold {
        Some(hold) if hold.adapter == "none" => {
            "  hold       nothing is paused: the repository has no hold".to_owned()
        }
        Some(hold) => format!("  hold       {} {}", held(hold), paused(hold)),
        None => "  hold       nothing is paused".to_owned(),
    });
    if let Some(server) = &plan.server {
        databases(server, &mut page);
    }
    for table in &plan.tables {
        page.line(format!("table {}", of_table(table)));
    }
    for tree in &plan.trees {
        show_tree(tree, &mut page);
    }
    for stays in &plan.stays {
        page.line(format!("  stays      {stays}"));
    }
    for space in &plan.space {
        page.line(format!("  space      {}", room(space)));
    }
    page.line(match plan.expected {
        _ if plan.continues.as_ref().is_some_and(has_switched) => {
            "  takes      moments: all of it is there already".to_owned()
        }
        Some(expected) => {
            format!("  takes      {}, by the newest drill", figures::about(expected.as_secs_f64()))
        }
        None => "  takes      unknown: no drill has measured as much".to_owned(),
    });
    page
}

/// What an adapter pauses, for people.
fn held(hold: &HoldPlan) -> &str {
    match hold.adapter.as_str() {
        "command" => "the application (by its command)",
        "http" => "the application (over HTTP)",
        "systemd" => "what its units run",
        adapter => adapter,
    }
}

/// What becomes of it.
fn paused(hold: &HoldPlan) -> &'static str {
    match (hold.runs, hold.start) {
        (Some(true), _) => "runs now: it is paused, and started afterwards",
        (Some(false), true) => "is STOPPED now, and started afterwards",
        (Some(false), false) => "is STOPPED now and stays so: add --start to start it afterwards",
        (None, true) => "is paused, and started afterwards whatever its state now",
        (None, false) => "is paused, and started afterwards if it runs now",
    }
}

/// What verifies and drills have made of the day.
fn standing(plan: &Plan, now: Timestamp) -> String {
    let when =
        plan.finding.as_ref().map(|found| format!(" {}", figures::age(found.at, now))).unwrap_or_default();
    match (plan.standing, &plan.proven) {
        (Standing::Damaged, _) => {
            let damages = plan.finding.as_ref().map_or(0, |found| found.damages);
            format!("DAMAGED: a verify{when} found {}", figures::count(damages, "damage"))
        }
        (Standing::DrillFailed, _) => format!("NOT PROVEN: its drill FAILED{when}"),
        (_, Some(proven)) => {
            let (at, took) = (figures::age(proven.at, now), figures::length(proven.seconds));
            format!("proven {at} by a drill of {took}")
        }
        (_, None) => "NOT PROVEN: no drill has restored it".to_owned(),
    }
}

fn has_switched(pending: &PendingRestore) -> bool {
    !matches!(pending.phase, RestorePhase::Loading | RestorePhase::Staged)
}

/// What the same command makes of a restore that was broken off.
fn goes_on(pending: &PendingRestore, page: &mut Page) {
    let PendingRestore { job, phase, .. } = pending;
    let what = match phase {
        RestorePhase::Loading => {
            "broken off while it loaded: what is complete beside is kept, the rest begins anew"
        }
        RestorePhase::Staged => "broken off before the switch: what is complete beside is kept",
        RestorePhase::Switching => "broken off in the switch: the rest is switched, checked and released",
        _ => {
            "broken off before its end: rows and files are checked once more, and the repository is released"
        }
    };
    page.line(format!("  goes on    with job {job}, {what}"));
    page.line(format!("             `{}` takes it back instead", pending.undo()));
}

/// What taking a restore back, or confirming it, will do.
pub fn ending(plan: &EndPlan, now: Timestamp) -> Page {
    let mut page = Page::default();
    let PendingRestore { repository, day, job, started, .. } = &plan.restore;
    let begun = figures::age(*started, now);
    page.line(format!("{repository}: the restore of the day {day} (job {job}, begun {begun})"));
    match (plan.undo, plan.has_switched) {
        (true, false) => {
            page.line("  has replaced nothing yet: what it put beside what is there is removed");
            return page;
        }
        (true, true) => page.line("  is taken back: what was there before it is there again"),
        (false, _) => {
            page.line("  is confirmed: what was there before it is dropped, and no --undo brings it back");
        }
    }
    for (what, names) in [("databases", &plan.databases), ("tables", &plan.tables), ("trees", &plan.trees)] {
        if !names.is_empty() {
            page.line(format!("  {what:<10} {}", figures::name(names.join(", ").as_bytes())));
        }
    }
    if !plan.new_databases.is_empty() {
        let names = figures::name(plan.new_databases.join(", ").as_bytes());
        let (what, why) = if plan.undo {
            ("dropped", "which the restore created: there was none before")
        } else {
            ("stays", "which the restore created: there is nothing of it to drop")
        };
        let noun = if plan.new_databases.len() == 1 { "database" } else { "databases" };
        page.line(format!("  {what:<10} {noun} {names}, {why}"));
    }
    if plan.stays_stopped {
        page.line("  scheduler  stays stopped, as the restore found it: add --start to start it afterwards");
    }
    if plan.undo {
        page.line("  LOST IS    what has been written into them since the restore");
    }
    page
}

/// What is said of a restore that is done already, how it is ended, and how it is done once more.
pub fn done(pending: &PendingRestore, now: Timestamp) -> Failure {
    let PendingRestore { repository, day, job, started, .. } = pending;
    let age = figures::age(*started, now);
    let text = format!(
        "{repository}: nothing was restored now: the day {day} was put in place by job {job}, begun {age}, and waits to be confirmed \
         or taken back"
    );
    let mut ways = Page::default();
    ways_to_end(&pending.undo(), &pending.confirm(), &mut ways);
    Failure::new(Kind::Pending, text).hint(ways.0.trim()).hint(format!(
        "to restore it once more, over all that has changed since, end it first, then type `{}` again",
        pending.command()
    ))
}

/// The two commands that end a restore.
pub fn ways_to_end(undo: &str, confirm: &str, page: &mut Page) {
    page.line("  what was there before is kept until one of these ends the restore:");
    let width = undo.len().max(confirm.len());
    page.line(format!("    {undo:<width$}   puts it back"));
    page.line(format!("    {confirm:<width$}   drops it"));
}

fn databases(server: &ServerPlan, page: &mut Page) {
    page.line(format!("PostgreSQL {}, as {}", server.version, server.user));
    for database in &server.databases {
        page.line(format!("  database   {}", of_database(database)));
        for session in &database.sessions {
            page.line(format!("             connected, and ended at the switch: {session}"));
        }
    }
    for (names, what) in [
        (&server.new_roles, "roles      created"),
        (&server.changed_roles, "roles      changed to what they were"),
        (&server.new_tablespaces, "spaces     created"),
    ] {
        if !names.is_empty() {
            page.line(format!("  {what}: {}", names.join(", ")));
        }
    }
}

fn of_database(database: &DatabasePlan) -> String {
    let name = figures::name(database.name.as_bytes());
    let day = format!(
        "{} in the day, {} of text",
        figures::count(database.rows, "row"),
        figures::size(database.row_bytes)
    );
    match database.now_bytes {
        _ if database.is_left_alone => format!("{name}: stays, since it holds nothing and held nothing"),
        Some(bytes) => format!("{name}: replaced, {} now; {day}", figures::size(bytes)),
        None => format!("{name}: created; {day}"),
    }
}

fn of_table(table: &TableChange) -> String {
    let day = format!(
        "{} in the day, {} of text",
        figures::count(table.rows, "row"),
        figures::size(table.row_bytes)
    );
    let name = figures::name(table.name.as_bytes());
    match table.now_rows {
        Some(rows) => format!("{name}: replaced, about {} now; {day}", figures::count(rows, "row")),
        None => format!("{name}: created; {day}"),
    }
}

fn show_tree(tree: &TreePlan, page: &mut Page) {
    page.line(format!("tree {} at {}", tree.name, tree.path));
    if let Some(part) = &tree.part {
        page.line(format!("  only       {}", figures::name(part.as_bytes())));
    }
    if tree.is_same() {
        page.line(format!("  same       as in the day already: {}", figures::count(tree.same, "name")));
        return;
    }
    let changes = [
        (tree.create, "created"),
        (tree.replace, "replaced"),
        (tree.remove, "removed"),
        (tree.attributes, "with other attributes"),
        (tree.same, "as in the day already"),
    ];
    let changes = changes.iter().filter(|(names, _)| *names > 0);
    let changes: Vec<String> =
        changes.map(|(names, what)| format!("{} {what}", figures::count(*names, "name"))).collect();
    let copied = figures::size(tree.copy_bytes);
    page.line(format!("  changes    {}; {copied} to copy", changes.join(", ")));
    if tree.stay > 0 {
        page.line(format!("  excluded   left alone: {}", figures::count(tree.stay, "name")));
    }
}

fn room(space: &Space) -> String {
    let free = match space.free {
        Some(free) => format!("{} free", figures::size(free)),
        None => "how much is free cannot be told".to_owned(),
    };
    let old = if space.old == 0 {
        String::new()
    } else {
        format!("; the old state keeps {} until it is confirmed", figures::size(space.old))
    };
    format!("{}: {} needed, {free}{old}", space.place, figures::size(space.needed))
}
