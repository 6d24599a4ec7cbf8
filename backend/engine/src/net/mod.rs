//! The networks. One file each; fields carry the names of the checkpoint, so that loading reads
//! like a state dict.
//!
//! Shapes at the end of lines: `B` pictures, `N` tokens, `L` positions, `C` width, `H` heads, `D`
//! head size, `V` codewords, `Cv` latent channels, `p` side of a token map.

mod blocks;
mod classes;
mod conv;
pub mod inception;
mod load;
pub mod quantizer;
pub mod student;
pub mod teacher;
pub mod vae;
