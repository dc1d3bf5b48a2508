//! The known word that is most like an unknown one.

/// The nearest by edits; the first of several that are equally near. A word without a section is compared with what follows theirs.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    let distance = |known: &&str| match known.split_once('.') {
        Some((_, name)) if !unknown.contains('.') => edits(unknown, name),
        _ => edits(unknown, known),
    };
    known.into_iter().min_by_key(distance).unwrap_or_default()
}

/// Insertions, deletions and substitutions that turn one into the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, char) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(char != *other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("a", "a", 0)] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_word_is_found() {
        assert_eq!(nearest("listen.grcp", ["listen.http", "listen.grpc"]), "listen.grpc");
        assert_eq!(nearest("grpc", ["node.id", "listen.grpc"]), "listen.grpc");
        assert_eq!(nearest("x", []), "");
    }
}
