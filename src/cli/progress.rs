//! A run as it goes, for a person: bars with rate and ETA on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::figures;
use super::output::Output;
use crate::clock::SharedClock;
use crate::event::{Event, Level, Observer, Phase, Unit};

/// So often at most does progress get a plain line: a log is no place for a bar.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows events as they come.
pub struct Progress {
    out: Output,
    clock: SharedClock,
    /// Whose events these are, when that is not plain.
    prefix: String,
    bars: Option<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bars: BTreeMap<Phase, ProgressBar>,
    last_line: Option<Duration>,
}

impl Progress {
    /// Bars when stderr is a terminal that can show them.
    pub fn new(out: Output, clock: SharedClock, prefix: impl Into<String>) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shown = std::io::stderr().is_terminal() && !dumb && !out.quiet;
        // Ten frames a second do not slow a copy down.
        let bars = shown.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { out, clock, prefix: prefix.into(), bars, state: Mutex::default() }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in std::mem::take(&mut state.bars).into_values() {
            bar.finish_and_clear();
        }
    }

    /// Moves the bars; gives the sentence that the event is worth, if any.
    pub fn step(&self, event: &Event) -> Option<(Level, String)> {
        let sentence = match event {
            Event::Job { id } => format!("job {id}"),
            Event::Phase { phase } => self.began(*phase),
            Event::Progress { phase, unit, current, total } => self.moved(*phase, *unit, *current, *total)?,
            Event::Notice { level, text } => return Some((*level, format!("{}{text}", self.prefix))),
            Event::Held => "the repository stands still".to_owned(),
            Event::Released { held_seconds: 0.0, paused_seconds, runs: true } => format!(
                "the repository runs again: it never stood still, its scheduler was paused for {}",
                figures::length(*paused_seconds)
            ),
            Event::Released { held_seconds, paused_seconds, runs: true } => format!(
                "the repository runs again: it stood still for {}, its scheduler was paused for {}",
                figures::length(*held_seconds),
                figures::length(*paused_seconds)
            ),
            Event::Released { held_seconds, runs: false, .. } => format!(
                "the hold is over after {}; the scheduler is not started: it was found stopped",
                figures::length(*held_seconds)
            ),
        };
        Some((Level::Info, format!("{}{sentence}", self.prefix)))
    }

    /// Does something to the terminal with the bars out of the way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(work),
            None => work(),
        }
    }

    fn moved(&self, phase: Phase, unit: Unit, current: u64, total: Option<u64>) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bars) = &self.bars {
            let bar = state.bars.entry(phase).or_insert_with(|| bars.add(bar(&self.prefix, phase)));
            bar.set_style(style(unit, total.is_some()));
            if let Some(total) = total {
                bar.set_length(total.max(current));
            }
            bar.set_position(current);
            return None;
        }
        let now = self.clock.monotonic();
        // The first sight of a phase is no news yet: it starts the wait.
        let last = *state.last_line.get_or_insert(now);
        if now.saturating_sub(last) < LINE_EVERY {
            return None;
        }
        state.last_line = Some(now);
        Some(format!("{}: {}", title(phase), so_far(unit, current, total)))
    }

    fn began(&self, phase: Phase) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in std::mem::take(&mut state.bars).into_values() {
            bar.finish_and_clear();
        }
        state.last_line = Some(self.clock.monotonic());
        title(phase).to_owned()
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event) {
        if let Some((level, sentence)) = self.step(event) {
            self.aside(|| match level {
                Level::Info => self.out.say(&sentence),
                Level::Warning => self.out.warn(&sentence),
            });
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What a phase does, for a person.
pub fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Begin => "taking the vault",
        Phase::Preflight => "looking at everything that the run needs",
        Phase::Warm => "copying ahead while the repository runs",
        Phase::Hold => "holding the repository",
        Phase::Freeze => "taking the freeze point",
        Phase::Release => "releasing the repository",
        Phase::Dump => "writing the database",
        Phase::Trees => "finishing the trees",
        Phase::CrossCheck => "checking that every row has its file",
        Phase::Seal => "sealing the day",
        Phase::Prune => "removing days by the keep rules",
        Phase::Verify => "holding the day against its digests",
        Phase::Scratch => "starting a scratch server",
        Phase::Load => "restoring the databases beside those that are there",
        Phase::Stage => "copying out of the day what the trees lack",
        Phase::Switch => "putting the day in the place of what is there",
        Phase::Compare => "comparing what was restored with what was recorded",
        Phase::Settle => "ending the restore",
    }
}

fn bar(prefix: &str, phase: Phase) -> ProgressBar {
    let bar = ProgressBar::no_length().with_prefix(format!("{prefix}{}", title(phase)));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    ProgressStyle::with_template(template(unit, has_total))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("counted", move |state: &ProgressState, into: &mut dyn fmt::Write| {
            let _ = into.write_str(&counted(unit, state.pos(), state.len().filter(|_| has_total)));
        })
        .with_key("rate", |state: &ProgressState, into: &mut dyn fmt::Write| {
            let _ = write!(into, "{:.0}/s", state.per_sec());
        })
}

fn template(unit: Unit, has_total: bool) -> &'static str {
    match (unit, has_total) {
        (Unit::Bytes, true) => "{prefix} [{bar:24}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go",
        (Unit::Bytes, false) => "{prefix} {spinner} {bytes}, {bytes_per_sec}",
        (Unit::Files | Unit::Rows, true) => "{prefix} [{bar:24}] {counted}, {rate}, {eta} to go",
        (Unit::Files | Unit::Rows, false) => "{prefix} {spinner} {counted}, {rate}",
    }
}

/// What a bar says of things that are counted: `3/120 files`.
fn counted(unit: Unit, current: u64, total: Option<u64>) -> String {
    let noun = match unit {
        Unit::Files => "file",
        Unit::Rows => "row",
        Unit::Bytes => "byte",
    };
    match total {
        Some(total) => format!("{current}/{}", figures::count(total, noun)),
        None => figures::count(current, noun),
    }
}

/// How far a phase is, in one line.
fn so_far(unit: Unit, current: u64, total: Option<u64>) -> String {
    let figure = |number| match unit {
        Unit::Bytes => figures::size(number),
        Unit::Files => figures::count(number, "file"),
        Unit::Rows => figures::count(number, "row"),
    };
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(current) * 100 / u128::from(total);
            format!("{} of {} ({percent}%)", figure(current), figure(total))
        }
        _ => figure(current),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use indicatif::ProgressStyle;

    use crate::cli::output::Output;
    use crate::cli::progress::{LINE_EVERY, Progress, counted, so_far, template};
    use crate::clock::FakeClock;
    use crate::event::{Event, Phase, Unit};

    #[test]
    fn progress_in_a_line() {
        assert_eq!(so_far(Unit::Bytes, 1 << 20, Some(4 << 20)), "1.0 MiB of 4.0 MiB (25%)");
        assert_eq!(so_far(Unit::Files, 1, None), "1 file");
        assert_eq!(so_far(Unit::Rows, 7, Some(0)), "7 rows");
        assert_eq!(counted(Unit::Files, 0, Some(1)), "0/1 file");
        assert_eq!(counted(Unit::Rows, 3, Some(120)), "3/120 rows");
        assert_eq!(counted(Unit::Files, 1, None), "1 file");
    }

    #[test]
    fn every_bar_can_be_drawn() {
        for unit in [Unit::Bytes, Unit::Files, Unit::Rows] {
            for has_total in [true, false] {
                assert!(
                    ProgressStyle::with_template(template(unit, has_total)).is_ok(),
                    "{unit:?} {has_total}"
                );
            }
        }
    }

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let clock = Arc::new(FakeClock::at("2026-11-21T01:00:00Z".parse().expect("an instant")));
        let mut progress = Progress::new(Output { json: false, quiet: true }, clock.clone(), "web: ");
        progress.bars = None;
        let moved =
            |current| Event::Progress { phase: Phase::Warm, unit: Unit::Files, current, total: Some(200) };
        let told = |event| progress.step(&event).map(|(_, sentence)| sentence);
        let began = told(Event::Phase { phase: Phase::Warm });
        assert_eq!(began.as_deref(), Some("web: copying ahead while the repository runs"));
        assert_eq!(told(moved(1)), None);
        clock.advance(LINE_EVERY);
        let line = "web: copying ahead while the repository runs: 50 files of 200 files (25%)";
        assert_eq!(told(moved(50)).as_deref(), Some(line));
        clock.advance(LINE_EVERY.saturating_sub(Duration::from_secs(1)));
        assert_eq!(told(moved(60)), None);
    }
}
