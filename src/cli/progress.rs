//! A run as it goes, for a person: bars with rate and ETA on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

    fn say(&self, text: &str) {
        let line = format!("{}{text}", self.prefix);
        match &self.bars {
            Some(bars) => bars.suspend(|| self.out.say(&line)),
            None => self.out.say(&line),
        }
    }

    fn warn(&self, text: &str) {
        let line = format!("{}{text}", self.prefix);
        match &self.bars {
            Some(bars) => bars.suspend(|| self.out.warn(&line)),
            None => self.out.warn(&line),
        }
    }

    fn moved(&self, phase: Phase, unit: Unit, current: u64, total: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bars) = &self.bars {
            let bar = state.bars.entry(phase).or_insert_with(|| bars.add(bar(phase)));
            bar.set_style(style(unit, total.is_some()));
            if let Some(total) = total {
                bar.set_length(total.max(current));
            }
            bar.set_position(current);
            return;
        }
        let now = self.clock.monotonic();
        if state.last_line.is_some_and(|last| now.saturating_sub(last) < LINE_EVERY) {
            return;
        }
        // The first sight of a phase is no news yet: it starts the wait.
        let is_news = state.last_line.is_some();
        state.last_line = Some(now);
        drop(state);
        if is_news {
            self.say(&format!("{}: {}", title(phase), so_far(unit, current, total)));
        }
    }

    fn began(&self, phase: Phase) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in std::mem::take(&mut state.bars).into_values() {
            bar.finish_and_clear();
        }
        state.last_line = Some(self.clock.monotonic());
        drop(state);
        self.say(title(phase));
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event) {
        match event {
            Event::Job { id } => self.say(&format!("job {id}")),
            Event::Phase { phase } => self.began(*phase),
            Event::Progress { phase, unit, current, total } => self.moved(*phase, *unit, *current, *total),
            Event::Notice { level: Level::Info, text } => self.say(text),
            Event::Notice { level: Level::Warning, text } => self.warn(text),
            Event::Held => self.say("the repository stands still"),
            Event::Released { held_seconds, paused_seconds } => self.say(&format!(
                "the repository runs again: it stood still for {}, its scheduler was paused for {}",
                figures::length(*held_seconds),
                figures::length(*paused_seconds)
            )),
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
    }
}

fn bar(phase: Phase) -> ProgressBar {
    let bar = ProgressBar::no_length().with_prefix(title(phase));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let template = match (unit, has_total) {
        (Unit::Bytes, true) => "{prefix} [{bar:24}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go",
        (Unit::Bytes, false) => "{prefix} {spinner} {bytes}, {bytes_per_sec}",
        (Unit::Files, true) => "{prefix} [{bar:24}] {pos}/{len} files, {per_sec}, {eta} to go",
        (Unit::Files, false) => "{prefix} {spinner} {pos} files, {per_sec}",
        (Unit::Rows, true) => "{prefix} [{bar:24}] {pos}/{len} rows, {per_sec}, {eta} to go",
        (Unit::Rows, false) => "{prefix} {spinner} {pos} rows, {per_sec}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
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
    use super::so_far;
    use crate::event::Unit;

    #[test]
    fn progress_in_a_line() {
        assert_eq!(so_far(Unit::Bytes, 1 << 20, Some(4 << 20)), "1.0 MiB of 4.0 MiB (25%)");
        assert_eq!(so_far(Unit::Files, 1, None), "1 file");
        assert_eq!(so_far(Unit::Rows, 7, Some(0)), "7 rows");
    }
}
