//! Expressions (CEL) that filters of access logs and labels of metrics are written in.

use super::regex::Regex;

/// An expression.
pub type Expression = base::expression::Expression<Regex>;
/// One operation of it.
pub type Node = base::expression::Node<Regex>;
