//! One file per place in the page.

mod at_hand;
mod compare;
mod explore;
mod grid;
mod history;
mod learn;
mod missing;
mod playground;
mod result;

pub(crate) use at_hand::AtHand;
pub(crate) use compare::Compare;
pub(crate) use explore::Explore;
pub(crate) use grid::GridPage;
pub(crate) use history::History;
pub(crate) use learn::Learn;
pub(crate) use missing::Missing;
pub(crate) use playground::Playground;
pub(crate) use result::ResultPage;
