//! The wire protocol of the VAR-DD playground, for both sides.
//!
//! Everything that the page and the server say to each other is a type of this crate: JSON control
//! messages ([`ClientMessage`], [`ServerMessage`]), binary picture frames ([`Frame`]) and the
//! bodies of the HTTP interface ([`ServerInfo`], [`JobView`]). The crate compiles to wasm and knows
//! nothing of the server, the engine or the page.
//!
//! # One job on the wire
//! ```text
//! page                                   server
//!   hello { version }                  →
//!                                      ←  hello { version }
//!   generate { tag, request }          →
//!                                      ←  accepted { tag, job, owner_token }
//!                                      ←  event { job, seq: 0, queued }
//!                                      ←  event { job, seq: 1, started }
//!                                      ←  event { job, seq: 2, pass_began }
//!                                      ←  (binary) Frame { seq: 3, picture, pass, scale, … } +
//! picture
//!                                      ←  …
//!                                      ←  event { job, seq: n, finished }
//! ```
//! Every event of a job, frames included, has a sequence number; `watch { job, after }` continues
//! after any of them. A slow viewer may miss intermediate frames (a jump in the numbers), never the
//! last frame of a picture and never a state. Of several positions in the queue in a row only the
//! newest is kept.
//!
//! With `last_frame_first` a job runs all its passes before its first frame, and the finished
//! picture comes before the frames on the way to it: a frame that says `last` is the finished
//! picture, not the end. The end is `finished`.
//!
//! A job that was unfinished when the server went down starts over when it is back: `queued` again,
//! then everything from `started` on, with numbers above all that it had. A `queued` or `started`
//! event therefore clears what a client has of a job.
//!
//! A client that names itself in `hello { client_key }` may send a `generate` again whose answer it
//! has not seen, on another connection and after a restart of the server too: under the same name
//! and tag the same request gets the same job.
//!
//! An event of a kind that a client does not know ([`JobEvent::Unknown`]) changes nothing for it;
//! new kinds may come without another version.

pub mod classes;
mod comparison;
mod error;
mod explore;
mod frame;
mod grid;
mod job;
mod message;
mod model;
mod number;
mod object;
pub mod pad;
mod parameters;
mod seed;
mod spelling;
mod walk;

pub use comparison::{
    COMPARED_PLANS, Comparison, ComparisonError, Legible, plan_of_words, plan_words,
};
pub use error::{ErrorBody, ErrorCode};
pub use explore::{
    CodewordChance, Corner, Explore, MAX_CORNERS, MAX_GAIN, MAX_LINEAGE, MAX_MASK_SIDE, Origin,
    Parent, ScaleTokens, SeedRange, TokenLaw, TokenReport, TokenizedPicture,
};
pub use frame::{Frame, FrameError, FrameHeader, MediaType};
pub use grid::{Axis, GRID_SIDE, Grid, GridValue, listed};
pub use job::{
    FrameEntry, GenerateRequest, JobEvent, JobId, JobIdError, JobState, JobView, OwnerToken,
    Timings,
};
pub use message::{ClientMessage, ServerMessage};
pub use model::{ModelInfo, ResultPage, ServerInfo};
pub use number::number_of;
pub use object::from_json_object;
pub use parameters::{
    FileFormat, FileParameters, FileShape, PARAMETERS_KEYWORD, ParametersError, PictureParameters,
    SHEET_PICTURES, SheetParameters, Verification, WALK_KEYWORD, XMP_BOX, with_texts,
};
pub use seed::seed_of;
pub use spelling::{is_near, lowercase};
pub use var_dd_plan::{
    FramePosition, Guidance, Pass, PassKind, Plan, PlanError, PlanField, PlanPreset,
};
pub use walk::{MAX_WALK_MS, WALK_PICTURE_MS, WALK_PICTURES, WalkFormat, WalkRequest};

/// Version of the protocol. A server refuses a client of another version with
/// [`ErrorCode::ProtocolVersion`].
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest seed of a request, 2⁵³ − 1: the largest integer that every JSON reader keeps exact.
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// Most pictures in one job.
pub const MAX_PICTURES: u32 = 8;

/// Most times as large as they were drawn that pictures and exports are made.
pub const ENLARGED_TIMES: u32 = 8;

/// Largest side of a picture that was enlarged, in pixels.
pub const ENLARGED_SIDE: u32 = 1024;

/// Latest deadline of a job after its acceptance, in milliseconds: a day.
pub const MAX_DEADLINE_MS: u64 = 86_400_000;
