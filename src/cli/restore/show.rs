//! The plan of a restore, for people.

use jiff::Timestamp;

use crate::cli::figures::{self, Page};
use crate::restore::{DatabasePlan, Plan, ServerPlan, Space, TableChange, TreePlan};

/// All of it but the warnings.
pub fn shown(plan: &Plan, now: Timestamp) -> Page {
    let mut page = Page::default();
    let age = figures::age(plan.freeze_point, now);
    let proven = match &plan.proven {
        Some(proven) => {
            format!(
                "proven {} by a drill of {}",
                figures::age(proven.at, now),
                figures::length(proven.seconds)
            )
        }
        None => "NOT PROVEN: no drill has restored it".to_owned(),
    };
    page.line(format!("{}: the day {} ({age}), {proven}", plan.repository, plan.day));
    if let Some(pending) = &plan.continues {
        page.line(format!(
            "  goes on with job {}, which was broken off ({})",
            pending.job,
            pending.phase.word()
        ));
    }
    page.line(match &plan.hold {
        Some(hold) if hold.adapter == "none" => {
            "  hold       nothing is paused: the repository has no hold".to_owned()
        }
        Some(hold) if hold.start => {
            format!("  hold       {} is paused, and started afterwards whatever its state now", hold.adapter)
        }
        Some(hold) => {
            format!("  hold       {} is paused, and started afterwards if it runs now", hold.adapter)
        }
        None => "  hold       none".to_owned(),
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
        Some(expected) => {
            format!("  takes      about {}, by the newest drill", figures::length(expected.as_secs_f64()))
        }
        None => "  takes      unknown: no drill has measured it".to_owned(),
    });
    page
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
        page.line(format!(
            "  same       all {} are as in the day already",
            figures::count(tree.same, "name")
        ));
        return;
    }
    page.line(format!(
        "  changes    {} created, {} replaced, {} removed, {} get other attributes, {} stay; {} are copied",
        tree.create,
        tree.replace,
        tree.remove,
        tree.attributes,
        tree.same,
        figures::size(tree.copy_bytes)
    ));
    if tree.stay > 0 {
        page.line(format!("  excluded   {} of the tree stay", figures::count(tree.stay, "name")));
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
