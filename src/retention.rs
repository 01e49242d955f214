//! Which days are kept, and why: a pure function of the rules, the days and the time.

/// The keep rules. A day is kept when any rule keeps it; a rule of 0 (or None) keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest so many days.
    pub last: u32,
    /// The newest day of each of the last so many hours that have one.
    pub hourly: u32,
    /// Of each of the last so many calendar days that have one.
    pub daily: u32,
    /// Of each ISO week.
    pub weekly: u32,
    /// Of each month.
    pub monthly: u32,
    /// Of each year.
    pub yearly: u32,
    /// Every day younger than this, counted back from the newest good day (so that a jump of the clock removes nothing).
    pub within: Option<std::time::Duration>,
}
