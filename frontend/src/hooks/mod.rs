//! What components share: the server, the settings, the player, keys, and what the browser
//! remembers.

mod backend;
mod controls;
mod keys;
mod memory;
mod player;
mod theme;

pub(crate) use backend::{BackendProvider, use_backend, use_recent, use_result};
pub(crate) use controls::{Controls, use_controls};
pub(crate) use keys::{Key, use_keys};
pub(crate) use memory::{
    current_job, forget_current_job, keep_current_job, owner_token, random_below,
};
pub(crate) use player::{Playing, use_clock, use_player};
pub(crate) use theme::{use_theme, use_title};
