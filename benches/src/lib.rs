//! Measuring in CPU time, because machines have neighbours and CPU time hardly notices them.
//!
//! In: a piece of work and how often to do it. Out: a line of figures.
//! Never here: assertions; a bench is a record, not a test.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use cpu_time::ProcessTime;
use std::time::Duration;

const ROUNDS: usize = 7;

/// Does `work` in rounds of `times` and prints the median: CPU nanoseconds each, and how many a
/// core does in a second. The work's answers are summed and printed, so that none is left out.
pub fn measure(name: &str, times: u32, mut work: impl FnMut(u32) -> usize) {
    let mut rounds: Vec<Duration> = Vec::with_capacity(ROUNDS);
    let mut sum = 0_usize;
    for round in 0..=ROUNDS {
        let started = ProcessTime::now();
        for n in 0..times {
            sum = sum.wrapping_add(std::hint::black_box(work(n)));
        }
        // The first round warms up.
        if round > 0 {
            rounds.push(started.elapsed());
        }
    }
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    let each_ps = median.as_nanos().saturating_mul(1000) / u128::from(times.max(1));
    let per_second = 1_000_000_000_000_u128.checked_div(each_ps).unwrap_or_default();
    println!(
        "{name:<44} {:>7}.{:01} ns {:>12} per second and core   (check {sum})",
        each_ps / 1000,
        each_ps % 1000 / 100,
        grouped(per_second)
    );
}

fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
