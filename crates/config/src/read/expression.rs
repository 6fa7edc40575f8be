//! CEL expressions: refused with the position of what is wrong. What has never a value here is reported.

use std::sync::Arc;

use base::expression::{Attribute, parse};

use crate::context::{Context, Result};
use crate::model::Regex;
use crate::model::expression::Expression;

/// Reads an expression.
pub(super) fn read_expression(cx: &mut Context, text: &str) -> Result<Arc<Expression>> {
    let expression = parse_expression(text).map_err(|reason| cx.refused(reason))?;
    let (mut whole, mut unknown) = (false, Vec::new());
    expression.root.attributes(&mut |attribute| match attribute {
        Attribute::Whole(_) => whole = true,
        Attribute::Unknown(path) => unknown.push(path.clone()),
        _ => {}
    });
    if whole {
        return Err(cx.refused("the name of a header must stand in brackets as a text: request.headers['x']"));
    }
    for path in unknown {
        cx.note(format!("the attribute {path} has never a value here: what needs it is an error"));
    }
    Ok(Arc::new(expression))
}

/// Parses an expression.
///
/// # Errors
/// The position and what is wrong there.
pub fn parse_expression(text: &str) -> std::result::Result<Expression, String> {
    parse(text, &|pattern| {
        let bare = Regex::new(pattern).map_err(|error| error.to_string())?;
        // CEL asks whether some part matches.
        Regex::new(&format!("(?s:.*)(?:{})(?s:.*)", bare.pattern())).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_is_reported_and_what_cannot_be_read_refused() {
        let read = |text: &str| Context::read(|cx| read_expression(cx, text));
        assert!(read("response.code >= 400 && 'x' in request.headers").unwrap().notes.is_empty());
        assert!(read("request.time == 1").unwrap().notes[0].reason.contains("request.time"));
        assert!(read("size(request.headers) > 1").unwrap_err().reason.contains("brackets"));
        assert!(read("response.code >").unwrap_err().reason.contains("position 15"));
        assert!(read("request.path.matches('(')").unwrap_err().reason.contains("regular expression"));
    }

    #[test]
    fn a_pattern_matches_a_part() {
        use base::expression::Node;
        let Node::Matches(_, regex) = parse_expression("request.path.matches('b|c')").unwrap().root else {
            panic!()
        };
        assert!(regex.is_full_match(b"a\nbd") && !regex.is_full_match(b"ad"));
    }
}
