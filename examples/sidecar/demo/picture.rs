//! How the demonstration looks: a bar a shard while it runs, numbers when it is over.
//!
//! In: what the shards carry and how fast requests are answered. Out: text. On a terminal each
//! picture is drawn over the one before; anywhere else it is a line now and then. Measures nothing.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use evenkeel::accept::Balance;

/// The connections of each shard.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub(super) outbound: Vec<u32>,
    pub(super) inbound: Vec<u32>,
}

/// What there is to see at one moment.
pub(super) struct Frame<'s> {
    pub(super) balance: &'s Balance,
    pub(super) elapsed: Duration,
    /// Requests a second, since the beginning.
    pub(super) rate: f64,
    pub(super) carried: Carried,
}

/// What came out with one balance.
pub(super) struct Outcome {
    pub(super) balance: Balance,
    pub(super) carried: Carried,
    /// Requests a second of each connection.
    pub(super) rates: Vec<f64>,
}

/// Where it is shown. What cannot be written is left out: nobody is there to see it then.
pub(super) struct Screen<W> {
    out: W,
    is_terminal: bool,
    /// Lines of the picture that is shown, to draw over.
    drawn: usize,
}

impl Screen<io::Stdout> {
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_terminal = out.is_terminal() && !is_dumb;
        Screen { out, is_terminal, drawn: 0 }
    }
}

impl<W: Write> Screen<W> {
    /// Writes text as it is.
    pub(super) fn say(&mut self, text: impl fmt::Display) {
        let _ = write!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    /// Leaves the picture that is shown where it is; the next one is drawn below.
    pub(super) fn begin(&mut self) {
        self.drawn = 0;
        self.say("\n");
    }

    /// How long to wait between pictures.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(if self.is_terminal { 100 } else { 1000 })
    }

    /// Shows a picture.
    pub(super) fn draw(&mut self, frame: &Frame<'_>) {
        if !self.is_terminal {
            return self.say(frame.line());
        }
        let picture = frame.picture();
        // Up to where the last picture began, then each line with what remains of the old one
        // erased (ECMA-48: CUU, EL).
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        self.say(format_args!("{up}{}", picture.replace('\n', "\x1b[K\n")));
        self.drawn = picture.lines().count();
    }
}

impl Frame<'_> {
    fn line(&self) -> String {
        format!(
            "{:>4.1} s  {}: outbound {}, inbound {}, {} requests a second\n",
            self.elapsed.as_secs_f64(),
            self.balance,
            Numbers(&self.carried.outbound),
            Numbers(&self.carried.inbound),
            thousands(self.rate),
        )
    }

    fn picture(&self) -> String {
        let mut picture = format!(
            "{:<20} {:>4.1} s {:>12} requests a second\n{:<10}{:<28}inbound\n",
            self.balance.to_string(),
            self.elapsed.as_secs_f64(),
            thousands(self.rate),
            "",
            "outbound",
        );
        let both = self.carried.outbound.iter().zip(&self.carried.inbound);
        for (shard, (outbound, inbound)) in both.enumerate() {
            let row = format!("shard {shard:<3} {:<28}{}", bar(*outbound), bar(*inbound));
            picture.push_str(row.trim_end());
            picture.push('\n');
        }
        picture
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.balance)?;
        for (name, carried) in
            [("outbound", &self.carried.outbound), ("inbound", &self.carried.inbound)]
        {
            writeln!(f, "  {name:<9} {}  spread {}", Numbers(carried), spread(carried))?;
        }
        let fewest = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        writeln!(
            f,
            "  {} requests a second; of one connection {} to {}",
            thousands(self.rates.iter().sum()),
            thousands(fewest),
            thousands(most),
        )
    }
}

/// Most minus fewest.
fn spread(carried: &[u32]) -> u32 {
    let most = carried.iter().max().copied().unwrap_or_default();
    let fewest = carried.iter().min().copied().unwrap_or_default();
    most - fewest
}

/// Two blocks a connection, as far as there is room, and the number.
fn bar(connections: u32) -> String {
    const MOST_BLOCKS: usize = 22;
    let blocks = (connections as usize).saturating_mul(2).min(MOST_BLOCKS);
    format!("{} {connections}", "█".repeat(blocks)).trim_start().to_owned()
}

/// Numbers with a space between.
struct Numbers<'n>(&'n [u32]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.0.iter().enumerate() {
            let before = if index > 0 { " " } else { "" };
            write!(f, "{before}{number}")?;
        }
        Ok(())
    }
}

/// Rounded to a whole number, its digits in groups of three.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> Carried {
        Carried { outbound: vec![5, 0, 30], inbound: vec![1, 1, 1] }
    }

    fn drawn(is_terminal: bool, times: usize) -> String {
        let mut screen = Screen { out: Vec::new(), is_terminal, drawn: 0 };
        for _ in 0..times {
            screen.draw(&Frame {
                balance: &Balance::Kernel,
                elapsed: Duration::from_millis(1200),
                rate: 45_120.4,
                carried: carried(),
            });
        }
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn a_terminal_gets_a_bar_a_shard_drawn_over_the_last() {
        let once = drawn(true, 1);
        assert_eq!(once.lines().count(), 2 + 3);
        assert!(!once.contains("\x1b[5A"), "nothing to draw over yet");
        assert!(once.contains("shard 0   ██████████ 5"), "{once}");
        assert!(once.contains("shard 1   0 "), "{once}");
        assert!(once.lines().all(|line| line.chars().count() <= 80), "{once}");
        assert_eq!(drawn(true, 2), format!("{once}\x1b[5A{once}"));
    }

    #[test]
    fn a_file_gets_a_line_without_escapes() {
        assert_eq!(
            drawn(false, 1),
            " 1.2 s  kernel: outbound 5 0 30, inbound 1 1 1, 45,120 requests a second\n"
        );
    }

    #[test]
    fn the_outcome_says_spread_and_rates() {
        let outcome = Outcome {
            balance: Balance::LeastConnections,
            carried: carried(),
            rates: vec![1000.0, 234.0, 50.0],
        };
        assert_eq!(
            outcome.to_string(),
            "least-connections\n  outbound  5 0 30  spread 30\n  inbound   1 1 1  spread 0\n  \
             1,284 requests a second; of one connection 50 to 1,000\n"
        );
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0.0, "0"), (999.6, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
