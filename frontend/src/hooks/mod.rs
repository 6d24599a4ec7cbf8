//! What components share: the server, the settings, the player, keys, and what the browser
//! remembers.

mod album;
pub(crate) mod archive;
mod backend;
pub(crate) mod cells;
mod clipboard;
mod controls;
mod database;
mod download;
mod fetched;
mod files;
mod focus;
mod gathered;
mod keys;
mod memory;
mod player;
mod preview;
mod sheet;
mod sight;
mod theme;

pub(crate) use album::{use_album, use_rested};
pub(crate) use backend::{Backend, BackendProvider, use_backend, use_recent, use_result};
pub(crate) use clipboard::copy_text;
pub(crate) use controls::{
    Controls, Current, LinkNote, SessionProvider, Visit, use_controls, use_current, use_link_note,
    use_settings_of_address, use_settings_of_example, use_visited_controls,
};
pub(crate) use download::download;
pub(crate) use fetched::{Fetching, use_another_look, use_fetched};
pub(crate) use files::{hand_over, take_handed_over, use_files};
pub(crate) use focus::{
    focus_main, has_lost_focus, has_main_focus, open_place, use_closing_by_focus,
    use_focus_after_press,
};
pub(crate) use keys::{Key, is_composing, keep_letters, letters_are_keys, sign_of, use_keys};
pub(crate) use memory::{
    keep_comparison, keep_place, keep_preference, kept_comparison, kept_place, owner_token,
    place_names, preference, preference_names, random_below,
};
pub(crate) use player::{Playing, prefers_stillness, use_clock, use_player};
pub(crate) use preview::use_preview;
pub(crate) use sheet::{Sheet, save_sheet};
pub(crate) use sight::{bring_to_top, use_in_sight};
pub(crate) use theme::{use_theme, use_title};
