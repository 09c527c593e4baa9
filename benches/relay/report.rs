//! What the benchmark prints.

use crate::scenario::{Measurement, Scenario, Setting};
use crate::statistics::{Median, median};

/// The medians of one contestant's runs.
pub(crate) fn contestant(setting: &Setting, label: &str, runs: &[Measurement]) {
    let of = |value: fn(&Measurement) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| median(&values).value)
    };
    let cost = median(&runs.iter().map(|run| run.cost).collect::<Vec<_>>());
    let mut line = format!("{label:>12}  {:.2} {}", cost.value, setting.scenario.unit());
    if let Some((low, high)) = cost.interval {
        line += &format!(" [{low:.2}, {high:.2}]");
    }
    let unit = if setting.scenario == Scenario::Bulk { "bodies" } else { "requests" };
    let columns = [
        (of(|run| run.user_share.map(|share| share * 100.0)), " % user", 1),
        (of(|run| run.rate), "/s", 1),
        (of(|run| Some(run.latency?[0])), " µs p50", 0),
        (of(|run| Some(run.latency?[1])), " µs p99", 0),
        (of(|run| Some(run.latency?[2])), " µs p99.9", 0),
        (of(|run| run.completions_per_turn), " completions/turn", 1),
        (of(|run| run.busiest), " busiest shard/mean", 3),
    ];
    for (value, suffix, digits) in columns {
        if let Some(value) = value {
            let name = if suffix == "/s" { format!(" {unit}") } else { String::new() };
            line += &format!("  {value:.digits$}{name}{suffix}");
        }
    }
    println!("{line}");
    if let Some(probed) = runs.last().and_then(|run| run.probed.as_ref()) {
        for (name, count) in &probed.0 {
            println!("{:>12}  {count:10.4} {name}", "");
        }
    }
}

/// The median of the pairs' ratios: what decides which of two is cheaper.
pub(crate) fn ratio(a: (&str, &[Measurement]), b: (&str, &[Measurement])) {
    let ratios: Vec<f64> = a.1.iter().zip(b.1).map(|(a, b)| a.cost / b.cost).collect();
    let Median { value, interval } = median(&ratios);
    let interval = match interval {
        Some((low, high)) => format!("[{low:.3}, {high:.3}] with 95 % confidence"),
        None => "(no interval below 6 pairs)".to_owned(),
    };
    println!("{:>12}  {} / {} = {value:.3} {interval}", "ratio", a.0, b.0);
}
