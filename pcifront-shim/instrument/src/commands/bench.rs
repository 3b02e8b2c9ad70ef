//! `bench`: how long requests take.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use pcifront_shim::Connection;
use pcifront_shim::trace::Direction;
use serde::Serialize;

use super::write_report;
use crate::Error;
use crate::bus::Bus;
use crate::cli::Bench;
use crate::config_text::short;
use crate::exchange::{Answer, ConfigAccess};

/// Times of round trips, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct RoundTrips {
    count: usize,
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
    per_second: f64,
}

#[derive(Serialize)]
struct Report {
    function: String,
    offset: i32,
    size: i32,
    nanoseconds: RoundTrips,
}

/// Reads a register again and again.
pub(super) fn run<C: Connection>(arguments: &Bench, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let named = arguments.function.as_slice();
    let address = bus.functions(named)?.first().copied().ok_or(Error::EmptyBus)?;
    let (offset, size) = arguments.register;
    let access = ConfigAccess { direction: Direction::Read, address, size, offset, value: 0 };
    let mut times = Vec::new();
    // Without a bar: it would be measured, too.
    for _ in 0..arguments.count {
        bus.stop.check()?;
        let start = Instant::now();
        let answer = access.make(bus)?.answer;
        times.push(start.elapsed());
        if let Answer::Error(error) = answer {
            return Err(Error::Failed(format!("{access}: the backend answered {error}; choose another --register")));
        }
    }
    let report = Report { function: short(address), offset, size, nanoseconds: RoundTrips::of(times) };
    write_report(arguments.output.as_deref(), out, arguments.json, &report, |out| report.show(out))
}

impl RoundTrips {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let total: Duration = times.iter().sum();
        let count = times.len();
        // The smallest time that so many of 1000 do not exceed.
        let at = |permille: usize| {
            let rank = (count * permille).div_ceil(1000).max(1);
            let time = times.get(rank - 1).copied().unwrap_or_default();
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        };
        let per_second = times.iter().map(|_| 1.0).sum::<f64>() / total.as_secs_f64();
        Self { count, min: at(0), p50: at(500), p90: at(900), p99: at(990), p99_9: at(999), max: at(1000), per_second }
    }
}

impl Report {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { function, offset, size, nanoseconds } = self;
        let RoundTrips { count, min, p50, p90, p99, p99_9, max, per_second } = nanoseconds;
        writeln!(out, "{count} reads of {size} bytes at {offset:#x} of {function}, {per_second:.0} per second")?;
        for (name, time) in [("min", min), ("50 %", p50), ("90 %", p90), ("99 %", p99), ("99.9 %", p99_9), ("max", max)]
        {
            writeln!(out, "{name:>7} {:>12.1} us", Duration::from_nanos(*time).as_secs_f64() * 1e6)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = (1..=1000).rev().map(Duration::from_nanos).collect();
        let measured = RoundTrips::of(times);
        assert_eq!(
            (measured.min, measured.p50, measured.p90, measured.p99, measured.p99_9, measured.max),
            (1, 500, 900, 990, 999, 1000)
        );
        let one = RoundTrips::of(vec![Duration::from_millis(1)]);
        assert_eq!((one.min, one.p50, one.max), (1_000_000, 1_000_000, 1_000_000));
        assert!((one.per_second - 1000.0).abs() < 1e-6);
    }
}
