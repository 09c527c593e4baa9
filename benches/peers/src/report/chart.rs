//! A chart of horizontal bars, as SVG: one bar a peer, the library's in another colour, the
//! confidence interval as a line. Readable on light and dark pages.

use std::fmt::Write;

use crate::peers::Peer;
use crate::statistics::Median;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 170.0;
const VALUES: f64 = 80.0;
const TOP: f64 = 44.0;
const BAR: f64 = 16.0;
const PITCH: f64 = 24.0;
/// Stands out from white and from black as well. A page's theme need not be the system's, which is
/// all that an image could ask for.
const INK: &str = "#767c85";

pub(crate) struct Chart {
    title: String,
    unit: String,
    pub(crate) bars: Vec<Bar>,
}

pub(crate) struct Bar {
    label: String,
    value: Median,
    is_evenkeel: bool,
}

impl Bar {
    pub(crate) fn new(peer: &Peer, value: Median) -> Self {
        Self::labelled(peer.name().to_owned(), peer, value)
    }

    pub(crate) fn labelled(label: String, peer: &Peer, value: Median) -> Self {
        Self { label, value, is_evenkeel: peer.is_evenkeel() }
    }
}

impl Chart {
    pub(crate) fn new(title: &str, unit: &str) -> Self {
        Self { title: title.to_owned(), unit: unit.to_owned(), bars: Vec::new() }
    }

    pub(crate) fn svg(&self) -> String {
        let height = TOP + PITCH * self.bars.len() as f64 + 8.0;
        let ends = self.bars.iter().map(|bar| bar.value.interval.map_or(bar.value.value, |i| i.1));
        let largest = ends.fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LABELS - VALUES) / largest;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <style>text {{ fill: {INK} }}</style>\n\
             <text x=\"0\" y=\"14\" font-weight=\"bold\">{}</text>\n\
             <text x=\"0\" y=\"32\">{}</text>\n",
            escaped(&self.title),
            escaped(&self.unit),
        );
        for (index, bar) in self.bars.iter().enumerate() {
            let y = TOP + PITCH * index as f64;
            bar.draw(&mut svg, y, scale);
        }
        svg + "</svg>\n"
    }
}

impl Bar {
    fn draw(&self, svg: &mut String, y: f64, scale: f64) {
        let Median { value, interval } = self.value;
        let colour = if self.is_evenkeel { "#d9772b" } else { "#7d93ab" };
        let (text_y, middle) = (y + BAR - 4.0, y + BAR / 2.0);
        let width = value * scale;
        let mut end = LABELS + width;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{text_y:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
            LABELS - 8.0,
            escaped(&self.label),
        );
        if let Some((low, high)) = interval {
            let (low, high) = (LABELS + low * scale, LABELS + high * scale);
            end = end.max(high);
            // Dark on light, so that it stands out from the bar and from either page.
            for (stroke, width) in [("#fff", 4), ("#222", 2)] {
                let _ = writeln!(
                    svg,
                    "<line stroke=\"{stroke}\" stroke-width=\"{width}\" x1=\"{low:.1}\" \
                     x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
                );
            }
        }
        let digits = if value >= 100.0 { 0 } else { 2 };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{text_y:.1}\">{value:.digits$}</text>",
            end + 6.0,
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
