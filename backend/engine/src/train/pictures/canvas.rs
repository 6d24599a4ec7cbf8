//! Anti-aliased shapes in unit coordinates: the picture is the square (0, 0)–(1, 1), y down.

use std::f32::consts::TAU;

use tiny_skia::{
    BlendMode, Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path,
    PathBuilder, Pixmap, Point, RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

/// A colour: hue in turns, saturation and lightness in 0…1, opacity in 0…1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hsl {
    pub(super) hue: f32,
    pub(super) saturation: f32,
    pub(super) lightness: f32,
    pub(super) opacity: f32,
}

pub(super) fn hsl(hue: f32, saturation: f32, lightness: f32) -> Hsl {
    Hsl { hue, saturation, lightness, opacity: 1.0 }
}

impl Hsl {
    /// The same colour, lighter (or darker, if negative).
    pub(super) fn lighter(self, by: f32) -> Self {
        Self { lightness: (self.lightness + by).clamp(0.0, 1.0), ..self }
    }

    pub(super) fn opacity(self, opacity: f32) -> Self {
        Self { opacity, ..self }
    }

    fn color(self) -> Color {
        let (s, l) = (self.saturation.clamp(0.0, 1.0), self.lightness.clamp(0.0, 1.0));
        let reach = s * l.min(1.0 - l);
        let channel = |offset: f32| {
            let k = (offset + self.hue.rem_euclid(1.0) * 12.0) % 12.0;
            (l - reach * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)).clamp(0.0, 1.0)
        };
        Color::from_rgba(channel(0.0), channel(8.0), channel(4.0), self.opacity.clamp(0.0, 1.0))
            .unwrap_or(Color::BLACK)
    }
}

/// What a shape is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    Flat(Hsl),
    /// From the colour at height `y0` to the one at `y1`.
    Down {
        y0: f32,
        top: Hsl,
        y1: f32,
        bottom: Hsl,
    },
    /// From the colour at the left `x0` to the one at `x1`.
    Across {
        x0: f32,
        left: Hsl,
        x1: f32,
        right: Hsl,
    },
    /// From the centre out to the radius.
    Round {
        x: f32,
        y: f32,
        radius: f32,
        inner: Hsl,
        outer: Hsl,
    },
}

impl From<Hsl> for Fill {
    fn from(color: Hsl) -> Self {
        Fill::Flat(color)
    }
}

impl Fill {
    fn shader(self) -> Shader<'static> {
        let stops = |a: Hsl, b: Hsl| {
            vec![GradientStop::new(0.0, a.color()), GradientStop::new(1.0, b.color())]
        };
        let line = |from: Point, to: Point, a: Hsl, b: Hsl| {
            LinearGradient::new(from, to, stops(a, b), SpreadMode::Pad, Transform::identity())
                .unwrap_or(Shader::SolidColor(a.color()))
        };
        match self {
            Fill::Flat(color) => Shader::SolidColor(color.color()),
            Fill::Down { y0, top, y1, bottom } => {
                line(Point::from_xy(0.0, y0), Point::from_xy(0.0, y1), top, bottom)
            }
            Fill::Across { x0, left, x1, right } => {
                line(Point::from_xy(x0, 0.0), Point::from_xy(x1, 0.0), left, right)
            }
            Fill::Round { x, y, radius, inner, outer } => {
                let center = Point::from_xy(x, y);
                RadialGradient::new(
                    center,
                    0.0,
                    center,
                    radius,
                    stops(inner, outer),
                    SpreadMode::Pad,
                    Transform::identity(),
                )
                .unwrap_or(Shader::SolidColor(inner.color()))
            }
        }
    }
}

/// A picture under the brush. Shapes are given in the coordinates of the current frame.
pub(super) struct Canvas {
    pixmap: Pixmap,
    frame: Transform,
}

impl Canvas {
    /// A black square of `side` pixels; `None` if a picture of this size cannot be held.
    pub(super) fn new(side: u32) -> Option<Self> {
        let mut pixmap = Pixmap::new(side, side)?;
        pixmap.fill(Color::BLACK);
        Some(Self { frame: Transform::from_scale(side as f32, side as f32), pixmap })
    }

    /// Red, green and blue of every pixel, row by row.
    pub(super) fn into_rgb(self) -> Vec<u8> {
        // Nothing transparent is left over the opaque ground, so that premultiplied and plain
        // values agree.
        self.pixmap
            .pixels()
            .iter()
            .flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()])
            .collect()
    }

    /// Draws in a frame whose origin lies at `(x, y)` and whose unit is `scale`, turned by `tilt`
    /// turns and mirrored if `flip`.
    pub(super) fn within(
        &mut self,
        (x, y): (f32, f32),
        scale: f32,
        tilt: f32,
        flip: bool,
        draw: impl FnOnce(&mut Self),
    ) {
        let outer = self.frame;
        let mirror = if flip { -scale } else { scale };
        self.frame = outer.pre_translate(x, y).pre_rotate(tilt * 360.0).pre_scale(mirror, scale);
        draw(self);
        self.frame = outer;
    }

    fn fill_path(&mut self, path: Option<Path>, fill: impl Into<Fill>) {
        // A degenerate shape has no path and leaves no mark.
        if let Some(path) = path {
            let paint =
                Paint { shader: fill.into().shader(), anti_alias: true, ..Paint::default() };
            self.pixmap.fill_path(&path, &paint, FillRule::Winding, self.frame, None);
        }
    }

    /// Light over the whole picture: every colour is multiplied by that of the fill.
    pub(super) fn light(&mut self, fill: impl Into<Fill>) {
        let paint = Paint {
            shader: fill.into().shader(),
            blend_mode: BlendMode::Multiply,
            ..Paint::default()
        };
        if let Some(whole) = tiny_skia::Rect::from_ltrb(0.0, 0.0, 1.0, 1.0) {
            self.pixmap.fill_rect(whole, &paint, self.frame, None);
        }
    }

    /// A band over the whole width.
    pub(super) fn band(&mut self, y0: f32, y1: f32, fill: impl Into<Fill>) {
        self.polygon(&[(-0.1, y0), (1.1, y0), (1.1, y1), (-0.1, y1)], fill);
    }

    /// A rectangle from its left upper corner.
    pub(super) fn rectangle(
        &mut self,
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        fill: impl Into<Fill>,
    ) {
        self.polygon(&[(x, y), (x + width, y), (x + width, y + height), (x, y + height)], fill);
    }

    pub(super) fn polygon(&mut self, corners: &[(f32, f32)], fill: impl Into<Fill>) {
        self.fill_path(closed(corners), fill);
    }

    /// A closed smooth outline through the middles of the sides of the polygon `corners`.
    pub(super) fn blob(&mut self, corners: &[(f32, f32)], fill: impl Into<Fill>) {
        let middle = |i: usize| {
            let (a, b) = (corners[i % corners.len()], corners[(i + 1) % corners.len()]);
            ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0)
        };
        let mut path = PathBuilder::new();
        let start = middle(0);
        path.move_to(start.0, start.1);
        for i in 1..=corners.len() {
            let (corner, end) = (corners[i % corners.len()], middle(i));
            path.quad_to(corner.0, corner.1, end.0, end.1);
        }
        path.close();
        self.fill_path(path.finish(), fill);
    }

    pub(super) fn ellipse(&mut self, x: f32, y: f32, rx: f32, ry: f32, fill: impl Into<Fill>) {
        let oval = tiny_skia::Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry);
        self.fill_path(oval.and_then(PathBuilder::from_oval), fill);
    }

    pub(super) fn circle(&mut self, x: f32, y: f32, radius: f32, fill: impl Into<Fill>) {
        self.ellipse(x, y, radius, radius, fill);
    }

    /// An ellipse turned by `tilt` turns about its centre.
    pub(super) fn leaf(
        &mut self,
        x: f32,
        y: f32,
        rx: f32,
        ry: f32,
        tilt: f32,
        fill: impl Into<Fill>,
    ) {
        let points: Vec<_> = (0..24)
            .map(|i| {
                let (a, t) = (i as f32 / 24.0 * TAU, tilt * TAU);
                let (u, v) = (rx * a.cos(), ry * a.sin());
                (x + u * t.cos() - v * t.sin(), y + u * t.sin() + v * t.cos())
            })
            .collect();
        self.blob(&points, fill);
    }

    /// Light that fades out from a point.
    pub(super) fn glow(&mut self, x: f32, y: f32, radius: f32, color: Hsl) {
        self.circle(
            x,
            y,
            radius,
            Fill::Round { x, y, radius, inner: color, outer: color.opacity(0.0) },
        );
    }

    /// An open line through points; `width` in the units of the frame.
    pub(super) fn line(&mut self, points: &[(f32, f32)], width: f32, fill: impl Into<Fill>) {
        let mut path = PathBuilder::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        if let Some(path) = path.finish() {
            let paint =
                Paint { shader: fill.into().shader(), anti_alias: true, ..Paint::default() };
            let stroke = Stroke {
                width,
                line_cap: LineCap::Round,
                line_join: LineJoin::Round,
                ..Stroke::default()
            };
            self.pixmap.stroke_path(&path, &paint, &stroke, self.frame, None);
        }
    }

    /// Part of an ellipse's outline, from turn `from` to turn `to` (0 is right, clockwise).
    pub(super) fn arc(
        &mut self,
        (x, y): (f32, f32),
        (rx, ry): (f32, f32),
        from: f32,
        to: f32,
        width: f32,
        fill: impl Into<Fill>,
    ) {
        let points: Vec<_> = (0..=32)
            .map(|i| {
                let a = (from + (to - from) * i as f32 / 32.0) * TAU;
                (x + rx * a.cos(), y + ry * a.sin())
            })
            .collect();
        self.line(&points, width, fill);
    }
}

fn closed(corners: &[(f32, f32)]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, &(x, y)) in corners.iter().enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
    path.finish()
}
