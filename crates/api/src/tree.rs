//! YAML and JSON text as trees that keep the place of every node, within fixed bounds.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError};

use crate::limits;
use crate::origin::Position;
use crate::text::quote;

/// A value and where it starts.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it starts.
    pub at: Position,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text as written, and whether it was quoted (then it is a string whatever it looks like).
    Scalar(Box<str>, bool),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where the key starts.
    pub at: Position,
    /// The value.
    pub value: Node,
}

/// Why a document could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// Whether the rest of the file is lost too.
    pub fatal: bool,
}

impl Node {
    /// Whether it is `null`, `~` or nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, false) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value under `key`, when this is a map.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// Number of nodes and depth of nesting.
    pub fn measure(&self) -> (usize, usize) {
        let children: Vec<(usize, usize)> = match &self.value {
            Value::Scalar(..) => return (1, 0),
            Value::List(items) => items.iter().map(Node::measure).collect(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.measure()).collect(),
        };
        let nodes = children.iter().map(|(nodes, _)| nodes).sum::<usize>();
        (1 + nodes, 1 + children.iter().map(|(_, depth)| *depth).max().unwrap_or(0))
    }
}

/// Reads the documents of `text` one after the other: `take` gets each of them, or why it could not be read. A
/// broken document does not spoil those after it. Ends early when `take` returns false.
pub fn documents(text: &str, mut take: impl FnMut(Result<Node, SyntaxError>) -> bool) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = limits::DEPTH;
    options.block_nesting_limit = limits::DEPTH;
    let mut parser = Parser::new_from_str_with_options(text, options);
    loop {
        match next_document(&mut parser) {
            Ok(None) => return,
            Ok(Some(node)) => {
                if !take(Ok(node)) {
                    return;
                }
            }
            Err(error) => {
                let fatal = error.fatal;
                if !take(Err(error)) || fatal || !matches!(parser.proceed_next_document(), Ok(true)) {
                    return;
                }
            }
        }
    }
}

type Source<'a> = Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>;

/// The next document; `None` at the end of the file.
fn next_document(parser: &mut Source<'_>) -> Result<Option<Node>, SyntaxError> {
    let mut builder = Builder::default();
    loop {
        let (event, span) = match parser.next_event() {
            None => return Ok(None),
            Some(Ok(next)) => next,
            Some(Err(error)) => return Err(scan_error(&error)),
        };
        let at = place(&span.start);
        match event {
            Event::StreamEnd => return Ok(None),
            Event::DocumentEnd => match builder.root.take() {
                Some(root) => return Ok(Some(root)),
                None => builder = Builder::default(),
            },
            Event::Scalar(text, style, anchor, _) => {
                let quoted = style != ScalarStyle::Plain;
                builder.add(Node { value: Value::Scalar(text.into(), quoted), at }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Value::List(Vec::new()), at, anchor)?,
            Event::MappingStart(_, anchor, _) => builder.open(Value::Map(Vec::new()), at, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => builder.alias(anchor, at)?,
            _ => {}
        }
    }
}

fn scan_error(error: &ScanError) -> SyntaxError {
    let at = place(error.marker());
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(at),
        ErrorKind::UnknownAnchor => {
            syntax(at, "the alias repeats an anchor that is not defined before it".into())
        }
        _ => syntax(at, format!("this is not valid YAML: {}", error.info())),
    }
}

fn too_deep(at: Position) -> SyntaxError {
    syntax(at, format!("nested more than {} levels deep, which is the limit", limits::DEPTH))
}

fn place(marker: &Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    (number(marker.line()), number(marker.col().saturating_add(1)))
}

fn syntax(at: Position, message: String) -> SyntaxError {
    SyntaxError { at, message, suggestion: None, fatal: false }
}

/// A list or map that is not complete yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(Box<str>, Position)>,
}

/// Builds the tree of one document and keeps count.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    copied: usize,
}

impl Builder {
    fn open(&mut self, value: Value, at: Position, anchor: usize) -> Result<(), SyntaxError> {
        if self.open.len() >= limits::DEPTH {
            return Err(too_deep(at));
        }
        self.count(at)?;
        self.open.push(Open { node: Node { value, at }, anchor, key: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(mut done) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut done.node.value {
            unique(entries)?;
            merge(entries)?;
        }
        self.place(done.node, done.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        self.count(node.at)?;
        self.place(node, anchor)
    }

    fn count(&mut self, at: Position) -> Result<(), SyntaxError> {
        self.nodes += 1;
        if self.nodes > limits::NODES {
            let message = format!(
                "the document has more than {} values, which is the limit; the rest of the file is not read",
                limits::NODES
            );
            let suggestion = Some("split it into several documents".into());
            let error = SyntaxError { at, message, suggestion, fatal: true };
            return Err(error);
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), SyntaxError> {
        let Some((node, nodes, depth)) = self.anchors.get(&anchor) else {
            return Err(syntax(at, "the alias stands inside the value that it repeats".into()));
        };
        self.copied += nodes;
        if self.copied > limits::COPIED_NODES {
            let message = format!(
                "aliases repeat more than {} values in this document, which is the limit",
                limits::COPIED_NODES
            );
            return Err(syntax(at, message));
        }
        if self.open.len() + depth > limits::DEPTH {
            return Err(too_deep(at));
        }
        let node = node.clone();
        self.place(node, 0)
    }

    /// Puts a complete node where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            let (nodes, depth) = node.measure();
            self.copied += nodes;
            if self.copied > limits::COPIED_NODES {
                let message =
                    format!("anchors hold more than {} values, which is the limit", limits::COPIED_NODES);
                return Err(syntax(node.at, message));
            }
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, at))) => entries.push(Entry { key, at, value: node }),
            (Value::Map(_), None) => match node.value {
                Value::Scalar(key, _) => parent.key = Some((key, node.at)),
                _ => return Err(syntax(node.at, "a key must be text, not a list or a map".into())),
            },
            (Value::Scalar(..), _) => {}
        }
        Ok(())
    }
}

/// Resolves the merge key `<<`: keys of the merged maps count where the map itself does not have them.
fn merge(entries: &mut Vec<Entry>) -> Result<(), SyntaxError> {
    let Some(index) = entries.iter().position(|entry| &*entry.key == "<<") else { return Ok(()) };
    let merged = entries.remove(index);
    let maps = match merged.value.value {
        Value::List(items) => items,
        value => vec![Node { value, at: merged.value.at }],
    };
    let mut have: HashSet<Box<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
    for map in maps {
        let Value::Map(inherited) = map.value else {
            return Err(syntax(map.at, "only a map can be merged with \"<<\"".into()));
        };
        entries.extend(inherited.into_iter().filter(|entry| have.insert(entry.key.clone())));
    }
    Ok(())
}

/// Refuses a key that is given twice: which of the two counts would be a guess.
fn unique(entries: &[Entry]) -> Result<(), SyntaxError> {
    let mut seen: HashMap<&str, Position> = HashMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(first) = seen.insert(&entry.key, entry.at) {
            let message = format!(
                "the key {} is given twice: first on line {} column {}",
                quote(&entry.key),
                first.0,
                first.1
            );
            return Err(SyntaxError {
                suggestion: Some("keep one of them".into()),
                ..syntax(entry.at, message)
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<Node, SyntaxError>> {
        let mut all = Vec::new();
        documents(text, |next| {
            all.push(next);
            true
        });
        all
    }

    fn refused(text: &str) -> SyntaxError {
        read(text).into_iter().find_map(Result::err).expect("an error")
    }

    #[test]
    fn keeps_places() {
        let all = read("a: 1\nb:\n  - c: \"x\"\n---\nd: {e: f}\n");
        assert_eq!(all.len(), 2);
        let first = all[0].as_ref().expect("valid");
        let list = first.get("b").expect("b");
        assert_eq!((list.at, list.value.at), ((2, 1), (3, 3)));
        let second = all[1].as_ref().expect("valid");
        assert_eq!(second.get("d").and_then(|d| d.value.get("e")).map(|e| e.value.at), Some((5, 8)));
    }

    #[test]
    fn a_broken_document_spoils_no_other() {
        let all = read("a: [1\n---\nb: 2\n---\nc: {\n---\nd: 3\n");
        assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true]);
    }

    #[test]
    fn json_is_yaml() {
        let all = read("{\n\t\"a\": [1, true, null],\n\t\"b\": \"\\u0041\"\n}");
        let node = all[0].as_ref().expect("valid");
        assert!(
            matches!(&node.get("b").expect("b").value.value, Value::Scalar(text, true) if &**text == "A")
        );
    }

    #[test]
    fn merge_keys_and_aliases() {
        let all = read("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n");
        let node = all[0].as_ref().expect("valid");
        let used = &node.get("use").expect("use").value;
        assert!(matches!(&used.get("x").expect("x").value.value, Value::Scalar(text, _) if &**text == "1"));
        assert!(matches!(&used.get("y").expect("y").value.value, Value::Scalar(text, _) if &**text == "3"));
    }

    #[test]
    fn duplicate_keys_are_refused_with_both_places() {
        let error = refused("a:\n  b: 1\n  c: 2\n  b: 3\n");
        assert_eq!(error.at, (4, 3));
        assert!(error.message.contains("first on line 2 column 3"), "{}", error.message);
    }

    #[test]
    fn exploding_aliases_are_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let below = level - 1;
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(",")));
        }
        let error = refused(&text);
        assert!(error.message.contains("aliases repeat more than"), "{}", error.message);
        assert!(error.at.0 > 3, "{error:?}");
    }

    #[test]
    fn an_alias_inside_its_own_anchor_is_refused() {
        assert!(refused("a: &a [1, *a]\n").message.contains("inside the value"));
        assert_eq!(refused("a: *nowhere\n").at.0, 1);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let flow = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refused(&flow).message.contains("levels deep"));
        let mut block = String::new();
        for level in 0..200 {
            block.push_str(&format!("{}a:\n", " ".repeat(level)));
        }
        assert!(refused(&block).message.contains("levels deep"));
        let stacked = "a: &a [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\nb: &b [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n";
        assert!(refused(stacked).message.contains("levels deep"));
    }

    #[test]
    fn keys_are_text() {
        assert!(refused("? [1, 2]\n: 3\n").message.contains("a key must be text"));
    }
}
