//! The adapter `systemd` against a stand-in of `systemctl`: a script that keeps each unit's state in a file. (The adapter under a real
//! systemd is tested where one is booted.)

use std::fs;

use crate::conformance::{Subject, every_promise};
use crate::driver::Place;

const SYSTEMCTL: &str = r#"
here="$(dirname "$0")/../units"
verb="$1"; shift
for unit; do :; done
state="$here/$unit"
case "$verb" in
show)
    if [ -f "$state" ]; then echo LoadState=loaded; else echo LoadState=not-found; fi
    read -r active freezer <"$state" 2>/dev/null || { active=inactive; freezer=running; }
    echo "ActiveState=$active"; echo "FreezerState=$freezer"; echo "ControlGroup="
    [ -f "$here/../forbidden" ] && echo Result=exec-condition || echo Result=success
    echo "TriggeredBy=$(cat "$here/../triggers" 2>/dev/null)"
    echo "After=basic.target $(cat "$here/../after" 2>/dev/null)"; echo "RequiredBy=multi-user.target"; echo "ConsistsOf=$(cat "$here/../parts-of-$unit" 2>/dev/null)" ;;
stop) for part in $(cat "$here/../parts-of-$unit" 2>/dev/null); do echo "inactive running" >"$here/$part"; done
    [ -f "$here/../slow" ] && echo "deactivating running" >"$state" || echo "inactive running" >"$state" ;;
kill) echo "failed running" >"$state" ;;
start) [ -f "$here/../forbidden" ] || echo "active running" >"$state" ;;
freeze) echo "active frozen" >"$state" ;;
thaw) grep -q ^active "$state" || { echo "Unit is not active" >&2; exit 1; }; echo "active running" >"$state" ;;
esac
echo "$verb $unit" >>"$here/../log"
"#;

struct Units {
    place: Place,
    action: &'static str,
}

impl Units {
    fn new(action: &'static str) -> Self {
        let place = Place::new();
        fs::create_dir_all(place.path("bin")).unwrap();
        fs::create_dir_all(place.path("units")).unwrap();
        place.script("bin/systemctl", SYSTEMCTL);
        let units = Self { place, action };
        units.operator_starts();
        units.configure("max = \"30s\"\ndrain = \"2s\"");
        units
    }

    fn set(&self, unit: &str, state: &str) {
        fs::write(self.place.path("units").join(unit), format!("{state}\n")).unwrap();
    }

    fn state(&self, unit: &str) -> String {
        fs::read_to_string(self.place.path("units").join(unit)).unwrap().trim().to_owned()
    }

    /// What changed units, in order.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.place.path("log")).unwrap_or_default();
        log.lines().filter(|line| !line.starts_with("show")).map(str::to_owned).collect()
    }
}

impl Subject for Units {
    fn place(&self) -> &Place {
        &self.place
    }

    fn configure(&self, general: &str) {
        let settings = format!("units = [\"web.service\", \"worker.service\"]\naction = \"{}\"", self.action);
        self.place.configure(general, "systemd", &settings, None);
    }

    fn runs(&self) -> bool {
        ["web.service", "worker.service"].iter().all(|unit| self.state(unit) == "active running")
    }

    fn operator_stops(&self) {
        let state = if self.action == "stop" { "inactive running" } else { "active frozen" };
        self.set("web.service", state);
        self.set("worker.service", state);
    }

    fn operator_starts(&self) {
        self.set("web.service", "active running");
        self.set("worker.service", "active running");
    }

    fn releases(&self) -> Option<usize> {
        Some(
            self.log()
                .iter()
                .filter(|line| ["start web.service", "thaw web.service"].contains(&line.as_str()))
                .count(),
        )
    }
}

#[test]
fn stopping_does_what_every_adapter_does() {
    every_promise(&Units::new("stop"));
}

/// For systemctl that is a success.
#[test]
fn a_start_that_a_condition_of_the_unit_forbids_is_no_release() {
    let units = Units::new("stop");
    let mut run = units.place.held();
    fs::write(units.place.path("forbidden"), "").unwrap();
    run.tell("release");
    let text = run.expect_error("StillPaused");
    assert!(text.contains("systemd, told to start worker.service, gave an answer"), "{text}");
    assert!(
        text.contains("it was not started, since a condition of the unit forbids it; its guard"),
        "{text}"
    );
    fs::remove_file(units.place.path("forbidden")).unwrap();
    units.place.wait_for_no_record();
    assert!(units.runs());
}

#[test]
fn freezing_does_what_every_adapter_does() {
    every_promise(&Units::new("freeze"));
}

#[test]
fn units_are_started_in_the_opposite_order_and_only_those_that_ran() {
    let units = Units::new("stop");
    let mut run = units.place.held();
    run.tell("release");
    run.expect("released");
    assert_eq!(
        units.log(),
        ["stop web.service", "stop worker.service", "start worker.service", "start web.service"]
    );
    units.set("worker.service", "inactive running");
    let mut run = units.place.held();
    run.tell("release");
    run.expect("released");
    assert_eq!(units.state("worker.service"), "inactive running", "an operator had stopped it");
    assert_eq!(units.state("web.service"), "active running");
}

#[test]
fn a_frozen_unit_that_an_operator_stopped_stays_stopped_and_does_not_hold_the_release_up() {
    let units = Units::new("freeze");
    let mut run = units.place.held();
    units.set("web.service", "inactive running");
    run.tell("release");
    run.expect("released");
    assert_eq!(units.state("web.service"), "inactive running");
    assert_eq!(units.state("worker.service"), "active running");
    assert!(!units.place.has_record());
}

#[test]
fn a_frozen_unit_that_is_to_stay_stopped_is_stopped() {
    let units = Units::new("freeze");
    let mut run = units.place.restoring("restore");
    assert_eq!(units.state("web.service"), "active frozen");
    run.tell("stop");
    run.expect("released");
    let states = ["web.service", "worker.service"].map(|unit| units.state(unit));
    assert_eq!(states, ["inactive running", "inactive running"]);
    assert!(!units.log().iter().any(|line| line.starts_with("thaw") || line.starts_with("start")));
}

#[test]
fn what_systemd_stops_along_is_started_again_if_it_ran() {
    let units = Units::new("stop");
    fs::write(units.place.path("parts-of-web.service"), "mailer.service idle.service").unwrap();
    fs::write(units.place.path("parts-of-mailer.service"), "web.service queue.service").unwrap();
    units.set("mailer.service", "active running");
    units.set("queue.service", "active running");
    units.set("idle.service", "inactive running");
    let texts = format!("{:?}", units.place.probe());
    assert!(texts.contains("mailer.service is stopped and started with them"), "{texts}");
    let mut run = units.place.held();
    assert_eq!(units.state("queue.service"), "inactive running");
    run.tell("release");
    run.expect("released");
    assert_eq!(units.state("mailer.service"), "active running");
    assert_eq!(units.state("queue.service"), "active running");
    assert_eq!(units.state("idle.service"), "inactive running", "an operator had stopped it");
    assert!(units.runs());
    assert!(!units.log().iter().any(|line| line.contains("multi-user.target")), "{:?}", units.log());
}

#[test]
fn a_unit_that_does_not_stop_is_busy() {
    let units = Units::new("stop");
    fs::write(units.place.path("slow"), "").unwrap();
    units.configure("max = \"30s\"\ndrain = \"1s\"");
    let text = units.place.run().expect_error("Busy");
    assert!(text.contains("web.service is deactivating"), "{text}");
    assert!(units.runs());
    units.configure("max = \"30s\"\ndrain = \"1s\"\non_busy = \"kill\"");
    let mut run = units.place.held();
    assert_eq!(units.state("web.service"), "failed running");
    run.tell("release");
    run.expect("released");
    assert!(units.runs());
}

#[test]
fn a_probe_knows_units_and_what_triggers_them() {
    let units = Units::new("stop");
    fs::write(units.place.path("triggers"), "web.socket").unwrap();
    let texts = format!("{:?}", units.place.probe());
    assert!(texts.contains("web.socket can start web.service during the hold"), "{texts}");
    assert!(!texts.contains("After="), "{texts}");
    fs::write(units.place.path("after"), "daykeep.service").unwrap();
    let texts = format!("{:?}", units.place.probe());
    assert!(texts.contains("web.service is started after daykeep.service"), "{texts}");
    fs::remove_file(units.place.path("units/web.service")).unwrap();
    let texts = format!("{:?}", units.place.probe());
    assert!(texts.contains("systemd knows no unit web.service"), "{texts}");
    let text = units.place.run().expect_error("Answer");
    assert!(text.contains("there is no such unit"), "{text}");
}

#[test]
fn units_that_a_disaster_took_count_as_stopped_for_a_restore() {
    let units = Units::new("stop");
    fs::remove_file(units.place.path("units/web.service")).unwrap();
    let mut run = units.place.restoring("restore");
    assert_eq!(units.state("worker.service"), "inactive running", "what is left is paused");
    run.tell("release");
    run.expect("released");
    assert_eq!(units.state("worker.service"), "active running");
    fs::remove_file(units.place.path("units/worker.service")).unwrap();
    let mut run = units.place.start("restore", |_| {});
    let held = run.expect("held");
    let proofs = held["evidence"]["proofs"].to_string();
    assert!(proofs.contains("web.service, worker.service did not run; nothing was paused"), "{proofs}");
    run.tell("start");
    run.expect("released");
    assert!(!units.place.has_record());
}

#[test]
fn what_runs_only_in_part_after_a_kill_is_started_whole() {
    let units = Units::new("stop");
    let mut run = units.place.restoring("restore");
    run.tell("keep");
    run.expect("kept");
    run.kill();
    // The boot after a power cut has started one of them.
    units.set("web.service", "active running");
    let mut run = units.place.restoring("resume");
    assert_eq!(units.state("web.service"), "inactive running");
    run.tell("release");
    run.expect("released");
    assert!(units.runs(), "the other one too");
}
