//! Keys as people write them: JSON, or plain text.

use serde_json::Value;
use sunseo_proto::{Error, ErrorCode};

/// The JSON that a key may mean, the likelier first: `17` is a number unless the store says that its keys are text.
fn forms(key: &str) -> Vec<String> {
    let text = Value::from(key).to_string();
    match serde_json::from_str::<Value>(key) {
        Ok(_) => vec![key.to_owned(), text],
        Err(_) => vec![text],
    }
}

/// Asks with each form of the keys until one has the type of the store; an absent key is empty in every form.
///
/// # Errors
/// The refusal of the first form, or whatever is no matter of form.
pub async fn first_accepted<T, F: Future<Output = Result<T, Error>>>(
    keys: &[Option<&str>],
    mut ask: impl FnMut(Vec<String>) -> F,
) -> Result<T, Error> {
    let all: Vec<Vec<String>> =
        keys.iter().map(|key| key.map_or_else(|| vec![String::new()], forms)).collect();
    let attempts = all.iter().map(Vec::len).max().unwrap_or(1);
    let mut refusal = None;
    for attempt in 0..attempts {
        // all keys have the same type: the last form of each is text
        let form = |forms: &Vec<String>| forms.get(attempt).or(forms.last()).cloned().unwrap_or_default();
        let keys: Vec<String> = all.iter().map(form).collect();
        match ask(keys).await {
            Err(error) if error.code == ErrorCode::InvalidArgument => refusal = refusal.or(Some(error)),
            answer => return answer,
        }
    }
    Err(refusal.unwrap_or_else(|| Error::invalid("key", "no key is given: name one")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_json_or_plain_text() {
        assert_eq!(forms("17"), ["17", "\"17\""]);
        assert_eq!(forms("gangnam"), ["\"gangnam\""]);
        assert_eq!(forms("\"gangnam\""), ["\"gangnam\"", "\"\\\"gangnam\\\"\""]);
        assert_eq!(forms("[\"d-1\",\"created\"]").len(), 2);
    }

    async fn ask(keys: &[Option<&str>], accept: &str) -> (Vec<String>, Result<(), Error>) {
        let mut asked = Vec::new();
        let answer = first_accepted(keys, |forms| {
            let form = forms.join("|");
            asked.push(form.clone());
            std::future::ready(if form == accept { Ok(()) } else { Err(Error::invalid("key_json", form)) })
        });
        let answer = answer.await;
        (asked, answer)
    }

    #[tokio::test]
    async fn the_second_form_is_tried_only_when_the_first_is_refused() {
        assert_eq!(ask(&[Some("17")], "17").await, (vec!["17".to_owned()], Ok(())));
        let (asked, answer) = ask(&[Some("17"), None], "\"17\"|").await;
        assert_eq!((asked, answer), (vec!["17|".to_owned(), "\"17\"|".to_owned()], Ok(())));
        let (_, answer) = ask(&[Some("17")], "nothing").await;
        assert_eq!(answer.unwrap_err().message, "17", "the first refusal is the one that is told");
    }
}
