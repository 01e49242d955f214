//! Where a table is cut into segments: ranges of heap pages whose COPY text is about [`TARGET`] bytes, and the same from day
//! to day, because a segment can only be linked or patched when yesterday's has about the same rows.

use crate::manifest::{Segment, TableRecord};

/// Bytes of text a segment should have.
pub const TARGET: u64 = 8 * 1024 * 1024;
/// A segment with more text than this is cut.
pub const TOO_LONG: u64 = 12 * 1024 * 1024;
/// Text of more bytes than this is not kept in memory: it is compressed as it comes, and never patched.
pub const CAP: usize = 16 * 1024 * 1024;

/// A range of heap pages: the first, and the one behind the last (None: to the end).
pub type Pages = (u32, Option<u32>);

/// Cuts a table of `pages` heap pages and `bytes` bytes (with TOAST). Yesterday's cuts stay; long segments are cut further; the last
/// one is open-ended, so that rows on pages that came after this look are not lost.
#[must_use]
pub fn plan(pages: u32, bytes: u64, previous: &[Segment]) -> Vec<Pages> {
    let text: u64 = previous.iter().map(|segment| segment.bytes).sum();
    // Compressed TOAST makes more text than it has bytes: yesterday's text knows.
    let per_page = (bytes.max(text) / u64::from(pages.max(1))).max(1);
    let width = u32::try_from(TARGET / per_page).unwrap_or(u32::MAX).max(1);
    let mut starts = Vec::new();
    for (at, end, bytes) in known(pages, previous) {
        let pieces = match (end, bytes) {
            // A closed range has the text that it had yesterday, about.
            (Some(end), bytes) if bytes > TOO_LONG => {
                let count = u32::try_from(bytes.div_ceil(TARGET)).unwrap_or(u32::MAX).max(1);
                let step = ((end - at).div_ceil(count)).max(1);
                cuts(at, end, step)
            }
            (Some(_), _) => vec![at],
            // The open end has grown by whatever was added.
            (None, bytes) => {
                let length = pages.saturating_sub(at);
                let now = per_page.saturating_mul(u64::from(length)).max(bytes);
                if now > TOO_LONG && length > 1 {
                    let step = if u64::from(length).saturating_mul(per_page) >= bytes {
                        width
                    } else {
                        let count = u32::try_from(bytes.div_ceil(TARGET)).unwrap_or(u32::MAX).max(1);
                        length.div_ceil(count).max(1)
                    };
                    cuts(at, pages, step)
                } else {
                    vec![at]
                }
            }
        };
        starts.extend(pieces);
    }
    let ends = starts.iter().skip(1).map(|start| Some(*start)).chain([None]);
    starts.iter().copied().zip(ends).collect()
}

/// Yesterday's ranges with their bytes as far as the table still reaches; one range over everything when there are none or they do not
/// join up.
fn known(pages: u32, previous: &[Segment]) -> Vec<(u32, Option<u32>, u64)> {
    let joined = previous.first().is_some_and(|first| first.pages.0 == 0)
        && previous
            .windows(2)
            .all(|pair| pair[0].pages.1 == Some(pair[1].pages.0) && pair[0].pages.0 < pair[1].pages.0)
        && previous.last().is_some_and(|last| last.pages.1.is_none());
    if !joined {
        return vec![(0, None, 0)];
    }
    let mut ranges: Vec<_> = previous
        .iter()
        .filter(|segment| segment.pages.0 == 0 || segment.pages.0 < pages)
        .map(|segment| (segment.pages.0, segment.pages.1, segment.bytes))
        .collect();
    if let Some(last) = ranges.last_mut() {
        last.1 = None;
    }
    ranges
}

fn cuts(from: u32, to: u32, step: u32) -> Vec<u32> {
    let mut starts = vec![from];
    let mut at = from;
    // What remains is never less than half a step: a sliver is no segment.
    while to - at > step.saturating_add(step / 2) {
        at += step;
        starts.push(at);
    }
    starts
}

/// Yesterday's segment that most likely has these rows: the one on the first of these pages.
#[must_use]
pub fn counterpart(previous: &TableRecord, pages: Pages) -> Option<&Segment> {
    let after = previous.segments.partition_point(|segment| segment.pages.0 <= pages.0);
    after.checked_sub(1).and_then(|place| previous.segments.get(place))
}

/// Whether a patch is kept: it must be well below what the text takes in full, for it costs a second file to read and keeps
/// its base alive.
#[must_use]
pub fn pays(patch: u64, full: u64) -> bool {
    patch.saturating_mul(5) < full.saturating_mul(3)
}

#[cfg(test)]
mod tests {
    use super::{Pages, TARGET, counterpart, pays, plan};
    use crate::manifest::{Rows, Segment, TableRecord};

    const MB: u64 = 1024 * 1024;

    fn segment(pages: Pages, bytes: u64) -> Segment {
        Segment { pages, blake3: String::new(), bytes, rows: Rows::default(), base: None }
    }

    fn joins_up(plan: &[Pages]) {
        assert_eq!(plan[0].0, 0);
        assert!(
            plan.windows(2).all(|pair| pair[0].1 == Some(pair[1].0) && pair[0].0 < pair[1].0),
            "{plan:?}"
        );
        assert_eq!(plan[plan.len() - 1].1, None);
    }

    #[test]
    fn small_tables_are_one_segment() {
        assert_eq!(plan(0, 0, &[]), [(0, None)]);
        assert_eq!(plan(128, MB, &[]), [(0, None)]);
        assert_eq!(plan(1, 900 * MB, &[]), [(0, None)], "one page cannot be cut");
    }

    #[test]
    fn large_tables_are_cut_and_the_cuts_stay() {
        let first = plan(100_000, 800 * MB, &[]);
        joins_up(&first);
        assert!((95..=105).contains(&first.len()), "{}", first.len());
        let before: Vec<Segment> = first.iter().map(|pages| segment(*pages, TARGET)).collect();
        assert_eq!(plan(100_000, 800 * MB, &before), first, "the same day after day");
        let grown = plan(110_000, 880 * MB, &before);
        joins_up(&grown);
        assert_eq!(grown[..first.len() - 1], first[..first.len() - 1], "growth changes only the end");
        assert!(grown.len() > first.len());
        let shrunk = plan(50_000, 400 * MB, &before);
        joins_up(&shrunk);
        assert!(shrunk.len() < first.len());
    }

    #[test]
    fn a_segment_with_too_much_text_is_cut() {
        let before = [segment((0, Some(1000)), 40 * MB), segment((1000, None), MB)];
        let cut = plan(1100, 9 * MB, &before);
        joins_up(&cut);
        assert_eq!(cut.len(), 6, "{cut:?}");
        let one = plan(2000, 16 * MB, &[segment((0, None), 120 * MB)]);
        joins_up(&one);
        assert!((13..=16).contains(&one.len()), "{one:?}");
    }

    #[test]
    fn broken_cuts_are_forgotten() {
        assert_eq!(plan(10, MB, &[segment((5, None), MB)]), [(0, None)]);
        assert_eq!(plan(10, MB, &[segment((0, Some(5)), MB), segment((6, None), MB)]), [(0, None)]);
    }

    #[test]
    fn the_counterpart_is_on_the_same_pages() {
        let table = TableRecord {
            schema: "s".into(),
            name: "t".into(),
            oid: 1,
            columns: vec![],
            rows: Rows::default(),
            segments: vec![segment((0, Some(10)), 1), segment((10, None), 2)],
        };
        assert_eq!(counterpart(&table, (0, Some(10))).map(|s| s.bytes), Some(1));
        assert_eq!(counterpart(&table, (5, Some(9))).map(|s| s.bytes), Some(1));
        assert_eq!(counterpart(&table, (700, None)).map(|s| s.bytes), Some(2));
        assert!(counterpart(&TableRecord { segments: vec![], ..table }, (0, None)).is_none());
    }

    #[test]
    fn a_patch_must_be_much_smaller() {
        assert!(pays(59, 100));
        assert!(!pays(60, 100));
        assert!(!pays(0, 0));
    }
}
