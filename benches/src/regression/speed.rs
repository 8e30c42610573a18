//! CPU time of the search for changes.

use std::error::Error;
use std::hint::black_box;

use evoseal_regression::{ChangePointMethod, change_points};
use evoseal_tests::measure::Times;

use super::Figure;

/// Series of independent noise whose level changes by a tenth about every hundred values.
fn steps(series: usize, length: usize) -> Vec<Vec<f64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..series)
        .map(|_| {
            let mut level = 100.0;
            (0..length)
                .map(|index| {
                    if index % 100 == 99 {
                        level *= if uniform() < 0.5 { 1.1 } else { 1.0 / 1.1 };
                    }
                    let noise: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                    level * (1.0 + 0.02 * noise)
                })
                .collect()
        })
        .collect()
}

/// The cases of the published comparison; the least of some rounds, since the machine can only add to it.
pub(crate) fn measure(smoke: bool) -> Result<Vec<Figure>, Box<dyn Error>> {
    let (rounds, many) = if smoke { (1, 20) } else { (5, 1_000) };
    let mut figures = Vec::new();
    for (series, length) in [(many, 500), (1, 10_000), (1, if smoke { 20_000 } else { 1_000_000 })] {
        let input = steps(series, length);
        let mut least = f64::INFINITY;
        for _ in 0..rounds {
            let (times, found) = Times::of(|| -> Result<usize, evoseal_regression::Error> {
                let mut found = 0;
                for one in &input {
                    found += change_points(black_box(one), None, ChangePointMethod::Auto)?.len();
                }
                Ok(found)
            });
            if found? == 0 {
                return Err("no change was found".into());
            }
            least = least.min(times.cpu.as_secs_f64() * 1e3);
        }
        figures.push(Figure::new(format!("changes of {series} series of {length} values"), least, "ms CPU"));
    }
    Ok(figures)
}
