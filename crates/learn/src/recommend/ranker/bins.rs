//! Rows in bins, and what is summed over them.

use rayon::prelude::*;

/// Columns that can split rows, each with the edges of its bins.
pub(super) struct Bins {
    columns: Vec<Column>,
    /// How many columns a row has, those that split nothing included.
    width: usize,
    /// Bins of the column that has most.
    bins: usize,
}

struct Column {
    /// Its place in a row.
    place: usize,
    edges: Vec<f64>,
}

impl Column {
    /// 0 for what is missing, and above it the number of edges that a value reaches, plus 1.
    fn bin(&self, value: f64) -> u8 {
        match value.is_nan() {
            true => 0,
            false => 1 + self.edges.partition_point(|edge| *edge <= value) as u8,
        }
    }
}

/// Rows in bins, one after the other.
#[derive(Default)]
pub(super) struct Table {
    width: usize,
    bins: Vec<u8>,
}

impl Table {
    pub(super) fn bin(&self, row: u32, column: usize) -> u8 {
        self.bins[row as usize * self.width + column]
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.width = other.width;
        self.bins.extend_from_slice(&other.bins);
    }
}

impl Bins {
    /// Edges at the quantiles of each column, at most `bins` bins; `rows` have `width` values each, NaN is missing.
    pub(super) fn new(rows: &[f64], width: usize, bins: usize) -> Self {
        let bins = bins.clamp(2, 254);
        let columns: Vec<Option<Column>> = (0..width)
            .into_par_iter()
            .map(|place| {
                let values = rows.iter().skip(place).step_by(width).copied();
                let mut known: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
                let some_missing = known.len() * width < rows.len();
                let edges = edges(&mut known, bins);
                let splits = !edges.is_empty() || (some_missing && !known.is_empty());
                splits.then_some(Column { place, edges })
            })
            .collect();
        let columns: Vec<Column> = columns.into_iter().flatten().collect();
        Self {
            bins: columns
                .iter()
                .map(|column| column.edges.len() + 2)
                .max()
                .unwrap_or(0),
            columns,
            width,
        }
    }

    /// Rows of as many values as those that the edges were made from.
    pub(super) fn table(&self, rows: &[f64]) -> Table {
        let columns = || self.columns.iter();
        let rows = rows.chunks_exact(self.width.max(1));
        Table {
            width: self.columns.len(),
            bins: rows
                .flat_map(|row| columns().map(|column| column.bin(row[column.place])))
                .collect(),
        }
    }

    /// The place of a column in a row.
    pub(super) fn place(&self, column: usize) -> usize {
        self.columns[column].place
    }

    /// The edge above a bin.
    pub(super) fn edge(&self, column: usize, bin: u8) -> f64 {
        self.columns[column].edges[usize::from(bin) - 1]
    }

    /// Columns in groups whose sums stay in the fastest cache.
    fn groups(&self) -> usize {
        self.columns.len().div_ceil(GROUP)
    }

    /// The sums of some rows' slopes by column and bin.
    pub(super) fn histogram(
        &self,
        table: &Table,
        rows: &[u32],
        slopes: &[(f64, f64)],
    ) -> Histogram {
        let groups = (0..self.groups()).into_par_iter().map(|group| {
            let first = group * GROUP;
            let columns = GROUP.min(self.columns.len() - first);
            let mut sums = vec![Sums::default(); columns * self.bins];
            for row in rows {
                let start = *row as usize * table.width + first;
                let slope = slopes[*row as usize];
                let bins = &table.bins[start..start + columns];
                for (sums, bin) in sums.chunks_exact_mut(self.bins).zip(bins) {
                    sums[usize::from(*bin)].add(slope);
                }
            }
            sums
        });
        Histogram {
            groups: groups.collect(),
        }
    }

    /// Calls `look` with each column and its sums: of what is missing, and of each bin. In the order of the columns.
    pub(super) fn each<T: Send>(
        &self,
        histogram: &Histogram,
        look: impl Fn(usize, Sums, &[Sums]) -> T + Sync,
    ) -> Vec<T> {
        let columns = (0..self.columns.len()).into_par_iter();
        columns
            .map(|column| {
                let sums = &histogram.groups[column / GROUP][column % GROUP * self.bins..];
                let bins = self.columns[column].edges.len() + 1;
                look(column, sums[0], &sums[1..=bins])
            })
            .collect()
    }
}

/// So many columns of 64 bins are 16 kB.
const GROUP: usize = 16;

fn edges(known: &mut [f64], bins: usize) -> Vec<f64> {
    known.sort_unstable_by(f64::total_cmp);
    let places = (1..bins).map(|bin| known.len() * bin / bins);
    let mut edges: Vec<f64> = places
        .filter_map(|place| known.get(place))
        .copied()
        .collect();
    edges.dedup();
    // an edge at the smallest value has nothing to its left
    edges.retain(|edge| known.first().is_some_and(|first| edge > first));
    edges
}

/// Sums by column and bin.
pub(super) struct Histogram {
    groups: Vec<Vec<Sums>>,
}

impl Histogram {
    /// What is left of it without the sums of some of its rows.
    pub(super) fn without(mut self, part: &Self) -> Self {
        for (group, part) in self.groups.iter_mut().zip(&part.groups) {
            for (sums, part) in group.iter_mut().zip(part) {
                *sums = sums.less(*part);
            }
        }
        self
    }
}

/// Sums of first and second derivatives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) slope: f64,
    pub(super) curvature: f64,
}

impl Sums {
    pub(super) fn add(&mut self, (slope, curvature): (f64, f64)) {
        self.slope += slope;
        self.curvature += curvature;
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            slope: self.slope + other.slope,
            curvature: self.curvature + other.curvature,
        }
    }

    pub(super) fn less(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            curvature: self.curvature - other.curvature,
        }
    }

    pub(super) fn gain(self, ridge: f64) -> f64 {
        self.slope * self.slope / (self.curvature + ridge)
    }
}
