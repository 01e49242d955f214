//! What a run tells its guard, a line each. The end of the pipe is not among them: it comes by itself.

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// From now on the pause may have been asked for.
    Pausing,
    /// Idleness was proven.
    Idle,
    /// The hold outlives its run, for this reason: the record says so already.
    Keep(String),
    /// The run is done with the hold, whatever it was kept for, and releases.
    Releasing,
    /// It is released, and its record is gone.
    Over,
}

impl Word {
    pub(super) fn line(&self) -> String {
        match self {
            Self::Pausing => "pausing".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Keep(reason) => format!("keep {}", reason.lines().collect::<Vec<_>>().join(" ")),
            Self::Releasing => "releasing".to_owned(),
            Self::Over => "over".to_owned(),
        }
    }

    /// None: it is of another version of this program.
    pub(super) fn of(line: &str) -> Option<Self> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("pausing", "") => Some(Self::Pausing),
            ("idle", "") => Some(Self::Idle),
            ("keep", reason) => Some(Self::Keep(reason.to_owned())),
            ("releasing", "") => Some(Self::Releasing),
            ("over", "") => Some(Self::Over),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn every_word_is_one_line_and_is_read_as_it_was_told() {
        let kept = Word::Keep("a restore is half way: `daykeep restore` goes on".to_owned());
        for word in [Word::Pausing, Word::Idle, kept, Word::Releasing, Word::Over] {
            assert_eq!(Word::of(&word.line()), Some(word));
        }
        assert_eq!(Word::Keep("two\nlines".to_owned()).line(), "keep two lines");
        assert_eq!(Word::of("dance"), None);
    }
}
