//! The configuration in force as canonical TOML: every default filled in, no secret in it (the file has none). Reading
//! it gives the same configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use crate::config::{
    Adapter, Check, CheckQuery, Config, Database, Databases, Drill, Hold, HttpHold, OnBusy, Repository,
    Secret, SystemdAction, Tree, Verify,
};

impl Config {
    /// Everything in force as TOML.
    #[must_use]
    pub fn as_toml(&self) -> String {
        let mut writer = Writer::default();
        writer.key("state_dir", path(&self.state_dir));
        writer.table("daemon");
        writer.key("socket", path(&self.daemon.socket));
        writer.key("group", self.daemon.group.as_str());
        let mut text = writer.text;
        for repository in self.repositories.values() {
            text.push('\n');
            text.push_str(&repository.as_toml);
        }
        text
    }
}

impl Repository {
    /// What [`Repository::as_toml`] is when it is read.
    pub(crate) fn to_toml(&self) -> String {
        let own = format!("repository.{}", self.name);
        let mut writer = Writer::default();
        writer.table(&own);
        writer.key("vault", path(&self.vault));
        if let Some(schedule) = &self.schedule {
            writer.key("schedule", schedule.cron.as_str());
            writer.key("timezone", schedule.timezone.as_str());
            writer.key("catch_up", schedule.catch_up);
        }
        writer.optional("new_base_every", self.new_base_every.map(i64::from));
        writer.table(&format!("{own}.keep"));
        let keep = &self.keep;
        for (name, count) in [
            ("last", keep.last),
            ("hourly", keep.hourly),
            ("daily", keep.daily),
            ("weekly", keep.weekly),
            ("monthly", keep.monthly),
            ("yearly", keep.yearly),
        ] {
            writer.key(name, i64::from(count));
        }
        writer.optional("within", keep.within.map(duration));
        write_hold(&mut writer, &format!("{own}.hold"), &self.hold);
        if let Some(database) = &self.database {
            write_database(&mut writer, &format!("{own}.database"), database);
        }
        for tree in self.trees.values() {
            write_tree(&mut writer, &format!("{own}.tree.{}", tree.name), tree);
        }
        for check in self.checks.values() {
            write_check(&mut writer, &format!("{own}.check.{}", check.name), check);
        }
        write_verify(&mut writer, &format!("{own}.verify"), &self.verify);
        write_drill(&mut writer, &format!("{own}.drill"), &self.drill);
        let limits = &self.limits;
        writer.table(&format!("{own}.limits"));
        writer.optional("copy_rate", limits.copy_rate.map(size));
        writer.key("tree_jobs", whole(limits.tree_jobs));
        writer.key("min_free", size(limits.min_free));
        writer.key("min_free_inodes_percent", i64::from(limits.min_free_inodes_percent));
        writer.key("idle_priority", limits.idle_priority);
        writer.text
    }
}

fn write_verify(writer: &mut Writer, own: &str, verify: &Verify) {
    writer.table(own);
    if let Some(schedule) = &verify.schedule {
        writer.key("schedule", schedule.cron.as_str());
        writer.key("timezone", schedule.timezone.as_str());
    }
    writer.key("sample", format!("{}%", verify.sample.unwrap_or(100.0)));
}

fn write_drill(writer: &mut Writer, own: &str, drill: &Drill) {
    writer.table(own);
    if let Some(schedule) = &drill.schedule {
        writer.key("schedule", schedule.cron.as_str());
        writer.key("timezone", schedule.timezone.as_str());
    }
    writer.optional("directory", drill.directory.as_deref().map(path));
    writer.key("trees", drill.trees.word());
}

fn write_hold(writer: &mut Writer, own: &str, hold: &Hold) {
    writer.table(own);
    writer.key("max", duration(hold.max));
    writer.key("drain", duration(hold.drain));
    writer.key("on_busy", if hold.on_busy == OnBusy::Kill { "kill" } else { "skip" });
    writer.key("retry_after", hold.retry_after.map_or_else(|| "never".to_owned(), duration));
    match &hold.adapter {
        Adapter::Fossology(fossology) => {
            writer.table(&format!("{own}.fossology"));
            writer.key("address", fossology.address.as_str());
            writer.key("start", texts(&fossology.start));
            writer.key("database", fossology.database.as_str());
            writer.key("start_timeout", duration(fossology.start_timeout));
            writer.key("agent_match", fossology.agent_match.as_str());
            writer.key("roles", texts(&fossology.roles));
        }
        Adapter::Systemd(systemd) => {
            writer.table(&format!("{own}.systemd"));
            writer.key("units", texts(&systemd.units));
            writer.key("action", if systemd.action == SystemdAction::Freeze { "freeze" } else { "stop" });
        }
        Adapter::Command(command) => {
            writer.table(&format!("{own}.command"));
            writer.optional("is_running", command.is_running.as_deref().map(texts));
            writer.key("pause", texts(&command.pause));
            writer.optional("prove", command.prove.as_deref().map(texts));
            writer.optional("kill", command.kill.as_deref().map(texts));
            writer.key("release", texts(&command.release));
            writer.key("timeout", duration(command.timeout));
        }
        Adapter::Http(http) => write_http(writer, &format!("{own}.http"), http),
        Adapter::None => writer.table(&format!("{own}.none")),
    }
}

fn write_http(writer: &mut Writer, own: &str, http: &HttpHold) {
    writer.table(own);
    writer.key("url", http.url.as_str());
    writer.key("pause", document(&http.pause));
    writer.key("release", document(&http.release));
    writer.key("field", http.field.as_str());
    let headers: toml::Table = http
        .headers
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Secret::Plain(text) => Value::from(text.as_str()),
                Secret::Credential(name) => Value::from(BTreeMap::from([("credential", name.as_str())])),
            };
            (name.clone(), value)
        })
        .collect();
    writer.optional("headers", (!headers.is_empty()).then_some(headers));
    writer.key("timeout", duration(http.timeout));
}

fn write_database(writer: &mut Writer, own: &str, database: &Database) {
    let server = &database.server;
    writer.table(own);
    writer.optional("host", server.host.as_deref());
    writer.optional("port", server.port.map(i64::from));
    writer.optional("user", server.user.as_deref());
    writer.optional("dbname", server.dbname.as_deref());
    writer.optional("service", server.service.as_deref());
    writer.optional("servicefile", server.servicefile.as_deref().map(path));
    writer.optional("passfile", server.passfile.as_deref().map(path));
    writer.optional("password_credential", server.password_credential.as_deref());
    writer.optional("sslmode", server.sslmode.as_deref());
    writer.optional("sslrootcert", server.sslrootcert.as_deref().map(path));
    match &database.databases {
        Databases::Only(names) => writer.key("only", texts(names)),
        Databases::AllBut(names) => writer.key("except", texts(names)),
    }
    writer.key("globals", database.globals);
    writer.key("jobs", whole(database.jobs));
    writer.key("compression", i64::from(database.compression));
    writer.optional("bin_dir", database.bin_dir.as_deref().map(path));
    writer.key("lock_timeout", duration(database.lock_timeout));
}

fn write_tree(writer: &mut Writer, own: &str, tree: &Tree) {
    writer.table(own);
    writer.key("path", path(&tree.path));
    let rules: Vec<String> = tree
        .filters
        .iter()
        .map(|rule| format!("{} {}", if rule.include { '+' } else { '-' }, rule.pattern))
        .collect();
    writer.key("filter", texts(&rules));
    writer.key("content_named", tree.content_named);
    writer.key("one_file_system", tree.one_file_system);
}

fn write_check(writer: &mut Writer, own: &str, check: &Check) {
    writer.table(own);
    match &check.query {
        CheckQuery::Sql(sql) => writer.key("query", sql.as_str()),
        CheckQuery::Fossology { .. } => writer.key("builtin", "fossology"),
    }
    writer.key("database", check.database.as_str());
    writer.key("tree", check.tree.as_str());
    writer.key("allow_missing", i64::try_from(check.allow_missing).unwrap_or(i64::MAX));
    if let CheckQuery::Fossology { depth, hosts, files } = &check.query {
        writer.key("depth", i64::from(*depth));
        writer.key("hosts", texts(hosts));
        writer.key("files", *files);
    }
}

#[derive(Debug, Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn table(&mut self, name: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{gap}[{name}]");
    }

    fn key(&mut self, name: &str, value: impl Into<Value>) {
        let value: Value = value.into();
        let _ = writeln!(self.text, "{name} = {value}");
    }

    fn optional(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.key(name, value);
        }
    }
}

/// Every path comes out of a TOML text, and so is UTF-8.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn texts(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(|text| Value::from(text.as_str())).collect())
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The largest units that say it exactly.
fn duration(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), u64::from(duration.subsec_nanos()));
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (nanoseconds / 1_000_000, "ms"),
        (nanoseconds / 1000 % 1000, "us"),
        (nanoseconds % 1000, "ns"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count != 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// The largest unit that says it exactly.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1000, "kB"),
    ];
    let exact = UNITS.into_iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    let (unit, name) = exact.unwrap_or((1, "B"));
    format!("{} {name}", bytes / unit)
}

/// Only what TOML can say came in: there is no null, and whole numbers are signed.
fn document(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::String(String::new()),
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Integer)
        }
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(document).collect()),
        serde_json::Value::Object(members) => {
            Value::Table(members.iter().map(|(name, value)| (name.clone(), document(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn durations_and_sizes_are_said_exactly() {
        assert_eq!(duration(Duration::from_secs(9000)), "2h 30m");
        assert_eq!(duration(Duration::from_secs(30 * 86_400)), "30d");
        assert_eq!(duration(Duration::from_millis(1500)), "1s 500ms");
        assert_eq!(size(1_000_000_000), "1 GB");
        assert_eq!(size(2 << 30), "2 GiB");
        assert_eq!(size(1001), "1001 B");
        assert_eq!(size(0), "0 B");
    }
}
