//! Which item of a list belongs to which of another: a line that only one side has must not make all later ones differ.

use serde_json::Value;

use super::compare::{Walk, leaves};

/// A place in two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// Items of both, which may differ.
    Both(usize, usize),
    /// Only Envoy's list has it.
    Envoy(usize),
    /// Only our list has it.
    Ours(usize),
}

/// Longer lists are compared place by place.
const LONGEST: usize = 64;

/// The pairs that leave the fewest values different, in their order.
pub fn pairs(envoy: &[Value], ours: &[Value]) -> Vec<Pair> {
    let (rows, columns) = (envoy.len(), ours.len());
    if rows == columns || rows.max(columns) > LONGEST {
        let both = |index: usize| match (index < rows, index < columns) {
            (true, true) => Pair::Both(index, index),
            (true, false) => Pair::Envoy(index),
            _ => Pair::Ours(index),
        };
        return (0..rows.max(columns)).map(both).collect();
    }
    // The least cost from each place to the ends of both lists.
    let mut costs = vec![vec![0; columns + 1]; rows + 1];
    let mut chosen = vec![vec![None; columns + 1]; rows + 1];
    for row in (0..=rows).rev() {
        for column in (0..=columns).rev() {
            let mut best: Option<(usize, Pair)> = None;
            let mut consider = |cost: usize, pair: Pair| {
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, pair));
                }
            };
            if row < rows && column < columns {
                let cost = costs[row + 1][column + 1] + cost(&envoy[row], &ours[column]);
                consider(cost, Pair::Both(row, column));
            }
            if row < rows {
                consider(costs[row + 1][column] + leaves(&envoy[row]).max(1), Pair::Envoy(row));
            }
            if column < columns {
                consider(costs[row][column + 1] + leaves(&ours[column]).max(1), Pair::Ours(column));
            }
            if let Some((cost, pair)) = best {
                costs[row][column] = cost;
                chosen[row][column] = Some(pair);
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while let Some(pair) = chosen[row][column] {
        (row, column) = match pair {
            Pair::Both(..) => (row + 1, column + 1),
            Pair::Envoy(_) => (row + 1, column),
            Pair::Ours(_) => (row, column + 1),
        };
        pairs.push(pair);
    }
    pairs
}

/// How many values differ.
fn cost(envoy: &Value, ours: &Value) -> usize {
    let values = |value: &Value| leaves(value).max(1);
    Walk::of(envoy, ours).found.iter().map(|found| values(&found.envoy).max(values(&found.ours))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(statuses: &[&str]) -> Vec<Value> {
        let line = |status: &&str| json!({ "method": "GET", "status": status, "cluster": "app" });
        statuses.iter().map(line).collect()
    }

    #[test]
    fn a_line_that_one_side_lacks_moves_no_other() {
        let (long, short) = (lines(&["400", "200", "503"]), lines(&["200", "503"]));
        assert_eq!(pairs(&long, &short), [Pair::Envoy(0), Pair::Both(1, 0), Pair::Both(2, 1)]);
        assert_eq!(pairs(&short, &long), [Pair::Ours(0), Pair::Both(0, 1), Pair::Both(1, 2)]);
        assert_eq!(pairs(&short, &[]), [Pair::Envoy(0), Pair::Envoy(1)]);
    }

    #[test]
    fn lists_of_one_length_are_compared_place_by_place() {
        assert_eq!(
            pairs(&lines(&["200", "503"]), &lines(&["503", "200"])),
            [Pair::Both(0, 0), Pair::Both(1, 1)]
        );
    }
}
