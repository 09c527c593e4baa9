//! What the instrument says: a table for each scenario on the screen, and with `--report` the same as
//! Markdown with charts, beside the raw numbers.
//!
//! Files are written after every scenario, so that a run that is cut short leaves what it has.

mod chart;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::scenarios::Scenario;
use crate::statistics::Median;

pub(crate) use self::chart::{Bar, Chart};

/// One scenario.
pub(crate) struct Section {
    name: &'static str,
    title: &'static str,
    pub(crate) conditions: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Who is missing and why.
    pub(crate) notes: Vec<String>,
    pub(crate) chart: Option<Chart>,
    pub(crate) raw: Vec<Raw>,
}

/// A number of one run.
pub(crate) struct Raw {
    peer: String,
    round: usize,
    metric: String,
    value: f64,
}

impl Raw {
    pub(crate) fn new(peer: &str, round: usize, metric: impl Into<String>, value: f64) -> Self {
        Self { peer: peer.to_owned(), round, metric: metric.into(), value }
    }
}

/// `12.34 [11.90, 12.80]`, or the value alone where there are too few for an interval.
pub(crate) fn median_cell(median: Median, digits: usize) -> String {
    let Median { value, interval } = median;
    match interval {
        Some((low, high)) => format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]"),
        None => format!("{value:.digits$}"),
    }
}

impl Section {
    pub(crate) fn new(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            conditions: String::new(),
            header: Vec::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            chart: None,
            raw: Vec::new(),
        }
    }

    /// What a report says of a scenario that came to nothing.
    pub(crate) fn without_result(scenario: Scenario, error: &io::Error) -> Self {
        let mut section = Self::new(scenario.name(), scenario.describe());
        section.conditions = format!("without a result, because {error}");
        section
    }

    /// Columns in line, for a terminal.
    pub(crate) fn print(&self) {
        println!("\n{}: {}\n{}\n", self.name, self.title, self.conditions);
        let lines: Vec<&Vec<String>> = std::iter::once(&self.header).chain(&self.rows).collect();
        let width = |column: usize| {
            lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max()
        };
        let widths: Vec<usize> = (0..self.header.len()).map_while(width).collect();
        for line in lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("{}", cells.collect::<Vec<_>>().join("  "));
        }
        self.notes.iter().for_each(|note| println!("{note}"));
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", capitalised(self.title));
        if self.chart.is_some() {
            let _ = writeln!(text, "![{}]({}.svg)\n", self.title, self.name);
        }
        let rule = self.header.iter().enumerate();
        let rule = rule.map(|(column, _)| if column == 0 { "---" } else { "---:" }.to_owned());
        let rule: Vec<String> = rule.collect();
        if !self.rows.is_empty() {
            for line in [&self.header, &rule].into_iter().chain(&self.rows) {
                let _ = writeln!(text, "| {} |", line.join(" | "));
            }
            text.push('\n');
        }
        let _ = writeln!(text, "`{}`: {}.", self.name, self.conditions);
        for note in &self.notes {
            let _ = writeln!(text, "\n{}.", capitalised(note));
        }
        text
    }
}

/// Writes all that there is so far: `README.md`, a chart for each scenario, and `runs.csv`.
///
/// # Errors
/// The folder or a file in it cannot be written.
pub(crate) fn write(folder: &Path, preamble: &str, sections: &[Section]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut text = format!("# Side by side\n\n{preamble}\n");
    let mut raw = "scenario,peer,round,metric,value\n".to_owned();
    for section in sections {
        let _ = write!(text, "\n{}", section.markdown());
        if let Some(chart) = &section.chart {
            fs::write(folder.join(format!("{}.svg", section.name)), chart.svg())?;
        }
        for Raw { peer, round, metric, value } in &section.raw {
            let _ = writeln!(raw, "{},{peer},{round},{metric},{value:.4}", section.name);
        }
    }
    fs::write(folder.join("README.md"), text)?;
    fs::write(folder.join("runs.csv"), raw)
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
