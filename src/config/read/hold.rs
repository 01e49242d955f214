//! `[repository.NAME.hold]` and the adapters below it.

use std::ops::Range;

use crate::config::across::Thing;
use crate::config::key::{Key, Kind, Section};
use crate::config::read::http::{self, HTTP};
use crate::config::read::table::Table;
use crate::config::value::Value;
use crate::config::{Adapter, CommandHold, FossologyHold, Hold, OnBusy, SystemdAction, SystemdHold};

const MAX: Key = Key::defaulted(
    "max",
    Kind::Duration,
    "\"5m\"",
    "The longest that the repository may stand still. When it passes, the repository is released and the run fails.",
);
const DRAIN: Key = Key::defaulted(
    "drain",
    Kind::Duration,
    "\"30m\"",
    "How long what is running may take to finish after the pause.",
);
const ON_BUSY: Key = Key::defaulted(
    "on_busy",
    Kind::Word(&["skip", "kill"]),
    "\"skip\"",
    "What to do with what still runs when `drain` has passed: \"skip\" releases and tries again later, \"kill\" kills \
     it, and its jobs fail.",
);
const RETRY_AFTER: Key = Key::defaulted(
    "retry_after",
    Kind::Duration,
    "\"1h\"",
    "How long after a skipped run the next try comes. \"never\": at the next scheduled time.",
);

const ADDRESS: Key = Key::defaulted(
    "address",
    Kind::Text,
    "\"127.0.0.1:24693\"",
    "The host and port of the scheduler (`address` and `port` in fossology.conf).",
);
const START: Key = Key::required(
    "start",
    Kind::Command,
    "[\"systemctl\", \"start\", \"fossology-scheduler\"]",
    "The command that starts the scheduler. FOSSology itself brings only [\"/etc/init.d/fossology\", \"start\"].",
);
const DATABASE: Key =
    Key::defaulted("database", Kind::Text, "\"fossology\"", "The database that holds `jobqueue`.");
const START_TIMEOUT: Key = Key::defaulted(
    "start_timeout",
    Kind::Duration,
    "\"2m\"",
    "The longest that `start` may take until the scheduler's port answers.",
);
const AGENT_MATCH: Key = Key::defaulted(
    "agent_match",
    Kind::Text,
    "\"\"",
    "A word in the command line of this installation's agents, where several run on one host. Empty: every agent on \
     this host counts.",
);
const ROLES: Key = Key::defaulted(
    "roles",
    Kind::Texts,
    "[]",
    "The database roles that the scheduler and its agents log in as. Empty: any session on `database` without an \
     application name counts.",
);

/// `[repository.NAME.hold.fossology]`
pub(crate) static FOSSOLOGY: Section = Section {
    name: "fossology",
    named: None,
    doc: "FOSSology's scheduler, stopped over its TCP port. Needs a database.",
    keys: &[ADDRESS, START, DATABASE, START_TIMEOUT, AGENT_MATCH, ROLES],
    sections: &[],
};

const UNITS: Key = Key::required(
    "units",
    Kind::Texts,
    "[\"app-worker.service\", \"app-web.service\"]",
    "The units, paused in this order and released in the opposite one.",
);
const ACTION: Key = Key::defaulted(
    "action",
    Kind::Word(&["stop", "freeze"]),
    "\"stop\"",
    "How they are paused: \"stop\" (and start again) or \"freeze\" (and thaw; needs cgroup v2).",
);

/// `[repository.NAME.hold.systemd]`
pub(crate) static SYSTEMD: Section = Section {
    name: "systemd",
    named: None,
    doc: "systemd units, stopped or frozen.",
    keys: &[UNITS, ACTION],
    sections: &[],
};

const IS_RUNNING: Key = Key::optional(
    "is_running",
    Kind::Command,
    "it is always paused, and always released",
    "[\"appctl\", \"is-running\"]",
    "Exits 0 when the application runs, and so is to be paused and released.",
);
const PAUSE: Key = Key::required("pause", Kind::Command, "[\"appctl\", \"pause\"]", "Pauses.");
const PROVE: Key = Key::optional(
    "prove",
    Kind::Command,
    "the end of `pause` is the proof",
    "[\"appctl\", \"is-idle\"]",
    "Exits 0 when the application is idle; asked again until `drain` has passed.",
);
const KILL: Key = Key::optional(
    "kill",
    Kind::Command,
    "nothing is killed, and `on_busy` cannot be \"kill\"",
    "[\"appctl\", \"kill-jobs\"]",
    "Kills what is still busy, for on_busy = \"kill\".",
);
const RELEASE: Key = Key::required("release", Kind::Command, "[\"appctl\", \"resume\"]", "Releases.");
const COMMAND_TIMEOUT: Key =
    Key::defaulted("timeout", Kind::Duration, "\"1m\"", "The longest that one command may take.");

/// `[repository.NAME.hold.command]`
pub(crate) static COMMAND: Section = Section {
    name: "command",
    named: None,
    doc: "Commands of your own. No shell is used.",
    keys: &[IS_RUNNING, PAUSE, PROVE, KILL, RELEASE, COMMAND_TIMEOUT],
    sections: &[],
};

/// `[repository.NAME.hold.none]`
pub(crate) static NONE: Section = Section {
    name: "none",
    named: None,
    doc: "Nothing is paused: for what nobody changes at night. Idle means that no write transaction is open.",
    keys: &[],
    sections: &[],
};

/// `[repository.NAME.hold]`
pub(crate) static HOLD: Section = Section {
    name: "hold",
    named: None,
    doc: "How the repository is held still. Exactly one of the tables below it says how.",
    keys: &[MAX, DRAIN, ON_BUSY, RETRY_AFTER],
    sections: &[&FOSSOLOGY, &SYSTEMD, &COMMAND, &HTTP, &NONE],
};

/// What is paused is given to `claim`.
pub(crate) fn hold(repository: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<Hold> {
    if !repository.has(HOLD.name) {
        repository.source.fault_of_whole(
            repository.span.clone(),
            format!("{} does not say how it is held still", repository.header()),
            Some(format!(
                "write one of the tables {}; `none` is for what nobody changes",
                adapters_of(repository)
            )),
        );
        return None;
    }
    let table = repository.section(&HOLD)?;
    table.refuse_unknown();
    let max = table.get(&MAX, Value::duration);
    let drain = table.get(&DRAIN, Value::duration);
    let on_busy = table.get(&ON_BUSY, |value| {
        Some(if value.word(&["skip", "kill"])? == "kill" { OnBusy::Kill } else { OnBusy::Skip })
    });
    let retry_after = table.get(&RETRY_AFTER, |value| match value.node.as_str() {
        Some("never") => Some(None),
        _ => value.duration().map(Some),
    });
    let adapter = adapter(&table, claim);
    if on_busy == Some(OnBusy::Kill)
        && let Some(adapter) = &adapter
    {
        refuse_kill(&table, adapter);
    }
    Some(Hold { max: max?, drain: drain?, on_busy: on_busy?, retry_after: retry_after?, adapter: adapter? })
}

fn adapters_of(repository: &Table<'_>) -> String {
    let names: Vec<&str> = HOLD.sections.iter().map(|section| section.name).collect();
    format!("{}, where HOW is {}", repository.header_of("hold.HOW"), names.join(", "))
}

fn refuse_kill(table: &Table<'_>, adapter: &Adapter) {
    let help = match adapter {
        Adapter::Command(command) if command.kill.is_none() => {
            "write kill = [...] too, or on_busy = \"skip\""
        }
        Adapter::Http(_) | Adapter::None => "write on_busy = \"skip\"",
        Adapter::Command(_) | Adapter::Fossology(_) | Adapter::Systemd(_) => return,
    };
    table.source.fault_of_whole(
        table.place_of_value(&ON_BUSY),
        "on_busy is \"kill\", but this hold has nothing to kill with",
        Some(help.to_owned()),
    );
}

fn adapter(table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<Adapter> {
    let mut given: Vec<&'static Section> =
        HOLD.sections.iter().copied().filter(|section| table.has(section.name)).collect();
    given.sort_by_key(|section| table.place_of(section.name).start);
    let read = |section: &'static Section, claim: &mut dyn FnMut(Thing, Range<usize>)| {
        let table = table.section(section)?;
        table.refuse_unknown();
        match section.name {
            "fossology" => fossology(&table, claim).map(Adapter::Fossology),
            "systemd" => systemd(&table, claim).map(Adapter::Systemd),
            "command" => command(&table).map(Adapter::Command),
            "http" => http::http(&table, claim).map(Adapter::Http),
            _ => Some(Adapter::None),
        }
    };
    let mut adapters: Vec<Option<Adapter>> = given.iter().map(|section| read(section, claim)).collect();
    match given.as_slice() {
        [_] => adapters.pop().flatten(),
        // A misspelled table is told already.
        [] if table.has_unknown() => None,
        [] => {
            let names: Vec<String> =
                HOLD.sections.iter().map(|section| format!("`{}`", section.name)).collect();
            table.source.fault_of_whole(
                table.span.clone(),
                format!("{} has none of the tables {}", table.header(), names.join(", ")),
                Some("write one of them: it says how the repository is paused".to_owned()),
            );
            None
        }
        [first, others @ ..] => {
            for other in others {
                table.source.fault(
                    table.place_of(other.name),
                    format!("{} has `{}` and `{}`", table.header(), first.name, other.name),
                    Some("a repository is held in one way: remove one of the tables".to_owned()),
                );
            }
            None
        }
    }
}

fn fossology(table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<FossologyHold> {
    let address = table.get(&ADDRESS, address);
    if let Some(address) = &address {
        claim(Thing::Held(format!("the scheduler at {address}")), table.place_of_value(&ADDRESS));
    }
    let start = table.get(&START, Value::command);
    let database = table.get(&DATABASE, Value::text);
    let start_timeout = table.get(&START_TIMEOUT, Value::duration);
    let agent_match = table.get(&AGENT_MATCH, Value::any_text);
    let roles = table.get(&ROLES, Value::texts);
    Some(FossologyHold {
        address: address?,
        start: start?,
        database: database?,
        start_timeout: start_timeout?,
        agent_match: agent_match?,
        roles: roles?,
    })
}

fn address(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let right = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && (bracketed || !host.contains([':', '/']))
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if right {
        return Some(text);
    }
    value.wrong(
        format!("`{text}` is not a host and a port"),
        "write it like \"127.0.0.1:24693\"; an IPv6 address needs brackets: \"[::1]:24693\"".to_owned(),
    )
}

fn systemd(table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<SystemdHold> {
    let units = table.get(&UNITS, units);
    for unit in units.iter().flatten() {
        claim(Thing::Held(format!("the unit {unit}")), table.place_of_value(&UNITS));
    }
    let action = table.get(&ACTION, |value| {
        Some(if value.word(&["stop", "freeze"])? == "freeze" {
            SystemdAction::Freeze
        } else {
            SystemdAction::Stop
        })
    });
    Some(SystemdHold { units: units?, action: action? })
}

fn units(value: &Value<'_>) -> Option<Vec<String>> {
    let named = value.list(Kind::Texts, |item| {
        let name = item.text()?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.chars().all(allowed) && !name.starts_with('-') {
            return Some(name);
        }
        item.wrong(
            format!("`{name}` is not the name of a unit"),
            "write it like \"app.service\" or \"app@1.service\"; patterns are not taken".to_owned(),
        )
    })?;
    if named.is_empty() {
        return value.wrong("this list is empty: nothing would be paused", None);
    }
    value.texts()
}

fn command(table: &Table<'_>) -> Option<CommandHold> {
    let is_running = table.get_optional(&IS_RUNNING, Value::command);
    let pause = table.get(&PAUSE, Value::command);
    let prove = table.get_optional(&PROVE, Value::command);
    let kill = table.get_optional(&KILL, Value::command);
    let release = table.get(&RELEASE, Value::command);
    let timeout = table.get(&COMMAND_TIMEOUT, Value::duration);
    Some(CommandHold {
        is_running: is_running?,
        pause: pause?,
        prove: prove?,
        kill: kill?,
        release: release?,
        timeout: timeout?,
    })
}
