//! `/debug/log`: access logs of one workload, or of one request in every proxy, are raised for a time.

use std::time::Duration;

use protos::observe::RaiseLog;
use serde_json::{Value, json};

use super::observe::{Observers, Selection};
use super::query::Query;

/// Seconds where nothing is said.
const SECONDS: u32 = 600;
/// The most seconds.
const MOST: u32 = 3600;
/// The longest request id, in bytes.
const LONGEST_ID: usize = 256;
/// The header that a question must have: a web page cannot send it without being asked whether it may.
pub const HEADER: &str = "x-tulle-command";

/// What a query asks for.
///
/// # Errors
/// What is wrong with it.
pub fn wanted(query: &Query) -> Result<(Selection, RaiseLog), String> {
    let (workload, id) = (query.get("workload"), query.get("request_id"));
    let seconds = match query.get("seconds") {
        "" => SECONDS,
        text => text
            .parse()
            .ok()
            .filter(|it| *it <= MOST)
            .ok_or_else(|| format!("seconds is a number from 0 (an end to it) to {MOST}"))?,
    };
    if id.len() > LONGEST_ID {
        return Err(format!("a request id has at most {LONGEST_ID} bytes"));
    }
    if workload.is_empty() && id.is_empty() && seconds > 0 {
        return Err("say a workload=NAMESPACE/NAME or a request_id=ID".to_owned());
    }
    Ok((Selection::parse(workload), RaiseLog { request_id: id.to_owned(), seconds }))
}

/// Raises them; what each proxy said.
pub async fn raise(
    observers: &Observers,
    (selection, wanted): (Selection, RaiseLog),
    limit: Duration,
) -> Value {
    let said = observers.raise_logs(&selection, wanted, limit).await;
    let one = |(who, said): (super::observe::Who, Result<Vec<u8>, String>)| match said {
        Ok(until) if until.is_empty() => {
            json!({"proxy": who.to_string(), "error": "it is too old to know of this"})
        }
        Ok(until) => json!({"proxy": who.to_string(), "until": String::from_utf8_lossy(&until)}),
        Err(reason) => json!({"proxy": who.to_string(), "error": reason}),
    };
    said.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_or_an_id_is_wanted_and_times_are_bounded() {
        let of = |text: &str| wanted(&Query::parse(Some(text)));
        let (selection, raised) = of("workload=a/b").unwrap();
        assert_eq!((selection, raised.seconds), (Selection::parse("a/b"), 600));
        let (selection, raised) = of("request_id=x%201&seconds=5").unwrap();
        assert_eq!((selection, &*raised.request_id, raised.seconds), (Selection::default(), "x 1", 5));
        assert_eq!(of("seconds=0").unwrap().1.seconds, 0);
        for wrong in
            ["", "seconds=5", "workload=a&seconds=3601", "workload=a&seconds=x", "workload=a&seconds=-1"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of(&format!("request_id={}", "x".repeat(257))).is_err());
    }
}
