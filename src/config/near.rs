//! Which name somebody may have meant. Pure.

/// Longer names were not mistyped, and are not worth the time.
const LENGTH_MAX: usize = 64;

/// The candidate nearest to `name`, if one is near: at most one slip in three characters. The first of several.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = name.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(name, candidate)?, candidate)))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// How many slips lie between two names: characters left out, put in, changed, or swapped with their neighbour. Upper
/// and lower case are the same.
fn distance(one: &str, other: &str) -> Option<usize> {
    let folded = |name: &str| -> Vec<char> { name.to_lowercase().chars().collect() };
    let (one, other) = (folded(one), folded(other));
    if one.len() > LENGTH_MAX || other.len() > LENGTH_MAX {
        return None;
    }
    // Row by row: what it takes to make the first `i` characters of one from the first `j` of the other.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, &a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in other.iter().enumerate() {
            let changed = last.get(j)? + usize::from(a != b);
            let left_out = last.get(j + 1)? + 1;
            let put_in = row.get(j)? + 1;
            let swapped = match (i.checked_sub(1), j.checked_sub(1)) {
                (Some(i), Some(j)) if one.get(i) == Some(&b) && other.get(j) == Some(&a) => {
                    before_last.get(j)? + 1
                }
                _ => usize::MAX,
            };
            row.push(changed.min(left_out).min(put_in).min(swapped));
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (one, other, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("threshold", "threshold", 0),
            ("treshold", "threshold", 1),
            ("thresholld", "threshold", 1),
            ("threshokd", "threshold", 1),
            ("thershold", "threshold", 1),
            ("Threshold", "threshold", 0),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(one, other), Some(slips), "{one} {other}");
            assert_eq!(distance(other, one), Some(slips), "{other} {one}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["pps_threshold", "bps_threshold", "floor_pps"];
        let near = |name| nearest(name, names);
        assert_eq!(near("pps_treshold"), Some("pps_threshold"));
        assert_eq!(
            near("ops_threshold"),
            Some("pps_threshold"),
            "the first of equals"
        );
        assert_eq!(near("pps_flor"), None);
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"p".repeat(100_000)), None);
    }
}
