//! The adapter `systemd`: units are stopped or frozen, and started or thawed.
//!
//! `systemctl stop --no-block` only queues the job: how long the units may take is `hold.drain`'s business, not systemctl's. A
//! `start` replaces a stop that is still queued, so that the release need not wait for it.
//!
//! A stop takes along what requires the unit or is part of it, and a start does not bring that back: such units are held as if they
//! were configured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::adapter::{Adapter, Before, Proof};
use super::command::is_there;
use super::plan::{ReleasePlan, TOKEN_VARIABLE};
use super::{Error, Purpose};
use crate::config::{SystemdAction, SystemdHold};
use crate::fs;
use crate::process::Program;

/// How long systemctl may take to answer or to queue a job.
const QUERY_LIMIT: Duration = Duration::from_secs(30);
/// How long units may take to start: systemd's own DefaultTimeoutStartSec is 90 s.
const START_LIMIT: Duration = Duration::from_secs(300);
/// Where control groups are: of version 2, and of systemd's own hierarchy beside version 1.
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];

/// What `systemctl show` tells of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) load: String,
    pub(super) active: String,
    pub(super) freezer: String,
    pub(super) cgroup: String,
    pub(super) triggered_by: Vec<String>,
    /// What systemd stops with it, and does not start with it again.
    pub(super) stopped_with: Vec<String>,
    /// It is not started before daykeep's daemon is.
    pub(super) after_daykeep: bool,
    /// Its last start was passed over: `Condition...=` or `ExecCondition=` forbade it.
    pub(super) skipped: bool,
}

/// The daemon's unit.
const DAEMON: &str = "daykeep.service";

/// How others may hang on a unit so that they are stopped with it (systemd.unit(5)).
const STOPPED_WITH: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];

impl Unit {
    fn runs(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
    }

    fn is_frozen(&self) -> bool {
        self.freezer == "frozen"
    }

    fn needs_no_thaw(&self) -> bool {
        self.is_stopped() || self.freezer == "running"
    }

    fn is_stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

/// Asks systemd about units.
pub(super) async fn show(units: &[String]) -> Result<Vec<Unit>, Error> {
    let mut found = Vec::new();
    for name in units {
        let program = Program::new(["systemctl", "show", "--no-pager"])
            .arg("--property=LoadState,ActiveState,FreezerState,ControlGroup,TriggeredBy")
            .arg("--property=ConditionResult,Result,After")
            .arg(format!("--property={}", STOPPED_WITH.join(",")))
            .arg("--")
            .arg(name)
            .limit(QUERY_LIMIT);
        let doing = "cannot ask systemd about the units of the hold";
        let stdout = program
            .run(&CancellationToken::new())
            .await
            .map_err(|source| Error::Command { doing, source })?;
        found.push(parse_show(name, &String::from_utf8_lossy(&stdout)));
    }
    Ok(found)
}

pub(super) fn parse_show(name: &str, text: &str) -> Unit {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let field = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
    let words = |key| field(key).split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    Unit {
        name: name.to_owned(),
        load: field("LoadState"),
        active: field("ActiveState"),
        freezer: field("FreezerState"),
        cgroup: field("ControlGroup"),
        triggered_by: words("TriggeredBy"),
        stopped_with: STOPPED_WITH.iter().flat_map(|key| words(key)).collect(),
        after_daykeep: words("After").iter().any(|unit| unit == DAEMON),
        skipped: field("ConditionResult") == "no" || field("Result") == "exec-condition",
    }
}

/// Running units that systemd would stop with these, the furthest first; none of them is among these. Targets are left to themselves: to start
/// one starts all that it wants, what an operator has stopped too.
pub(super) async fn stopped_with(units: &[Unit]) -> Result<Vec<Unit>, Error> {
    let mut found: Vec<Unit> = Vec::new();
    let mut next = units.to_vec();
    while !next.is_empty() {
        let known = |name: &String| units.iter().chain(&found).chain(&next).any(|unit| unit.name == *name);
        let names = next.iter().filter(|unit| unit.runs()).flat_map(|unit| &unit.stopped_with);
        let names: BTreeSet<String> =
            names.filter(|name| !name.ends_with(".target") && !known(name)).cloned().collect();
        let more = show(&Vec::from_iter(names)).await?;
        next = more.into_iter().filter(Unit::runs).collect();
        found.splice(0..0, next.iter().cloned());
    }
    Ok(found)
}

pub(super) struct Systemd {
    settings: SystemdHold,
    token: String,
    /// The configured units, and before them those that are stopped with them.
    units: Vec<String>,
    /// The control groups that the units had while they ran: systemd forgets them when it stops a unit.
    cgroups: Vec<String>,
    /// The units that ran, in the order in which they are stopped.
    ran: Vec<String>,
    purpose: Purpose,
}

impl Systemd {
    pub(super) fn new(settings: SystemdHold, token: String, purpose: Purpose) -> Self {
        let units = settings.units.clone();
        Self { settings, token, units, cgroups: Vec::new(), ran: Vec::new(), purpose }
    }

    async fn look_now(&mut self) -> Result<Before, Error> {
        let freeze = self.settings.action == SystemdAction::Freeze;
        if self.purpose == Purpose::Restore && !is_there("systemctl") {
            self.units.clear();
            let why = "systemctl is not on this machine".to_owned();
            return Ok(Before::Stopped { why, start: ReleasePlan::Nothing });
        }
        let mut units = show(&self.settings.units).await?;
        if self.purpose == Purpose::Restore {
            units.retain(|unit| unit.load != "not-found");
        }
        if let Some(unknown) = units.iter().find(|unit| unit.load == "not-found") {
            let what = format!("systemd, asked for {},", unknown.name);
            return Err(Error::Answer { what, answer: "there is no such unit".to_owned() });
        }
        if !freeze {
            units.splice(0..0, stopped_with(&units).await?);
        }
        self.units = units.iter().map(|unit| unit.name.clone()).collect();
        let ran = units.iter().filter(|unit| unit.runs() && !(freeze && unit.is_frozen()));
        self.ran = ran.clone().map(|unit| unit.name.clone()).collect();
        self.cgroups = ran.map(|unit| unit.cgroup.clone()).filter(|group| !group.is_empty()).collect();
        if self.ran.is_empty() {
            let why = format!("{} did not run", self.settings.units.join(", "));
            let units: Vec<String> = self.units.iter().rev().cloned().collect();
            let start = if units.is_empty() {
                ReleasePlan::Nothing
            } else {
                ReleasePlan::Systemd(Release { units, thaw: freeze, start: true, stop: false })
            };
            return Ok(Before::Stopped { why, start });
        }
        let units = self.ran.iter().rev().cloned().collect();
        Ok(Before::Running(ReleasePlan::Systemd(Release { units, thaw: freeze, start: false, stop: false })))
    }

    async fn pause_now(&mut self) -> Result<(), Error> {
        for unit in &self.ran {
            let program = match self.settings.action {
                SystemdAction::Stop => Program::new(["systemctl", "stop", "--no-block", "--"]),
                SystemdAction::Freeze => Program::new(["systemctl", "freeze", "--"]),
            };
            program
                .arg(unit)
                .env(TOKEN_VARIABLE, Some(self.token.clone().into()))
                .limit(QUERY_LIMIT)
                .run(&CancellationToken::new())
                .await
                .map_err(|source| Error::Command { doing: "cannot pause a unit", source })?;
        }
        Ok(())
    }

    async fn prove_now(&self) -> Result<Proof, Error> {
        let freeze = self.settings.action == SystemdAction::Freeze;
        let mut busy = Vec::new();
        let mut idle = Vec::new();
        for unit in show(&self.units).await? {
            match (freeze && unit.is_frozen(), unit.is_stopped()) {
                (true, _) => idle.push(format!("{} is frozen", unit.name)),
                (false, true) => idle.push(format!("{} is {}", unit.name, unit.active)),
                (false, false) => busy.push(format!("{} is {}", unit.name, unit.active)),
            }
        }
        if !freeze {
            for group in &self.cgroups {
                match processes_in(group)? {
                    0 => idle.push(format!("control group {group} is empty")),
                    count => busy.push(format!("control group {group} has {count} processes")),
                }
            }
        }
        Ok(if busy.is_empty() { Proof::Idle(idle) } else { Proof::Busy(busy) })
    }

    async fn kill_now(&mut self) -> Result<(), Error> {
        for unit in &self.ran {
            Program::new(["systemctl", "kill", "--signal=SIGKILL", "--"])
                .arg(unit)
                .limit(QUERY_LIMIT)
                .run(&CancellationToken::new())
                .await
                .map_err(|source| Error::Command { doing: "cannot kill a unit", source })?;
        }
        Ok(())
    }
}

/// Processes in a control group and those below it; a group that is gone has none.
fn processes_in(group: &str) -> Result<usize, Error> {
    for root in CGROUP_ROOTS {
        let path = Path::new(root).join(group.trim_start_matches('/'));
        if fs::exists(&path)? {
            return count_below(&path);
        }
    }
    Ok(0)
}

fn count_below(path: &Path) -> Result<usize, Error> {
    let mut count = match fs::read_if_exists(&path.join("cgroup.procs"))? {
        Some(text) => text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(),
        None => 0,
    };
    let names = match fs::names_in(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    for child in names.into_iter().map(|name| path.join(name)).filter(|child| child.is_dir()) {
        count += count_below(&child)?;
    }
    Ok(count)
}

impl Adapter for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>> {
        Box::pin(self.look_now())
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.pause_now())
    }

    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.prove_now())
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.kill_now())
    }

    fn pause_limit(&self) -> Duration {
        QUERY_LIMIT * u32::try_from(self.units.len()).unwrap_or(u32::MAX).min(100)
    }
}

/// Starts or thaws units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// In the order in which they are started: those alone that ran before.
    units: Vec<String>,
    thaw: bool,
    /// Even those are started that would only be thawed.
    #[serde(default)]
    start: bool,
    /// None is started: those that are frozen are stopped.
    #[serde(default)]
    stop: bool,
}

impl Release {
    pub(super) async fn perform(&self) -> Result<(), Error> {
        // One that cannot be started must not keep the others down.
        let mut first = None;
        for unit in &self.units {
            if let Err(error) = self.one(unit).await {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn one(&self, unit: &str) -> Result<(), Error> {
        let seen = if self.thaw { show(&[unit.to_owned()]).await? } else { Vec::new() };
        let verb = if self.stop {
            "stop"
        } else if self.thaw && !(self.start && seen.iter().all(Unit::is_stopped)) {
            // systemd refuses to thaw what does not run: it was stopped by an operator, and stays so.
            if seen.iter().all(Unit::needs_no_thaw) {
                return Ok(());
            }
            "thaw"
        } else {
            "start"
        };
        Program::new(["systemctl", verb, "--", unit])
            .limit(START_LIMIT)
            .run_service()
            .await
            .map_err(|source| Error::Command { doing: "cannot release a unit", source })?;
        // For systemctl it is a success not to start what a condition forbids to start.
        let now = if verb == "start" { show(&[unit.to_owned()]).await? } else { Vec::new() };
        if now.iter().any(|unit| unit.is_stopped() && unit.skipped) {
            let answer = "it was not started, since a condition of the unit forbids it".to_owned();
            return Err(Error::Answer { what: format!("systemd, told to start {unit},"), answer });
        }
        Ok(())
    }

    /// What stops the units in the place of thawing them; None: they are stopped already.
    pub(super) fn stopping(self) -> Option<Self> {
        self.thaw.then_some(Self { start: false, stop: true, ..self })
    }

    /// Those of an older hold that has not been released, and these.
    pub(super) fn after(mut self, older: Self) -> Self {
        let missing = older.units.into_iter().filter(|unit| !self.units.contains(unit));
        let missing: Vec<String> = missing.collect();
        self.units.extend(missing);
        self
    }

    /// What it starts.
    pub(super) fn subject(&self) -> String {
        self.units.join(", ")
    }

    pub(super) fn limit(&self) -> Duration {
        (START_LIMIT + QUERY_LIMIT) * u32::try_from(self.units.len()).unwrap_or(u32::MAX).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_show;

    #[test]
    fn a_unit_is_read() {
        let text = "LoadState=loaded\nActiveState=active\nFreezerState=running\n\
                    ControlGroup=/system.slice/a.service\nTriggeredBy=a.socket b.timer\n\
                    RequiredBy=multi-user.target\nConsistsOf=w@1.service\n";
        let unit = parse_show("a.service", text);
        assert!(unit.runs() && !unit.is_frozen() && !unit.is_stopped());
        assert_eq!(unit.cgroup, "/system.slice/a.service");
        assert_eq!(unit.triggered_by, ["a.socket", "b.timer"]);
        assert_eq!(unit.stopped_with, ["multi-user.target", "w@1.service"]);
        assert!(!unit.skipped && !unit.after_daykeep);
        assert!(parse_show("a.service", "After=basic.target daykeep.service\n").after_daykeep);
    }

    #[test]
    fn a_start_that_a_condition_forbade_is_seen() {
        let seen = |text| parse_show("a.service", text).skipped;
        assert!(seen("ConditionResult=no\nResult=success\n"));
        assert!(seen("ConditionResult=yes\nResult=exec-condition\n"));
        assert!(!seen("ConditionResult=yes\nResult=success\n"));
    }
}
