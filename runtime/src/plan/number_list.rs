//! Lists of processors and memory nodes, as `0-3,7`.

/// The kernel's own bound on processors and nodes in the configurations that distributions build.
const MOST: usize = 8192;

/// The numbers of a list, in its order.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(list: &str) -> Result<Vec<usize>, String> {
    let mut numbers = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|number| *number < MOST)
                .ok_or_else(|| format!("{part:?} is no number below {MOST} and no range of them"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part:?} ends before it begins"));
        }
        numbers.extend(first..=last);
        // The same range a million times over would take gigabytes.
        if numbers.len() > MOST {
            return Err(format!("it names more than {MOST} numbers"));
        }
    }
    Ok(numbers)
}

/// The numbers as a set of bits, the lowest first.
pub(super) fn bits(numbers: &[usize]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(0, |most| most / 64 + 1);
    let mut bits = vec![0u64; words];
    for number in numbers {
        bits[number / 64] |= 1 << (number % 64);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_numbers() {
        assert_eq!(parse("0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(parse(" 1 , 5 ").unwrap(), [1, 5]);
        for bad in ["", "x", "3-1", "1-", "99999", "1,,2", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&["0-8191"; 1000].join(",")).is_err());
        assert_eq!(bits(&[0, 65]), [1, 2]);
        assert_eq!(bits(&[]), [0u64; 0]);
    }
}
