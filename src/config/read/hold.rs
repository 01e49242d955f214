//! `[repository.NAME.hold]` and the adapters below it.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use crate::config::across::Thing;
use crate::config::key::{Key, Kind, Section};
use crate::config::read::table::Table;
use crate::config::value::{Value, nearest};
use crate::config::{
    Adapter, CommandHold, FossologyHold, Hold, HttpHold, OnBusy, Secret, SystemdAction, SystemdHold,
};

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

static FOSSOLOGY: Section = Section {
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

static SYSTEMD: Section = Section {
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

static COMMAND: Section = Section {
    name: "command",
    named: None,
    doc: "Commands of your own. No shell is used.",
    keys: &[IS_RUNNING, PAUSE, PROVE, KILL, RELEASE, COMMAND_TIMEOUT],
    sections: &[],
};

const URL: Key = Key::required(
    "url",
    Kind::Text,
    "\"http://127.0.0.1:8080/admin/synapse/status\"",
    "Where the switch is read (GET) and set (PUT).",
);
const PAUSE_DOCUMENT: Key = Key::required(
    "pause",
    Kind::Document,
    "{ status = \"READ_ONLY\", currentMessage = \"The nightly backup is running.\" }",
    "The document that pauses, sent as JSON.",
);
const RELEASE_DOCUMENT: Key = Key::required(
    "release",
    Kind::Document,
    "{ status = \"READ_WRITE\" }",
    "The document that releases, sent as JSON.",
);
const FIELD: Key = Key::defaulted(
    "field",
    Kind::Text,
    "\"/status\"",
    "The field that tells the state, in the answer and in both documents: a JSON pointer.",
);
const HEADERS: Key = Key::optional(
    "headers",
    Kind::Headers,
    "none",
    "{ Authorization = { credential = \"app-token\" } }",
    "Headers of every request. A value that is secret is { credential = \"NAME\" }, the name of a systemd credential.",
);
const HTTP_TIMEOUT: Key =
    Key::defaulted("timeout", Kind::Duration, "\"30s\"", "The longest that one request may take.");

static HTTP: Section = Section {
    name: "http",
    named: None,
    doc: "A maintenance switch behind HTTP.",
    keys: &[URL, PAUSE_DOCUMENT, RELEASE_DOCUMENT, FIELD, HEADERS, HTTP_TIMEOUT],
    sections: &[],
};

static NONE: Section = Section {
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
    let given: Vec<&'static Section> =
        HOLD.sections.iter().copied().filter(|section| table.has(section.name)).collect();
    let read = |section: &'static Section, claim: &mut dyn FnMut(Thing, Range<usize>)| {
        let table = table.section(section)?;
        table.refuse_unknown();
        match section.name {
            "fossology" => fossology(&table, claim).map(Adapter::Fossology),
            "systemd" => systemd(&table, claim).map(Adapter::Systemd),
            "command" => command(&table).map(Adapter::Command),
            "http" => http(&table, claim).map(Adapter::Http),
            _ => Some(Adapter::None),
        }
    };
    let mut adapters: Vec<Option<Adapter>> = given.iter().map(|section| read(section, claim)).collect();
    match given.as_slice() {
        [_] => adapters.pop().flatten(),
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

fn http(table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<HttpHold> {
    let url = table.get(&URL, url);
    if let Some(url) = &url {
        claim(Thing::Held(format!("the switch at {url}")), table.place_of_value(&URL));
    }
    let pause = table.get(&PAUSE_DOCUMENT, Value::document);
    let release = table.get(&RELEASE_DOCUMENT, Value::document);
    let field = table.get(&FIELD, pointer);
    if let (Some(pause), Some(release), Some(field)) = (&pause, &release, &field) {
        let (before, after) = (pause.pointer(field), release.pointer(field));
        for (key, found) in [(&PAUSE_DOCUMENT, before), (&RELEASE_DOCUMENT, after)] {
            if found.is_none() {
                table.source.fault_of_whole(
                    table.place_of_value(key),
                    format!("the document `{}` has nothing at {field}", key.name),
                    Some("the state is proved by this field: put it into both documents, or name another `field`"
                        .to_owned()),
                );
            }
        }
        if before.is_some() && before == after {
            table.source.fault_of_whole(
                table.place_of_value(&RELEASE_DOCUMENT),
                format!("`pause` and `release` have the same value at {field}"),
                Some("then nobody can tell whether it is paused".to_owned()),
            );
        }
    }
    let headers = table.get_optional(&HEADERS, headers);
    let timeout = table.get(&HTTP_TIMEOUT, Value::duration);
    Some(HttpHold {
        url: url?,
        pause: pause?,
        release: release?,
        field: field?,
        headers: headers?.unwrap_or_default(),
        timeout: timeout?,
    })
}

fn url(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let Ok(url) = reqwest::Url::parse(&text) else {
        return value.wrong(
            format!("`{text}` is not a URL"),
            "write it like \"http://127.0.0.1:8080/admin/status\"".to_owned(),
        );
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return value.wrong(
            format!("`{text}` is not an HTTP URL"),
            "it must begin with http:// or https://".to_owned(),
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return value.wrong(
            "this URL has a password in plain sight",
            "send it as a header: headers = { Authorization = { credential = \"NAME\" } }".to_owned(),
        );
    }
    Some(text)
}

/// RFC 6901.
fn pointer(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.starts_with('/') {
        return Some(text);
    }
    value.wrong(format!("`{text}` is not a JSON pointer"), format!("write it as \"/{text}\""))
}

const SECRET_HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "x-auth-token",
    "api-key",
    "private-token",
];

fn headers(value: &Value<'_>) -> Option<BTreeMap<String, Secret>> {
    let DeValue::Table(table) = value.node else {
        return value.wrong(
            format!("expected {}", Kind::Headers.expected()),
            "write it like { Accept = \"application/json\", Authorization = { credential = \"NAME\" } }"
                .to_owned(),
        );
    };
    let mut headers = Some(BTreeMap::new());
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        let read = header(name, &Value::new(value.source, node));
        if name.parse::<reqwest::header::HeaderName>().is_err() {
            value.source.fault(key.span(), format!("`{name}` is not the name of an HTTP header"), None);
            headers = None;
        }
        match (read, headers.as_mut()) {
            (Some(secret), Some(headers)) => {
                headers.insert(name.to_owned(), secret);
            }
            _ => headers = None,
        }
    }
    headers
}

fn header(name: &str, value: &Value<'_>) -> Option<Secret> {
    let Some(table) = value.node.as_table() else {
        let text = value.any_text()?;
        if SECRET_HEADERS.iter().any(|secret| secret.eq_ignore_ascii_case(name)) {
            return value.wrong(
                format!("the header `{name}` has a secret in plain sight"),
                format!(
                    "write {name} = {{ credential = \"NAME\" }} and give the daemon that systemd credential"
                ),
            );
        }
        if text.parse::<reqwest::header::HeaderValue>().is_err() {
            return value.wrong(format!("this cannot be the value of an HTTP header `{name}`"), None);
        }
        return Some(Secret::Plain(text));
    };
    let mut credential = None;
    for (key, node) in table {
        let inner = key.get_ref().as_ref();
        if inner == "credential" {
            credential = credential_name(&Value::new(value.source, node));
        } else {
            let help =
                nearest(inner, ["credential"].into_iter()).map(|known| format!("did you mean `{known}`?"));
            value.source.fault(key.span(), format!("unknown key `{inner}` in the header `{name}`"), help);
        }
    }
    match (credential, table.len()) {
        (Some(credential), 1) => Some(Secret::Credential(credential)),
        (None, 0) => value.wrong("this header has no value", "write { credential = \"NAME\" }".to_owned()),
        _ => None,
    }
}

/// A file below `$CREDENTIALS_DIRECTORY`.
pub(crate) fn credential_name(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    if name.contains('/') || name == "." || name == ".." {
        return value.wrong(
            format!("`{name}` is not the name of a systemd credential"),
            "write the name that LoadCredential= gives it, not a path".to_owned(),
        );
    }
    Some(name)
}
