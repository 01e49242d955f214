//! How a repository's days are verified, as configured.

use crate::config::Schedule;

/// `[repository.NAME.verify]`
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// When the newest day is verified; None: only by hand.
    pub schedule: Option<Schedule>,
    /// How much of the content is read, in percent: above 0, below 100. None: all of it.
    pub sample: Option<f64>,
}

/// The number of `5%`: above 0 and at most 100. None for anything else.
#[must_use]
pub fn parse_percent(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    (number > 0.0 && number <= 100.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_percent;

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(["5%", " 0.5 % ", "100%"].map(parse_percent), [Some(5.0), Some(0.5), Some(100.0)]);
        for wrong in ["", "5", "%", "0%", "-1%", "101%", "NaN%", "inf%", "five%"] {
            assert_eq!(parse_percent(wrong), None, "{wrong}");
        }
    }
}
