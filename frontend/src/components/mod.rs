//! What is drawn. Components know the state's types; the server only through `hooks`.

mod actions;
mod class_picker;
mod count_picker;
mod frame;
mod header;
mod keys_dialog;
mod model_picker;
mod notices;
mod plan_editor;
mod plan_picker;
mod player_bar;
mod recent;
mod seed_field;
mod stage;
mod status;
mod strip;
mod times;

pub(crate) use actions::Actions;
pub(crate) use class_picker::ClassPicker;
pub(crate) use count_picker::CountPicker;
pub(crate) use frame::{Layers, TokenGrid};
pub(crate) use header::Header;
pub(crate) use keys_dialog::KeysDialog;
pub(crate) use model_picker::ModelPicker;
pub(crate) use notices::Notices;
pub(crate) use plan_editor::PlanEditor;
pub(crate) use plan_picker::PlanPicker;
pub(crate) use player_bar::PlayerBar;
pub(crate) use recent::Recent;
pub(crate) use seed_field::SeedField;
pub(crate) use stage::Stage;
pub(crate) use status::{Status, StatusLine};
pub(crate) use strip::Strip;
pub(crate) use times::Times;
