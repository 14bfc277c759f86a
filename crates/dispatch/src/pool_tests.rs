//! Windows, turns and the reserve.

use super::*;

type Lanes = Pool<&'static str, &'static str, &'static str>;

fn work(partition: u16, destination: &'static str) -> Work<&'static str> {
    Work { partition, destination }
}

/// So many pieces of work for a lane that is named like its destination.
fn offer(pool: &mut Lanes, lane: &'static str, pieces: u16) {
    for partition in 0..pieces {
        pool.put(&lane, &work(partition, lane), || (lane, 20));
    }
}

fn group() -> Arc<str> {
    "servers".into()
}

/// Everybody who may connect now.
fn admitted(pool: &mut Lanes) -> Vec<&'static str> {
    std::iter::from_fn(|| pool.admit()).collect()
}

#[test]
fn a_next_hop_that_has_not_greeted_gets_one_connection_and_grows_with_success() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 16);
    assert_eq!(admitted(&mut pool), ["x"]);
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool).len(), INITIAL as usize - 1);
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool).len(), 1);
}

#[test]
fn success_does_not_widen_the_window_beyond_the_limit_of_the_lane() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 60);
    let mut carriers = admitted(&mut pool).len();
    for _ in 0..40 {
        pool.greeted(&"x");
        carriers += admitted(&mut pool).len();
    }
    assert_eq!(carriers, 20);
}

#[test]
fn work_for_one_carrier_does_not_call_for_five() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 1);
    assert_eq!(admitted(&mut pool), ["x"]);
    pool.greeted(&"x");
    assert!(admitted(&mut pool).is_empty(), "the one that comes takes it");
    assert_eq!(pool.take(&"x", 4), Some((work(0, "x"), 4)));
    offer(&mut pool, "x", 1);
    assert_eq!(admitted(&mut pool), ["x"], "the first is busy");
}

#[test]
fn a_lane_without_room_beside_other_pods_keeps_what_it_has_and_waits_for_nothing() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 16);
    admitted(&mut pool);
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool).len(), INITIAL as usize - 1);
    for _ in 0..2 {
        assert!(pool.crowded(&"x", &group()).is_empty(), "others of the lane carry it");
        pool.resign(&"x");
    }
    assert!(admitted(&mut pool).is_empty(), "three are all there is");
    assert!(pool.take(&"x", 4).is_some());
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool), ["x"], "with one that could be set up it asks again");

    let mut pool = Lanes::new(100);
    offer(&mut pool, "y", 16);
    admitted(&mut pool);
    assert_eq!(pool.crowded(&"y", &group()).len(), 16);
    pool.resign(&"y");
    assert!(admitted(&mut pool).is_empty() && pool.open() == 0, "nobody asks again for what was given back");
    offer(&mut pool, "y", 1);
    assert_eq!(admitted(&mut pool), ["y"]);
}

#[test]
fn lanes_with_the_same_servers_share_the_places_there_and_wait_in_order() {
    let (mut pool, group) = (Lanes::new(100), group());
    for lane in ["a", "b", "c", "d"] {
        offer(&mut pool, lane, 2);
    }
    assert_eq!(admitted(&mut pool), ["a", "b", "c", "d"]);
    for (lane, has_place) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        assert_eq!(pool.join(&lane, &group, 2).is_some(), has_place, "{lane}");
    }
    for lane in ["c", "d"] {
        pool.resign(&lane);
        offer(&mut pool, lane, 3);
    }
    assert!(admitted(&mut pool).is_empty(), "they wait, whatever more comes for them");
    assert_eq!(pool.open(), 2);
    pool.part(&group);
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["c", "a"], "one place wakes one; the one that gave it up is as good as new");
    assert!(pool.join(&"a", &group, 2).is_none(), "the place is kept for the one that has waited");
    assert!(pool.join(&"c", &group, 2).is_some());
    pool.resign(&"a");
    pool.part(&group);
    pool.resign(&"c");
    assert_eq!(admitted(&mut pool), ["d", "c"], "before the one that came later");
}

#[test]
fn a_lane_that_is_woken_and_wants_nothing_leaves_the_place_to_the_next() {
    let (mut pool, group) = (Lanes::new(100), group());
    for lane in ["a", "b", "c"] {
        offer(&mut pool, lane, 1);
    }
    admitted(&mut pool);
    assert!(pool.join(&"a", &group, 1).is_some());
    for lane in ["b", "c"] {
        assert!(pool.join(&lane, &group, 1).is_none());
        pool.resign(&lane);
    }
    assert!(pool.take(&"b", 1).is_some(), "somebody else has its work");
    pool.take(&"a", 1);
    pool.part(&group);
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["c"]);
}

#[test]
fn a_place_that_is_kept_for_a_lane_that_goes_away_is_the_next_ones() {
    let (mut pool, group) = (Lanes::new(100), group());
    for lane in ["a", "b", "c"] {
        offer(&mut pool, lane, 1);
    }
    admitted(&mut pool);
    assert!(pool.join(&"a", &group, 1).is_some());
    for lane in ["b", "c"] {
        assert!(pool.join(&lane, &group, 1).is_none());
        pool.resign(&lane);
    }
    pool.take(&"a", 1);
    pool.part(&group);
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["b"]);
    pool.take(&"b", 1);
    pool.resign(&"b");
    assert_eq!(admitted(&mut pool), ["c"]);
    assert!(pool.join(&"c", &group, 1).is_some());
}

#[test]
fn where_other_pods_have_the_places_a_lane_waits_for_those_that_are_here() {
    let (mut pool, group) = (Lanes::new(100), group());
    for lane in ["a", "b"] {
        offer(&mut pool, lane, 1);
    }
    admitted(&mut pool);
    assert!(pool.join(&"a", &group, 20).is_some() && pool.join(&"b", &group, 20).is_some());
    assert!(pool.crowded(&"b", &group).is_empty(), "nothing is given back");
    pool.part(&group);
    pool.resign(&"b");
    offer(&mut pool, "b", 4);
    assert!(admitted(&mut pool).is_empty(), "it would be refused again at once");
    pool.part(&group);
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["b", "a"]);
    assert!(pool.join(&"b", &group, 20).is_some());
    assert_eq!(pool.crowded(&"b", &group).len(), 4, "nobody here has one");
}

#[test]
fn a_refusal_while_a_connection_lives_shrinks_the_window_to_those_that_live() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 16);
    admitted(&mut pool);
    pool.greeted(&"x");
    admitted(&mut pool);
    pool.greeted(&"x");
    pool.greeted(&"x");
    assert_eq!(pool.refused(&"x"), Refused::Enough);
    pool.resign(&"x");
    assert!(pool.take(&"x", 4).is_none(), "one too many is still there");
    pool.resign(&"x");
    assert!(admitted(&mut pool).is_empty(), "no more than greeted");
    assert!(pool.take(&"x", 4).is_some(), "those that live go on");
}

#[test]
fn a_narrowed_window_grows_with_what_its_connections_carry_and_more_slowly_after_each_refusal() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 60);
    admitted(&mut pool);
    (0..2).for_each(|_| pool.greeted(&"x"));
    let refuse = |pool: &mut Lanes| {
        while pool.lanes["x"].carriers > 2 {
            pool.refused(&"x");
            pool.resign(&"x");
        }
    };
    admitted(&mut pool);
    assert_eq!(pool.refused(&"x"), Refused::Enough);
    while pool.lanes["x"].carriers > 2 {
        pool.resign(&"x");
    }
    pool.served(&"x", 4 * WORTH - 1);
    assert!(admitted(&mut pool).is_empty(), "two carriers, one refusal");
    pool.served(&"x", 1);
    assert_eq!(admitted(&mut pool), ["x"]);
    refuse(&mut pool);
    pool.served(&"x", 8 * WORTH - 1);
    assert!(admitted(&mut pool).is_empty(), "a second refusal");
    pool.served(&"x", 1);
    assert_eq!(admitted(&mut pool), ["x"]);
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool), ["x"], "it grows as ever");
}

#[test]
fn a_refusal_without_a_living_connection_means_that_the_hop_is_dead() {
    let mut pool = Lanes::new(100);
    offer(&mut pool, "x", 16);
    admitted(&mut pool);
    assert_eq!(pool.refused(&"x"), Refused::Dead);
    pool.greeted(&"x");
    pool.hung_up(&"x");
    assert_eq!(pool.refused(&"x"), Refused::Dead);
    pool.resign(&"x");
    assert_eq!(admitted(&mut pool), ["x"], "its next carrier is one again");
    assert!(admitted(&mut pool).is_empty());
}

#[test]
fn silent_hosts_leave_room_for_those_that_greet() {
    let mut pool = Lanes::new(20);
    let silent: Vec<&'static str> = (0..30).map(|i| &*Box::leak(format!("silent{i}").into_boxed_str())).collect();
    offer(&mut pool, "good", 16);
    admitted(&mut pool);
    pool.greeted(&"good");
    for name in &silent {
        offer(&mut pool, name, 16);
    }
    let all = admitted(&mut pool);
    let good = all.iter().filter(|name| **name == "good").count();
    assert_eq!(all.len() - good, 15, "three quarters at most");
    assert!(good >= 2, "{all:?}");
}

#[test]
fn a_slow_set_up_is_given_up_for_a_lane_without_a_connection_and_only_then() {
    let mut pool = Lanes::new(4);
    let long = PATIENCE * 200;
    for lane in ["a", "b", "c"] {
        offer(&mut pool, lane, 1);
    }
    assert_eq!(admitted(&mut pool), ["a", "b", "c"]);
    assert!(!pool.must_yield(&"a", long), "nobody else wants it");
    offer(&mut pool, "new", 1);
    assert!(admitted(&mut pool).is_empty(), "one place is for those that greet");
    assert!(pool.must_yield(&"a", PATIENCE) && !pool.must_yield(&"a", PATIENCE / 2));
    pool.take(&"a", 4);
    pool.give_up(&"a", [work(0, "a")]);
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["new"]);
    assert!(!pool.must_yield(&"b", PATIENCE / 2) && pool.must_yield(&"b", PATIENCE), "it waits for its turn again");
    pool.greeted(&"b");
    assert_eq!(admitted(&mut pool), ["a"], "with the work it had");
    assert!(!pool.must_yield(&"a", long));
    offer(&mut pool, "d", 1);
    assert!(!pool.must_yield(&"a", PATIENCE) && pool.must_yield(&"a", PATIENCE * 2), "a second time it has longer");
    for lane in ["a", "b", "new"] {
        pool.resign(&lane);
    }
    let rest = admitted(&mut pool);
    assert_eq!(rest, ["d", "a", "b"]);
    assert_eq!((pool.open(), pool.unproven, pool.slow), (4, 3, 1), "c, d and a have not greeted, a was given up");
}

#[test]
fn lanes_that_were_given_up_leave_half_of_the_places_to_those_that_were_never_asked() {
    let mut pool = Lanes::new(20);
    let names: Vec<&'static str> = (0..40).map(|i| &*Box::leak(format!("d{i}").into_boxed_str())).collect();
    names.iter().for_each(|name| offer(&mut pool, name, 1));
    let first = admitted(&mut pool);
    assert_eq!(first.len(), 15);
    let mut second = Vec::new();
    for name in &first {
        assert!(pool.must_yield(name, PATIENCE));
        pool.take(name, 4);
        pool.give_up(name, [work(0, name)]);
        pool.resign(name);
        second.extend(admitted(&mut pool));
    }
    assert_eq!((second.len(), pool.slow), (15, 7), "in turn: {second:?}");
    assert!(second.iter().filter(|name| !first.contains(name)).count() == 8, "{second:?}");
}

#[test]
fn a_slow_set_up_beside_a_living_connection_narrows_the_window_to_those_that_live() {
    let mut pool = Lanes::new(4);
    offer(&mut pool, "x", 9);
    admitted(&mut pool);
    pool.greeted(&"x");
    assert_eq!(admitted(&mut pool).len(), 3);
    offer(&mut pool, "y", 1);
    assert!(pool.must_yield(&"x", PATIENCE));
    pool.give_up(&"x", []);
    pool.resign(&"x");
    assert_eq!(admitted(&mut pool), ["y"]);
    assert_eq!((pool.lanes["x"].window, pool.lanes["x"].proven), (1, true));
}

#[test]
fn more_than_one_connection_is_for_times_when_others_have_one() {
    let mut pool = Lanes::new(20);
    offer(&mut pool, "busy", 16);
    admitted(&mut pool);
    for _ in 0..30 {
        pool.greeted(&"busy");
        admitted(&mut pool);
    }
    assert!(pool.open() <= 18, "a tenth stays free: {}", pool.open());
    offer(&mut pool, "new", 1);
    assert_eq!(admitted(&mut pool), ["new"]);
}

#[test]
fn a_lane_without_a_connection_starves_until_one_ends_and_takes_its_turn() {
    let mut pool = Lanes::new(2);
    for lane in ["a", "b", "c"] {
        offer(&mut pool, lane, 2);
    }
    assert_eq!(admitted(&mut pool), ["a", "b"]);
    pool.greeted(&"a");
    assert!(pool.is_starving());
    assert!(pool.take(&"a", 4).is_some());
    pool.hung_up(&"a");
    pool.resign(&"a");
    assert_eq!(admitted(&mut pool), ["c"], "not the one that just had it");
    assert!(pool.is_starving(), "which waits for its next turn");
    pool.resign(&"b");
    assert_eq!(admitted(&mut pool), ["a"]);
}

#[test]
fn work_whose_carrier_has_gone_is_never_forgotten() {
    let mut pool = Lanes::new(5);
    offer(&mut pool, "x", 3);
    admitted(&mut pool);
    pool.take(&"x", 4);
    pool.resign(&"x");
    assert_eq!(admitted(&mut pool), ["x"]);
    assert!(pool.take(&"x", 4).is_some() && !pool.leave(&"x"), "there is work: stay");
    assert!(pool.take(&"x", 4).is_some() && pool.leave(&"x"));
    assert_eq!((pool.open(), pool.lanes.len(), pool.waiting), (0, 0, 0));
}

#[test]
fn an_idle_carrier_is_woken_instead_of_a_new_one() {
    let mut pool = Lanes::new(5);
    offer(&mut pool, "x", 1);
    admitted(&mut pool);
    pool.greeted(&"x");
    pool.take(&"x", 4);
    pool.idle(&"x", true);
    assert_eq!(pool.put(&"x", &work(9, "x"), || ("x", 20)), Some("x"));
    assert!(admitted(&mut pool).is_empty());
    pool.idle(&"x", false);
    assert_eq!(pool.take(&"x", 4), Some((work(9, "x"), 4)));
}

#[test]
fn work_for_hosts_that_do_not_greet_does_not_make_the_pool_full() {
    let mut pool = Lanes::new(100);
    let fill = |pool: &mut Lanes, lane, pieces: usize| {
        for at in 0..pieces {
            let name: &'static str = Box::leak(format!("{lane}{}", at / 1000).into_boxed_str());
            pool.put(&lane, &work((at % 1000) as u16, name), || (lane, 20));
        }
    };
    fill(&mut pool, "silent", ENOUGH);
    admitted(&mut pool);
    assert!(!pool.is_full());
    fill(&mut pool, "good", ENOUGH);
    admitted(&mut pool);
    pool.greeted(&"good");
    assert!(pool.is_full());
    pool.take(&"good", 4);
    assert!(!pool.is_full());
    fill(&mut pool, "silent", TOO_MUCH);
    assert!(pool.is_full());
}
