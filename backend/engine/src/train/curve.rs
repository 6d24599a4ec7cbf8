//! Curves of figures over steps, as PNG.

use std::path::Path;

use serde_json::Value;
use tiny_skia::{Color, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::{TrainError, metrics, sheet, write_file};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 480;
/// Room for numbers at the left, for words at the top, for numbers below, and at the right.
const MARGINS: [f32; 4] = [84.0, 56.0, 40.0, 20.0];

/// Ink of each curve.
const INKS: [[u8; 3]; 6] =
    [[35, 74, 140], [190, 80, 40], [60, 130, 70], [130, 70, 140], [150, 120, 30], [60, 140, 150]];

/// Draws the figures `names` of a file of figures, on a logarithmic axis; names that the file has
/// none of are left out.
///
/// Points are means of neighbours where there are more than the picture can show.
///
/// # Errors
/// When the file cannot be read or the picture cannot be written.
pub(super) fn draw(figures: &Path, picture: &Path, names: &[&str]) -> Result<(), TrainError> {
    let lines = metrics::lines(figures)?;
    let curves: Vec<(&str, Vec<(f32, f32)>)> = names
        .iter()
        .map(|name| (*name, points(&lines, name)))
        .filter(|(_, points)| points.len() > 1)
        .collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    let Some(canvas) = Pixmap::new(WIDTH, HEIGHT).filter(|_| !curves.is_empty()) else {
        return Ok(());
    };
    let steps = all().map(|p| p.0).fold(1.0, f32::max);
    let (low, high) =
        all().map(|p| p.1.log10()).fold((f32::MAX, f32::MIN), |(a, b), y| (a.min(y), b.max(y)));
    let axes = Axes { steps, low: low - 0.02, high: high.max(low + 0.05) + 0.02 };
    let mut chart = Chart { canvas, axes };
    chart.canvas.fill(Color::from_rgba8(250, 248, 245, 255));
    chart.grid();
    let (mut left, mut top) = (MARGINS[0], 10.0);
    for ((name, points), ink) in curves.iter().zip(INKS.iter().cycle()) {
        chart.line(points, *ink);
        let words = format!("{name} {}", number(points.last().map_or(0.0, |point| point.1)));
        if left + Chart::ADVANCE * words.len() as f32 > WIDTH as f32 - MARGINS[3] {
            (left, top) = (MARGINS[0], top + 22.0);
        }
        left = chart.text(left, top, &words, *ink) + 28.0;
    }
    let rgb: Vec<u8> = chart
        .canvas
        .pixels()
        .iter()
        .flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()])
        .collect();
    write_file(picture, &sheet::png(&rgb, WIDTH, HEIGHT)?)
}

/// (step, figure) for every line that has the figure, thinned to at most one point per two pixels.
fn points(lines: &[Value], name: &str) -> Vec<(f32, f32)> {
    let of = |line: &Value| Some((line["step"].as_f64()? as f32, line[name].as_f64()? as f32));
    let all: Vec<(f32, f32)> =
        lines.iter().filter_map(of).filter(|(_, y)| *y > 0.0 && y.is_finite()).collect();
    let together = all.len().div_ceil(WIDTH as usize / 2).max(1);
    let mean = |some: &[(f32, f32)]| {
        let n = some.len() as f32;
        (some.iter().map(|p| p.0).sum::<f32>() / n, some.iter().map(|p| p.1).sum::<f32>() / n)
    };
    all.chunks(together).map(mean).collect()
}

/// Three significant digits.
fn number(value: f32) -> String {
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

struct Axes {
    steps: f32,
    /// Decimal logarithms.
    low: f32,
    high: f32,
}

impl Axes {
    fn place(&self, step: f32, figure: f32) -> (f32, f32) {
        let [left, top, bottom, right] = MARGINS;
        let (width, height) = (WIDTH as f32 - left - right, HEIGHT as f32 - top - bottom);
        let along = (figure.log10() - self.low) / (self.high - self.low);
        (left + width * step / self.steps, top + height * (1.0 - along))
    }
}

struct Chart {
    canvas: Pixmap,
    axes: Axes,
}

fn ink([r, g, b]: [u8; 3]) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint
}

impl Chart {
    fn line(&mut self, points: &[(f32, f32)], colour: [u8; 3]) {
        let mut path = PathBuilder::new();
        for (index, &(step, figure)) in points.iter().enumerate() {
            let (x, y) = self.axes.place(step, figure);
            if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        if let Some(path) = path.finish() {
            let stroke = Stroke { width: 2.0, ..Stroke::default() };
            self.canvas.stroke_path(&path, &ink(colour), &stroke, Transform::identity(), None);
        }
    }

    fn grid(&mut self) {
        const GREY: [u8; 3] = [120, 116, 110];
        const RULE: [u8; 3] = [225, 221, 214];
        for i in 0..=4 {
            let figure =
                10f32.powf(self.axes.low + (self.axes.high - self.axes.low) * i as f32 / 4.0);
            let (_, y) = self.axes.place(0.0, figure);
            self.fill(MARGINS[0], y, WIDTH as f32 - MARGINS[0] - MARGINS[3], 1.0, RULE);
            self.text(10.0, y - 7.0, &number(figure), GREY);
            let step = (self.axes.steps * i as f32 / 4.0).round();
            let (x, _) = self.axes.place(step, figure);
            let label = format!("{step}");
            self.text(x - 6.0 * label.len() as f32, HEIGHT as f32 - 28.0, &label, GREY);
        }
    }

    fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, colour: [u8; 3]) {
        if let Some(rect) = Rect::from_xywh(x, y, width, height) {
            self.canvas.fill_rect(rect, &ink(colour), Transform::identity(), None);
        }
    }

    /// Pixels of a dot of a letter, and from one letter to the next.
    const DOT: f32 = 2.0;
    const ADVANCE: f32 = 6.0 * Self::DOT;

    /// Writes text and gives its right end.
    fn text(&mut self, mut x: f32, y: f32, text: &str, colour: [u8; 3]) -> f32 {
        for letter in text.chars() {
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..5u8).filter(|column| bits & (0b10000 >> column) != 0) {
                    self.fill(
                        x + Self::DOT * f32::from(column),
                        y + Self::DOT * row as f32,
                        Self::DOT,
                        Self::DOT,
                        colour,
                    );
                }
            }
            x += Self::ADVANCE;
        }
        x
    }
}

/// Five by seven dots, a row a number.
fn glyph(letter: char) -> [u8; 7] {
    match letter.to_ascii_lowercase() {
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 2, 4, 8, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        '-' => [0, 0, 0, 31, 0, 0, 0],
        '_' => [0, 0, 0, 0, 0, 0, 31],
        'a' => [0, 0, 14, 1, 15, 17, 15],
        'b' => [16, 16, 22, 25, 17, 17, 30],
        'c' => [0, 0, 14, 16, 16, 17, 14],
        'd' => [1, 1, 13, 19, 17, 17, 15],
        'e' => [0, 0, 14, 17, 31, 16, 14],
        'f' => [6, 9, 8, 28, 8, 8, 8],
        'g' => [0, 15, 17, 17, 15, 1, 14],
        'h' => [16, 16, 22, 25, 17, 17, 17],
        'i' => [4, 0, 12, 4, 4, 4, 14],
        'j' => [2, 0, 6, 2, 2, 18, 12],
        'k' => [16, 16, 18, 20, 24, 20, 18],
        'l' => [12, 4, 4, 4, 4, 4, 14],
        'm' => [0, 0, 26, 21, 21, 17, 17],
        'n' => [0, 0, 22, 25, 17, 17, 17],
        'o' => [0, 0, 14, 17, 17, 17, 14],
        'p' => [0, 0, 30, 17, 30, 16, 16],
        'q' => [0, 0, 13, 19, 15, 1, 1],
        'r' => [0, 0, 22, 25, 16, 16, 16],
        's' => [0, 0, 14, 16, 14, 1, 30],
        't' => [8, 8, 28, 8, 8, 9, 6],
        'u' => [0, 0, 17, 17, 17, 19, 13],
        'v' => [0, 0, 17, 17, 17, 10, 4],
        'w' => [0, 0, 17, 17, 21, 21, 10],
        'x' => [0, 0, 17, 10, 4, 10, 17],
        'y' => [0, 0, 17, 17, 15, 1, 14],
        'z' => [0, 0, 31, 2, 4, 8, 31],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_from_left_to_right_where_the_figure_does() {
        let lines: Vec<Value> = (1..=4000)
            .map(|step| serde_json::json!({"step": step, "loss": 10.0 / f64::from(step)}))
            .collect();
        let points = points(&lines, "loss");
        assert!(
            points.len() <= 450
                && points.windows(2).all(|pair| pair[1].1 < pair[0].1 && pair[1].0 > pair[0].0)
        );
        let axes = Axes { steps: 4000.0, low: -3.0, high: 1.0 };
        assert!(axes.place(1.0, 10.0).1 < axes.place(4000.0, 0.0025).1, "y grows downwards");
    }

    #[test]
    fn a_picture_is_written_and_holds_ink() {
        let directory = tempfile::tempdir().unwrap();
        let figures = directory.path().join("metrics.jsonl");
        let text: String = (1..20)
            .map(|step| format!("{{\"step\":{step},\"loss\":{}}}\n", 1.0 / f64::from(step)))
            .collect();
        std::fs::write(&figures, text).unwrap();
        let picture = directory.path().join("curve.png");
        draw(&figures, &picture, &["loss", "absent"]).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&picture).unwrap()))
                .read_info()
                .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.chunks_exact(3).filter(|pixel| *pixel == INKS[0]).count() > 100);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let picture = directory.path().join("curve.png");
        draw(&directory.path().join("none"), &picture, &["loss"]).unwrap();
        assert!(!picture.exists());
    }
}
