//! Where the words of a line start and end.

/// The stretches between white space.
pub(crate) fn plain_words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (c.is_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(from)) => {
                words.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|from| (from, text.len())));
    words
}

/// The stretches between white space that is neither quoted nor escaped. A quote that is not closed lasts to the end.
pub(crate) fn raw_words(text: &str, escape: char) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|from| (from, at)));
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            chars.next();
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|from| (from, text.len())));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_keep_a_word_together() {
        let words = |text: &'static str| -> Vec<&'static str> {
            raw_words(text, '\\')
                .into_iter()
                .map(|(from, to)| &text[from..to])
                .collect()
        };
        assert_eq!(words(" a  b\tc "), ["a", "b", "c"]);
        assert_eq!(
            words("a='b c' d\\ e \"f 'g\""),
            ["a='b c'", "d\\ e", "\"f 'g\""]
        );
        assert_eq!(words("it's all one"), ["it's all one"]);
        assert_eq!(words("x\\"), ["x\\"]);
    }
}
