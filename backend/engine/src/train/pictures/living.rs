//! Scenes with something that lives. Each subject is drawn in a frame of its own, origin at its
//! foot or middle and about one unit high, so that place, size, tilt and side are chosen in one
//! line.

use super::{
    Chance,
    canvas::{Canvas, Fill, hsl},
    land::{ground, meadow, stand, stars},
};

pub(super) fn tree(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = meadow(canvas, chance);
    let ((place, size), flip) = (stand(chance, horizon, 0.4, 0.92), chance.happens(0.5));
    let bark = hsl(0.07, chance.between(0.3, 0.5), chance.between(0.22, 0.36));
    let leaves = hsl(
        chance.one_of(&[0.24, 0.29, 0.33, 0.38, 0.1, 0.06, 0.95]) + chance.between(-0.02, 0.02),
        chance.between(0.4, 0.65),
        chance.between(0.3, 0.52),
    );
    let (conifer, girth) = (chance.happens(0.3), chance.between(0.06, 0.1));
    let puffs: Vec<_> = (0..7)
        .map(|_| {
            (chance.between(-0.26, 0.26), chance.between(-0.86, -0.5), chance.between(0.13, 0.21))
        })
        .collect();
    let fruit = chance.happens(0.3).then(|| hsl(chance.one_of(&[0.0, 0.08, 0.95]), 0.85, 0.55));
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.ellipse(0.05, 0.01, 0.32, 0.035, hsl(0.3, 0.3, 0.1).opacity(0.3));
        canvas.polygon(
            &[(-girth, 0.0), (-girth * 0.6, -0.55), (girth * 0.6, -0.55), (girth, 0.0)],
            Fill::Across {
                x0: -girth,
                left: bark.lighter(0.1),
                x1: girth,
                right: bark.lighter(-0.08),
            },
        );
        if conifer {
            for (y, half) in [(-0.15, 0.34), (-0.38, 0.28), (-0.62, 0.2)] {
                let fill = Fill::Across {
                    x0: -half,
                    left: leaves.lighter(0.08),
                    x1: half,
                    right: leaves.lighter(-0.12),
                };
                canvas.polygon(&[(-half, y), (0.0, y - 0.42), (half, y)], fill);
            }
            return;
        }
        canvas.circle(0.0, -0.68, 0.27, leaves.lighter(-0.05));
        for (i, &(x, y, r)) in puffs.iter().enumerate() {
            let shade = leaves.lighter(0.1 * (0.5 - (y + 0.9) / 0.5) + 0.02 * i as f32 - 0.04);
            canvas.circle(
                x,
                y,
                r,
                Fill::Round {
                    x: x - r * 0.4,
                    y: y - r * 0.4,
                    radius: r * 1.5,
                    inner: shade.lighter(0.1),
                    outer: shade.lighter(-0.06),
                },
            );
        }
        for &(x, y, _) in puffs.iter().filter(|_| fruit.is_some()) {
            if let Some(color) = fruit {
                canvas.circle(x, y, 0.035, color);
                canvas.circle(-x * 0.7, y + 0.06, 0.035, color);
            }
        }
    });
}

pub(super) fn flower(canvas: &mut Canvas, chance: &mut Chance) {
    let soft = hsl(chance.anywhere(), chance.between(0.2, 0.6), chance.between(0.55, 0.88));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: soft.lighter(0.08), y1: 1.0, bottom: soft.lighter(-0.12) },
    );
    let (size, tilt) = (chance.between(0.14, 0.32), chance.anywhere());
    let margin = size + 0.06;
    let head = (chance.between(margin, 1.0 - margin), chance.between(margin, 0.58));
    let petals = chance.one_of(&[5, 6, 8, 10, 12]);
    // Away from the ground's hue, so that the flower stands out.
    let color = hsl(
        soft.hue + chance.between(0.25, 0.75),
        chance.between(0.65, 0.9),
        chance.between(0.5, 0.66),
    );
    let green = hsl(chance.between(0.26, 0.38), 0.5, chance.between(0.28, 0.4));
    let (root, bend) = (head.0 + chance.between(-0.2, 0.2), chance.between(-0.08, 0.08));
    canvas.line(&[head, ((head.0 + root) / 2.0 + bend, 0.7), (root, 1.05)], 0.032, green);
    for side in [-1.0f32, 1.0] {
        let y = chance.between(0.68, 0.85);
        canvas.leaf(
            root + side * 0.1,
            y,
            0.11,
            0.04,
            -side * 0.08,
            green.lighter(chance.between(0.0, 0.1)),
        );
    }
    let (long, broad) = (chance.between(0.54, 0.66), 2.1 / petals as f32);
    let heart_hue = chance.one_of(&[0.13, 0.13, 0.08, 0.05, 0.2, 0.8]);
    canvas.within(head, size, tilt, false, |canvas| {
        for (layer, reach) in [(0, 1.0f32), (1, 0.68)] {
            for i in 0..petals {
                let turn = (i as f32 + 0.5 * layer as f32) / petals as f32;
                let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
                let shade =
                    color.lighter(if layer == 0 { -0.07 } else { 0.07 } + 0.04 * (i % 2) as f32);
                canvas.leaf(
                    cos * long * reach,
                    sin * long * reach,
                    0.42 * reach,
                    (broad * reach).min(0.4),
                    turn,
                    shade,
                );
            }
        }
        let heart = hsl(heart_hue, 0.85, 0.5);
        canvas.circle(
            0.0,
            0.0,
            0.28,
            Fill::Round {
                x: -0.08,
                y: -0.08,
                radius: 0.34,
                inner: heart.lighter(0.15),
                outer: heart.lighter(-0.16),
            },
        );
    });
}

pub(super) fn fish(canvas: &mut Canvas, chance: &mut Chance) {
    let deep =
        hsl(chance.between(0.44, 0.7), chance.between(0.45, 0.75), chance.between(0.28, 0.56));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: deep.lighter(0.16), y1: 1.0, bottom: deep.lighter(-0.18) },
    );
    let weed = hsl(chance.between(0.28, 0.42), 0.5, 0.28);
    for _ in 0..2 + chance.below(3) {
        let (x, tall, sway) =
            (chance.anywhere(), chance.between(0.15, 0.35), chance.between(-0.05, 0.05));
        canvas.line(
            &[(x, 1.05), (x + sway, 1.0 - tall / 2.0), (x - sway, 1.0 - tall)],
            0.028,
            weed.opacity(0.8),
        );
    }
    let size = chance.between(0.18, 0.4);
    let (beside, above) = (size + 0.03, 0.85 * size + 0.03);
    let place = (chance.between(beside, 1.0 - beside), chance.between(above, 1.0 - above));
    let (tilt, flip) = (chance.between(-0.09, 0.09), chance.happens(0.5));
    let body = hsl(
        chance.one_of(&[0.03, 0.08, 0.13, 0.95, 0.85, 0.0, 0.3, 0.65])
            + chance.between(-0.02, 0.02),
        chance.between(0.6, 0.9),
        chance.between(0.5, 0.6),
    );
    let (stripe, stripes, tall) =
        (hsl(body.hue, 0.3, 0.95), chance.below(4), chance.between(0.4, 0.56));
    canvas.within(place, size, tilt, flip, |canvas| {
        let fin = body.lighter(-0.12);
        canvas.polygon(&[(-0.6, 0.0), (-1.1, -0.42), (-0.98, 0.0), (-1.1, 0.42)], fin);
        canvas.polygon(&[(-0.25, -tall * 0.75), (0.05, -tall * 1.5), (0.35, -tall * 0.75)], fin);
        canvas.polygon(&[(-0.15, tall * 0.75), (-0.05, tall * 1.35), (0.2, tall * 0.75)], fin);
        canvas.blob(
            &[
                (-0.9, -0.05),
                (-0.3, -tall * 1.2),
                (0.5, -tall * 1.15),
                (1.0, -0.02),
                (0.5, tall * 1.15),
                (-0.3, tall * 1.2),
                (-0.9, 0.05),
            ],
            Fill::Down {
                y0: -tall,
                top: body.lighter(-0.03),
                y1: tall,
                bottom: body.lighter(0.18),
            },
        );
        for i in 0..stripes {
            let x = -0.32 + 0.3 * i as f32;
            let half = tall * (1.0 - (x - 0.05) * (x - 0.05) * 1.3) * 0.86;
            canvas.leaf(x, 0.0, 0.065, half, 0.0, stripe);
        }
        canvas.circle(0.62, -tall * 0.25, 0.11, hsl(0.1, 0.1, 0.98));
        canvas.circle(0.65, -tall * 0.25, 0.058, hsl(0.6, 0.3, 0.1));
        canvas.polygon(&[(0.2, 0.04), (-0.08, 0.22), (0.16, 0.26)], fin);
    });
    for _ in 0..chance.below(6) {
        let (x, y, r) =
            (chance.between(0.05, 0.95), chance.between(0.05, 0.6), chance.between(0.01, 0.025));
        canvas.circle(x, y, r, hsl(0.55, 0.4, 0.92).opacity(0.55));
    }
}

pub(super) fn cactus(canvas: &mut Canvas, chance: &mut Chance) {
    let horizon = chance.between(0.52, 0.86);
    let hue = chance.one_of(&[0.06, 0.09, 0.98, 0.55, 0.5, 0.8]);
    let top = hsl(hue, chance.between(0.5, 0.8), chance.between(0.6, 0.72));
    canvas.band(-0.1, 1.1, Fill::Down { y0: 0.0, top, y1: horizon, bottom: top.lighter(0.16) });
    let (x, y) = (chance.between(0.1, 0.9), chance.between(0.12, 0.45));
    canvas.circle(x, y, chance.between(0.06, 0.11), hsl(0.13, 1.0, 0.86));
    let sand = chance.between(0.09, 0.12);
    ground(canvas, chance, horizon, sand);
    let ((place, size), flip) = (stand(chance, horizon, 0.4, 0.88), chance.happens(0.5));
    let green =
        hsl(chance.between(0.3, 0.43), chance.between(0.35, 0.55), chance.between(0.3, 0.42));
    let (left, right, tall) =
        (chance.between(-0.45, -0.28), chance.between(-0.6, -0.4), chance.between(0.85, 1.0));
    let (arms, bloom) = (
        1 + chance.below(2),
        chance.happens(0.5).then(|| hsl(chance.one_of(&[0.93, 0.0, 0.13]), 0.85, 0.6)),
    );
    canvas.within(place, size, 0.0, flip, |canvas| {
        canvas.ellipse(0.08, 0.01, 0.3, 0.035, hsl(0.07, 0.4, 0.15).opacity(0.35));
        let limb = |canvas: &mut Canvas, points: &[(f32, f32)], width: f32| {
            canvas.line(points, width, green);
            let lit: Vec<_> = points.iter().map(|&(x, y)| (x - width * 0.22, y)).collect();
            canvas.line(&lit, width * 0.22, green.lighter(0.12));
            let shade: Vec<_> = points.iter().map(|&(x, y)| (x + width * 0.27, y)).collect();
            canvas.line(&shade, width * 0.2, green.lighter(-0.09));
        };
        limb(canvas, &[(-0.1, left), (-0.3, left - 0.02), (-0.32, left - 0.3)], 0.12);
        if arms > 1 {
            limb(canvas, &[(0.1, right), (0.27, right - 0.02), (0.29, right - 0.22)], 0.11);
        }
        limb(canvas, &[(0.0, -0.02), (0.0, 0.12 - tall)], 0.24);
        if let Some(color) = bloom {
            canvas.circle(0.0, -tall, 0.055, color);
            canvas.circle(-0.32, left - 0.36, 0.04, color);
        }
    });
}

pub(super) fn butterfly(canvas: &mut Canvas, chance: &mut Chance) {
    let soft = hsl(chance.anywhere(), chance.between(0.3, 0.55), chance.between(0.5, 0.86));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: soft.lighter(0.1), y1: 1.0, bottom: soft.lighter(-0.14) },
    );
    for _ in 0..5 {
        let (x, y, r) = (chance.anywhere(), chance.anywhere(), chance.between(0.06, 0.16));
        canvas.glow(x, y, r, soft.lighter(chance.between(-0.12, 0.14)).opacity(0.6));
    }
    let (size, tilt) = (chance.between(0.2, 0.42), chance.between(-0.2, 0.2));
    let margin = size + 0.05;
    let place = (chance.between(margin, 1.0 - margin), chance.between(margin, 1.0 - margin));
    let wing = hsl(
        soft.hue + chance.between(0.3, 0.7),
        chance.between(0.7, 0.9),
        chance.between(0.46, 0.6),
    );
    let spot = hsl(wing.hue + chance.between(0.1, 0.45), 0.8, chance.between(0.65, 0.85));
    let (spread, spots) = (chance.between(0.85, 1.0), chance.one_of(&[1, 2]));
    canvas.within(place, size, tilt, false, |canvas| {
        let rim = wing.lighter(-0.32);
        for side in [-1.0f32, 1.0] {
            let s = side * spread;
            for (grow, paint) in [(1.0f32, rim), (0.82, wing)] {
                let at = |x: f32, y: f32, cx: f32, cy: f32| {
                    ((cx + (x - cx) * grow) * s, cy + (y - cy) * grow)
                };
                let upper = [
                    at(0.02, -0.02, 0.5, -0.4),
                    at(0.12, -0.72, 0.5, -0.4),
                    at(0.75, -1.0, 0.5, -0.4),
                    at(1.12, -0.6, 0.5, -0.4),
                    at(0.72, 0.05, 0.5, -0.4),
                ];
                let lower = [
                    at(0.02, 0.0, 0.38, 0.35),
                    at(0.7, 0.0, 0.38, 0.35),
                    at(0.85, 0.45, 0.38, 0.35),
                    at(0.45, 0.92, 0.38, 0.35),
                    at(0.08, 0.6, 0.38, 0.35),
                ];
                canvas.blob(&lower, paint.lighter(-0.06));
                canvas.blob(&upper, paint);
            }
            canvas.circle(0.68 * s, -0.52, 0.15, spot);
            canvas.circle(0.44 * s, 0.42, 0.11, spot.lighter(-0.06));
            if spots > 1 {
                canvas.circle(0.4 * s, -0.28, 0.09, spot);
            }
            canvas.line(
                &[(0.0, -0.4), (0.14 * side, -0.66), (0.22 * side, -0.8)],
                0.03,
                hsl(0.08, 0.3, 0.15),
            );
        }
        canvas.ellipse(0.0, 0.08, 0.075, 0.5, hsl(0.08, 0.35, 0.16));
        canvas.circle(0.0, -0.42, 0.09, hsl(0.08, 0.35, 0.16));
    });
}

pub(super) fn mushroom(canvas: &mut Canvas, chance: &mut Chance) {
    let wood =
        hsl(chance.between(0.1, 0.62), chance.between(0.2, 0.45), chance.between(0.32, 0.66));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: wood.lighter(0.16), y1: 1.0, bottom: wood.lighter(-0.05) },
    );
    for _ in 0..4 + chance.below(3) {
        let (x, w) = (chance.anywhere(), chance.between(0.03, 0.07));
        canvas.rectangle(x - w, -0.1, 2.0 * w, 1.2, wood.lighter(-0.1).opacity(0.35));
    }
    let horizon = chance.between(0.6, 0.88);
    let color = ground(canvas, chance, horizon, wood.hue);
    for _ in 0..14 {
        let (x, y, lean) =
            (chance.anywhere(), chance.between(horizon, 1.0), chance.between(-0.02, 0.02));
        canvas.line(&[(x, y + 0.03), (x + lean, y - 0.03)], 0.01, color.lighter(0.12));
    }
    let ((place, size), flip) = (stand(chance, horizon, 0.36, 0.8), chance.happens(0.5));
    let cap = hsl(
        chance.one_of(&[0.0, 0.98, 0.04, 0.09, 0.76, 0.6, 0.48, 0.13]),
        chance.between(0.6, 0.85),
        chance.between(0.42, 0.54),
    );
    let (broad, high) = (chance.between(0.44, 0.58), chance.between(0.36, 0.5));
    let dots: Vec<_> = (0..5 + chance.below(4))
        .map(|_| {
            (chance.between(-0.75, 0.75), chance.between(0.12, 0.8), chance.between(0.03, 0.065))
        })
        .collect();
    canvas.within(place, size, chance.between(-0.015, 0.015), flip, |canvas| {
        canvas.ellipse(0.05, 0.0, 0.3, 0.035, hsl(0.3, 0.3, 0.08).opacity(0.35));
        canvas.blob(
            &[(-0.2, 0.03), (-0.13, -0.3), (-0.12, -0.6), (0.12, -0.6), (0.13, -0.3), (0.2, 0.03)],
            Fill::Across {
                x0: -0.16,
                left: hsl(0.12, 0.25, 0.95),
                x1: 0.16,
                right: hsl(0.1, 0.2, 0.74),
            },
        );
        canvas.ellipse(0.0, -0.5, broad * 0.9, 0.075, hsl(0.1, 0.25, 0.7));
        let (top, base) = (-0.5 - high, -0.46);
        canvas.blob(
            &[
                (-broad * 1.15, base),
                (-broad * 0.95, top + 0.1),
                (-0.12, top - 0.06),
                (0.12, top - 0.06),
                (broad * 0.95, top + 0.1),
                (broad * 1.15, base),
                (0.0, base - 0.08),
            ],
            Fill::Round {
                x: -broad * 0.35,
                y: top + 0.12,
                radius: broad * 1.7,
                inner: cap.lighter(0.12),
                outer: cap.lighter(-0.16),
            },
        );
        for (x, up, r) in dots {
            // Dots lie within the dome: the higher, the closer to the middle.
            let reach = broad * (1.0 - up * up).max(0.0).sqrt() * 0.85;
            canvas.ellipse(x * reach, -0.56 - up * high * 0.8, r, r * 0.8, hsl(0.1, 0.2, 0.96));
        }
    });
}

pub(super) fn owl(canvas: &mut Canvas, chance: &mut Chance) {
    let night =
        hsl(chance.between(0.55, 0.8), chance.between(0.3, 0.6), chance.between(0.12, 0.34));
    canvas.band(
        -0.1,
        1.1,
        Fill::Down { y0: 0.0, top: night.lighter(-0.05), y1: 1.0, bottom: night.lighter(0.16) },
    );
    stars(canvas, chance, 16, 0.9);
    let (x, y, r) =
        (chance.between(0.1, 0.9), chance.between(0.1, 0.4), chance.between(0.07, 0.17));
    let moon = hsl(chance.between(0.1, 0.17), 0.6, 0.88);
    canvas.glow(x, y, 2.4 * r, moon.opacity(0.35));
    canvas.circle(x, y, r, moon);
    let size = chance.between(0.34, 0.66);
    let y = chance.between((size + 0.08).max(0.62), 0.9);
    let place = (chance.between(0.1 + 0.3 * size, 0.9 - 0.3 * size), y);
    let bark = hsl(0.07, 0.35, chance.between(0.16, 0.3));
    let lean = chance.between(-0.05, 0.05);
    canvas.line(&[(-0.1, y + 0.03 - lean), (1.1, y + 0.03 + lean)], 0.06, bark);
    canvas.line(&[(-0.1, y + 0.015 - lean), (1.1, y + 0.015 + lean)], 0.014, bark.lighter(0.1));
    for _ in 0..4 {
        let at = chance.anywhere();
        let (tilt, green) = (chance.between(0.1, 0.4), hsl(chance.between(0.2, 0.4), 0.4, 0.3));
        canvas.leaf(at, y + 0.08, 0.05, 0.02, tilt, green);
    }
    let coat = hsl(
        chance.one_of(&[0.07, 0.1, 0.04, 0.6, 0.75, 0.95]),
        chance.between(0.2, 0.5),
        chance.between(0.34, 0.56),
    );
    let iris = hsl(chance.one_of(&[0.13, 0.09, 0.3]), 0.9, 0.58);
    let (broad, turned) = (chance.between(0.28, 0.34), chance.between(-0.04, 0.04));
    canvas.within(place, size, 0.0, chance.happens(0.5), |canvas| {
        for side in [-1.0f32, 1.0] {
            let ear = [(side * 0.27, -0.86), (side * 0.27, -1.06), (side * 0.06, -0.92)];
            canvas.polygon(&ear, coat.lighter(-0.08));
        }
        canvas.ellipse(0.0, -0.42, broad, 0.45, coat);
        canvas.ellipse(0.0, -0.76, 0.29, 0.21, coat.lighter(0.04));
        canvas.ellipse(0.0, -0.34, broad * 0.66, 0.31, coat.lighter(0.24));
        for row in 0..3 {
            for i in 0..3 {
                let x = (i as f32 - 1.0) * 0.11;
                let y = -0.5 + 0.13 * row as f32;
                canvas.arc((x, y), (0.05, 0.05), 0.05, 0.45, 0.018, coat.lighter(-0.05));
            }
        }
        for side in [-1.0f32, 1.0] {
            canvas.leaf(side * broad * 0.92, -0.4, 0.09, 0.33, side * 0.03, coat.lighter(-0.12));
            canvas.circle(side * 0.125, -0.77, 0.115, coat.lighter(0.34));
            canvas.circle(side * 0.125 + turned, -0.77, 0.082, iris);
            canvas.circle(side * 0.125 + turned, -0.77, 0.042, hsl(0.6, 0.3, 0.06));
            canvas.circle(side * 0.125 + turned + 0.018, -0.79, 0.014, hsl(0.1, 0.1, 0.98));
            canvas.ellipse(side * 0.1, 0.02, 0.07, 0.032, hsl(0.1, 0.7, 0.5));
        }
        canvas.polygon(&[(-0.045, -0.7), (0.045, -0.7), (0.0, -0.6)], hsl(0.1, 0.85, 0.52));
    });
}
