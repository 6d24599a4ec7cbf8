//! `config.json` of a bundle: every size of the networks, and the plans shown to people.

pub mod published;

use std::path::Path;

use serde::{Deserialize, Serialize};
use var_dd_plan::{Pass, Plan, PlanError, PlanPreset};

use crate::input_file;

/// Groups of channels of each group norm in the released VAE.
pub const RELEASED_NORM_GROUPS: i64 = 32;

/// The most groups of channels that a group norm may have.
pub const MOST_NORM_GROUPS: i64 = 1024;

/// Everything about a model that is not a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Name shown to people and used in requests.
    pub name: String,
    /// Side of each scale's token map, increasing, starting with 1.
    pub patch_nums: Vec<i64>,
    /// Codewords `V`.
    pub vocabulary: i64,
    /// Channels of a codeword, `Cv`.
    pub latent_channels: i64,
    /// Sizes of the VAE.
    pub vae: VaeConfig,
    /// Sizes of student and teacher.
    pub transformer: TransformerConfig,
    /// Classes, the unconditional one not counted.
    pub num_classes: i64,
    /// Class names, in order.
    pub classes: Vec<String>,
    /// Plans shown to people, cheapest first; written as the flags of the released scripts.
    #[serde(with = "preset_flags")]
    pub plans: Vec<PlanPreset>,
}

/// Sizes of the VQ-VAE (VQGAN's encoder and decoder).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaeConfig {
    /// Channels at full resolution.
    pub channels: i64,
    /// Channels of each level as multiples of [`VaeConfig::channels`]; each level but the first
    /// halves the side.
    pub channel_multipliers: Vec<i64>,
    /// Res-blocks per encoder level; a decoder level has one more.
    pub residual_blocks: i64,
    /// Groups of channels that every group norm takes together, a divisor of the channels of each
    /// level; [`RELEASED_NORM_GROUPS`] where the file has none.
    ///
    /// With one channel a group, each channel loses its mean and the network brings it past the
    /// norm as one bright spot (the droplets of Karras et al. 2020): four channels or more a group.
    #[serde(default = "released_groups", skip_serializing_if = "is_released")]
    pub norm_groups: i64,
}

fn released_groups() -> i64 {
    RELEASED_NORM_GROUPS
}

fn is_released(groups: &i64) -> bool {
    *groups == RELEASED_NORM_GROUPS
}

/// Sizes of a transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Blocks.
    pub depth: i64,
    /// Width `C`; published models: 64 · depth.
    pub width: i64,
    /// Attention heads; published models: depth.
    pub heads: i64,
}

/// A configuration that cannot be used. The messages hold their causes, which are therefore no
/// `source`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {cause}; a model is a directory as `var-dd convert` makes it")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} is not a model's configuration: {cause}")]
    Parse {
        /// The file.
        path: String,
        /// Why.
        cause: String,
    },
    /// The file holds a configuration that cannot be used.
    #[error("{path}: {cause}")]
    Unsound {
        /// The file.
        path: String,
        /// Why.
        cause: Box<ConfigError>,
    },
    /// A size out of bounds.
    #[error("{field} is {value}; it must be {bound}")]
    Size {
        /// Key in `config.json`.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        bound: String,
    },
    /// A plan that the model cannot run.
    #[error("plan {name:?} cannot run on this model: {cause}")]
    Plan {
        /// Its name.
        name: String,
        /// Why.
        cause: PlanError,
    },
}

/// Largest number of anything that a size counts; keeps products of sizes far from overflow.
const MAX_SIZE: i64 = 1 << 20;

/// Most tokens of a picture: attention's masks have as many rows and columns.
pub(crate) const MAX_TOKENS: i64 = 16_384;

impl Config {
    /// Reads and checks `config.json` in `directory`.
    ///
    /// # Errors
    /// When the file cannot be read or holds a size out of bounds.
    pub fn read(directory: &Path) -> Result<Self, ConfigError> {
        let path = directory.join("config.json");
        let shown = path.display().to_string();
        let text = input_file::read(&path)
            .map_err(|cause| ConfigError::Read { path: shown.clone(), cause })?;
        let config: Self = input_file::parse_json(&text)
            .map_err(|cause| ConfigError::Parse { path: shown.clone(), cause })?;
        match config.validate() {
            Ok(()) => Ok(config),
            Err(cause) => Err(ConfigError::Unsound { path: shown, cause: Box::new(cause) }),
        }
    }

    /// Number of scales `S`.
    pub fn scales(&self) -> usize {
        self.patch_nums.len()
    }

    /// Checks a plan against the scales of the model.
    ///
    /// # Errors
    /// The first bound that is broken, with the value.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), PlanError> {
        plan.validate(self.scales() as u32)
    }

    /// The passes of a valid plan on this model, in order.
    pub fn passes(&self, plan: &Plan) -> Vec<Pass> {
        plan.passes(self.scales() as u32)
    }

    /// Number of tokens `N` of all scales.
    pub fn tokens(&self) -> i64 {
        self.tokens_before(self.scales())
    }

    /// Tokens `K(t)` of the scales before `scale`.
    pub fn tokens_before(&self, scale: usize) -> i64 {
        self.patch_nums.iter().take(scale).map(|side| side * side).sum()
    }

    /// Side of the latent map, which is that of the last scale.
    pub fn latent_side(&self) -> i64 {
        self.patch_nums.last().copied().unwrap_or(0)
    }

    /// Side of a picture in pixels.
    pub fn image_size(&self) -> i64 {
        self.latent_side() << (self.vae.channel_multipliers.len().max(1) - 1)
    }

    /// Weights of the student's blocks, which are nearly all of its weights: 12 C² of a block's
    /// layers, 6 C² that adapt it to the class and C² of its noise and data.
    pub fn transformer_parameters(&self) -> i64 {
        19 * self.transformer.depth * self.transformer.width.pow(2)
    }

    /// Checks every size.
    ///
    /// # Errors
    /// The first value that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let size = |field, value: String, bound: &str| {
            Err(ConfigError::Size { field, value, bound: bound.into() })
        };
        let sides = &self.patch_nums;
        let increasing = sides.windows(2).all(|pair| pair[0] < pair[1]);
        if sides.first() != Some(&1) || sides.len() < 2 || !increasing || self.latent_side() > 256 {
            return size(
                "patch_nums",
                format!("{sides:?}"),
                "two or more increasing sides from 1 to at most 256",
            );
        }
        if self.tokens() > MAX_TOKENS {
            let bound = format!("scales of at most {MAX_TOKENS} tokens in all");
            return size("patch_nums", format!("{sides:?}"), &bound);
        }
        let counts = [
            ("vocabulary", self.vocabulary),
            ("latent_channels", self.latent_channels),
            ("num_classes", self.num_classes),
            ("transformer.depth", self.transformer.depth),
            ("transformer.width", self.transformer.width),
            ("transformer.heads", self.transformer.heads),
            ("vae.channels", self.vae.channels),
            ("vae.residual_blocks", self.vae.residual_blocks),
        ];
        for (field, value) in counts {
            if !(1..=MAX_SIZE).contains(&value) {
                return size(field, value.to_string(), &format!("from 1 to {MAX_SIZE}"));
            }
        }
        let TransformerConfig { width, heads, .. } = self.transformer;
        if width % heads != 0 {
            return size(
                "transformer.heads",
                heads.to_string(),
                &format!("a divisor of the width {width}"),
            );
        }
        let multipliers = &self.vae.channel_multipliers;
        if multipliers.is_empty()
            || multipliers.len() > 8
            || multipliers.iter().any(|m| !(1..=1024).contains(m))
        {
            return size(
                "vae.channel_multipliers",
                format!("{multipliers:?}"),
                "one to eight numbers from 1 to 1024",
            );
        }
        // Every level has a multiple of these channels.
        let groups = self.vae.norm_groups;
        if !(1..=MOST_NORM_GROUPS).contains(&groups) {
            let bound = format!("from 1 to {}", MOST_NORM_GROUPS);
            return size("vae.norm_groups", groups.to_string(), &bound);
        }
        if self.vae.channels % groups != 0 {
            let bound = format!("a multiple of vae.norm_groups = {groups}");
            return size("vae.channels", self.vae.channels.to_string(), &bound);
        }
        if self.classes.len() as i64 != self.num_classes {
            let bound = format!("a list of num_classes = {} names", self.num_classes);
            return size("classes", format!("a list of {} names", self.classes.len()), &bound);
        }
        for preset in &self.plans {
            self.check_plan(&preset.plan)
                .map_err(|cause| ConfigError::Plan { name: preset.name.clone(), cause })?;
        }
        Ok(())
    }
}

/// Presets as `config.json` writes them: the plan's flags beside its name and score.
mod preset_flags {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use var_dd_plan::{PlanFlags, PlanPreset};

    #[derive(Serialize, Deserialize)]
    struct Row {
        name: String,
        #[serde(flatten)]
        flags: PlanFlags,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fid: Option<f64>,
    }

    pub(super) fn serialize<S: Serializer>(
        presets: &[PlanPreset],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(presets.iter().map(|preset| Row {
            name: preset.name.clone(),
            flags: PlanFlags::from(&preset.plan),
            fid: preset.fid,
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PlanPreset>, D::Error> {
        let preset = |Row { name, flags, fid }| match flags.plan() {
            Ok(plan) => Ok(PlanPreset { name, plan, fid }),
            Err(error) => Err(D::Error::custom(format!("plan {name:?}: {error}"))),
        };
        Vec::<Row>::deserialize(deserializer)?.into_iter().map(preset).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_no_configuration_is_told_for_what_it_is_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let sound = serde_json::to_string(&published::config(16)).unwrap();
        fs::write(&path, format!("\u{feff}{sound}")).unwrap();
        assert_eq!(Config::read(directory.path()).unwrap(), published::config(16));
        let few = sound.replace("\"num_classes\":1000", "\"num_classes\":-1");
        for (text, words) in [
            ("<!DOCTYPE html><title>Log in</title>", "it is a web page (\"Log in\")"),
            ("version https://git-lfs.github.com/spec/v1\nsize 7\n", "`git lfs pull`"),
            ("{\"message\": \"Not found\"}", "a JSON message (\"Not found\")"),
            ("{}", "missing field `name`"),
            (few.as_str(), "num_classes is -1; it must be from 1"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Config::read(directory.path()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("config.json"), "{words}: {error}");
        }
    }
}
