//! The figures for Prometheus. They are made from the status when somebody asks, so that they cannot differ from it, and
//! none has a time of its own (node_exporter's textfile collector refuses those).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::api::wire::{Job, JobState, RepositoryStatus, Status};
use crate::daemon::shelf::Listing;
use crate::event::Phase;

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// What is known of one repository.
#[derive(Debug)]
pub struct Figures<'a> {
    /// As the status shows it.
    pub repository: &'a RepositoryStatus,
    /// The newest run that has ended.
    pub ended: Option<Job>,
    /// How long each phase of the last attempt took.
    pub phases: Vec<(Phase, f64)>,
    /// Its days.
    pub listing: Option<Arc<Listing>>,
}

/// A registry with one set of gauges to a name.
struct Page {
    registry: Registry,
}

impl Page {
    fn family(&mut self, name: &str, help: &str) -> Gauges {
        let gauges = Gauges::default();
        self.registry.register(name, help, gauges.clone());
        gauges
    }

    /// A figure of each repository that has it.
    fn each(
        &mut self,
        name: &str,
        help: &str,
        all: &[Figures<'_>],
        figure: impl Fn(&Figures<'_>) -> Option<f64>,
    ) {
        let gauges = self.family(name, help);
        for figures in all {
            if let Some(value) = figure(figures) {
                gauges.get_or_create(&labels(figures)).set(value);
            }
        }
    }
}

/// All figures in the text format of OpenMetrics.
#[must_use]
pub fn text(status: &Status, all: &[Figures<'_>]) -> String {
    let mut page = Page { registry: Registry::with_prefix("daykeep") };
    attempts(&mut page, all);
    holds(&mut page, all);
    days(&mut page, all);
    proofs(&mut page, all);
    let build = Info::new(vec![("version", status.daemon.version.clone())]);
    page.registry.register("build", "The version that runs", build);
    let config = Gauge::<f64, AtomicU64>::default();
    config.set(truth(status.config.error.is_none()));
    page.registry.register(
        "config_last_reload_successful",
        "0 when the newest configuration was refused",
        config,
    );
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = encode(&mut text, &page.registry);
    text
}

fn attempts(page: &mut Page, all: &[Figures<'_>]) {
    page.each(
        "last_success_timestamp_seconds",
        "When a day was last sealed; never moved by a failure",
        all,
        last_success,
    );
    page.each("last_attempt_timestamp_seconds", "When the last run that has ended began", all, |figures| {
        figures.ended.as_ref().map(|job| seconds(job.started))
    });
    page.each("last_attempt_success", "1 when the last run that has ended sealed a day", all, |figures| {
        figures.ended.as_ref().map(|job| truth(job.state == JobState::Succeeded))
    });
    page.each("running", "1 while a run is going on", all, |figures| {
        Some(truth(figures.repository.running.is_some()))
    });
    page.each("next_run_timestamp_seconds", "When the next run begins", all, |figures| {
        figures.repository.next_run.as_ref().map(|next| seconds(next.at))
    });
    let durations = page.family("run_duration_seconds", "How long each phase of the newest run took");
    for figures in all {
        for (phase, length) in &figures.phases {
            let mut labels = labels(figures);
            labels.push(("phase", phase.word().to_owned()));
            durations.get_or_create(&labels).set(*length);
        }
    }
}

fn holds(page: &mut Page, all: &[Figures<'_>]) {
    page.each("paused", "1 while the repository is held, or waits to be released", all, |figures| {
        Some(truth(figures.repository.held))
    });
    page.each("hold_kept", "1 while a restore that is half way keeps the repository held", all, |figures| {
        Some(truth(figures.repository.kept_hold.is_some()))
    });
    page.each("restore_pending", "1 while a restore waits to be finished or confirmed", all, |figures| {
        Some(truth(figures.repository.pending_restore.is_some()))
    });
    page.each(
        "pause_seconds",
        "How long the newest run kept the repository's scheduler paused",
        all,
        |figures| figures.repository.last_attempt.as_ref()?.paused_seconds,
    );
    page.each("idle_wait_seconds", "How long the newest run waited for running agents", all, |figures| {
        let job = figures.repository.last_attempt.as_ref()?;
        Some((job.paused_seconds? - job.held_seconds?).max(0.0))
    });
}

fn days(page: &mut Page, all: &[Figures<'_>]) {
    page.each("days", "Whole days in the vault", all, |figures| {
        known(figures).map(|listing| count(listing.days.len()))
    });
    page.each("quarantined_days", "What stands among the days and is not a good one", all, |figures| {
        known(figures).map(|listing| count(listing.quarantined.len()))
    });
    page.each("newest_day_timestamp_seconds", "The instant that the newest day shows", all, |figures| {
        figures.repository.newest_day.as_ref().map(|day| seconds(day.freeze_point))
    });
    page.each("files_missing", "Rows of the newest day whose files are not in it", all, |figures| {
        let listing = known(figures)?;
        listing.days.first().map(|_| whole(listing.files_missing))
    });
    let bytes = page.family("bytes", "Bytes of the newest day, in all and needed anew");
    for figures in all {
        let Some(day) = figures.listing.as_deref().and_then(|listing| listing.days.first()) else {
            continue;
        };
        for (kind, value) in [("all", day.bytes), ("new", day.new_bytes)] {
            let mut labels = labels(figures);
            labels.push(("kind", kind.to_owned()));
            bytes.get_or_create(&labels).set(whole(value));
        }
    }
}

fn proofs(page: &mut Page, all: &[Figures<'_>]) {
    page.each(
        "newest_proven_age_seconds",
        "How old the newest day is that a drill has proven; missing when none is",
        all,
        |figures| figures.repository.newest_proven_age_seconds.map(whole),
    );
    let last = |kind: &str, figures: &Figures<'_>| {
        let repository = figures.repository;
        if kind == "verify" { repository.last_verify.clone() } else { repository.last_drill.clone() }
    };
    for kind in ["verify", "drill"] {
        let name = |figure: &str| format!("last_{kind}_{figure}");
        page.each(&name("success"), "1 when the newest one found the day as it was sealed", all, |figures| {
            last(kind, figures).map(|proved| truth(proved.ok))
        });
        page.each(&name("timestamp_seconds"), "When the newest one ended", all, |figures| {
            last(kind, figures).map(|proved| seconds(proved.at))
        });
        let durations = page.family(&name("duration_seconds"), "How long the newest one took, by part");
        for figures in all {
            let Some(proved) = last(kind, figures) else { continue };
            let parts = [
                ("database", proved.database_seconds),
                ("trees", proved.trees_seconds),
                ("total", proved.total_seconds),
            ];
            for (part, length) in parts {
                let mut labels = labels(figures);
                labels.push(("part", part.to_owned()));
                durations.get_or_create(&labels).set(length);
            }
        }
    }
}

/// The job's end; where the journal no longer has one, the newest day's seal.
fn last_success(figures: &Figures<'_>) -> Option<f64> {
    let job = figures.repository.last_success.as_ref().and_then(|job| job.ended);
    let day = figures.listing.as_ref().and_then(|listing| listing.days.first()).map(|day| day.sealed);
    job.or(day).map(seconds)
}

fn known<'a>(figures: &'a Figures<'_>) -> Option<&'a Listing> {
    figures.listing.as_deref().filter(|listing| listing.error.is_none())
}

fn labels(figures: &Figures<'_>) -> Labels {
    vec![("repository", figures.repository.name.clone())]
}

fn seconds(instant: Timestamp) -> f64 {
    instant.as_duration().as_secs_f64()
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn count(value: usize) -> f64 {
    whole(u64::try_from(value).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 bytes are exact")]
fn whole(value: u64) -> f64 {
    value as f64
}
