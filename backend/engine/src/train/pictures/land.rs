//! Skies and grounds, and the scenes that are made of them alone.

use super::{
    Chance,
    canvas::{Canvas, Fill, Hsl, hsl},
};

/// A sky down to the horizon: of a day, a morning or evening, a grey day or a night; often with a
/// sun or moon and clouds.
pub(super) fn sky(canvas: &mut Canvas, chance: &mut Chance, horizon: f32) {
    let lit = |hue: f32, saturation: f32, lightness: f32| hsl(hue, saturation, lightness);
    let hue = chance.between(-0.04, 0.04);
    let (strong, bright) = (chance.between(0.8, 1.25), chance.between(-0.08, 0.08));
    let (top, low) = match chance.below(8) {
        // By day.
        0..3 => (lit(0.58, 0.6, 0.58), lit(0.56, 0.65, 0.80)),
        // Morning and evening.
        3 => (lit(0.68, 0.35, 0.58), lit(0.06, 0.75, 0.78)),
        4 => (lit(0.88, 0.45, 0.62), lit(0.12, 0.8, 0.80)),
        5 => (lit(0.10, 0.60, 0.66), lit(0.14, 0.7, 0.86)),
        // Under clouds.
        6 => (lit(0.58, 0.12, 0.66), lit(0.52, 0.15, 0.84)),
        // Turquoise.
        _ => (lit(0.50, 0.50, 0.55), lit(0.42, 0.5, 0.82)),
    };
    let tuned = |color: Hsl| hsl(color.hue + hue, color.saturation * strong, color.lightness);
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: tuned(top).lighter(bright), y1: horizon, bottom: tuned(low) },
    );
    if chance.happens(0.45) {
        let (x, y) = (chance.between(0.05, 0.95), chance.between(0.05, 0.35));
        let hue = chance.between(0.06, 0.16);
        canvas.glow(x, y, chance.between(0.15, 0.35), hsl(hue, 1.0, 0.85).opacity(0.6));
        canvas.circle(x, y, chance.between(0.035, 0.1), hsl(hue, 0.95, 0.78));
    }
    for _ in 0..chance.below(5) {
        let (x, y, size) = (
            chance.between(-0.05, 1.05),
            chance.between(0.04, (horizon * 0.75).max(0.1)),
            chance.between(0.03, 0.11),
        );
        let flat = chance.between(0.55, 0.85);
        for (dx, dy, r) in [(-1.1, 0.15, 0.7), (0.0, -0.15, 1.0), (1.1, 0.1, 0.75), (0.0, 0.3, 0.9)]
        {
            canvas.ellipse(
                x + dx * size,
                y + dy * size,
                r * size * 1.2,
                r * size * flat,
                hsl(0.6, 0.3, 0.96).opacity(0.85),
            );
        }
    }
}

/// The light that a whole scene lies in: most are in plain daylight, others in that of an evening,
/// of dusk, or of a sun that stands to one side.
pub(super) fn light(canvas: &mut Canvas, chance: &mut Chance) {
    let hue = chance.between(-0.03, 0.03);
    let (left, right) = match chance.below(8) {
        // Warm, cool, dim.
        0 => (hsl(0.09 + hue, 0.9, 0.84), hsl(0.09 + hue, 0.9, 0.84)),
        1 => (hsl(0.60 + hue, 0.7, 0.84), hsl(0.60 + hue, 0.7, 0.84)),
        2 => (hsl(0.68 + hue, 0.3, 0.66), hsl(0.66 + hue, 0.3, 0.66)),
        // From one side.
        3 => (hsl(0.12 + hue, 0.8, 0.95), hsl(0.65 + hue, 0.35, 0.70)),
        4 => (hsl(0.65 + hue, 0.35, 0.70), hsl(0.12 + hue, 0.8, 0.95)),
        _ => return,
    };
    canvas.light(Fill::Across { x0: 0.0, left, x1: 1.0, right });
}

/// Rolling ground below the horizon. Gives its colour.
pub(super) fn ground(canvas: &mut Canvas, chance: &mut Chance, horizon: f32, hue: f32) -> Hsl {
    let color = hsl(
        hue + chance.between(-0.03, 0.03),
        chance.between(0.3, 0.65),
        chance.between(0.3, 0.56),
    );
    // Sometimes a row of hills far off.
    if chance.happens(0.35) {
        let far = hsl(color.hue + chance.between(-0.05, 0.3), 0.25, chance.between(0.5, 0.68));
        let (a, b, c) =
            (chance.between(0.0, 0.14), chance.between(0.0, 0.14), chance.between(0.0, 0.14));
        let outline = [
            (-0.4, horizon - a),
            (0.25, horizon - a),
            (0.5, horizon + 0.08),
            (0.75, horizon - b),
            (1.0, horizon - c),
            (1.4, horizon - c),
            (1.4, 1.5),
            (-0.4, 1.5),
        ];
        canvas.blob(&outline, far);
    }
    let (left, middle, right) =
        (chance.between(-0.08, 0.08), chance.between(-0.07, 0.04), chance.between(-0.08, 0.08));
    let outline = [
        (-0.4, horizon + left),
        (0.2, horizon + left),
        (0.5, horizon + middle),
        (0.8, horizon + right),
        (1.4, horizon + right),
        (1.4, 1.5),
        (-0.4, 1.5),
    ];
    canvas.blob(
        &outline,
        Fill::Down { y0: horizon, top: color.lighter(0.06), y1: 1.0, bottom: color.lighter(-0.12) },
    );
    color
}

/// Water from the horizon down, with glints of light.
pub(super) fn water(
    canvas: &mut Canvas,
    chance: &mut Chance,
    horizon: f32,
    color: Hsl,
    glint: Hsl,
) {
    canvas.band(
        horizon,
        1.1,
        Fill::Down { y0: horizon, top: color.lighter(0.08), y1: 1.0, bottom: color.lighter(-0.15) },
    );
    for _ in 0..8 + chance.below(8) {
        let y = horizon + (1.0 - horizon) * chance.between(0.04, 0.98);
        let (x, half) = (chance.anywhere(), chance.between(0.02, 0.08));
        canvas.line(
            &[(x - half, y), (x + half, y)],
            0.008,
            glint.opacity(chance.between(0.25, 0.6)),
        );
    }
}

/// Meadow under a sky; gives the height of the horizon.
pub(super) fn meadow(canvas: &mut Canvas, chance: &mut Chance) -> f32 {
    let horizon = chance.between(0.5, 0.86);
    sky(canvas, chance, horizon);
    let hue = chance.one_of(&[0.25, 0.28, 0.33, 0.38, 0.15, 0.12, 0.09, 0.48]);
    ground(canvas, chance, horizon, hue);
    horizon
}

/// A place to stand on and a size of `smallest..largest`: anywhere from side to side and from the
/// horizon to the lower edge, but so that what is one unit high fits below the upper edge.
pub(super) fn stand(
    chance: &mut Chance,
    horizon: f32,
    smallest: f32,
    largest: f32,
) -> ((f32, f32), f32) {
    let y = chance.between(horizon + 0.05, 0.97);
    let size = chance.between(smallest, largest.min(y - 0.03).max(smallest));
    // What is small may stand closer to the side.
    let margin = 0.12 + 0.28 * size;
    ((chance.between(margin, 1.0 - margin), y), size)
}

pub(super) fn stars(canvas: &mut Canvas, chance: &mut Chance, count: usize, below: f32) {
    for _ in 0..count {
        let (x, y, r) =
            (chance.anywhere(), chance.between(0.0, below), chance.between(0.004, 0.011));
        canvas.circle(
            x,
            y,
            r,
            hsl(chance.between(0.1, 0.65), 0.5, 0.92).opacity(chance.between(0.5, 1.0)),
        );
    }
}

pub(super) fn sunset(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.36, 0.8);
    let warm = chance.between(-0.08, 0.12);
    let (top, low) = (
        hsl(warm - chance.between(0.04, 0.28), 0.55, chance.between(0.35, 0.58)),
        hsl(warm, 0.9, 0.68),
    );
    canvas.band(-0.1, 1.1, Fill::Down { y0: 0.0, top, y1: horizon, bottom: low });
    let (x, radius) = (chance.between(0.08, 0.92), chance.between(0.05, 0.18));
    let y = horizon - chance.between(-0.3, 2.2) * radius;
    let sun = hsl(warm + 0.05, 1.0, 0.78);
    canvas.glow(x, y, radius * 3.2, sun.opacity(0.55));
    canvas.circle(x, y, radius, sun);
    for _ in 0..chance.below(4) {
        let (cx, cy, half) =
            (chance.anywhere(), horizon * chance.between(0.15, 0.9), chance.between(0.1, 0.28));
        canvas.ellipse(cx, cy, half, 0.014, hsl(warm - 0.06, 0.6, 0.5).opacity(0.45));
    }
    let sea = hsl(chance.one_of(&[0.58, 0.62, 0.68, 0.52]), 0.5, chance.between(0.25, 0.38));
    water(canvas, chance, horizon, sea, low);
    let mut y = horizon + 0.015;
    while y < 1.0 {
        let half = radius * chance.between(0.35, 1.1);
        canvas.line(
            &[(x - half, y), (x + half, y)],
            0.012,
            sun.opacity(0.75 * (1.0 - (y - horizon))),
        );
        y += chance.between(0.025, 0.055);
    }
}

pub(super) fn mountains(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.55, 0.88);
    sky(canvas, chance, horizon);
    let hue = chance.one_of(&[0.6, 0.65, 0.72, 0.08, 0.55, 0.95, 0.4]);
    let layers = 2 + chance.below(2);
    for layer in 0..layers {
        let near = layer as f32 / (layers - 1) as f32;
        let color = hsl(hue, 0.14 + 0.18 * near, 0.62 - 0.32 * near);
        for _ in 0..2 {
            let (x, width) = (chance.between(-0.05, 1.05), chance.between(0.2, 0.55));
            let peak = horizon - chance.between(0.22, 0.58) * (1.1 - 0.5 * near);
            let lean = chance.between(-0.1, 0.1);
            canvas.polygon(
                &[(x - width, horizon + 0.1), (x + lean, peak), (x + width, horizon + 0.1)],
                Fill::Down {
                    y0: peak,
                    top: color.lighter(0.08),
                    y1: horizon,
                    bottom: color.lighter(-0.04),
                },
            );
            // The side away from the light.
            canvas.polygon(
                &[(x + lean, peak), (x + width, horizon + 0.1), (x + width * 0.15, horizon + 0.1)],
                color.lighter(-0.1).opacity(0.6),
            );
            let cap = (horizon + 0.1 - peak) * chance.between(0.2, 0.34);
            let (l, r) = (
                cap / (horizon + 0.1 - peak) * (width + lean),
                cap / (horizon + 0.1 - peak) * (width - lean),
            );
            canvas.polygon(
                &[
                    (x + lean, peak),
                    (x + lean + r, peak + cap),
                    (x + lean + r * 0.4, peak + cap * 0.75),
                    (x + lean, peak + cap * 1.1),
                    (x + lean - l * 0.4, peak + cap * 0.75),
                    (x + lean - l, peak + cap),
                ],
                hsl(0.6, 0.2, 0.96),
            );
        }
    }
    let hue = chance.one_of(&[0.28, 0.33, 0.4, 0.12, 0.09, 0.5]);
    ground(canvas, chance, horizon, hue);
}

pub(super) fn planet(canvas: &mut Canvas, chance: &mut Chance) {
    let night = hsl(chance.between(0.5, 1.0), 0.6, chance.between(0.05, 0.2));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: night, y1: 1.0, bottom: night.lighter(0.07) },
    );
    let count = 25 + chance.below(25);
    stars(canvas, chance, count, 1.0);
    let scale = chance.between(0.1, 0.26);
    let margin = 0.1 + 1.2 * scale;
    let place = (chance.between(margin, 1.0 - margin), chance.between(margin, 1.0 - margin));
    let (tilt, flip) = (chance.between(-0.16, 0.16), chance.happens(0.5));
    let body = hsl(chance.anywhere(), chance.between(0.4, 0.75), chance.between(0.45, 0.62));
    let ring = hsl(body.hue + chance.between(-0.12, 0.3), 0.5, 0.75);
    let (reach, flat) = (chance.between(1.6, 1.95), chance.between(0.28, 0.5));
    let bands: Vec<_> = (0..2 + chance.below(3))
        .map(|_| (chance.between(-0.75, 0.75), chance.between(0.06, 0.16)))
        .collect();
    canvas.within(place, scale, tilt, flip, |canvas| {
        let halves = |canvas: &mut Canvas, from: f32, to: f32| {
            canvas.arc((0.0, 0.0), (reach, reach * flat), from, to, 0.16, ring.opacity(0.9));
            canvas.arc(
                (0.0, 0.0),
                (reach * 0.82, reach * flat * 0.82),
                from,
                to,
                0.08,
                ring.lighter(-0.15).opacity(0.8),
            );
        };
        halves(canvas, 0.5, 1.0);
        canvas.circle(
            0.0,
            0.0,
            1.0,
            Fill::Round {
                x: -0.35,
                y: -0.4,
                radius: 1.6,
                inner: body.lighter(0.16),
                outer: body.lighter(-0.3),
            },
        );
        for (y, thick) in bands {
            let half = (1.0f32 - y * y).sqrt() * 0.96;
            canvas.ellipse(0.0, y, half, thick, body.lighter(-0.13).opacity(0.55));
        }
        halves(canvas, 0.0, 0.5);
    });
    if chance.happens(0.5) {
        let (x, y, r) =
            (chance.between(0.08, 0.92), chance.one_of(&[0.12, 0.88]), chance.between(0.025, 0.05));
        canvas.circle(
            x,
            y,
            r,
            Fill::Round {
                x: x - r * 0.3,
                y: y - r * 0.3,
                radius: r * 1.4,
                inner: hsl(0.12, 0.15, 0.85),
                outer: hsl(0.12, 0.1, 0.45),
            },
        );
    }
}
