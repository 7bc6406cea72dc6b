//! What a person may have meant by a word that is not known.

/// The known word that is nearest to `word`, where one is near enough to be what was meant. Case does not count.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    // Longer words are not mistyped ones; and the time stays bounded.
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST).collect();
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let known = ["COPY", "RUN", "ENTRYPOINT", "CMD", "WORKDIR"];
        assert_eq!(nearest("COYP", known), Some("COPY"));
        assert_eq!(nearest("rnu", known), Some("RUN"));
        assert_eq!(nearest("ENTRYPIONT", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("WORKDIRR", known), Some("WORKDIR"));
        assert_eq!(nearest("BANANA", known), None);
    }
}
