use super::*;
use crate::telemetry::cells::Counter;
use crate::telemetry::labels::SeriesKey;

#[derive(Debug, Default)]
struct One(Counter);

impl Cells for One {
    type Merged = u64;
    fn merge_into(&self, merged: &mut u64) {
        *merged += self.0.get();
    }
    fn samples(&self) -> u64 {
        self.0.get()
    }
}

const IDLE: Duration = Duration::from_secs(60);

fn table(limit: usize) -> (Arc<Budget>, Arc<Table<One>>) {
    let budget = Arc::new(Budget::new(limit));
    (budget.clone(), Arc::new(Table::new(budget)))
}

fn count(worker: &WorkerSeries<One>, n: u64) {
    let labels = || vec![("n".into(), n.to_string().into())];
    worker.slot(&SeriesKey::of_test(n), MetricSet::REQUESTS, labels).cells.0.increment();
}

fn sweep(budget: &Budget, table: &Table<One>, now: Instant) {
    table.sweep(now, IDLE);
    budget.next_generation();
}

fn total(table: &Table<One>) -> u64 {
    table.merged().iter().map(|(.., value)| value).sum::<u64>() + table.merged_overflow().unwrap_or_default()
}

#[test]
fn an_unused_series_goes_and_a_used_one_keeps_its_number() {
    let (budget, table) = table(10);
    let worker = WorkerSeries::new(table.clone());
    let mut now = Instant::now();
    (0..2).for_each(|n| count(&worker, n));
    for _ in 0..6 {
        sweep(&budget, &table, now);
        now += IDLE / 2;
        count(&worker, 1);
    }
    let left = table.merged();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((&*left[0].0[0].1, left[0].2), ("1", 7));
    assert_eq!((budget.used(), budget.expired()), (1, 1));
    count(&worker, 0);
    assert_eq!((budget.used(), table.merged().len()), (2, 2), "it begins anew");
}

#[test]
fn a_sample_between_the_steps_is_not_lost() {
    let (budget, table) = table(10);
    let (one, two) = (WorkerSeries::new(table.clone()), WorkerSeries::new(table.clone()));
    let start = Instant::now();
    count(&one, 0);
    // A worker that took its slot just before it was marked.
    let held = one.slot(&SeriesKey::of_test(0), MetricSet::REQUESTS, Labels::new);
    sweep(&budget, &table, start);
    sweep(&budget, &table, start + IDLE);
    held.cells.0.increment();
    sweep(&budget, &table, start + IDLE);
    assert_eq!(total(&table), 2, "the late sample keeps the series");
    sweep(&budget, &table, start + IDLE * 2);
    count(&two, 0);
    sweep(&budget, &table, start + IDLE * 2);
    assert_eq!(total(&table), 3, "so does another worker's");
}

#[test]
fn beyond_the_budget_everything_is_counted_once_and_the_lock_is_left_alone() {
    let (budget, table) = table(5);
    let worker = WorkerSeries::new(table.clone());
    (0..100).for_each(|n| count(&worker, n));
    (0..5).for_each(|n| count(&worker, n));
    assert!(worker.is_full());
    assert_eq!((total(&table), table.merged().len(), budget.overflowed()), (105, 5, 95));
    // A held lock would stop the worker for ever.
    let held = lock(&table.all);
    (100..200).for_each(|n| count(&worker, n));
    drop(held);
    let start = Instant::now();
    (0..3).for_each(|n| sweep(&budget, &table, start + IDLE * n));
    assert_eq!(budget.used(), 0);
    count(&worker, 300);
    assert_eq!(table.merged().len(), 1, "there is room again");
}
