//! Scenes with something that people made. Each subject is drawn in a frame of its own, origin at
//! its foot or middle and about one unit high, so that place, size, tilt and side are chosen in one
//! line.

use super::{
    Chance,
    canvas::{Canvas, Fill, Hsl, hsl},
    land::{ground, meadow, sky, stand, stars, water},
};

pub(super) fn house(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = meadow(canvas, chance);
    let ((place, size), flip) = (stand(chance, horizon, 0.36, 0.82), chance.happens(0.5));
    let wall = hsl(
        chance.one_of(&[0.1, 0.06, 0.55, 0.0, 0.15, 0.3, 0.8]),
        chance.between(0.2, 0.6),
        chance.between(0.6, 0.88),
    );
    let roof = hsl(
        chance.one_of(&[0.0, 0.03, 0.07, 0.6, 0.95]),
        chance.between(0.35, 0.65),
        chance.between(0.3, 0.44),
    );
    let door = hsl(chance.anywhere(), 0.5, 0.35);
    let lit = if chance.happens(0.5) { hsl(0.13, 0.95, 0.68) } else { hsl(0.56, 0.45, 0.72) };
    let (half, tall, peak) =
        (chance.between(0.36, 0.48), chance.between(0.38, 0.5), chance.between(0.24, 0.38));
    let (chimney, two_floors) = (chance.happens(0.7), chance.happens(0.4));
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.ellipse(0.04, 0.01, half * 1.25, 0.04, hsl(0.3, 0.3, 0.1).opacity(0.3));
        if chimney {
            canvas.rectangle(half * 0.4, -tall - peak * 0.95, 0.1, peak * 0.7, roof.lighter(-0.1));
        }
        canvas.rectangle(
            -half,
            -tall,
            2.0 * half,
            tall,
            Fill::Across {
                x0: -half,
                left: wall.lighter(0.06),
                x1: half,
                right: wall.lighter(-0.1),
            },
        );
        canvas.polygon(
            &[(-half * 1.18, -tall), (0.0, -tall - peak), (half * 1.18, -tall)],
            Fill::Across {
                x0: -half,
                left: roof.lighter(0.08),
                x1: half,
                right: roof.lighter(-0.06),
            },
        );
        canvas.rectangle(-0.07, -0.24, 0.14, 0.24, door);
        let window = |canvas: &mut Canvas, x: f32, y: f32| {
            canvas.rectangle(x - 0.07, y - 0.065, 0.14, 0.13, hsl(0.1, 0.2, 0.95));
            canvas.rectangle(x - 0.055, y - 0.05, 0.11, 0.1, lit);
            canvas.line(&[(x, y - 0.05), (x, y + 0.05)], 0.012, hsl(0.1, 0.2, 0.95));
            canvas.line(&[(x - 0.055, y), (x + 0.055, y)], 0.012, hsl(0.1, 0.2, 0.95));
        };
        for side in [-1.0, 1.0] {
            window(canvas, side * half * 0.62, -tall * 0.55);
        }
        if two_floors {
            window(canvas, 0.0, -tall - peak * 0.28);
        }
    });
}

pub(super) fn sailing_boat(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.42, 0.8);
    sky(canvas, chance, horizon);
    let sea = hsl(chance.between(0.46, 0.68), 0.55, chance.between(0.28, 0.5));
    water(canvas, chance, horizon, sea, hsl(0.55, 0.5, 0.9));
    let (place, size) = stand(chance, horizon, 0.32, 0.85);
    let place = (place.0, place.1.min(0.92));
    let (tilt, flip) = (chance.between(-0.03, 0.03), chance.happens(0.5));
    let hull = hsl(
        chance.one_of(&[0.02, 0.07, 0.6, 0.33, 0.95]),
        chance.between(0.4, 0.7),
        chance.between(0.28, 0.5),
    );
    let main = hsl(chance.anywhere(), chance.between(0.1, 0.8), chance.between(0.78, 0.92));
    let jib = hsl(chance.anywhere(), chance.between(0.3, 0.8), chance.between(0.6, 0.85));
    let stripes = chance.happens(0.5);
    canvas.within(place, size, tilt, flip, |canvas| {
        canvas.polygon(
            &[(0.03, -0.95), (0.03, -0.2), (0.42, -0.2)],
            Fill::Across { x0: 0.0, left: main, x1: 0.42, right: main.lighter(-0.14) },
        );
        if stripes {
            canvas.polygon(
                &[(0.03, -0.55), (0.03, -0.44), (0.285, -0.44), (0.235, -0.55)],
                jib.lighter(-0.1),
            );
        }
        canvas.polygon(&[(-0.03, -0.85), (-0.03, -0.2), (-0.33, -0.2)], jib);
        canvas.line(&[(0.0, -1.0), (0.0, -0.1)], 0.03, hsl(0.08, 0.4, 0.25));
        canvas.blob(
            &[
                (-0.5, -0.15),
                (-0.3, -0.15),
                (0.3, -0.15),
                (0.52, -0.15),
                (0.34, 0.05),
                (-0.3, 0.05),
            ],
            Fill::Down {
                y0: -0.15,
                top: hull.lighter(0.08),
                y1: 0.04,
                bottom: hull.lighter(-0.12),
            },
        );
        canvas.line(&[(-0.36, -0.09), (0.38, -0.09)], 0.022, hsl(0.1, 0.2, 0.95));
        for (y, half) in [(0.1, 0.36), (0.16, 0.24), (0.22, 0.14)] {
            canvas.line(&[(-half, y), (half, y)], 0.02, hull.lighter(0.1).opacity(0.4));
        }
    });
}

pub(super) fn balloon(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.72, 1.0);
    sky(canvas, chance, horizon);
    let hue = chance.one_of(&[0.25, 0.3, 0.36, 0.12, 0.08, 0.5]);
    ground(canvas, chance, horizon, hue);
    let (size, tilt) = (chance.between(0.12, 0.32), chance.between(-0.03, 0.03));
    let margin = 1.1 * size + 0.04;
    let place = (chance.between(margin, 1.0 - margin), chance.between(margin, 0.98 - 1.75 * size));
    let first = hsl(chance.anywhere(), chance.between(0.7, 0.9), chance.between(0.48, 0.6));
    let second = hsl(
        first.hue + chance.between(0.25, 0.6),
        chance.between(0.6, 0.9),
        chance.between(0.6, 0.85),
    );
    let (gores, checked) = (chance.one_of(&[5, 7]), chance.happens(0.35));
    canvas.within(place, size, tilt, false, |canvas| {
        for side in [-1.0, 1.0] {
            canvas.line(&[(side * 0.5, 0.8), (side * 0.16, 1.42)], 0.03, hsl(0.08, 0.3, 0.3));
        }
        let envelope = |half: f32| {
            [
                (-half, -1.0),
                (half, -1.0),
                (half * 1.12, -0.35),
                (half * 0.95, 0.35),
                (half * 0.35, 1.15),
                (-half * 0.35, 1.15),
                (-half * 0.95, 0.35),
                (-half * 1.12, -0.35),
            ]
        };
        // Gores from the outermost inwards: each covers the middle of the one before.
        for gore in (0..=gores / 2).rev() {
            let half = (gore as f32 * 2.0 + 1.0) / gores as f32;
            let color = if gore % 2 == 0 { first } else { second };
            canvas.blob(
                &envelope(half.min(1.0)),
                Fill::Round {
                    x: -0.35,
                    y: -0.4,
                    radius: 1.7,
                    inner: color.lighter(0.12),
                    outer: color.lighter(-0.16),
                },
            );
        }
        if checked {
            canvas.ellipse(0.0, -0.02, 0.99, 0.11, second.lighter(-0.12));
        }
        canvas
            .polygon(&[(-0.2, 1.4), (0.2, 1.4), (0.15, 1.72), (-0.15, 1.72)], hsl(0.08, 0.5, 0.36));
        canvas.line(&[(-0.19, 1.44), (0.19, 1.44)], 0.06, hsl(0.08, 0.45, 0.26));
    });
}

pub(super) fn snowman(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.5, 0.84);
    let hue = chance.one_of(&[0.58, 0.63, 0.7, 0.9, 0.04]) + chance.between(-0.03, 0.03);
    let top = hsl(hue, chance.between(0.3, 0.6), chance.between(0.3, 0.7));
    canvas.band(-0.1, 1.1, Fill::Down { y0: 0.0, top, y1: horizon, bottom: top.lighter(0.18) });
    let snow = hsl(0.6, 0.35, 0.94);
    let hills = chance.between(-0.06, 0.06);
    canvas.blob(
        &[
            (-0.4, horizon),
            (0.3, horizon - hills),
            (0.7, horizon + hills),
            (1.4, horizon),
            (1.4, 1.5),
            (-0.4, 1.5),
        ],
        snow,
    );
    let ((place, size), flip) = (stand(chance, horizon, 0.4, 0.85), chance.happens(0.5));
    let fir = chance.happens(0.4).then(|| (chance.anywhere(), chance.between(0.2, 0.4)));
    if let Some((x, tall)) = fir {
        for (up, half) in [(0.0, 0.3), (0.3, 0.23), (0.58, 0.15)] {
            let y = horizon + 0.03 - up * tall;
            canvas.polygon(
                &[(x - half * tall, y), (x, y - 0.45 * tall), (x + half * tall, y)],
                hsl(0.42, 0.35, 0.28 + 0.1 * up),
            );
        }
    }
    let scarf = hsl(chance.anywhere(), 0.75, 0.48);
    let hat =
        if chance.happens(0.6) { hsl(0.6, 0.2, 0.16) } else { hsl(chance.anywhere(), 0.6, 0.38) };
    canvas.within(place, size, chance.between(-0.01, 0.01), flip, |canvas| {
        canvas.ellipse(0.03, 0.0, 0.34, 0.04, hsl(0.62, 0.4, 0.5).opacity(0.35));
        for side in [-1.0, 1.0] {
            canvas.line(&[(side * 0.17, -0.5), (side * 0.36, -0.62)], 0.025, hsl(0.07, 0.4, 0.25));
        }
        for (y, r) in [(-0.22, 0.25), (-0.54, 0.19), (-0.79, 0.135)] {
            canvas.circle(
                0.0,
                y,
                r,
                Fill::Round {
                    x: -r * 0.4,
                    y: y - r * 0.4,
                    radius: r * 1.7,
                    inner: hsl(0.6, 0.2, 1.0),
                    outer: hsl(0.6, 0.3, 0.78),
                },
            );
        }
        for y in [-0.6, -0.51, -0.3] {
            canvas.circle(0.0, y, 0.022, hsl(0.6, 0.1, 0.15));
        }
        canvas.line(&[(-0.14, -0.68), (0.14, -0.68)], 0.055, scarf);
        canvas.line(&[(0.09, -0.67), (0.13, -0.48)], 0.055, scarf.lighter(-0.07));
        for x in [-0.05, 0.05] {
            canvas.circle(x, -0.82, 0.018, hsl(0.6, 0.1, 0.1));
        }
        canvas.polygon(&[(0.0, -0.8), (0.15, -0.765), (0.0, -0.755)], hsl(0.07, 0.95, 0.55));
        canvas.rectangle(-0.16, -0.92, 0.32, 0.03, hat);
        canvas.rectangle(-0.1, -1.07, 0.2, 0.16, hat);
        canvas.rectangle(-0.1, -0.955, 0.2, 0.03, scarf);
    });
}

pub(super) fn lighthouse(canvas: &mut Canvas, chance: &mut Chance) {
    let (horizon, night) = (chance.between(0.52, 0.82), chance.happens(0.45));
    if night {
        let dark = hsl(chance.between(0.6, 0.72), 0.5, 0.14);
        canvas.band(
            -0.1,
            1.1,
            Fill::Down { y0: 0.0, top: dark, y1: horizon, bottom: dark.lighter(0.16) },
        );
        stars(canvas, chance, 18, horizon * 0.8);
    } else {
        sky(canvas, chance, horizon);
    }
    let sea = hsl(chance.between(0.53, 0.63), 0.5, if night { 0.2 } else { 0.4 });
    water(canvas, chance, horizon, sea, hsl(0.55, 0.4, 0.85));
    let (place, size) = stand(chance, horizon, 0.42, 0.82);
    let place = (place.0, place.1.min(0.93));
    let flip = chance.happens(0.5);
    let color = hsl(
        chance.one_of(&[0.0, 0.98, 0.6, 0.36, 0.06, 0.8, 0.5]),
        0.7,
        chance.between(0.36, 0.52),
    );
    let (rings, base) = (chance.one_of(&[2, 3]), chance.between(0.13, 0.17));
    let dim = if night { -0.18 } else { 0.0 };
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.blob(
            &[
                (-0.5, 0.06),
                (-0.36, -0.06),
                (0.0, -0.1),
                (0.34, -0.06),
                (0.55, 0.06),
                (0.4, 0.2),
                (-0.4, 0.2),
            ],
            hsl(0.08, 0.15, 0.34 + dim / 2.0),
        );
        let half = |y: f32| base - (base - 0.085) * (-y / 0.82);
        let slab = |canvas: &mut Canvas, y0: f32, y1: f32, paint: Hsl| {
            let fill = Fill::Across {
                x0: -base,
                left: paint.lighter(0.04 + dim),
                x1: base,
                right: paint.lighter(dim - 0.16),
            };
            canvas
                .polygon(&[(-half(y0), y0), (-half(y1), y1), (half(y1), y1), (half(y0), y0)], fill);
        };
        let step = 0.82 / (2 * rings + 1) as f32;
        for i in 0..2 * rings + 1 {
            let paint = if i % 2 == 0 { hsl(0.1, 0.1, 0.95) } else { color };
            slab(canvas, -step * i as f32, -step * (i + 1) as f32, paint);
        }
        canvas.rectangle(-0.12, -0.85, 0.24, 0.035, hsl(0.6, 0.15, 0.2));
        let lamp = hsl(0.14, 1.0, if night { 0.8 } else { 0.68 });
        if night {
            canvas.polygon(
                &[(0.0, -0.91), (1.7, -1.22), (1.7, -0.7)],
                Fill::Across {
                    x0: 0.0,
                    left: lamp.opacity(0.75),
                    x1: 1.5,
                    right: lamp.opacity(0.0),
                },
            );
            canvas.glow(0.0, -0.91, 0.3, lamp.opacity(0.8));
        }
        canvas.rectangle(-0.065, -0.965, 0.13, 0.115, lamp);
        canvas.polygon(&[(-0.1, -0.96), (0.0, -1.07), (0.1, -0.96)], color.lighter(dim - 0.05));
        canvas.rectangle(-0.035, -0.1, 0.07, 0.11, hsl(0.07, 0.4, 0.25));
    });
}

pub(super) fn rocket(canvas: &mut Canvas, chance: &mut Chance) {
    let night = hsl(chance.between(0.5, 0.95), 0.55, chance.between(0.08, 0.3));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: night.lighter(-0.05), y1: 1.0, bottom: night.lighter(0.18) },
    );
    let count = 15 + chance.below(20);
    stars(canvas, chance, count, 1.0);
    let (size, tilt) = (chance.between(0.18, 0.36), chance.between(-0.15, 0.15));
    let margin = 1.2 * size + 0.03;
    let place = (
        chance.between(0.85 * margin, 1.0 - 0.85 * margin),
        chance.between(margin, (1.0 - 1.45 * size).max(margin + 0.01)),
    );
    let paint = hsl(chance.anywhere(), 0.75, 0.5);
    let (body, flame, ports) =
        (hsl(0.6, 0.12, chance.between(0.8, 0.95)), chance.between(0.5, 0.85), 1 + chance.below(2));
    canvas.within(place, size, tilt, false, |canvas| {
        canvas.glow(0.0, 1.0, 0.75, hsl(0.08, 1.0, 0.6).opacity(0.5));
        canvas.blob(
            &[
                (-0.24, 0.72),
                (0.24, 0.72),
                (0.12, 0.9 + flame * 0.6),
                (0.0, 0.9 + flame),
                (-0.12, 0.9 + flame * 0.6),
            ],
            hsl(0.06, 1.0, 0.55),
        );
        canvas.blob(
            &[
                (-0.13, 0.72),
                (0.13, 0.72),
                (0.06, 0.85 + flame * 0.4),
                (0.0, 0.85 + flame * 0.6),
                (-0.06, 0.85 + flame * 0.4),
            ],
            hsl(0.14, 1.0, 0.72),
        );
        for side in [-1.0f32, 1.0] {
            canvas.polygon(
                &[
                    (side * 0.26, 0.18),
                    (side * 0.58, 0.62),
                    (side * 0.55, 0.85),
                    (side * 0.24, 0.68),
                ],
                paint.lighter(-0.08),
            );
        }
        canvas.blob(
            &[
                (0.0, -1.22),
                (0.3, -0.75),
                (0.36, 0.0),
                (0.3, 0.8),
                (-0.3, 0.8),
                (-0.36, 0.0),
                (-0.3, -0.75),
            ],
            Fill::Across { x0: -0.34, left: body, x1: 0.34, right: body.lighter(-0.28) },
        );
        canvas.blob(
            &[(0.0, -1.2), (0.17, -0.92), (0.26, -0.62), (-0.26, -0.62), (-0.17, -0.92)],
            paint,
        );
        canvas.rectangle(-0.29, 0.5, 0.58, 0.1, paint);
        for i in 0..ports {
            let y = -0.32 + 0.42 * i as f32;
            canvas.circle(0.0, y, 0.16, hsl(0.6, 0.1, 0.35));
            canvas.circle(
                0.0,
                y,
                0.115,
                Fill::Down {
                    y0: y - 0.12,
                    top: hsl(0.53, 0.8, 0.82),
                    y1: y + 0.12,
                    bottom: hsl(0.58, 0.7, 0.5),
                },
            );
        }
    });
}

pub(super) fn windmill(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = meadow(canvas, chance);
    if chance.happens(0.6) {
        let tulips = chance.anywhere();
        for row in 0..4 {
            let y = horizon + 0.07 + 0.07 * row as f32;
            canvas.line(
                &[(-0.1, y), (1.1, y)],
                0.018 + 0.006 * row as f32,
                hsl(tulips + 0.13 * row as f32, 0.75, 0.58).opacity(0.85),
            );
        }
    }
    let (place, size) = stand(chance, horizon, 0.38, 0.72);
    let wall = hsl(
        chance.one_of(&[0.07, 0.04, 0.1, 0.55, 0.0]),
        chance.between(0.15, 0.5),
        chance.between(0.5, 0.85),
    );
    let roof = hsl(chance.one_of(&[0.02, 0.6, 0.08]), 0.45, 0.28);
    let (turn, base) = (chance.between(0.0, 0.25), chance.between(0.2, 0.26));
    let sail = hsl(0.11, chance.between(0.1, 0.5), 0.93);
    canvas.within(place, size, 0.0, chance.happens(0.5), |canvas| {
        canvas.ellipse(0.05, 0.01, 0.34, 0.035, hsl(0.3, 0.3, 0.1).opacity(0.3));
        canvas.polygon(
            &[(-base, 0.0), (-0.13, -0.66), (0.13, -0.66), (base, 0.0)],
            Fill::Across {
                x0: -base,
                left: wall.lighter(0.06),
                x1: base,
                right: wall.lighter(-0.16),
            },
        );
        canvas.rectangle(-0.055, -0.16, 0.11, 0.17, roof);
        canvas.rectangle(-0.04, -0.42, 0.08, 0.09, hsl(0.57, 0.4, 0.3));
        canvas.blob(
            &[(-0.19, -0.64), (-0.15, -0.84), (0.0, -0.92), (0.15, -0.84), (0.19, -0.64)],
            roof,
        );
        canvas.within((0.0, -0.74), 1.0, turn, false, |canvas| {
            for blade in 0..4 {
                canvas.within((0.0, 0.0), 1.0, blade as f32 / 4.0, false, |canvas| {
                    canvas.rectangle(0.1, -0.01, 0.4, 0.12, sail);
                    canvas.line(&[(0.0, 0.0), (0.5, 0.0)], 0.026, hsl(0.07, 0.4, 0.24));
                    for x in [0.2, 0.3, 0.4] {
                        canvas.line(&[(x, 0.0), (x, 0.11)], 0.012, hsl(0.07, 0.3, 0.4));
                    }
                });
            }
        });
        canvas.circle(0.0, -0.74, 0.035, hsl(0.07, 0.4, 0.18));
    });
}

pub(super) fn castle(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = meadow(canvas, chance);
    let ((place, size), flip) = (stand(chance, horizon, 0.4, 0.82), chance.happens(0.5));
    let stone = hsl(
        chance.one_of(&[0.08, 0.1, 0.6, 0.05, 0.75]),
        chance.between(0.06, 0.35),
        chance.between(0.5, 0.76),
    );
    let roof = hsl(chance.one_of(&[0.0, 0.6, 0.78, 0.08, 0.4]), 0.55, chance.between(0.32, 0.46));
    let flag = hsl(chance.anywhere(), 0.85, 0.52);
    let lit = if chance.happens(0.4) { hsl(0.13, 0.9, 0.66) } else { hsl(0.65, 0.3, 0.22) };
    let (keep, side, wide) =
        (chance.between(0.6, 0.76), chance.between(0.4, 0.56), chance.between(0.34, 0.44));
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.ellipse(0.03, 0.01, wide * 1.35, 0.04, hsl(0.3, 0.3, 0.1).opacity(0.3));
        let wall = |canvas: &mut Canvas, x: f32, half: f32, tall: f32, paint: Hsl| {
            let fill = Fill::Across {
                x0: x - half,
                left: paint.lighter(0.08),
                x1: x + half,
                right: paint.lighter(-0.12),
            };
            canvas.rectangle(x - half, -tall, 2.0 * half, tall, fill);
            // Battlements.
            let tooth = half / 2.5;
            for i in 0..3 {
                let left = x - half + 2.0 * i as f32 * tooth;
                canvas.rectangle(left, -tall - 0.05, tooth, 0.06, paint.lighter(-0.04));
            }
        };
        wall(canvas, 0.0, 0.15, keep, stone.lighter(0.04));
        wall(canvas, 0.0, wide, 0.28, stone);
        for x in [-wide, wide] {
            wall(canvas, x, 0.1, side, stone.lighter(0.02));
            let cone = [(x - 0.13, -side - 0.04), (x, -side - 0.28), (x + 0.13, -side - 0.04)];
            canvas.polygon(&cone, roof);
            canvas.rectangle(x - 0.025, -side + 0.1, 0.05, 0.1, lit);
        }
        canvas.line(&[(0.0, -keep), (0.0, -keep - 0.2)], 0.018, hsl(0.08, 0.3, 0.25));
        let cloth = [(0.0, -keep - 0.2), (0.17, -keep - 0.155), (0.0, -keep - 0.11)];
        canvas.polygon(&cloth, flag);
        canvas.rectangle(-0.03, -keep + 0.1, 0.06, 0.12, lit);
        canvas.ellipse(0.0, -0.13, 0.08, 0.08, hsl(0.07, 0.4, 0.2));
        canvas.rectangle(-0.08, -0.13, 0.16, 0.135, hsl(0.07, 0.4, 0.2));
    });
}

pub(super) fn car(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = meadow(canvas, chance);
    let size = chance.between(0.24, 0.46);
    let y = chance.between(horizon + 0.04, 0.9);
    let place = (chance.between(0.05 + size, 0.95 - size), y);
    let road = hsl(0.65, 0.06, chance.between(0.3, 0.5));
    let half_road = 0.1 + 0.1 * size;
    canvas.band(y - half_road, y + half_road, road);
    let mark = chance.between(0.0, 0.2);
    for i in 0..6 {
        let x = mark + 0.2 * i as f32 - 0.1;
        canvas.line(&[(x, y + 0.03), (x + 0.09, y + 0.03)], 0.014, hsl(0.14, 0.4, 0.92));
    }
    let paint = hsl(chance.anywhere(), chance.between(0.55, 0.9), chance.between(0.4, 0.6));
    let glass = hsl(0.55, 0.45, chance.between(0.6, 0.85));
    let (front, back) = (chance.between(0.2, 0.42), chance.between(-0.62, -0.3));
    let (roof, stripe, flip) =
        (chance.between(0.52, 0.72), chance.happens(0.35), chance.happens(0.5));
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.ellipse(0.0, 0.02, 0.95, 0.07, hsl(0.65, 0.2, 0.08).opacity(0.4));
        let cabin = |low: f32, by: f32| {
            [
                (back - 0.12 + by, low),
                (back + 0.04 + by, -roof + by * 0.6),
                (front - 0.14 - by, -roof + by * 0.6),
                (front + 0.12 - by, low),
            ]
        };
        canvas.polygon(&cabin(-0.36, 0.0), paint.lighter(-0.06));
        canvas.polygon(&cabin(-0.38, 0.07), glass);
        let pillar = (back + front) / 2.0;
        canvas.line(&[(pillar, -roof), (pillar, -0.36)], 0.05, paint.lighter(-0.06));
        let body = [(-0.9, -0.1), (-0.88, -0.36), (0.5, -0.4), (0.9, -0.28), (0.92, -0.1)];
        let fill =
            Fill::Down { y0: -0.4, top: paint.lighter(0.1), y1: -0.1, bottom: paint.lighter(-0.1) };
        canvas.polygon(&body, fill);
        if stripe {
            canvas.line(&[(-0.86, -0.25), (0.88, -0.22)], 0.05, hsl(0.1, 0.2, 0.95));
        }
        canvas.circle(0.85, -0.24, 0.055, hsl(0.15, 0.95, 0.8));
        canvas.rectangle(-0.92, -0.3, 0.06, 0.1, hsl(0.0, 0.85, 0.5));
        for x in [-0.52, 0.52] {
            canvas.circle(x, -0.1, 0.17, hsl(0.65, 0.1, 0.12));
            canvas.circle(x, -0.1, 0.085, hsl(0.6, 0.08, 0.78));
        }
    });
}

pub(super) fn parasol(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.34, 0.62);
    sky(canvas, chance, horizon);
    let sea = hsl(chance.between(0.48, 0.62), 0.6, chance.between(0.36, 0.54));
    water(canvas, chance, horizon, sea, hsl(0.5, 0.5, 0.92));
    let shore = horizon + chance.between(0.08, 0.22);
    let sand =
        hsl(chance.between(0.09, 0.14), chance.between(0.4, 0.65), chance.between(0.66, 0.82));
    let lean = chance.between(-0.06, 0.06);
    canvas.polygon(
        &[(-0.1, shore - lean), (1.1, shore + lean), (1.1, 1.1), (-0.1, 1.1)],
        Fill::Down { y0: shore, top: sand.lighter(0.05), y1: 1.0, bottom: sand.lighter(-0.1) },
    );
    canvas.line(&[(-0.1, shore - lean), (1.1, shore + lean)], 0.018, hsl(0.5, 0.3, 0.96));
    let ((place, size), flip) = (stand(chance, shore, 0.4, 0.72), chance.happens(0.5));
    let first = hsl(chance.anywhere(), chance.between(0.65, 0.9), chance.between(0.48, 0.6));
    let second = if chance.happens(0.6) {
        hsl(0.1, 0.2, 0.96)
    } else {
        hsl(first.hue + chance.between(0.25, 0.6), 0.75, 0.6)
    };
    let (tilt, wide, towel) =
        (chance.between(-0.04, 0.04), chance.between(0.42, 0.56), chance.anywhere());
    canvas.within(place, size, tilt, flip, |canvas| {
        canvas.ellipse(0.1, 0.02, wide * 0.9, 0.06, hsl(0.07, 0.4, 0.2).opacity(0.3));
        let cloth = [(0.1, 0.0), (0.62, 0.0), (0.7, 0.09), (0.14, 0.09)];
        canvas.polygon(&cloth, hsl(towel, 0.6, 0.6));
        canvas.line(&[(0.25, 0.0), (0.3, 0.088)], 0.03, hsl(towel, 0.3, 0.92));
        canvas.line(&[(0.0, 0.03), (0.0, -0.95)], 0.035, hsl(0.09, 0.3, 0.85));
        // Segments from the outermost inwards: each covers the middle of the one before.
        for (i, share) in [1.0f32, 0.62, 0.22].into_iter().enumerate() {
            let half = wide * share;
            let color = if i % 2 == 0 { first } else { second };
            let dome: Vec<_> = (0..=16)
                .map(|step| {
                    let a = std::f32::consts::PI * step as f32 / 16.0;
                    (-half * a.cos(), -0.56 - 0.38 * a.sin())
                })
                .collect();
            canvas.polygon(
                &dome,
                Fill::Across {
                    x0: -wide,
                    left: color.lighter(0.08),
                    x1: wide,
                    right: color.lighter(-0.12),
                },
            );
        }
        canvas.circle(0.0, -0.95, 0.03, first.lighter(-0.1));
    });
}
