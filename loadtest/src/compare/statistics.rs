//! Medians, and how sure they are.

/// The share of intervals that hold the true median.
const COVERAGE: f64 = 0.8;

/// The middle value, or the mean of the two in the middle; `None` of none.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The narrowest interval between two of the values, equally far from both ends, that holds the true
/// median in at least [`COVERAGE`] of cases, whatever the distribution; `None`: too few values.
///
/// The number of values below the true median is binomial with p = 1/2.
pub(super) fn interval(values: &[f64]) -> Option<[f64; 2]> {
    let sorted = sorted(values);
    let count = sorted.len();
    let mut cut = None;
    // Chance that at most `at` of all lie below the median: both ends cut off that much.
    let (mut term, mut tail) = (0.5_f64.powf(count as f64), 0.0);
    for at in 0..count / 2 {
        tail += term;
        if 1.0 - 2.0 * tail < COVERAGE {
            break;
        }
        cut = Some(at);
        term *= (count - at) as f64 / (at + 1) as f64;
    }
    cut.map(|cut| [sorted[cut], sorted[count - 1 - cut]])
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn of_nine_values_the_third_and_the_seventh_bound_the_median() {
        // 2 (1 + 9 + 36) of 512 cases lie outside: 18 %.
        let values: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(interval(&values), Some([3.0, 7.0]));
        // 2 of 16 cases lie outside: 12.5 %; of three values it would be 25 %.
        assert_eq!(interval(&values[..4]), Some([1.0, 4.0]));
        assert_eq!(interval(&values[..3]), None);
    }
}
