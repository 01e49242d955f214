//! How long unpacking again will take, judged by what was unpacked before.

/// What the unpack jobs of the past took together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Past {
    /// How many uploads have one.
    pub(super) jobs: u64,
    /// Bytes of their gold.
    pub(super) bytes: u64,
    /// How long they ran.
    pub(super) seconds: f64,
}

impl Past {
    /// An upload that was unpacked before takes as long again; another as long as its size lets expect. None: nobody can know.
    pub(super) fn expect(&self, own: Option<f64>, gold: Option<u64>) -> Option<f64> {
        if own.is_some() {
            return own;
        }
        #[expect(clippy::cast_precision_loss, reason = "a forecast")]
        let share = (self.bytes > 0).then(|| gold.map(|gold| gold as f64 / self.bytes as f64))?;
        share.map(|share| self.seconds * share)
    }

    /// The same once more, and uploads that were never unpacked and have so many bytes of gold.
    pub(super) fn with_others(&self, gold: u64) -> Option<f64> {
        let others = if gold == 0 { 0.0 } else { self.expect(None, Some(gold))? };
        Some(self.seconds + others)
    }
}

/// All of them, one after the other; None: one of them is not known.
pub(super) fn together(mut each: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    // Not `sum`, for which nothing at all is -0.0.
    each.try_fold(0.0, |sum, seconds| Some(sum + seconds?))
}

#[cfg(test)]
mod tests {
    use super::{Past, together};

    #[test]
    fn the_founding_document_s_disc_is_expected_to_take_as_long_again() {
        let past = Past { jobs: 1, bytes: 4_200_000_000, seconds: 5.5 * 3600.0 };
        assert_eq!(past.expect(Some(19_800.0), Some(4_200_000_000)), Some(19_800.0));
        // Half of it takes half of that.
        assert_eq!(past.expect(None, Some(2_100_000_000)), Some(9_900.0));
        assert_eq!(past.expect(None, None), None);
        assert_eq!(Past::default().expect(None, Some(7)), None);
        assert_eq!(past.with_others(2_100_000_000), Some(1.5 * 19_800.0));
        assert_eq!((past.with_others(0), Past::default().with_others(7)), (Some(19_800.0), None));
    }

    #[test]
    fn the_sum_is_known_when_all_are() {
        assert_eq!(together([Some(1.0), Some(2.5)].into_iter()), Some(3.5));
        assert_eq!(together([Some(1.0), None].into_iter()), None);
        assert_eq!(together(std::iter::empty()).map(f64::to_bits), Some(0.0_f64.to_bits()));
    }
}
