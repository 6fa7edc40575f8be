//! Which of the many futures of one connection have something to do. Each has a waker of its own that is made once and used
//! again for the next one in its place; while their owner is at work a wake costs one atomic operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The places of futures, numbered from 0.
pub(crate) struct Ready {
    parent: Arc<Parent>,
    groups: Vec<Arc<Group>>,
    wakers: Vec<Waker>,
    /// What was taken out of a group and not given out yet.
    taken: u64,
    at: usize,
}

struct Parent {
    /// Nobody looks unless it is woken.
    asleep: AtomicBool,
    task: AtomicWaker,
}

struct Group {
    woken: AtomicU64,
    parent: Arc<Parent>,
}

struct Place {
    group: Arc<Group>,
    bit: u64,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let parent = &self.group.parent;
        let before = self.group.woken.fetch_or(self.bit, Ordering::SeqCst);
        if before & self.bit == 0 && parent.asleep.swap(false, Ordering::SeqCst) {
            parent.task.wake();
        }
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        let parent = Arc::new(Parent { asleep: AtomicBool::new(false), task: AtomicWaker::new() });
        Ready { parent, groups: Vec::new(), wakers: Vec::new(), taken: 0, at: 0 }
    }

    /// The waker of a place.
    pub(crate) fn waker(&mut self, place: usize) -> Waker {
        while self.wakers.len() <= place {
            let index = self.wakers.len();
            if index.is_multiple_of(64) {
                let group = Group { woken: AtomicU64::new(0), parent: self.parent.clone() };
                self.groups.push(Arc::new(group));
            }
            let group = self.groups[index / 64].clone();
            self.wakers.push(Waker::from(Arc::new(Place { group, bit: 1 << (index % 64) })));
        }
        self.wakers[place].clone()
    }

    /// The same, of a place whose waker was asked for before.
    pub(crate) fn known(&self, place: usize) -> &Waker {
        self.wakers.get(place).unwrap_or(Waker::noop())
    }

    /// A place that was woken.
    pub(crate) fn next(&mut self) -> Option<usize> {
        while self.taken == 0 {
            self.at += 1;
            let Some(group) = self.groups.get(self.at - 1) else {
                self.at = 0;
                return None;
            };
            if group.woken.load(Ordering::Relaxed) != 0 {
                self.taken = group.woken.swap(0, Ordering::SeqCst);
            }
        }
        let bit = self.taken.trailing_zeros() as usize;
        self.taken &= self.taken - 1;
        Some((self.at - 1) * 64 + bit)
    }

    /// From now on a wake reaches the task. False: there was one already.
    pub(crate) fn sleep(&self, cx: &Context<'_>) -> bool {
        self.parent.task.register(cx.waker());
        self.parent.asleep.store(true, Ordering::SeqCst);
        if self.groups.iter().any(|group| group.woken.load(Ordering::SeqCst) != 0) {
            self.parent.asleep.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The task looks by itself from now on.
    pub(crate) fn awake(&self) {
        self.parent.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_place_that_was_woken_comes_once_and_the_task_is_woken_only_asleep() {
        let mut ready = Ready::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let wakers: Vec<_> = (0..130).map(|place| ready.waker(place)).collect();
        for place in [3, 64, 129, 3] {
            wakers[place].wake_by_ref();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        assert!(!ready.sleep(&cx));
        let woken: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
        assert_eq!(woken, [3, 64, 129]);
        assert!(ready.sleep(&cx));
        wakers[5].wake_by_ref();
        wakers[6].wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(std::iter::from_fn(|| ready.next()).collect::<Vec<_>>(), [5, 6]);
    }
}
