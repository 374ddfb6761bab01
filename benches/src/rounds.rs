//! Interleaved rounds: who is measured when, which rounds count, and what follows from them.
//!
//! The speed of a machine varies from minute to minute. So every round measures all contenders in all rows one after
//! the other, and ratios are those of one round.

use crate::clock;
use crate::stats::{Spread, median};
use serde_json::{Map, Value};
use std::fmt;
use std::io;
use std::time::Duration;

/// What one measurement has found: names and values.
pub type Figures = Vec<(&'static str, f64)>;

/// What is measured, with all that it depends on.
#[derive(Clone, Debug)]
pub struct Row {
    /// The fields of JSON that say what it is.
    pub key: Map<String, Value>,
    /// The same in words.
    pub title: String,
    /// The figures that tables show; the first is the one that is compared.
    pub metrics: &'static [&'static str],
    /// Whether the figures depend on the speed of the machine, so that [`Rule`] applies.
    pub droppable: bool,
}

impl Row {
    /// The figure that is compared.
    pub fn primary(&self) -> &'static str {
        self.metrics[0]
    }
}

/// Which rounds do not count, by the figure of one contender alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The contender whose figure decides.
    pub of: &'static str,
    /// How far its figure may be from its median, as a factor.
    pub factor: f64,
}

impl Rule {
    /// Which of the rounds are dropped in which `figures` were found. A round without a figure stays.
    fn drops(&self, figures: &[Option<f64>]) -> Vec<bool> {
        let middle = median(&figures.iter().flatten().copied().collect::<Vec<_>>());
        let is_far = |figure: f64| figure > middle * self.factor || figure < middle / self.factor;
        figures.iter().map(|figure| figure.is_some_and(is_far)).collect()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, factor } = self;
        write!(
            f,
            "of a row, a round is dropped if the first figure of `{of}` in it is more than {factor} times its median \
             over all rounds, or less than the median divided by {factor}; no other round is dropped"
        )
    }
}

/// A contender to which the others are compared.
#[derive(Clone, Copy, Debug)]
pub struct Base {
    /// The field of JSON with the ratio to it.
    pub field: &'static str,
    /// Its name.
    pub contender: &'static str,
}

/// When it ends.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The most rounds.
    pub rounds: usize,
    /// After this time no further round begins, and none that would end after it. One is complete in any case.
    pub budget: Option<Duration>,
}

/// What became of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The figures.
    Found(Figures),
    /// Why there are none.
    Failed(String),
    /// The row is not for this contender.
    NotApplicable,
}

impl Outcome {
    fn figure(&self, metric: &str) -> Option<f64> {
        let Self::Found(figures) = self else { return None };
        let (_, value) = figures.iter().find(|(name, _)| *name == metric)?;
        value.is_finite().then_some(*value)
    }
}

/// A contender's figures of one metric, over the rounds that count.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The median, the least and the most.
    pub spread: Spread,
    /// For each base: the median of the ratios to it, each within one round. None if there is no such round.
    pub ratios: Vec<Option<f64>>,
    /// How many rounds there were.
    pub rounds: usize,
}

/// All measurements of a run.
#[derive(Debug)]
pub struct Rounds {
    /// What is measured.
    pub rows: Vec<Row>,
    /// Who is measured.
    pub contenders: Vec<&'static str>,
    /// With whom they are compared.
    pub bases: Vec<Base>,
    /// Which rounds do not count.
    pub rule: Option<Rule>,
    /// Of each row, of each contender, of each round.
    outcomes: Vec<Vec<Vec<Outcome>>>,
}

impl Rounds {
    /// Without any measurement.
    pub fn new(rows: Vec<Row>, contenders: Vec<&'static str>, bases: Vec<Base>, rule: Option<Rule>) -> Self {
        let outcomes = vec![vec![Vec::new(); contenders.len()]; rows.len()];
        Self { rows, contenders, bases, rule, outcomes }
    }

    /// Measures by `measure`, which is given the numbers of a row and of a contender and returns none if they do not
    /// belong together. Every other round is in reverse order. `progress` is called after each measurement.
    pub fn run(
        &mut self,
        schedule: Schedule,
        mut progress: impl FnMut(&Progress<'_>),
        mut measure: impl FnMut(usize, usize) -> Option<io::Result<Figures>>,
    ) {
        let begin = clock::now();
        for round in 0..schedule.rounds.max(1) {
            let so_far = begin.elapsed();
            if let Some(budget) = schedule.budget
                && round > 0
                && so_far + so_far / round as u32 > budget
            {
                return;
            }
            for row in 0..self.rows.len() {
                let mut order: Vec<usize> = (0..self.contenders.len()).collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for contender in order {
                    let outcome = match measure(row, contender) {
                        None => Outcome::NotApplicable,
                        Some(Ok(figures)) => Outcome::Found(figures),
                        Some(Err(error)) => Outcome::Failed(error.to_string()),
                    };
                    if outcome != Outcome::NotApplicable {
                        progress(&Progress {
                            round,
                            rounds: schedule.rounds.max(1),
                            row: &self.rows[row],
                            contender: self.contenders[contender],
                            outcome: &outcome,
                        });
                    }
                    self.outcomes[row][contender].push(outcome);
                }
            }
        }
    }

    /// Rounds that were measured.
    pub fn len(&self) -> usize {
        self.outcomes.first().and_then(|of_row| of_row.first()).map_or(0, Vec::len)
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The measurements of a contender in a row, by round.
    pub fn outcomes(&self, row: usize, contender: usize) -> &[Outcome] {
        &self.outcomes[row][contender]
    }

    /// Which rounds of a row are dropped.
    pub fn dropped(&self, row: usize) -> Vec<bool> {
        let judge = self.rule.as_ref().filter(|_| self.rows[row].droppable);
        let judged = judge.and_then(|rule| {
            let figures = self.figures(row, self.position(rule.of)?, self.rows[row].primary());
            Some(rule.drops(&figures))
        });
        judged.unwrap_or_else(|| vec![false; self.len()])
    }

    /// What the rounds of a row that count say about a contender. None if it has no figure in any of them.
    pub fn summary(&self, row: usize, contender: usize, metric: &str) -> Option<Summary> {
        let dropped = self.dropped(row);
        let counts = |number: usize| !dropped[number];
        let own = self.figures(row, contender, metric);
        let kept: Vec<f64> = own
            .iter()
            .enumerate()
            .filter(|&(number, _)| counts(number))
            .filter_map(|(_, value)| *value)
            .collect();
        let spread = Spread::of(&kept)?;
        let ratios = self.bases.iter().map(|base| {
            let theirs = self.figures(row, self.position(base.contender)?, metric);
            let both = own.iter().zip(&theirs).enumerate().filter(|&(number, _)| counts(number));
            let ratios: Vec<f64> = both.filter_map(|(_, (own, base))| Some((*own)? / (*base)?)).collect();
            let ratio = median(&ratios);
            ratio.is_finite().then_some(ratio)
        });
        Some(Summary { spread, ratios: ratios.collect(), rounds: kept.len() })
    }

    /// The names of all figures of a row, those of tables first.
    pub fn metrics(&self, row: usize) -> Vec<&'static str> {
        let mut names = self.rows[row].metrics.to_vec();
        for outcome in self.outcomes[row].iter().flatten() {
            if let Outcome::Found(figures) = outcome {
                let new = figures.iter().map(|(name, _)| *name).filter(|name| !names.contains(name));
                let new: Vec<_> = new.collect();
                names.extend(new);
            }
        }
        names
    }

    fn figures(&self, row: usize, contender: usize, metric: &str) -> Vec<Option<f64>> {
        self.outcomes[row][contender].iter().map(|outcome| outcome.figure(metric)).collect()
    }

    fn position(&self, contender: &str) -> Option<usize> {
        self.contenders.iter().position(|name| *name == contender)
    }
}

/// A measurement that has just ended.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The number of its round.
    pub round: usize,
    /// The most rounds.
    pub rounds: usize,
    /// Its row.
    pub row: &'a Row,
    /// Who was measured.
    pub contender: &'static str,
    /// What became of it.
    pub outcome: &'a Outcome,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(droppable: bool) -> Row {
        let key = [("scenario".to_owned(), Value::from("stream-in"))];
        Row {
            key: key.into_iter().collect(),
            title: "stream-in, 1 flow".to_owned(),
            metrics: &["gbps", "cpu_s_per_gb"],
            droppable,
        }
    }

    /// Contenders with a figure for each round of one row; none where it failed.
    pub(crate) fn rounds(row: Row, of: &[(&'static str, &[Option<f64>])]) -> Rounds {
        let bases = vec![
            Base { field: "ratio_limit", contender: "limit" },
            Base { field: "ratio_kernel_veth", contender: "kernel-veth" },
        ];
        let rule = Rule { of: "limit", factor: 1.5 };
        let names = of.iter().map(|(name, _)| *name).collect();
        let mut rounds = Rounds::new(vec![row], names, bases, Some(rule));
        let mut next = vec![0; of.len()];
        let schedule = Schedule { rounds: of[0].1.len(), budget: None };
        rounds.run(
            schedule,
            |_| {},
            |_, contender| {
                let figure = of[contender].1[next[contender]];
                next[contender] += 1;
                Some(
                    figure
                        .map(|figure| vec![("gbps", figure)])
                        .ok_or_else(|| io::Error::other("it is stuck")),
                )
            },
        );
        rounds
    }

    #[test]
    fn ratios_are_those_of_one_round() {
        // The machine is twice as fast in the second and third rounds; the ratio of the medians would be 1.8.
        let measured = rounds(
            row(false),
            &[
                ("limit", &[Some(10.0), Some(20.0), Some(20.0)]),
                ("netstack", &[Some(9.0), Some(18.0), Some(18.0)]),
            ],
        );
        let summary = measured.summary(0, 1, "gbps").unwrap();
        assert_eq!(summary.spread, Spread { median: 18.0, min: 9.0, max: 18.0 });
        assert_eq!(summary.ratios, [Some(0.9), None]);
        assert_eq!(measured.summary(0, 1, "p50_us"), None);
    }

    #[test]
    fn a_round_is_dropped_by_the_figure_of_the_limit_alone() {
        let figures: [(&'static str, &[Option<f64>]); 2] = [
            ("limit", &[Some(40.0), Some(20.0), Some(41.0), Some(42.0)]),
            ("netstack", &[Some(4.0), Some(19.0), Some(40.0), Some(41.0)]),
        ];
        let measured = rounds(row(true), &figures);
        assert_eq!(measured.dropped(0), [false, true, false, false]);
        let summary = measured.summary(0, 1, "gbps").unwrap();
        assert_eq!((summary.rounds, summary.spread.min, summary.spread.median), (3, 4.0, 40.0));
        // What does not depend on the machine's speed stays.
        assert_eq!(rounds(row(false), &figures).dropped(0), [false; 4]);
    }

    #[test]
    fn both_directions_of_the_rule_have_the_same_factor() {
        let rule = Rule { of: "limit", factor: 1.5 };
        let figures = [10.0, 10.0, 10.0, 15.0, 15.1, 6.7, 6.6].map(Some);
        assert_eq!(rule.drops(&figures), [false, false, false, false, true, false, true]);
        assert_eq!(rule.drops(&[None, Some(1.0)]), [false, false]);
    }

    #[test]
    fn a_contender_that_fails_has_no_figure_and_stops_nobody() {
        let measured = rounds(
            row(true),
            &[("limit", &[Some(1.0), None, Some(1.0)]), ("netstack", &[None, Some(1.0), Some(0.5)])],
        );
        assert_eq!(measured.outcomes(0, 1)[0], Outcome::Failed("it is stuck".to_owned()));
        let summary = measured.summary(0, 1, "gbps").unwrap();
        // Of two figures one has none to compare with.
        assert_eq!((summary.rounds, summary.ratios[0]), (2, Some(0.5)));
    }

    #[test]
    fn every_other_round_is_in_reverse_order() {
        let mut order = Vec::new();
        let mut rounds = Rounds::new(vec![row(true)], vec!["a", "b", "c"], Vec::new(), None);
        let schedule = Schedule { rounds: 2, budget: None };
        rounds.run(
            schedule,
            |_| {},
            |_, contender| {
                order.push(contender);
                (contender != 1).then(|| Ok(Vec::new()))
            },
        );
        assert_eq!(order, [0, 1, 2, 2, 1, 0]);
        assert_eq!(rounds.len(), 2);
        assert_eq!(rounds.outcomes(0, 1), [Outcome::NotApplicable, Outcome::NotApplicable]);
    }

    #[test]
    fn a_budget_leaves_one_round() {
        let mut rounds = Rounds::new(vec![row(true)], vec!["a"], Vec::new(), None);
        let schedule = Schedule { rounds: 100, budget: Some(Duration::ZERO) };
        rounds.run(schedule, |_| {}, |_, _| Some(Ok(vec![("gbps", 1.0)])));
        assert_eq!(rounds.len(), 1);
    }
}
