//! What a link to the page means: the server, the comparison, the picture of a result.

use actix_web::{HttpMessage, HttpRequest};
use serde::Deserialize;
use url::form_urlencoded;
use utoipa::IntoParams;
use var_dd_protocol::{Comparison, Grid, JobView, ModelInfo};

use super::{Site, security::Authority};

/// Which picture of a result a link means.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Chosen {
    /// Number of the picture, from 1.
    #[serde(default)]
    picture: Option<String>,
}

impl Chosen {
    /// The picture of this number, as a link spells it.
    pub(super) fn new(picture: Option<String>) -> Self {
        Self { picture }
    }

    /// Index of the picture of a result, if there is such a one.
    pub(super) fn index(&self, view: &JobView) -> Option<usize> {
        let number = self.picture.as_deref()?.parse::<usize>().ok()?;
        number.checked_sub(1).filter(|&index| index < view.pictures.len())
    }
}

/// What a link says of the picture of several that it means, by its index.
pub(super) fn picture_query(picture: Option<usize>) -> String {
    picture.map(|index| format!("?picture={}", index + 1)).unwrap_or_default()
}

/// The comparison that an address names, with its model, if both are here.
pub(super) fn compared(site: &Site, address: &str) -> Option<(Comparison, ModelInfo)> {
    let comparison: Comparison = address.parse().ok()?;
    let models = site.scheduler.models();
    let model = models.iter().find(|model| model.name == comparison.model)?;
    let is_there = (comparison.class as usize) < model.classes.len();
    is_there.then(|| (comparison, model.clone()))
}

/// What the address of a grid says. It is read by hand, since others may add to a link.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct GridQuery {
    /// What changes from column to column, and its values: `seed: 1-4`. One of class, seed, plan,
    /// steps, split, cfg, top-k and top-p; at most twelve values.
    across: Option<String>,
    /// What changes from row to row: `plan: 1 step, 2 steps`.
    down: Option<String>,
    /// Name of a model; the server's first one if absent.
    model: Option<String>,
    /// The class of all pictures, by its name or number.
    class: Option<String>,
    /// The plan of all pictures: the name of a preset, or in words: `student=0,5;split=5`.
    plan: Option<String>,
    /// The seed of all pictures.
    seed: Option<String>,
}

/// The grid that a query names, with its model; nothing if it is none that can be drawn here.
pub(super) fn gridded(site: &Site, query: &str) -> Option<(Grid, ModelInfo)> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let models = site.scheduler.models();
    let (grid, model) = Grid::of_pairs(&pairs, &models).ok()?;
    Some((grid, model.clone()))
}

/// The address of the server as people see it, without a slash at its end.
pub(super) fn base(request: &HttpRequest, site: &Site) -> String {
    let extensions = request.extensions();
    extensions.get::<Authority>().map(|host| site.gate.base_url(host)).unwrap_or_default()
}

/// The way from a path back to where the page lies: relative, since a proxy may have put something
/// before the path that nobody here knows of.
pub(super) fn root_of(path: &str) -> String {
    match path.strip_prefix('/').unwrap_or(path).matches('/').count() {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_to_the_page_is_as_long_as_the_path() {
        for (path, root) in [
            ("/", "./"),
            ("/compare", "./"),
            ("/r/1", "../"),
            ("/r/1/", "../../"),
            ("/c/a/b", "../../"),
        ] {
            assert_eq!(root_of(path), root, "{path}");
        }
    }
}
