//! What the service manager is told (sd_notify(3)); nothing when there is none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::api::wire;
use crate::api::wire::JobState;

/// A duration in which at least three signs of life fit into the watchdog's.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

/// Everything is up.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The loop that schedules still turns.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Starting or stopping takes longer, for a reason.
pub fn patience(more: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX))]);
}

/// The line that `systemctl status` shows.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Messages that wait until the service manager takes them.
static QUEUE: OnceLock<mpsc::Sender<String>> = OnceLock::new();
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// So many may wait; then what will be said again anyway is left out.
const PATIENT: usize = 16;

/// The scheduling loop must not wait for a service manager that is busy: a thread of its own does.
fn tell(states: &[NotifyState<'_>]) {
    let passing = |state: &NotifyState<'_>| matches!(state, NotifyState::Status(_) | NotifyState::Watchdog);
    if states.iter().all(passing) && WAITING.load(Ordering::Acquire) >= PATIENT {
        return;
    }
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    WAITING.fetch_add(1, Ordering::AcqRel);
    // The thread ends with the process only.
    let _ = QUEUE.get_or_init(deliver).send(lines.join("\n"));
}

fn deliver() -> mpsc::Sender<String> {
    let (sender, messages) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        for message in messages {
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&message)]) {
                tracing::debug!("the service manager cannot be told: {error}");
            }
            WAITING.fetch_sub(1, Ordering::AcqRel);
        }
    });
    sender
}

/// The state of everything in one line: what runs and how far it is, what is wrong, what comes next.
#[must_use]
pub fn summary(
    jobs: &[wire::Job],
    next: Option<(&str, &wire::NextRun)>,
    config_error: Option<&str>,
) -> String {
    let running = jobs.iter().filter(|job| job.state == JobState::Running).map(progress);
    let mut parts: Vec<String> = running.collect();
    if let Some(error) = config_error {
        parts.push(format!("the new configuration is refused ({error}), the old one is in force"));
    }
    match next {
        Some((name, next)) => parts.push(format!("next run {} ({name})", next.local)),
        None if parts.is_empty() => parts.push("nothing is scheduled".to_owned()),
        None => {}
    }
    parts.join(", ")
}

fn progress(job: &wire::Job) -> String {
    let phase = job.phase.map_or("begin", crate::event::Phase::word);
    let held = if job.held { ", held" } else { "" };
    match job.total {
        Some(total @ 1..) => {
            let percent = u128::from(job.current.min(total)) * 100 / u128::from(total);
            format!("{}: {phase} {percent} %{held}", job.repository)
        }
        _ => format!("{}: {phase}{held}", job.repository),
    }
}
