//! How much a version loses while it grows old: bands of age, and what is said of each.
//!
//! A version is compared with the youngest one that there was at the moment of each row, on the very same rows: a season that is
//! hard for everybody is then not taken for age (Breck et al. 2017, test "Model 4").

use serde::{Deserialize, Serialize};

use crate::{Bootstrap, EvaluateError, Metric, Rows, ScoresView};

/// Where bands of age begin, in days; the last has no end.
pub const BANDS_FROM_DAYS: [u32; 7] = [0, 1, 7, 28, 56, 91, 182];

/// Versions of one age on rows that they cannot have seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgeBand {
    /// From how many days on.
    pub from_days: u32,
    /// Below how many; absent for the last band.
    pub until_days: Option<u32>,
    /// Pairs of a version and a row.
    pub rows: usize,
    /// How many versions there are among them.
    pub versions: usize,
    /// The metric of the versions of this age.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// By how much the youngest version at each row's moment was better, in the metric's good direction: what age costs. Absent where
    /// nothing is compared.
    pub loss: Option<f64>,
    /// Its 95 % interval.
    pub loss_interval: Option<(f64, f64)>,
}

impl AgeBand {
    /// An empty band.
    pub fn empty(band: usize) -> Self {
        Self {
            from_days: BANDS_FROM_DAYS[band],
            until_days: BANDS_FROM_DAYS.get(band + 1).copied(),
            rows: 0,
            versions: 0,
            value: None,
            interval: None,
            loss: None,
            loss_interval: None,
        }
    }

    /// Whether versions of this age are certainly worse than younger ones.
    pub fn loses(&self) -> bool {
        self.loss_interval.is_some_and(|(low, _)| low > 0.0)
    }

    /// Measures the scores of versions of this age beside those of the youngest on the same rows.
    ///
    /// # Errors
    /// When scores and rows do not fit each other.
    pub fn measure(
        &mut self,
        rows: &Rows<'_>,
        metric: Metric,
        aged: &ScoresView<'_>,
        youngest: &ScoresView<'_>,
        bootstrap: &Bootstrap,
    ) -> Result<(), EvaluateError> {
        let estimate = bootstrap.estimate(rows, metric, aged)?;
        let compared = bootstrap.paired(rows, metric, youngest, &[*aged])?;
        self.rows = rows.count();
        self.value = estimate.value;
        self.interval = estimate.interval;
        self.loss = compared.first().and_then(|loss| loss.improvement);
        self.loss_interval = compared.first().and_then(|loss| loss.interval);
        Ok(())
    }
}

/// The band of an age.
pub fn band_of(age_days: f64) -> usize {
    let begun = BANDS_FROM_DAYS
        .iter()
        .filter(|from| f64::from(**from) <= age_days);
    begun.count().saturating_sub(1)
}

/// From how many days on versions are certainly worse than younger ones; nothing while no band says so.
pub fn loses_from_days(bands: &[AgeBand]) -> Option<u32> {
    bands
        .iter()
        .find(|band| band.loses())
        .map(|band| band.from_days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskKind;

    #[test]
    fn ages_fall_into_bands() {
        let check = |days: f64, from: u32| assert_eq!(BANDS_FROM_DAYS[band_of(days)], from);
        check(0.0, 0);
        check(0.99, 0);
        check(1.0, 1);
        check(27.9, 7);
        check(28.0, 28);
        check(500.0, 182);
    }

    #[test]
    fn an_old_version_that_forgot_how_to_tell_loses_and_the_same_one_does_not() {
        let targets: Vec<f64> = (0..400).map(|row| f64::from(row % 2)).collect();
        let entities: Vec<u64> = (0..400).map(|row| row / 2 * 7 + row % 2).collect();
        let rows = Rows::new(TaskKind::Binary, &targets, &[1.0; 400], &entities).unwrap();
        let good: Vec<f64> = (0..400)
            .map(|row| 0.3 * f64::from(row % 2) + f64::from(row * 37 % 100) / 200.0)
            .collect();
        let bad: Vec<f64> = (0..400)
            .map(|row| f64::from(row * 37 % 100) / 200.0)
            .collect();
        let view = |scores| ScoresView::new(1, scores).unwrap();
        let mut band = AgeBand::empty(4);
        let bootstrap = Bootstrap::default();
        band.measure(&rows, Metric::Auc, &view(&bad), &view(&good), &bootstrap)
            .unwrap();
        assert!(band.loses(), "{band:?}");
        assert_eq!(
            loses_from_days(&[AgeBand::empty(0), band.clone()]),
            Some(56)
        );
        band.measure(&rows, Metric::Auc, &view(&good), &view(&good), &bootstrap)
            .unwrap();
        assert_eq!(band.loss, Some(0.0));
        assert!(!band.loses());
        assert_eq!((band.from_days, band.until_days), (56, Some(91)));
    }
}
