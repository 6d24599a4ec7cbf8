//! Which part of a picture is drawn anew.

/// Which part of a picture is drawn anew: a square of marks, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    side: usize,
    marks: Vec<bool>,
}

/// Marks that make no mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Not a square of a side that is allowed.
    #[error(
        "the mask holds {found} marks; it must be a square with a side from 1 to {}, row by row",
        Mask::MAX_SIDE
    )]
    Size {
        /// Marks given.
        found: usize,
    },
    /// Nothing would be drawn.
    #[error(
        "the mask covers no token of any scale by half; nothing would be drawn, so paint a larger \
         part"
    )]
    Empty,
}

impl Mask {
    /// Largest side of a mask.
    pub const MAX_SIDE: usize = 1024;

    /// A mask of marks, row by row; true is drawn anew.
    ///
    /// # Errors
    /// [`MaskError::Size`] when they make no square of an allowed side.
    pub fn new(marks: Vec<bool>) -> Result<Self, MaskError> {
        let side = marks.len().isqrt();
        if side * side != marks.len() || !(1..=Self::MAX_SIDE).contains(&side) {
            return Err(MaskError::Size { found: marks.len() });
        }
        Ok(Self { side, marks })
    }

    /// Side of the square.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Which tokens of a scale with maps of side `p` are drawn anew: those whose cell the mask
    /// covers by at least half. Row by row.
    pub fn pooled(&self, p: usize) -> Vec<bool> {
        let side = self.side;
        // Cells and marks meet on a grid of side · p lines; covered parts are counted in its
        // squares, so that no rounding decides.
        let overlap = |cell: usize, mark: usize| {
            let (from, to) = ((cell * side).max(mark * p), ((cell + 1) * side).min((mark + 1) * p));
            to.saturating_sub(from)
        };
        let touched = |cell: usize| cell * side / p..((cell + 1) * side).div_ceil(p).min(side);
        let covered = |row: usize, column: usize| -> usize {
            touched(row)
                .map(|y| {
                    let marked = touched(column).filter(|&x| self.marks[y * side + x]);
                    overlap(row, y) * marked.map(|x| overlap(column, x)).sum::<usize>()
                })
                .sum()
        };
        (0..p * p).map(|cell| 2 * covered(cell / p, cell % p) >= side * side).collect()
    }

    /// The tokens of all scales, whose sides are `patch_nums`, that are drawn anew, one after
    /// another.
    ///
    /// # Errors
    /// [`MaskError::Empty`] when there are none.
    pub fn tokens(&self, patch_nums: &[i64]) -> Result<Vec<bool>, MaskError> {
        let tokens: Vec<bool> = patch_nums.iter().flat_map(|&p| self.pooled(p as usize)).collect();
        if tokens.contains(&true) { Ok(tokens) } else { Err(MaskError::Empty) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Mask {
        let marks = rows.iter().flat_map(|row| row.chars().map(|mark| mark == '#'));
        Mask::new(marks.collect()).unwrap()
    }

    #[test]
    fn a_token_is_drawn_where_the_mask_covers_at_least_half_of_its_cell() {
        let left = mask(&["#..", "#..", "#.."]);
        assert_eq!(left.pooled(1), [false], "a third of the picture");
        assert_eq!(left.pooled(2), [true, false, true, false], "two thirds of the left cells");
        assert_eq!(left.pooled(3), [true, false, false, true, false, false, true, false, false]);
        let half = mask(&["##..", "##..", "##..", "##.."]);
        assert_eq!(half.pooled(1), [true], "exactly half counts");
        assert_eq!(half.pooled(3), [true, true, false, true, true, false, true, true, false]);
    }

    #[test]
    fn pooling_to_the_mask_s_own_side_or_finer_keeps_it() {
        let corner = mask(&["#.", ".."]);
        assert_eq!(corner.pooled(2), [true, false, false, false]);
        let fine = corner.pooled(4);
        let expected = (0..16).map(|cell| cell / 4 < 2 && cell % 4 < 2).collect::<Vec<_>>();
        assert_eq!(fine, expected);
    }

    #[test]
    fn marks_that_are_no_square_and_masks_of_nothing_are_refused() {
        assert_eq!(Mask::new(vec![true; 3]), Err(MaskError::Size { found: 3 }));
        assert_eq!(Mask::new(Vec::new()), Err(MaskError::Size { found: 0 }));
        let side = Mask::MAX_SIDE + 1;
        assert!(Mask::new(vec![true; side * side]).is_err());
        let config = crate::config::published::config(16);
        let nothing = Mask::new(vec![false; 256]).unwrap();
        assert_eq!(nothing.tokens(&config.patch_nums), Err(MaskError::Empty));
        let all = Mask::new(vec![true]).unwrap();
        assert_eq!(all.tokens(&config.patch_nums).unwrap(), vec![true; 680]);
    }
}
