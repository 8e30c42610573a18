//! Measures one build of the compressor: bytes after compression, and CPU time of the fastest of several passes.

use std::time::Instant;

/// CPU time of this process in seconds, by the kernel's own account, or wall time where it keeps none.
///
/// The kernel brings the account up to date when the process gives way, so it does that first.
fn cpu_seconds(start: Instant) -> f64 {
    std::thread::yield_now();
    let nanoseconds = std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns as f64 / 1e9)
}

fn main() {
    let passes: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let blocks = harness::corpus();
    let start = Instant::now();
    let mut bytes = 0;
    let mut fastest = f64::INFINITY;
    for _ in 0..passes {
        let before = cpu_seconds(start);
        bytes = 0;
        for block in &blocks {
            bytes += std::hint::black_box(lz4_flex::block::compress(std::hint::black_box(block))).len();
        }
        // The fastest pass is the one that whatever else runs on this machine disturbed least.
        fastest = fastest.min(cpu_seconds(start) - before);
    }
    println!("METRIC cpu={} ms", fastest * 1e3);
    println!("METRIC bytes={bytes} bytes");
}
