//! What the page knows and what that means: pure types, tested natively. No file here touches the
//! browser.

pub(crate) mod address;
pub(crate) mod bench;
pub(crate) mod bundle;
pub(crate) mod comparison;
pub(crate) mod conversation;
pub(crate) mod cost;
pub(crate) mod custom_plan;
pub(crate) mod desk;
pub(crate) mod glossary;
pub(crate) mod history;
pub(crate) mod job;
pub(crate) mod lesson;
pub(crate) mod mine;
pub(crate) mod opened;
pub(crate) mod pad;
pub(crate) mod plan_shape;
pub(crate) mod player;
pub(crate) mod previews;
pub(crate) mod pulse;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod timeline;
pub(crate) mod tokens;
pub(crate) mod walk;
pub(crate) mod words;
