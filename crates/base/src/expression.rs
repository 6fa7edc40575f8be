//! Expressions of the Common Expression Language (CEL), the part of it that decides about requests: what Telemetry and
//! access logs are written in. The control plane reads them to tell a user what is wrong, the proxy to evaluate them.

mod attribute;
mod lexer;
mod parser;

pub use attribute::{Attribute, Plain, Whole};
pub use parser::parse;

use std::sync::Arc;

/// An expression. Equality is equality of what was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression<R> {
    /// As it was written.
    pub text: Arc<str>,
    /// Its outermost operation.
    pub root: Node<R>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<R> {
    /// A constant.
    Literal(Literal),
    /// `[a, b]`
    List(Vec<Self>),
    /// `{a: b}`
    Map(Vec<(Self, Self)>),
    /// `request.headers['x-user']`
    Attribute(Attribute),
    /// `has(request.headers.x)`, `'x' in request.headers`: whether there is such an attribute now.
    Present(Attribute),
    /// `of.field`
    Select(Box<Self>, Arc<str>),
    /// `has(of.field)`
    Has(Box<Self>, Arc<str>),
    /// `of[key]`
    Index(Box<Self>, Box<Self>),
    /// `!a`
    Not(Box<Self>),
    /// `-a`
    Negate(Box<Self>),
    /// `a && b`
    And(Box<Self>, Box<Self>),
    /// `a || b`
    Or(Box<Self>, Box<Self>),
    /// `a == b` and its like.
    Compare(Relation, Box<Self>, Box<Self>),
    /// `a in b`
    In(Box<Self>, Box<Self>),
    /// `a * b` and its like.
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    /// `a + b`
    Add(Box<Self>, Box<Self>),
    /// `a ? b : c`
    Conditional(Box<[Self; 3]>),
    /// `size(a)`
    Size(Box<Self>),
    /// `a.startsWith(b)` and its like.
    Text(TextTest, Box<Self>, Box<Self>),
    /// `a.matches('b')`: some part of the text matches, in linear time.
    Matches(Box<Self>, R),
    /// `int(a)` and its like.
    Convert(Conversion, Box<Self>),
}

impl<R> Node<R> {
    /// Calls `each` for every attribute that is asked about.
    pub fn attributes<'a>(&'a self, each: &mut dyn FnMut(&'a Attribute)) {
        match self {
            Node::Literal(_) => {}
            Node::Attribute(attribute) | Node::Present(attribute) => each(attribute),
            Node::List(items) => items.iter().for_each(|item| item.attributes(each)),
            Node::Map(entries) => entries.iter().for_each(|(key, item)| {
                key.attributes(each);
                item.attributes(each);
            }),
            Node::Conditional(parts) => parts.iter().for_each(|part| part.attributes(each)),
            Node::Select(of, _)
            | Node::Has(of, _)
            | Node::Not(of)
            | Node::Negate(of)
            | Node::Size(of)
            | Node::Matches(of, _)
            | Node::Convert(_, of) => of.attributes(each),
            Node::Index(left, right)
            | Node::And(left, right)
            | Node::Or(left, right)
            | Node::Compare(_, left, right)
            | Node::In(left, right)
            | Node::Arithmetic(_, left, right)
            | Node::Add(left, right)
            | Node::Text(_, left, right) => {
                left.attributes(each);
                right.attributes(each);
            }
        }
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.0`
    Double(f64),
    /// `'text'`
    String(Arc<str>),
    /// `b'bytes'`
    Bytes(Arc<[u8]>),
}

// A number that stands in an expression is never NaN.
impl Eq for Literal {}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A test of a text by a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextTest {
    /// `startsWith`
    StartsWith,
    /// `endsWith`
    EndsWith,
    /// `contains`
    Contains,
}

/// A change of type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `bool`
    Bool,
    /// `duration`: a text such as `1.5s` or `20ms`.
    Duration,
}
