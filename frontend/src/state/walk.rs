//! The map behind the pad, and the closed walk through its pins.

use var_dd_protocol::{GenerateRequest, ModelInfo, WalkFormat, WalkRequest, pad::STEPS};

use super::pad::Pad;

/// Cells along each side of the map.
pub(crate) const MAP_SIDE: usize = 7;

/// Around the pad's steps, so that the ring is whole at its edges.
pub(crate) const MARGIN: u32 = 6;

/// How long each picture of a walk is shown, in milliseconds.
pub(crate) const PICTURE_MS: u32 = 80;

/// Cells of the map, column and row, in the order in which they are drawn: corners, then those
/// half-way between, then all others, each round from the top.
pub(crate) fn map_order() -> Vec<(usize, usize)> {
    let round = |at: usize| match at % (MAP_SIDE - 1) {
        0 => 0,
        at if 2 * at == MAP_SIDE - 1 => 1,
        _ => 2,
    };
    let mut cells: Vec<_> =
        (0..MAP_SIDE).flat_map(|row| (0..MAP_SIDE).map(move |column| (column, row))).collect();
    cells.sort_by_key(|&(column, row)| round(column).max(round(row)));
    cells
}

/// The place in the middle of a cell, in steps from the left or from the top.
fn middle(cell: usize) -> f64 {
    let span = f64::from(STEPS + 2 * MARGIN) / MAP_SIDE as f64;
    (cell as f64 + 0.5) * span - f64::from(MARGIN)
}

/// The requests of the map, in the order in which they are drawn.
pub(crate) fn map_requests(pad: &Pad, model: &ModelInfo) -> Vec<GenerateRequest> {
    let cells = map_order().into_iter();
    cells.filter_map(|(x, y)| pad.request_at(model, middle(x), middle(y))).collect()
}

/// Places of a closed walk through the pins at an even pace, so many of them; none if the pins are
/// not two places at least.
pub(crate) fn places(pins: &[(u32, u32)], pictures: usize) -> Vec<(f64, f64)> {
    let pins: Vec<_> = pins.iter().map(|&(x, y)| (f64::from(x), f64::from(y))).collect();
    let ends = pins.iter().skip(1).chain(pins.first());
    let ways: Vec<_> = pins
        .iter()
        .zip(ends)
        .map(|(&from, &to)| (from, to, (to.0 - from.0).hypot(to.1 - from.1)))
        .collect();
    let length: f64 = ways.iter().map(|way| way.2).sum();
    if length <= 0.0 {
        return Vec::new();
    }
    let at = |picture: usize| {
        let mut rest = length * picture as f64 / pictures as f64;
        for &(from, to, long) in &ways {
            if rest < long {
                let part = rest / long;
                let between = |from: f64, to: f64| from + (to - from) * part;
                return (between(from.0, to.0), between(from.1, to.1));
            }
            rest -= long;
        }
        ways[0].0
    };
    (0..pictures).map(at).collect()
}

/// The requests of a walk, one for each place.
pub(crate) fn requests(
    pad: &Pad,
    model: &ModelInfo,
    places: &[(f64, f64)],
) -> Vec<GenerateRequest> {
    places.iter().filter_map(|&(x, y)| pad.request_at(model, x, y)).collect()
}

/// What the server is asked for to have the walk as a file that leads back to its `page`; nothing
/// if there is no walk.
pub(crate) fn file_request(
    pad: &Pad,
    model: &ModelInfo,
    places: &[(f64, f64)],
    format: WalkFormat,
    page: &str,
) -> Option<WalkRequest> {
    let &(x, y) = places.first()?;
    Some(WalkRequest {
        request: pad.request_at(model, x, y)?,
        weights: places.iter().map(|&(x, y)| Pad::weights(x, y).to_vec()).collect(),
        format,
        picture_ms: PICTURE_MS,
        page: Some(page.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::pad::LENGTHS;

    use super::*;
    use crate::state::settings::tests::model;

    #[test]
    fn the_map_is_drawn_from_coarse_to_fine_and_every_cell_once() {
        let order = map_order();
        let last = MAP_SIDE - 1;
        assert_eq!(order[..4], [(0, 0), (last, 0), (0, last), (last, last)]);
        let coarse: Vec<_> = order[4..9].to_vec();
        assert!(coarse.iter().all(|&(x, y)| x % 3 == 0 && y % 3 == 0), "{coarse:?}");
        let mut cells = order.clone();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!((cells.len(), order.len()), (49, 49));
        assert_eq!(map_requests(&Pad::new(8, |end| end / 2), &model("a", 8)).len(), 49);
    }

    #[test]
    fn a_cell_shows_the_place_in_its_middle() {
        assert_eq!((middle(0), middle(3), middle(6)), (2.0, 50.0, 98.0));
    }

    #[test]
    fn a_walk_visits_its_pins_at_an_even_pace_and_comes_back() {
        let square = [(0, 0), (100, 0), (100, 100), (0, 100)];
        let walk = places(&square, 8);
        let expected =
            [(0, 0), (50, 0), (100, 0), (100, 50), (100, 100), (50, 100), (0, 100), (0, 50)];
        assert_eq!(walk, expected.map(|(x, y)| (f64::from(x), f64::from(y))));
        let there_and_back = places(&[(0, 50), (100, 50)], 4);
        assert_eq!(there_and_back, [(0.0, 50.0), (50.0, 50.0), (100.0, 50.0), (50.0, 50.0)]);
        // A pin set twice is no place of its own.
        assert_eq!(places(&[(0, 50), (0, 50), (100, 50)], 4), there_and_back);
        for none in [&[] as &[(u32, u32)], &[(3, 4)], &[(3, 4), (3, 4)]] {
            assert!(places(none, 8).is_empty(), "{none:?}");
        }
    }

    #[test]
    fn the_file_is_of_the_pictures_that_the_page_plays() {
        let (pad, model) = (Pad::new(8, |end| end / 2), model("a", 8));
        for length in LENGTHS {
            let places = places(&[(0, 0), (90, 40), (20, 80)], length);
            let played = requests(&pad, &model, &places);
            let page = "explore?at=1-2";
            let file = file_request(&pad, &model, &places, WalkFormat::Gif, page).unwrap();
            let drawn = file.requests().unwrap();
            let blend = |of: &GenerateRequest| of.explore.clone().unwrap().blend;
            assert!(drawn.iter().map(blend).eq(played.iter().map(blend)), "{length}");
        }
        assert!(file_request(&pad, &model, &[], WalkFormat::Gif, "explore").is_none());
    }
}
