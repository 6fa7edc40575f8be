//! Shares of priorities, overflow to the next one, and panic, with Envoy's numbers.

use super::*;

fn level(total: u32, healthy: u32) -> Level {
    Level { total, healthy, degraded: 0 }
}

fn of(levels: &[Level], panic_threshold: u32) -> Vec<(u32, bool, u32)> {
    let weighing = Weighing { panic_threshold, overprovisioning: 140 };
    shares(levels, weighing)
        .into_iter()
        .map(|share| (share.priority, share.class.is_none(), share.percent))
        .collect()
}

#[test]
fn the_next_priority_takes_what_the_first_cannot_carry() {
    assert_eq!(of(&[level(10, 10), level(10, 10)], 50), [(0, false, 100)]);
    assert_eq!(of(&[level(10, 8), level(10, 10)], 50), [(0, false, 100)], "140 % of 80 % is enough");
    assert_eq!(of(&[level(10, 7), level(10, 10)], 50), [(0, false, 98), (1, false, 2)]);
    assert_eq!(of(&[level(10, 5), level(10, 10)], 50), [(0, false, 70), (1, false, 30)]);
    assert_eq!(of(&[level(10, 0), level(10, 10)], 50), [(1, false, 100)]);
    assert_eq!(of(&[level(0, 0), level(4, 4)], 50), [(1, false, 100)]);
}

#[test]
fn too_little_health_in_all_is_shared_in_proportion() {
    // 28 % and 42 % can be carried: of 70, not of 100.
    assert_eq!(of(&[level(10, 2), level(10, 3)], 0), [(0, false, 40), (1, false, 60)]);
}

#[test]
fn panic_ignores_health_where_all_together_cannot_carry_everything() {
    assert_eq!(of(&[level(10, 4)], 50), [(0, true, 100)]);
    assert_eq!(of(&[level(10, 5)], 50), [(0, false, 100)], "a half is not below a half");
    assert_eq!(of(&[level(10, 4)], 0), [(0, false, 100)], "never with Istio's setting");
    assert_eq!(of(&[level(2, 0)], 50), [(0, true, 100)]);
    assert_eq!(of(&[level(2, 0)], 0), [], "then there is no host");
    assert_eq!(of(&[level(10, 1), level(10, 10)], 50), [(0, false, 14), (1, false, 86)], "enough elsewhere");
    // 14 % and 84 %: the first is in panic, the second is not.
    assert_eq!(of(&[level(10, 1), level(10, 6)], 50), [(0, true, 15), (1, false, 85)]);
    assert_eq!(of(&[level(30, 0), level(10, 0)], 50), [(0, true, 75), (1, true, 25)]);
}

#[test]
fn degraded_hosts_come_last() {
    let mixed = Level { total: 10, healthy: 5, degraded: 5 };
    assert_eq!(of(&[mixed], 50), [(0, false, 70), (0, false, 30)]);
    let mixed = [Level { total: 2, healthy: 1, degraded: 1 }, level(2, 1)];
    assert_eq!(of(&mixed, 0), [(0, false, 70), (1, false, 30)]);
    assert_eq!(of(&[], 50), []);
}
