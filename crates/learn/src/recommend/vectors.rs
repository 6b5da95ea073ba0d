//! Loops over numbers that the compiler can do several at once. They are compiled for wide registers as well and the machine's
//! widest are used; sums run in a fixed number of lanes, so that the width does not change the result.

use pulp::{Arch, Simd, WithSimd};

const LANES: usize = 16;

/// A dot product.
#[inline(always)]
pub(super) fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let mut tail = 0.0;
    for (a, b) in ones.remainder().iter().zip(others.remainder()) {
        tail += a * b;
    }
    for (a, b) in ones.zip(others) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    sum(&lanes) + tail
}

/// Adds a multiple of a vector.
#[inline(always)]
pub(super) fn add_scaled(sum: &mut [f32], weight: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// Makes a vector's length 1, and says how long it was.
pub(super) fn normalise(vector: &mut [f32]) -> f32 {
    let length = dot(vector, vector).sqrt().max(1e-12);
    for value in vector.iter_mut() {
        *value /= length;
    }
    length
}

/// The dot products of a vector with each row of a table.
pub(super) fn products(vector: &[f32], table: &[f32]) -> Vec<f32> {
    if vector.is_empty() {
        return Vec::new();
    }
    Arch::new().dispatch(Products { vector, table })
}

struct Products<'a> {
    vector: &'a [f32],
    table: &'a [f32],
}

impl WithSimd for Products<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let mut products = vec![0.0_f32; self.table.len() / self.vector.len()];
        let rows = self.table.chunks_exact(self.vector.len());
        for (product, row) in products.iter_mut().zip(rows) {
            *product = dot(self.vector, row);
        }
        products
    }
}

/// Replaces each cosine *c* by `e^(sharpness · (c - 1) + correction)` and says what they sum to.
pub(super) fn exponentials(cosines: &mut [f32], corrections: &[f32], sharpness: f32) -> f32 {
    Arch::new().dispatch(Exponentials {
        cosines,
        corrections,
        sharpness,
    })
}

struct Exponentials<'a> {
    cosines: &'a mut [f32],
    corrections: &'a [f32],
    sharpness: f32,
}

impl WithSimd for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let mut lanes = [0.0_f32; LANES];
        let mut chunks = self.cosines.chunks_exact_mut(LANES);
        let mut corrections = self.corrections.chunks_exact(LANES);
        for (cosines, corrections) in chunks.by_ref().zip(corrections.by_ref()) {
            for lane in 0..LANES {
                let value = self.sharpness * (cosines[lane] - 1.0) + corrections[lane];
                cosines[lane] = exponential(value);
                lanes[lane] += cosines[lane];
            }
        }
        let mut total = sum(&lanes);
        let tail = chunks.into_remainder().iter_mut();
        for (cosine, correction) in tail.zip(corrections.remainder()) {
            *cosine = exponential(self.sharpness * (*cosine - 1.0) + correction);
            total += *cosine;
        }
        total
    }
}

/// e^x to a relative error of 1e-4, without branches: 2^n · 2^f with a polynomial for f between -1/2 and 1/2. Adding 1.5 · 2^23
/// rounds to a whole number and leaves it in the low bits.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let y = (x * std::f32::consts::LOG2_E).clamp(-120.0, 120.0);
    let shifted = y + ROUND;
    let rest = y - (shifted - ROUND);
    let cubic = 0.240_226_5 + rest * (0.055_504_1 + rest * 0.009_618_1);
    let fraction = 1.0 + rest * (std::f32::consts::LN_2 + rest * cubic);
    let exponent = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    fraction * f32::from_bits(exponent)
}

#[inline(always)]
fn sum(lanes: &[f32; LANES]) -> f32 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_four_digits() {
        let values: Vec<f32> = (-2000..=300).map(|step| step as f32 / 100.0).collect();
        let mut found = values.clone();
        let zeros = vec![0.0; values.len()];
        let total = exponentials(&mut found, &zeros, 1.0);
        for (value, found) in values.iter().zip(&found) {
            let wanted = (value - 1.0).exp();
            assert!(
                (found / wanted - 1.0).abs() < 1e-4,
                "{value}: {found} {wanted}"
            );
        }
        assert!((total / found.iter().sum::<f32>() - 1.0).abs() < 1e-4);
    }

    #[test]
    fn products_are_dot_products() {
        let table: Vec<f32> = (0..57).map(|value| value as f32).collect();
        let vector: Vec<f32> = (0..19).map(|value| 1.0 - value as f32).collect();
        let by_hand = |row: &[f32]| row.iter().zip(&vector).map(|(a, b)| a * b).sum::<f32>();
        let wanted: Vec<f32> = table.chunks(19).map(by_hand).collect();
        assert_eq!(products(&vector, &table), wanted);
    }
}
