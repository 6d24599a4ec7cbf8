//! Places in a picture and the tokens that cover them.

use var_dd_protocol::ScaleTokens;

/// A place in a picture: a token of its finest scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) column: u32,
    pub(crate) row: u32,
}

impl Place {
    /// The place at parts of the width and height, on a map with `finest` tokens on a side; what
    /// lies outside is at the edge.
    pub(crate) fn of_parts(x: f64, y: f64, finest: u32) -> Self {
        let at = |part: f64| (part.clamp(0.0, 1.0) * f64::from(finest)) as u32;
        Self { column: at(x), row: at(y) }.within(finest)
    }

    /// The same place, or the nearest that there is on a map with `finest` tokens on a side.
    pub(crate) fn within(self, finest: u32) -> Self {
        let last = finest.saturating_sub(1);
        Self { column: self.column.min(last), row: self.row.min(last) }
    }

    /// A neighbour, at most at the edge.
    pub(crate) fn moved(self, x: i32, y: i32, finest: u32) -> Self {
        Self {
            column: self.column.saturating_add_signed(x),
            row: self.row.saturating_add_signed(y),
        }
        .within(finest)
    }

    /// Column and row of the token that covers the middle of this place, on a map of `side`.
    pub(crate) fn on(self, side: u32, finest: u32) -> (u32, u32) {
        let at = |of: u32| {
            let middle = u64::from(2 * of + 1) * u64::from(side) / u64::from(2 * finest.max(1));
            (middle as u32).min(side.saturating_sub(1))
        };
        (at(self.column), at(self.row))
    }
}

/// The number of a token in its scale; nothing if the scale has no such token.
pub(crate) fn cell(scale: &ScaleTokens, (column, row): (u32, u32)) -> Option<usize> {
    let at = (row * scale.side + column) as usize;
    (column < scale.side && at < scale.codes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_of_each_scale_covers_a_place() {
        let place = Place { column: 15, row: 0 };
        for (side, expected) in [(1, (0, 0)), (2, (1, 0)), (3, (2, 0)), (16, (15, 0))] {
            assert_eq!(place.on(side, 16), expected, "side {side}");
        }
        let middle = Place { column: 7, row: 8 };
        assert_eq!((middle.on(2, 16), middle.on(3, 16)), ((0, 1), (1, 1)));
    }

    #[test]
    fn a_place_stays_in_the_picture() {
        assert_eq!(Place::of_parts(1.0, -3.0, 16), Place { column: 15, row: 0 });
        assert_eq!(Place::of_parts(f64::NAN, 0.5, 16), Place { column: 0, row: 8 });
        let corner = Place::default();
        assert_eq!(corner.moved(-1, 1, 16), Place { column: 0, row: 1 });
        assert_eq!(Place { column: 15, row: 15 }.moved(1, 0, 16).column, 15);
        assert_eq!(Place { column: 15, row: 15 }.within(4), Place { column: 3, row: 3 });
    }

    #[test]
    fn a_token_that_is_not_told_is_none() {
        let scale =
            ScaleTokens { side: 2, codes: vec![5; 3], distances: Vec::new(), laws: Vec::new() };
        assert_eq!(cell(&scale, (0, 1)), Some(2));
        assert_eq!((cell(&scale, (1, 1)), cell(&scale, (2, 0))), (None, None));
    }
}
