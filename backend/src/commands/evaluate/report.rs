//! Scores as files: JSON for programs, a page for people.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use html_escape::encode_text;
use var_dd_engine::atomic_file::{Lasts, write_together};

use super::{
    super::picture_file::{contact_sheet, png},
    scorer::{Files, Scores},
    tally::{CurvePoint, Tally},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d1d1b;--soft:#6b6861;--line:#d9d4cb;--paper:#faf8f5;--mark:#b4462b}\
@media(prefers-color-scheme:dark){:root{--ink:#efece6;--soft:#a39f97;--line:#45423d;--paper:#1d1c1a;--mark:#e58b6f}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:52rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}\
th,td{text-align:left;padding:.3rem 1.2rem .3rem 0;border-bottom:1px solid var(--line)}td{font-variant-numeric:tabular-nums}\
p,li{color:var(--soft)}svg{width:100%;height:auto}img{max-width:100%;height:auto;image-rendering:auto}\
.axis{stroke:var(--line)}.curve{stroke:var(--mark);fill:none;stroke-width:2}.dot{fill:var(--mark)}text{fill:var(--soft);font-size:13px}";

/// Writes `scores.json`, `contact-sheet.png` and `scores.html`: all of them or none.
pub(super) fn write(
    directory: &Path,
    title: &str,
    scores: &Scores,
    tally: &Tally,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let sheet = png(&contact_sheet(&tally.tiles), &[])?;
    let page = page(title, scores);
    let mut json = serde_json::to_vec_pretty(scores)?;
    json.push(b'\n');
    let sheet_path = directory.join("contact-sheet.png");
    let page_path = directory.join("scores.html");
    let scores_path = Files::of(directory).scores;
    // The scores last: whoever finds them finds the others.
    let files: [(&Path, &[u8]); 3] =
        [(&sheet_path, &sheet), (&page_path, page.as_bytes()), (&scores_path, &json)];
    write_together(&files, Lasts::ThroughKill)
        .with_context(|| format!("cannot write the scores to {}", directory.display()))
}

/// The scores by name, rounded for people.
pub(super) fn rows(scores: &Scores) -> Vec<(&'static str, String)> {
    let mut rows = vec![(scores.distance_name(), format!("{:.4}", scores.fid))];
    rows.extend(scores.sfid.map(|sfid| ("sFID", format!("{sfid:.4}"))));
    rows.extend(
        scores.inception_score.map(|score| {
            ("Inception Score", format!("{:.4} ± {:.4}", score.mean, score.deviation))
        }),
    );
    if let Some(shares) = scores.precision_and_recall {
        rows.push(("precision", format!("{:.4}", shares.precision)));
        rows.push(("recall", format!("{:.4}", shares.recall)));
    }
    rows
}

fn page(title: &str, scores: &Scores) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<h1>{0}</h1>\n<table>\n",
        encode_text(title)
    );
    for (name, value) in rows(scores) {
        // Writing into a string cannot fail.
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>",
            encode_text(&value)
        );
    }
    let _ = write!(
        page,
        "</table>\n<p>{} pictures against {} ({}).</p>\n",
        scores.pictures,
        encode_text(&scores.reference.path),
        encode_text(&scores.reference.kind)
    );
    if scores.curve.len() > 1 {
        let _ = write!(
            page,
            "<h2>{} against the number of pictures</h2>\n{}\n\
             <p>The Fréchet distance of few pictures is too large; the curve shows how far it has come down.</p>\n",
            scores.distance_name(),
            curve(&scores.curve)
        );
    }
    let _ = writeln!(page, "<h2>Protocol</h2>\n<p>{}</p>\n<ul>", encode_text(&scores.protocol));
    for note in &scores.notes {
        let _ = writeln!(page, "<li>{}</li>", encode_text(note));
    }
    let _ = writeln!(
        page,
        "</ul>\n<h2>The first pictures</h2>\n<img src=\"contact-sheet.png\" alt=\"The first \
         pictures side by side\">"
    );
    page
}

/// The curve as a drawing.
fn curve(points: &[CurvePoint]) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 260.0;
    const LEFT: f64 = 64.0;
    const BOTTOM: f64 = 32.0;
    const MARGIN: f64 = 16.0;
    let most = points.iter().map(|point| point.pictures).max().unwrap_or(1).max(1) as f64;
    let highest = points.iter().map(|point| point.fid).fold(f64::MIN_POSITIVE, f64::max);
    let x = |pictures: f64| LEFT + pictures / most * (WIDTH - LEFT - MARGIN);
    let y = |fid: f64| HEIGHT - BOTTOM - fid / highest * (HEIGHT - BOTTOM - MARGIN);
    let mut drawing = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Fréchet distance against \
         the number of pictures\">\n"
    );
    for part in [0.0, 0.5, 1.0] {
        let (fid, at) = (highest * part, y(highest * part));
        let _ = writeln!(
            drawing,
            "<path class=\"axis\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - MARGIN,
            LEFT - 8.0,
            at + 4.0,
            short(fid)
        );
        let pictures = (most * part).round();
        let _ = writeln!(
            drawing,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{pictures}</text>",
            x(pictures),
            HEIGHT - 10.0,
            if part == 1.0 { "end" } else { "middle" }
        );
    }
    let at = |point: &CurvePoint| (x(point.pictures as f64), y(point.fid));
    let line: Vec<_> = points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(drawing, "<polyline class=\"curve\" points=\"{}\"/>", line.join(" "));
    for point in points {
        let (x, y) = at(point);
        let _ = writeln!(
            drawing,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{} pictures: \
             {:.4}</title></circle>",
            point.pictures, point.fid
        );
    }
    drawing + "</svg>"
}

/// A number of an axis.
fn short(number: f64) -> String {
    if number == 0.0 {
        "0".into()
    } else if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 1.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_shows_every_point_within_its_drawing() {
        let points = [(10, 300.0), (20, 40.0), (50_000, 9.94)]
            .map(|(pictures, fid)| CurvePoint { pictures, fid });
        let drawing = curve(&points);
        assert_eq!(drawing.matches("<circle").count(), 3);
        assert!(drawing.contains("50000 pictures: 9.9400"));
        for coordinates in
            drawing.split("points=\"").nth(1).unwrap().split('"').next().unwrap().split(' ')
        {
            let (x, y) = coordinates.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=720.0).contains(&x) && (0.0..=260.0).contains(&y), "{coordinates}");
        }
        assert_eq!(
            [0.0, 0.004, 9.94, 300.4].map(short),
            ["0", "4.00e-3", "9.9", "300"].map(str::to_owned)
        );
    }
}
