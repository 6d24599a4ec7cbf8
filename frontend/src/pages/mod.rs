//! One file per place in the page.

mod at_hand;
mod compare;
mod explore;
mod grid;
mod history;
mod learn;
mod missing;
mod part;
mod playground;
mod result;

use at_hand::AtHand;
use compare::Compare;
use explore::Explore;
use grid::GridPage;
use history::History;
use learn::Learn;
pub(crate) use missing::Missing;
pub(crate) use part::{Fetched, Part};
pub(crate) use playground::Playground;
pub(crate) use result::ResultPage;
