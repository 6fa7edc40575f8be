//! The programs' records: which request was executed how often.

use std::collections::BTreeMap;
use std::path::Path;

use super::Report;

/// Executions by the request's name.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<String, usize>);

impl Records {
    /// Adds up the records of a service's instances.
    pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Records {
        let mut records = Records::default();
        for file in files {
            let file = file.as_ref();
            let text =
                std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            for id in text.lines() {
                *records.0.entry(id.to_owned()).or_default() += 1;
            }
        }
        records
    }

    /// How often a request was executed.
    pub fn of(&self, id: &str) -> usize {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// POSTs that were executed more than once.
    pub fn twice(&self) -> Vec<&str> {
        let more = self.0.iter().filter(|(id, count)| id.starts_with('P') && **count > 1);
        more.map(|(id, _)| id.as_str()).collect()
    }

    /// No POST was done twice, and none was answered with 200 that nobody executed.
    pub fn assert_nothing_lost_or_done_twice(&self, report: &Report) {
        let twice = self.twice();
        assert!(
            twice.is_empty(),
            "{} POSTs were executed twice: {:?}",
            twice.len(),
            &twice[..twice.len().min(5)]
        );
        let answered = report.outcomes.iter().filter(|outcome| outcome.status == 200);
        let lost: Vec<_> = answered.filter(|outcome| self.of(&outcome.id) == 0).take(5).collect();
        assert!(lost.is_empty(), "answered, but executed by nobody: {lost:?}");
    }
}
