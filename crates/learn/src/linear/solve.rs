//! A small deterministic minimiser for smooth convex functions.

/// When to stop: a gradient with no entry larger than this.
const GRADIENT_MAX: f64 = 1e-6;
/// How many steps the curvature is estimated from (Nocedal and Wright 2006, section 7.2, recommend 3 to 20).
const MEMORY: usize = 10;

/// L-BFGS with two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) and a backtracking line search on the
/// Armijo condition. `evaluate(x, gradient)` writes the gradient and returns the value. Returns the best point
/// found within `iterations` steps.
pub(crate) fn minimise(
    start: Vec<f64>,
    iterations: usize,
    mut evaluate: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Vec<f64> {
    let mut x = start;
    let mut gradient = vec![0.0; x.len()];
    let mut value = evaluate(&x, &mut gradient);
    let mut history: Vec<Step> = Vec::with_capacity(MEMORY);
    let mut next_gradient = vec![0.0; x.len()];
    for _ in 0..iterations {
        if gradient.iter().all(|entry| entry.abs() <= GRADIENT_MAX) {
            break;
        }
        let direction = direction(&history, &gradient);
        let slope = dot(&direction, &gradient);
        let mut length = if history.is_empty() {
            1.0 / dot(&gradient, &gradient).sqrt().max(1.0)
        } else {
            1.0
        };
        let mut accepted = None;
        // Halving 40 times leaves a step of 10⁻¹²: the point does not move any more.
        for _ in 0..40 {
            let next: Vec<f64> = x
                .iter()
                .zip(&direction)
                .map(|(x, d)| x + length * d)
                .collect();
            let next_value = evaluate(&next, &mut next_gradient);
            if next_value <= value + 1e-4 * length * slope {
                accepted = Some((next, next_value));
                break;
            }
            length *= 0.5;
        }
        let Some((next, next_value)) = accepted else {
            break;
        };
        let moved: Vec<f64> = next.iter().zip(&x).map(|(next, x)| next - x).collect();
        let turned: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(next, g)| next - g)
            .collect();
        let curvature = dot(&moved, &turned);
        if curvature > 1e-12 * dot(&turned, &turned) {
            if history.len() == MEMORY {
                history.remove(0);
            }
            history.push(Step {
                moved,
                turned,
                curvature,
            });
        }
        x = next;
        value = next_value;
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
    x
}

struct Step {
    moved: Vec<f64>,
    turned: Vec<f64>,
    curvature: f64,
}

fn direction(history: &[Step], gradient: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
    let mut alphas = vec![0.0; history.len()];
    for (alpha, step) in alphas.iter_mut().zip(history).rev() {
        *alpha = dot(&step.moved, &q) / step.curvature;
        add(&mut q, -*alpha, &step.turned);
    }
    if let Some(last) = history.last() {
        let scale = last.curvature / dot(&last.turned, &last.turned);
        q.iter_mut().for_each(|entry| *entry *= scale);
    }
    for (alpha, step) in alphas.iter().zip(history) {
        let beta = dot(&step.turned, &q) / step.curvature;
        add(&mut q, alpha - beta, &step.moved);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += factor * what;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_minimum_of_a_badly_scaled_bowl() {
        let x = minimise(vec![1.0, 1.0, 1.0], 200, |x, gradient| {
            let mut value = 0.0;
            for (place, scale) in [1.0, 50.0, 2000.0].iter().enumerate() {
                let off = x[place] - place as f64;
                gradient[place] = scale * off;
                value += 0.5 * scale * off * off;
            }
            value
        });
        for (place, x) in x.iter().enumerate() {
            assert!((x - place as f64).abs() < 1e-6, "{x}");
        }
    }
}
