//! Gathers what a file holds and what is wrong with it, within bounds.

use crate::limits;
use crate::object::Object;
use crate::origin::Position;
use crate::parse::{Parsed, problem};
use crate::problem::{Level, Problem};

/// What was found in one file so far.
#[derive(Debug, Default)]
pub struct Collector {
    parsed: Parsed,
    errors: usize,
    remarks: usize,
    last: Position,
}

impl Collector {
    /// Adds a valid resource.
    pub fn object(&mut self, object: Object) {
        self.parsed.objects.push(object);
    }

    /// Adds a problem; past the limit it is only counted.
    pub fn problem(&mut self, problem: Problem) {
        let count = if problem.is_error() { &mut self.errors } else { &mut self.remarks };
        *count += 1;
        self.last = (problem.line, problem.column);
        if *count <= limits::PROBLEMS {
            self.parsed.problems.push(problem);
        }
    }

    /// Adds several problems.
    pub fn problems(&mut self, problems: Vec<Problem>) {
        problems.into_iter().for_each(|problem| self.problem(problem));
    }

    /// Whether there are so many errors that the rest of the file is not looked at.
    pub fn is_full(&self) -> bool {
        self.errors > limits::PROBLEMS
    }

    /// The resources, to be thinned out.
    pub fn objects(&mut self) -> &mut Vec<Object> {
        &mut self.parsed.objects
    }

    /// Everything in the order of the file, and a last word where something is not listed.
    pub fn finish(mut self, file: &str) -> Parsed {
        self.parsed.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.remarks > limits::PROBLEMS {
            let message = format!("{} further remarks are not listed", self.remarks - limits::PROBLEMS);
            self.parsed.problems.push(Problem { level: Level::Info, ..problem(file, (0, 0), message, None) });
        }
        if self.is_full() {
            let message = format!("more than {} errors: what follows was not looked at", limits::PROBLEMS);
            self.parsed.problems.push(problem(file, self.last, message, None));
        }
        self.parsed
    }
}
