//! CEL expressions: the part that decides about requests. What is not supported is refused with its position, and so is
//! an expression that is longer or deeper than the bounds.

use super::lexer::{Token, Word, words};
use super::{Arithmetic, Attribute, Conversion, Expression, Literal, Node, Relation, TextTest};

/// The longest expression, in bytes.
const MAX_TEXT: usize = 4096;
/// The most words, which bounds how long an evaluation takes and how deep it goes.
const MAX_WORDS: usize = 512;
/// How deep brackets, arguments and conditions may stand in one another.
const MAX_DEPTH: usize = 32;
/// What an expression can ask about: Envoy's attributes.
const ROOTS: [&str; 11] = [
    "request",
    "response",
    "connection",
    "upstream",
    "source",
    "destination",
    "metadata",
    "filter_state",
    "upstream_filter_state",
    "xds",
    "node",
];

/// Loops, which Envoy evaluates as little as we do.
const COMPREHENSIONS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];

type Result<T> = std::result::Result<T, String>;

/// Parses an expression; `regex` compiles the pattern of `matches`.
///
/// # Errors
/// The position and what is wrong there.
pub fn parse<R>(text: &str, regex: &dyn Fn(&str) -> Result<R>) -> Result<Expression<R>> {
    if text.len() > MAX_TEXT {
        return Err(format!("the expression has {} bytes, the limit is {MAX_TEXT}", text.len()));
    }
    let words = words(text)?;
    if words.len() > MAX_WORDS {
        return Err(format!("the expression has {} words, the limit is {MAX_WORDS}", words.len()));
    }
    let mut parser = Parser { words, next: 0, depth: 0, regex };
    let root = parser.expression()?;
    match parser.token() {
        Token::End => Ok(Expression { text: text.into(), root }),
        _ => Err(parser.fail("the expression should end here")),
    }
}

struct Parser<'r, R> {
    words: Vec<Word>,
    next: usize,
    depth: usize,
    regex: &'r dyn Fn(&str) -> Result<R>,
}

fn boxed<T>(left: T, right: T) -> (Box<T>, Box<T>) {
    (Box::new(left), Box::new(right))
}

/// A value with what is selected of it.
enum Chain<R> {
    Path(Vec<String>),
    Node(Node<R>),
}

impl<R> Chain<R> {
    fn node(self) -> Node<R> {
        match self {
            Chain::Path(path) => Node::Attribute(Attribute::at(&path)),
            Chain::Node(node) => node,
        }
    }
}

impl<R> Parser<'_, R> {
    fn token(&self) -> &Token {
        self.words.get(self.next).map_or(&Token::End, |word| &word.token)
    }

    fn at(&self) -> usize {
        self.words.get(self.next).map_or(0, |word| word.at)
    }

    fn fail(&self, reason: &str) -> String {
        format!("at position {}: {reason}", self.at())
    }

    fn take(&mut self) -> Token {
        let token = self.token().clone();
        self.next += 1;
        token
    }

    /// Takes that sign if it comes next.
    fn sign(&mut self, wanted: &str) -> bool {
        let there = matches!(self.token(), Token::Sign(sign) if *sign == wanted);
        if there {
            self.next += 1;
        }
        there
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        if self.sign(wanted) { Ok(()) } else { Err(self.fail(&format!("{wanted} is expected here"))) }
    }

    fn expression(&mut self) -> Result<Node<R>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail(&format!("the expression is more than {MAX_DEPTH} deep")));
        }
        let mut node = self.or()?;
        if self.sign("?") {
            let yes = self.expression()?;
            self.expect(":")?;
            let no = self.expression()?;
            node = Node::Conditional(Box::new([node, yes, no]));
        }
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node<R>> {
        let mut node = self.and()?;
        while self.sign("||") {
            let (left, right) = boxed(node, self.and()?);
            node = Node::Or(left, right);
        }
        Ok(node)
    }

    fn and(&mut self) -> Result<Node<R>> {
        let mut node = self.relation()?;
        while self.sign("&&") {
            let (left, right) = boxed(node, self.relation()?);
            node = Node::And(left, right);
        }
        Ok(node)
    }

    fn relation(&mut self) -> Result<Node<R>> {
        let mut node = self.sum()?;
        loop {
            let relation = match self.token() {
                Token::Sign("==") => Some(Relation::Equal),
                Token::Sign("!=") => Some(Relation::NotEqual),
                Token::Sign("<") => Some(Relation::Less),
                Token::Sign("<=") => Some(Relation::LessOrEqual),
                Token::Sign(">") => Some(Relation::Greater),
                Token::Sign(">=") => Some(Relation::GreaterOrEqual),
                Token::Name(name) if name == "in" => None,
                _ => return Ok(node),
            };
            self.next += 1;
            let (left, right) = boxed(node, self.sum()?);
            node = match (relation, &*left, &*right) {
                (Some(relation), _, _) => Node::Compare(relation, left, right),
                (None, Node::Literal(Literal::String(name)), Node::Attribute(of)) => match of.entry(name) {
                    Some(entry) => Node::Present(entry),
                    None => Node::In(left, right),
                },
                (None, _, _) => Node::In(left, right),
            };
        }
    }

    fn sum(&mut self) -> Result<Node<R>> {
        let mut node = self.product()?;
        loop {
            let add = match self.token() {
                Token::Sign("+") => true,
                Token::Sign("-") => false,
                _ => return Ok(node),
            };
            self.next += 1;
            let (left, right) = boxed(node, self.product()?);
            node = if add {
                Node::Add(left, right)
            } else {
                Node::Arithmetic(Arithmetic::Subtract, left, right)
            };
        }
    }

    fn product(&mut self) -> Result<Node<R>> {
        let mut node = self.unary()?;
        loop {
            let operation = match self.token() {
                Token::Sign("*") => Arithmetic::Multiply,
                Token::Sign("/") => Arithmetic::Divide,
                Token::Sign("%") => Arithmetic::Remainder,
                _ => return Ok(node),
            };
            self.next += 1;
            let (left, right) = boxed(node, self.unary()?);
            node = Node::Arithmetic(operation, left, right);
        }
    }

    fn unary(&mut self) -> Result<Node<R>> {
        let mut signs = Vec::new();
        while let Token::Sign(sign @ ("!" | "-")) = *self.token() {
            self.next += 1;
            signs.push(sign);
        }
        if signs.last() == Some(&"-") && *self.token() == Token::LeastInt {
            self.next += 1;
            signs.pop();
            return Ok(apply(signs, Node::Literal(Literal::Int(i64::MIN))));
        }
        let node = self.member()?;
        Ok(apply(signs, node))
    }

    fn member(&mut self) -> Result<Node<R>> {
        self.chain().map(Chain::node)
    }

    fn chain(&mut self) -> Result<Chain<R>> {
        let mut chain = self.primary()?;
        loop {
            if self.sign(".") {
                let name = self.name("the name of a field or function")?;
                chain = if self.sign("(") {
                    if COMPREHENSIONS.contains(&name.as_str()) {
                        return Err(self.fail(&format!("the macro {name} is not supported (it begins here)")));
                    }
                    let node = chain.node();
                    Chain::Node(self.method(node, &name)?)
                } else {
                    match chain {
                        Chain::Path(mut path) => {
                            path.push(name);
                            Chain::Path(path)
                        }
                        Chain::Node(node) => Chain::Node(Node::Select(Box::new(node), name.into())),
                    }
                };
            } else if self.sign("[") {
                let key = self.expression()?;
                self.expect("]")?;
                chain = match (chain, key) {
                    (Chain::Path(mut path), Node::Literal(Literal::String(key))) => {
                        path.push(key.to_string());
                        Chain::Path(path)
                    }
                    (chain, key) => {
                        let (of, key) = boxed(chain.node(), key);
                        Chain::Node(Node::Index(of, key))
                    }
                };
            } else {
                return Ok(chain);
            }
        }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.token() {
            Token::Name(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.fail(&format!("{what} is expected here"))),
        }
    }

    fn primary(&mut self) -> Result<Chain<R>> {
        let before = self.next;
        let literal = match self.take() {
            Token::Int(number) => Literal::Int(number),
            Token::Uint(number) => Literal::Uint(number),
            Token::Double(number) => Literal::Double(number),
            Token::String(text) => Literal::String(text.into()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.into()),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(Chain::Node(inner));
            }
            Token::Sign("[") => return Ok(Chain::Node(Node::List(self.until("]", Self::expression)?))),
            Token::Sign("{") => {
                return Ok(Chain::Node(Node::Map(self.until("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok((key, parser.expression()?))
                })?)));
            }
            Token::Name(name) => match name.as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ if self.sign("(") => return self.function(&name, before).map(Chain::Node),
                _ if ROOTS.contains(&name.as_str()) => return Ok(Chain::Path(vec![name])),
                _ => {
                    self.next = before;
                    return Err(self.fail(&format!("there is no attribute {name}")));
                }
            },
            Token::LeastInt | Token::Sign(_) | Token::End => {
                self.next = before;
                return Err(self.fail("a value is expected here"));
            }
        };
        Ok(Chain::Node(Node::Literal(literal)))
    }

    /// Items up to a closing bracket, separated by commas.
    fn until<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.sign(close) {
            items.push(item(self)?);
            if !self.sign(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn function(&mut self, name: &str, at: usize) -> Result<Node<R>> {
        if name == "has" {
            let argument = self.chain()?;
            self.expect(")")?;
            return match argument {
                Chain::Path(path) if path.len() > 1 => Ok(Node::Present(Attribute::at(&path))),
                Chain::Node(Node::Select(of, field)) => Ok(Node::Has(of, field)),
                _ => {
                    self.next = at;
                    Err(self.fail("has() takes a field, such as has(request.headers.cookie)"))
                }
            };
        }
        let mut arguments = self.until(")", Self::expression)?;
        let conversion = match name {
            "int" => Some(Conversion::Int),
            "uint" => Some(Conversion::Uint),
            "double" => Some(Conversion::Double),
            "string" => Some(Conversion::String),
            "bytes" => Some(Conversion::Bytes),
            "bool" => Some(Conversion::Bool),
            "duration" => Some(Conversion::Duration),
            "size" => None,
            "matches" if arguments.len() == 2 => {
                let (pattern, of) = (arguments.pop(), arguments.pop());
                return of.zip(pattern).map_or_else(
                    || Err(self.fail("matches takes two arguments")),
                    |(of, pattern)| self.matches(of, pattern),
                );
            }
            _ => {
                self.next = at;
                return Err(self.fail(&format!("the function {name} is not supported")));
            }
        };
        let Some(argument) = arguments.pop().filter(|_| arguments.is_empty()) else {
            self.next = at;
            return Err(self.fail(&format!("{name} takes one argument")));
        };
        let argument = Box::new(argument);
        Ok(match conversion {
            Some(conversion) => Node::Convert(conversion, argument),
            None => Node::Size(argument),
        })
    }

    fn method(&mut self, of: Node<R>, name: &str) -> Result<Node<R>> {
        let mut arguments = self.until(")", Self::expression)?;
        let test = match name {
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "contains" => TextTest::Contains,
            "size" if arguments.is_empty() => return Ok(Node::Size(Box::new(of))),
            "matches" if arguments.len() == 1 => {
                return arguments.pop().map_or_else(
                    || Err(self.fail("matches takes one argument")),
                    |pattern| self.matches(of, pattern),
                );
            }
            _ => return Err(self.fail(&format!("the function {name} is not supported (it ends here)"))),
        };
        match arguments.pop().filter(|_| arguments.is_empty()) {
            Some(argument) => Ok(Node::Text(test, Box::new(of), Box::new(argument))),
            None => Err(self.fail(&format!("{name} takes one argument (it ends here)"))),
        }
    }

    fn matches(&self, of: Node<R>, pattern: Node<R>) -> Result<Node<R>> {
        let Node::Literal(Literal::String(pattern)) = pattern else {
            return Err(self.fail("the pattern of matches must be a text that stands there (it ends here)"));
        };
        let regex = (self.regex)(&pattern).map_err(|error| self.fail(&error))?;
        Ok(Node::Matches(Box::new(of), regex))
    }
}

/// The signs before a value, the last one first.
fn apply<R>(signs: Vec<&'static str>, node: Node<R>) -> Node<R> {
    signs.into_iter().rev().fold(node, |node, sign| match (sign, node) {
        ("!", node) => Node::Not(Box::new(node)),
        (_, Node::Literal(Literal::Int(number))) => Node::Literal(Literal::Int(-number)),
        (_, Node::Literal(Literal::Double(number))) => Node::Literal(Literal::Double(-number)),
        (_, node) => Node::Negate(Box::new(node)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expression<String>> {
        super::parse(text, &|pattern| {
            if pattern.contains('(') { Err("an open bracket".to_owned()) } else { Ok(pattern.to_owned()) }
        })
    }

    #[test]
    fn operators_bind_as_in_cel() {
        let root =
            |text: &str| parse(text).map(|it| it.root).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (text, bracketed) in [
            ("true || false && true", "true || (false && true)"),
            ("1 + 2 == 3 && !false", "((1 + 2) == 3) && (!false)"),
            ("true ? 1 : false ? 2 : 3", "true ? 1 : (false ? 2 : 3)"),
            ("'a' in request.headers && true", "('a' in (request.headers)) && true"),
            ("-1 + -2", "(-1) + (-2)"),
            ("1 - 2 * 3 % 2 - 4 / 2", "(1 - ((2 * 3) % 2)) - (4 / 2)"),
            ("request.headers['a'].size() > 1", "(request.headers.a).size() > 1"),
            ("'a' in request.headers", "has(request.headers['a'])"),
            ("[1, 2,] == [1, 2]", "[1,2] == [1 , 2]"),
        ] {
            assert_eq!(root(text), root(bracketed), "{text}");
        }
        assert_eq!(root("-9223372036854775808"), Node::Literal(Literal::Int(i64::MIN)));
        assert_eq!(root(r#"'\x41\u00e9\101\n'"#), Node::Literal(Literal::String("A\u{e9}A\n".into())));
        assert_eq!(root(r"b'\xff'"), Node::Literal(Literal::Bytes([255].into())));
        assert_eq!(root(r"r'\d'"), Node::Literal(Literal::String(r"\d".into())));
        assert_eq!(root("1.5e3 // remark"), Node::Literal(Literal::Double(1500.0)));
    }

    #[test]
    fn what_is_wrong_is_refused_at_its_position() {
        for (text, position, reason) in [
            ("", 0, "a value is expected"),
            ("request.headers[", 16, "a value is expected"),
            ("true &&", 7, "a value is expected"),
            ("nobody == 1", 0, "no attribute nobody"),
            ("request.headers.exists(h, h == 'a')", 23, "exists is not supported"),
            ("true true", 5, "should end here"),
            ("'abc", 0, "has no end"),
            ("1 == #", 5, "means nothing"),
            ("timestamp('x') == 1", 0, "timestamp is not supported"),
            ("has(request)", 0, "takes a field"),
            ("request.path.matches(request.host)", 34, "must be a text"),
            ("request.path.matches('(')", 25, "open bracket"),
            ("99999999999999999999", 0, "too large"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
            if !reason.is_empty() {
                assert!(error.starts_with(&format!("at position {position}:")), "{text}: {error}");
            }
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        assert!(parse(&"(".repeat(MAX_TEXT)).unwrap_err().contains("words"));
        let deep = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&deep(MAX_DEPTH - 1)).is_ok());
        assert!(parse(&deep(MAX_DEPTH)).unwrap_err().contains("deep"));
        assert!(parse(&"a".repeat(MAX_TEXT + 1)).unwrap_err().contains("bytes"));
        assert!(parse(&"!".repeat(MAX_WORDS)).unwrap_err().contains("words"));
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let pieces = [
            "request", ".", "headers", "[", "]", "'a'", "(", ")", "&&", "||", "!", "-", "1", "u", "?", ":",
            "in", "\\", "\u{e9}", "b'", "has", "{", "}", ",", "0x", "1e", "\"\"\"",
        ];
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let _ = parse(&text);
        }
    }
}
