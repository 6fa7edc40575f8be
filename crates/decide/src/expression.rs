//! Evaluates a CEL expression about a request. It takes time in proportion to the expression and to the texts that it
//! looks at; texts that it makes are bounded.

use std::cmp::Ordering;

use base::expression::{Arithmetic, Attribute, Conversion, Literal, Relation, TextTest};
use config::model::expression::{Expression, Node};

/// The longest text or list that an evaluation may make.
const MAX_SIZE: usize = 64 * 1024;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Truth.
    Bool(bool),
    /// A number with a sign.
    Int(i64),
    /// A number without one.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nanoseconds.
    Duration(i64),
    /// Values in order.
    List(Vec<Value>),
    /// Values by key.
    Map(Vec<(Value, Value)>),
}

/// What an expression can ask about.
pub trait Attributes {
    /// The value of an attribute; `None`: it has none now.
    fn attribute(&self, attribute: &Attribute) -> Option<Value>;
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// An attribute has no value now.
    #[error("{0:?} has no value now")]
    NoValue(Box<Attribute>),
    /// A list or map has no such element.
    #[error("there is no such element")]
    NoElement,
    /// Division by nothing.
    #[error("divided by zero")]
    DividedByZero,
    /// An operation does not take such values.
    #[error("{0} does not take such values")]
    WrongType(&'static str),
    /// A number or text grew too large, or a text is no number.
    #[error("{0}: out of range")]
    OutOfRange(&'static str),
}

type Result<T> = std::result::Result<T, EvaluationError>;

/// The value of an expression.
///
/// # Errors
/// An attribute is missing where its value is needed, or has another type than the expression wants.
pub fn evaluate(expression: &Expression, attributes: &dyn Attributes) -> Result<Value> {
    value(&expression.root, attributes)
}

fn value(node: &Node, about: &dyn Attributes) -> Result<Value> {
    Ok(match node {
        Node::Literal(literal) => constant(literal),
        Node::List(items) => Value::List(items.iter().map(|item| value(item, about)).collect::<Result<_>>()?),
        Node::Map(entries) => {
            let pair = |(key, item): &(Node, Node)| Ok((value(key, about)?, value(item, about)?));
            Value::Map(entries.iter().map(pair).collect::<Result<_>>()?)
        }
        Node::Attribute(attribute) => {
            let found = about.attribute(attribute);
            found.ok_or_else(|| EvaluationError::NoValue(Box::new(attribute.clone())))?
        }
        Node::Present(attribute) => Value::Bool(about.attribute(attribute).is_some()),
        Node::Select(of, field) => element(&value(of, about)?, &Value::String(field.to_string()))
            .ok_or(EvaluationError::NoElement)?,
        Node::Index(of, key) => {
            element(&value(of, about)?, &value(key, about)?).ok_or(EvaluationError::NoElement)?
        }
        Node::Has(of, field) => {
            Value::Bool(element(&value(of, about)?, &Value::String(field.to_string())).is_some())
        }
        Node::Not(of) => Value::Bool(!truth(of, about, "!")?),
        Node::Negate(of) => negate(value(of, about)?)?,
        Node::And(left, right) => either(false, left, right, about, "&&")?,
        Node::Or(left, right) => either(true, left, right, about, "||")?,
        Node::Compare(relation, left, right) => {
            Value::Bool(compare(*relation, &value(left, about)?, &value(right, about)?)?)
        }
        Node::In(item, of) => {
            let item = value(item, about)?;
            Value::Bool(contains(&value(of, about)?, &item)?)
        }
        Node::Arithmetic(operation, left, right) => {
            arithmetic(*operation, value(left, about)?, value(right, about)?)?
        }
        Node::Add(left, right) => add(value(left, about)?, value(right, about)?)?,
        Node::Conditional(parts) => {
            let [condition, yes, no] = &**parts;
            return value(if truth(condition, about, "?:")? { yes } else { no }, about);
        }
        Node::Size(of) => Value::Int(size(&value(of, about)?)?),
        Node::Text(test, of, with) => {
            let (Value::String(of), Value::String(with)) = (value(of, about)?, value(with, about)?) else {
                return Err(EvaluationError::WrongType("a test of texts"));
            };
            Value::Bool(match test {
                TextTest::StartsWith => of.starts_with(&with),
                TextTest::EndsWith => of.ends_with(&with),
                TextTest::Contains => of.contains(&with),
            })
        }
        Node::Matches(of, regex) => match value(of, about)? {
            Value::String(text) => Value::Bool(regex.is_full_match(text.as_bytes())),
            _ => return Err(EvaluationError::WrongType("matches")),
        },
        Node::Convert(conversion, of) => convert(*conversion, value(of, about)?)?,
    })
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(it) => Value::Bool(*it),
        Literal::Int(it) => Value::Int(*it),
        Literal::Uint(it) => Value::Uint(*it),
        Literal::Double(it) => Value::Double(*it),
        Literal::String(it) => Value::String(it.to_string()),
        Literal::Bytes(it) => Value::Bytes(it.to_vec()),
    }
}

fn element(of: &Value, key: &Value) -> Option<Value> {
    match (of, key) {
        (Value::List(items), Value::Int(at)) => items.get(usize::try_from(*at).ok()?).cloned(),
        (Value::Map(entries), key) => {
            entries.iter().find(|(there, _)| equal(there, key)).map(|(_, item)| item.clone())
        }
        _ => None,
    }
}

fn contains(of: &Value, item: &Value) -> Result<bool> {
    match of {
        Value::List(items) => Ok(items.iter().any(|it| equal(it, item))),
        Value::Map(entries) => Ok(entries.iter().any(|(key, _)| equal(key, item))),
        _ => Err(EvaluationError::WrongType("in")),
    }
}

fn truth(node: &Node, about: &dyn Attributes, operation: &'static str) -> Result<bool> {
    match value(node, about)? {
        Value::Bool(it) => Ok(it),
        _ => Err(EvaluationError::WrongType(operation)),
    }
}

/// `&&` and `||`: what one side decides is decided, even where the other has no value.
fn either(
    decides: bool,
    left: &Node,
    right: &Node,
    about: &dyn Attributes,
    operation: &'static str,
) -> Result<Value> {
    let left = truth(left, about, operation);
    if left == Ok(decides) {
        return Ok(Value::Bool(decides));
    }
    match (left, truth(right, about, operation)) {
        (_, Ok(right)) if right == decides => Ok(Value::Bool(decides)),
        (Ok(_), Ok(right)) => Ok(Value::Bool(right)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn negate(of: Value) -> Result<Value> {
    match of {
        Value::Int(it) => it.checked_neg().map(Value::Int).ok_or(EvaluationError::OutOfRange("-")),
        Value::Double(it) => Ok(Value::Double(-it)),
        _ => Err(EvaluationError::WrongType("-")),
    }
}

fn add(left: Value, right: Value) -> Result<Value> {
    const RANGE: EvaluationError = EvaluationError::OutOfRange("+");
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(b).map(Value::Int).ok_or(RANGE),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(b).map(Value::Uint).ok_or(RANGE),
        (Value::Duration(a), Value::Duration(b)) => a.checked_add(b).map(Value::Duration).ok_or(RANGE),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) if a.len() + b.len() <= MAX_SIZE => Ok(Value::String(a + &b)),
        (Value::Bytes(a), Value::Bytes(b)) if a.len() + b.len() <= MAX_SIZE => {
            Ok(Value::Bytes([a, b].concat()))
        }
        (Value::List(a), Value::List(b)) if a.len() + b.len() <= MAX_SIZE => Ok(Value::List([a, b].concat())),
        (Value::String(_), Value::String(_))
        | (Value::Bytes(_), Value::Bytes(_))
        | (Value::List(_), Value::List(_)) => Err(RANGE),
        _ => Err(EvaluationError::WrongType("+")),
    }
}

fn arithmetic(operation: Arithmetic, left: Value, right: Value) -> Result<Value> {
    const RANGE: EvaluationError = EvaluationError::OutOfRange("a calculation");
    const ZERO: EvaluationError = EvaluationError::DividedByZero;
    let divides = matches!(operation, Arithmetic::Divide | Arithmetic::Remainder);
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) if divides => Err(ZERO),
        (Value::Int(a), Value::Int(b)) => {
            let done = match operation {
                Arithmetic::Subtract => a.checked_sub(b),
                Arithmetic::Multiply => a.checked_mul(b),
                Arithmetic::Divide => a.checked_div(b),
                Arithmetic::Remainder => a.checked_rem(b),
            };
            done.map(Value::Int).ok_or(RANGE)
        }
        (Value::Uint(a), Value::Uint(b)) => {
            let done = match operation {
                Arithmetic::Subtract => a.checked_sub(b),
                Arithmetic::Multiply => a.checked_mul(b),
                Arithmetic::Divide => a.checked_div(b),
                Arithmetic::Remainder => a.checked_rem(b),
            };
            done.map(Value::Uint).ok_or(RANGE)
        }
        (Value::Double(a), Value::Double(b)) => match operation {
            Arithmetic::Subtract => Ok(Value::Double(a - b)),
            Arithmetic::Multiply => Ok(Value::Double(a * b)),
            Arithmetic::Divide => Ok(Value::Double(a / b)),
            Arithmetic::Remainder => Err(EvaluationError::WrongType("%")),
        },
        (Value::Duration(a), Value::Duration(b)) if operation == Arithmetic::Subtract => {
            a.checked_sub(b).map(Value::Duration).ok_or(RANGE)
        }
        _ => Err(EvaluationError::WrongType("a calculation")),
    }
}

impl Value {
    /// The value as text, as Envoy writes it into labels of metrics.
    pub fn into_text(self) -> String {
        match self {
            Value::Null => "NULL".to_owned(),
            Value::Bool(it) => it.to_string(),
            Value::Int(it) => it.to_string(),
            Value::Uint(it) => it.to_string(),
            Value::Double(it) => it.to_string(),
            Value::String(it) => it,
            Value::Bytes(it) => String::from_utf8_lossy(&it).into_owned(),
            Value::Duration(it) => format!("{}s", it as f64 / 1e9),
            Value::List(_) => "list".to_owned(),
            Value::Map(_) => "map".to_owned(),
        }
    }
}

fn size(of: &Value) -> Result<i64> {
    let size = match of {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        _ => return Err(EvaluationError::WrongType("size")),
    };
    i64::try_from(size).map_err(|_| EvaluationError::OutOfRange("size"))
}

/// Numbers are equal by their value, whatever their types; values of other types are not.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            let found = |(key, item): &(Value, Value)| b.iter().any(|(k, i)| equal(k, key) && equal(i, item));
            a.len() == b.len() && a.iter().all(found)
        }
        _ => order(left, right) == Some(Ordering::Equal) || left == right,
    }
}

/// The order of two numbers, texts, bytes, truths or durations; `None` where there is none.
#[allow(
    clippy::cast_precision_loss,
    reason = "CEL compares numbers of different types as far as doubles can tell"
)]
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) | (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Uint(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        _ => None,
    }
}

fn compare(relation: Relation, left: &Value, right: &Value) -> Result<bool> {
    match relation {
        Relation::Equal => return Ok(equal(left, right)),
        Relation::NotEqual => return Ok(!equal(left, right)),
        _ => {}
    }
    let not_a_number = |it: &Value| matches!(it, Value::Double(it) if it.is_nan());
    let Some(order) = order(left, right) else {
        let numbers = not_a_number(left) || not_a_number(right);
        return if numbers { Ok(false) } else { Err(EvaluationError::WrongType("an order")) };
    };
    Ok(match relation {
        Relation::Less => order.is_lt(),
        Relation::LessOrEqual => order.is_le(),
        Relation::Greater => order.is_gt(),
        Relation::Equal | Relation::NotEqual | Relation::GreaterOrEqual => order.is_ge(),
    })
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranges are looked at before a double is cut to an integer"
)]
fn convert(to: Conversion, from: Value) -> Result<Value> {
    const RANGE: EvaluationError = EvaluationError::OutOfRange("a conversion");
    const TYPE: EvaluationError = EvaluationError::WrongType("a conversion");
    match (to, from) {
        (Conversion::Int, Value::Int(it)) => Ok(Value::Int(it)),
        (Conversion::Int, Value::Uint(it)) => i64::try_from(it).map(Value::Int).map_err(|_| RANGE),
        (Conversion::Int, Value::Double(it)) if it.abs() < 9.2e18 => Ok(Value::Int(it as i64)),
        (Conversion::Int, Value::String(it)) => it.parse().map(Value::Int).map_err(|_| RANGE),
        (Conversion::Uint, Value::Uint(it)) => Ok(Value::Uint(it)),
        (Conversion::Uint, Value::Int(it)) => u64::try_from(it).map(Value::Uint).map_err(|_| RANGE),
        (Conversion::Uint, Value::Double(it)) if (0.0..1.8e19).contains(&it) => Ok(Value::Uint(it as u64)),
        (Conversion::Uint, Value::String(it)) => it.parse().map(Value::Uint).map_err(|_| RANGE),
        (Conversion::Int | Conversion::Uint, Value::Double(_)) => Err(RANGE),
        (Conversion::Double, Value::Double(it)) => Ok(Value::Double(it)),
        (Conversion::Double, Value::Int(it)) => Ok(Value::Double(it as f64)),
        (Conversion::Double, Value::Uint(it)) => Ok(Value::Double(it as f64)),
        (Conversion::Double, Value::String(it)) => it.parse().map(Value::Double).map_err(|_| RANGE),
        (Conversion::String, Value::String(it)) => Ok(Value::String(it)),
        (Conversion::String, Value::Int(it)) => Ok(Value::String(it.to_string())),
        (Conversion::String, Value::Uint(it)) => Ok(Value::String(it.to_string())),
        (Conversion::String, Value::Double(it)) => Ok(Value::String(it.to_string())),
        (Conversion::String, Value::Bool(it)) => Ok(Value::String(it.to_string())),
        (Conversion::String, Value::Bytes(it)) => String::from_utf8(it).map(Value::String).map_err(|_| RANGE),
        (Conversion::Bytes, Value::Bytes(it)) => Ok(Value::Bytes(it)),
        (Conversion::Bytes, Value::String(it)) => Ok(Value::Bytes(it.into_bytes())),
        (Conversion::Bool, Value::Bool(it)) => Ok(Value::Bool(it)),
        (Conversion::Bool, Value::String(it)) => it.parse().map(Value::Bool).map_err(|_| RANGE),
        (Conversion::Duration, Value::Duration(it)) => Ok(Value::Duration(it)),
        (Conversion::Duration, Value::String(it)) => duration(&it).map(Value::Duration).ok_or(RANGE),
        _ => Err(TYPE),
    }
}

/// `1h2m3.5s`, `-20ms`, `5us`, `7ns` in nanoseconds.
#[allow(clippy::cast_possible_truncation, reason = "the range is looked at before")]
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let (mut sum, mut any) = (0.0, false);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, unit) = rest.split_at(end);
        let (name, factor) = UNITS.into_iter().find(|(name, _)| {
            unit.strip_prefix(name).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphabetic()))
        })?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = &unit[name.len()..];
        any = true;
    }
    let nanoseconds = sign * sum;
    (any && nanoseconds.abs() < 9.2e18).then_some(nanoseconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::expression::Plain;

    struct Request;

    impl Attributes for Request {
        fn attribute(&self, attribute: &Attribute) -> Option<Value> {
            let text = |text: &str| Some(Value::String(text.to_owned()));
            match attribute {
                Attribute::Plain(Plain::RequestMethod) => text("GET"),
                Attribute::RequestHeader(name) if &**name == "x-user" => text("ann"),
                Attribute::Plain(Plain::RequestSize | Plain::ResponseCode) => Some(Value::Int(503)),
                Attribute::Plain(Plain::RequestDuration) => Some(Value::Duration(20_000_000)),
                Attribute::Plain(Plain::ConnectionMtls) => Some(Value::Bool(true)),
                Attribute::Node(path) if path.is_empty() => {
                    Some(Value::Map(vec![(Value::String("a".into()), Value::List(vec![Value::Int(7)]))]))
                }
                Attribute::Node(path) if path.len() == 1 && &*path[0] == "a" => {
                    Some(Value::List(vec![Value::Int(7)]))
                }
                _ => None,
            }
        }
    }

    fn of(text: &str) -> Result<Value> {
        let expression = config::parse_expression(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        evaluate(&expression, &Request)
    }

    #[test]
    fn conditions_on_requests() {
        for (text, expected) in [
            ("response.code >= 500 && request.method == 'GET'", true),
            ("response.code < 500", false),
            ("request.headers['x-user'] == 'ann'", true),
            ("request.headers['X-User'].startsWith('a')", true),
            ("7 - 2 * 3 == 1 && 7 / 2 == 3 && 7 % 4 == 3 && 1.5 * 2.0 == 3.0 && 7u - 2u == 5u", true),
            ("duration('2s') - duration('1s') == duration('1s')", true),
            ("has(request.headers.nobody)", false),
            ("has(node.a)", true),
            ("'x-user' in request.headers", true),
            ("'nobody' in request.headers", false),
            ("'a' in xds.node", true),
            ("node['a'][0] == 7u && {'b': 1}['b'] == 1 && [7, 8][1] == 8 && {'b': {'c': 1}}.b.c == 1", true),
            ("request.duration > duration('19.5ms') && request.duration < duration('1s')", true),
            ("!connection.mtls", false),
            ("request.method in ['PUT', 'GET']", true),
            ("request.method.matches('^G.T$') && 'xay'.matches('a')", true),
            ("request.method.matches('^E')", false),
            ("size('\u{e9}\u{e9}') == 2 && [1, 2].size() == 2 && size({'a': 1}) == 1", true),
            ("(connection.mtls ? 1 : 2) == 1", true),
            ("1 == 1.0 && 1u == 1 && 2 > 1.5 && -1 < 1u", true),
            ("'1' == 1 || null == null", true),
            ("int('7') + 1 == 8 && string(5) == '5' && double(1) == 1.0 && bytes('a') == b'a'", true),
            ("{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", true),
            ("false && request.nothing || true", true),
            ("true || request.nothing == 1", true),
            ("request.nothing == 1 || true", true),
            ("request.nothing == 1 && false", false),
        ] {
            assert_eq!(of(text), Ok(Value::Bool(expected)), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_an_error_and_no_guess() {
        let missing = |path: &[&str]| Err(EvaluationError::NoValue(Box::new(Attribute::at(path))));
        assert_eq!(of("request.nothing == 1"), missing(&["request", "nothing"]));
        assert_eq!(of("request.nothing == 1 && true"), missing(&["request", "nothing"]));
        assert_eq!(of("node['b']"), missing(&["node", "b"]));
        assert_eq!(of("[1][1]"), Err(EvaluationError::NoElement));
        assert_eq!(of("1 / 0 == 1"), Err(EvaluationError::DividedByZero));
        assert_eq!(of("1u % 0u == 1u"), Err(EvaluationError::DividedByZero));
        for text in [
            "1 < 'a'",
            "!1",
            "1 - 1u",
            "1.0 % 1.0",
            "1 + 'a'",
            "size(1)",
            "1 && true",
            "'a'.startsWith(1)",
            "int([1])",
            "1 in 2",
        ] {
            assert!(matches!(of(text), Err(EvaluationError::WrongType(_))), "{text}: {:?}", of(text));
        }
        for text in [
            "9223372036854775807 + 1",
            "int('x')",
            "uint(-1)",
            "int(1e30)",
            "duration('1x')",
            "-(-9223372036854775807 + -1)",
            "-9223372036854775808 / -1",
            "9223372036854775807 * 2",
            "1u - 2u",
        ] {
            assert!(matches!(of(text), Err(EvaluationError::OutOfRange(_))), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn texts_that_are_made_are_bounded() {
        let big = "'".to_owned() + &"x".repeat(1_000) + "'";
        let mut text = format!("({big})");
        for _ in 0..3 {
            text = format!("({text} + {big})");
        }
        assert!(of(&text).is_ok());
    }
}
