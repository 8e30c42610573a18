//! Writes the report of a made-up run: `cargo run -p evoseal-report --example render -- report.html [ITERATIONS]`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the file to write")?;
    let history = match arguments.next() {
        Some(iterations) => evoseal_report::sample::run(iterations.parse()?),
        None => evoseal_report::sample::history(),
    };
    std::fs::write(path, evoseal_report::html_report(&history))?;
    Ok(())
}
