//! What may be a name.

use sunseo_proto::error::{Error, Result};

/// Bytes of the name of a topic or definition.
pub(crate) const NAME_BYTES_MAX: usize = 249;
/// Bytes of the name of a producer, group, member or instance.
pub(crate) const FREE_NAME_BYTES_MAX: usize = 512;
/// Names that begin so are the server's.
pub(crate) const RESERVED_PREFIX: &str = "__";

/// A topic's or definition's name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
pub(crate) fn check_name(field: &str, what: &str, name: &str) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::invalid(field, format!("{what} {why}: use 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -")))
    };
    if name.is_empty() {
        return refuse("is missing".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!("has {} bytes", name.len()));
    }
    if name == "." || name == ".." {
        return refuse(format!("\"{name}\" means a directory to many tools"));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        Some(wrong) => refuse(format!("{name:?} contains {wrong:?}")),
        None => Ok(()),
    }
}

/// A new topic's name; the reserved prefix is for topics that are made as internal.
pub(crate) fn check_topic_name(name: &str, internal: bool) -> Result<()> {
    check_name("name", "topic name", name)?;
    if !internal && name.starts_with(RESERVED_PREFIX) {
        let message = format!(
            "topic name \"{name}\" begins with \"{RESERVED_PREFIX}\", which is reserved for internal topics: choose another name"
        );
        return Err(Error::invalid("name", message));
    }
    Ok(())
}

/// A name that is only ever a key (group, member, producer): any text without control characters.
pub(crate) fn check_free_name(field: &str, what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > FREE_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let message = format!(
            "{what} {:?} ({} bytes) cannot be used: use 1 to {FREE_NAME_BYTES_MAX} bytes without control characters",
            name.chars().take(32).collect::<String>(),
            name.len()
        );
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_or_refused_with_the_reason() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "orders.v1_DE-2", "...", longest.as_str()] {
            assert_eq!(check_topic_name(name, false), Ok(()), "{name}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        for (name, part) in [
            ("", "is missing"),
            (too_long.as_str(), "has 250 bytes"),
            (".", "directory"),
            ("..", "directory"),
            ("주문", "'주'"),
            ("a/b", "'/'"),
            ("a b", "' '"),
            ("__mine", "reserved"),
        ] {
            let refused = check_topic_name(name, false).expect_err(name);
            assert!(refused.message.contains(part), "{refused}");
            assert_eq!(refused.field.as_deref(), Some("name"));
        }
        assert_eq!(check_topic_name("__mine", true), Ok(()));
    }

    #[test]
    fn a_group_may_be_called_nearly_anything() {
        assert_eq!(check_free_name("group", "group", "배달 team/1"), Ok(()));
        for name in ["", "a\nb", "x".repeat(FREE_NAME_BYTES_MAX + 1).as_str()] {
            assert!(check_free_name("group", "group", name).is_err(), "{name:?}");
        }
    }
}
