//! Places in the page and their addresses.

use yew_router::Routable;

/// A place in the page.
#[derive(Clone, Debug, PartialEq, Routable)]
pub(crate) enum Route {
    /// Generate and watch.
    #[at("/")]
    Playground,
    /// Plans side by side.
    #[at("/compare")]
    Compare,
    /// A comparison with an address of its own; its parts are read off the address as it is.
    #[at("/c/*address")]
    Compared {
        /// Everything after `/c/`.
        address: String,
    },
    /// A picture between four corners.
    #[at("/explore")]
    Explore,
    /// A picture at hand: of one's own, or of a result.
    #[at("/picture")]
    Picture,
    /// One setting across, another one down.
    #[at("/grid")]
    Grid,
    /// How the method works.
    #[at("/learn")]
    Learn,
    /// All results of this browser.
    #[at("/history")]
    History,
    /// A shared result.
    #[at("/r/:id")]
    Result {
        /// Name of the result, as typed.
        id: String,
    },
    /// Any other address.
    #[not_found]
    #[at("/404")]
    NotFound,
}
