//! Queries of the monitoring port: `a=b&c=d`, percent-encoded.

/// The parts of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits a query; a part that is not well encoded (RFC 3986, section 2.1) is left out of it, as if it were not there.
    pub fn parse(query: Option<&str>) -> Query {
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let pairs = parts.filter_map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        Query(pairs.collect())
    }

    /// The first value of a name; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Every value of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The first name that is none of these: to pass over it would give a wrong answer.
    pub fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name))
    }
}

/// A part as text; `None` when it is none.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_decoded_and_what_is_no_text_is_left_out() {
        let query = Query::parse(Some("x=1&request_id=a%20b&x=%3D&bad=%zz&worse=%2&&flag"));
        assert_eq!((query.get("request_id"), query.get("bad"), query.get("nothing")), ("a b", "", ""));
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["1", "="]);
        assert_eq!(query.unknown(&["x", "request_id"]), Some("flag"));
        assert_eq!(Query::parse(None), Query::default());
    }
}
