//! Circles in a graph of few nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which nodes each node points to.
pub(crate) type Graph = BTreeMap<usize, BTreeSet<usize>>;

/// The largest sets of two nodes or more in which each can be reached from each.
pub(crate) fn circles(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let reached: BTreeMap<usize, BTreeSet<usize>> =
        graph.keys().map(|node| (*node, reachable(graph, *node))).collect();
    let mut found: Vec<BTreeSet<usize>> = vec![];
    for (node, to) in &reached {
        if found.iter().any(|circle| circle.contains(node)) {
            continue;
        }
        let mutual = |other: &&usize| reached.get(other).is_some_and(|back| back.contains(node));
        let circle: BTreeSet<usize> = to.iter().filter(mutual).copied().collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

fn reachable(graph: &Graph, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(node) = next.pop() {
        for to in graph.get(&node).into_iter().flatten() {
            if reached.insert(*to) {
                next.push(*to);
            }
        }
    }
    reached
}

/// A shortest way around within a set, from the node at which it begins back to it.
pub(crate) fn shortest_round(graph: &Graph, within: &BTreeSet<usize>) -> Vec<usize> {
    within
        .iter()
        .filter_map(|start| way(graph, within, *start))
        .min_by_key(Vec::len)
        .expect("each node of a circle leads back to itself")
}

fn way(graph: &Graph, within: &BTreeSet<usize>, start: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(node) = next.pop_front() {
        for to in graph.get(&node).into_iter().flatten().filter(|to| within.contains(to)) {
            if *to == start {
                let mut way = vec![start, node];
                while let Some(previous) = before.get(way.last().expect("it has the start")) {
                    way.push(*previous);
                }
                way.dedup();
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(to) && *to != start {
                before.insert(*to, node);
                next.push_back(*to);
            }
        }
    }
    None
}
