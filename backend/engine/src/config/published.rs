//! The published models: their sizes, plans, scores and class names.

use var_dd_plan::{Guidance, Plan, PlanPreset};

use super::{Config, TransformerConfig, VaeConfig};

/// The published scales (256×256 pixels).
pub const SCALES: [i64; 10] = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16];

/// Names of the 1,000 classes of ImageNet (ILSVRC 2012), in the order of their numbers.
const IMAGENET_CLASSES: &str = include_str!("../../../../static/imagenet-classes.txt");

/// Scores of one published size: steps, `t_list`, split, teacher's start, FID.
struct Published {
    depth: i64,
    split: u32,
    one_step: f64,
    two_steps: f64,
    /// Steps, split, teacher's start, FID.
    with_teacher: &'static [(u32, u32, u32, f64)],
    teacher: f64,
}

/// Tables 1 and 2 of the paper: ImageNet 256×256, 50,000 pictures.
const PUBLISHED: [Published; 3] = [
    Published {
        depth: 16,
        split: 5,
        one_step: 9.94,
        two_steps: 7.82,
        with_teacher: &[(3, 5, 4, 6.54), (4, 8, 3, 5.47), (6, 9, 0, 5.03)],
        teacher: 4.19,
    },
    Published {
        depth: 20,
        split: 4,
        one_step: 9.55,
        two_steps: 7.33,
        with_teacher: &[],
        teacher: 3.35,
    },
    Published {
        depth: 24,
        split: 4,
        one_step: 8.92,
        two_steps: 6.95,
        with_teacher: &[],
        teacher: 2.51,
    },
];

/// Depths of the published transformers; the names of the models are `d16` and so on.
pub const DEPTHS: [i64; 3] = [16, 20, 24];

/// A model of the published sizes: the transformer of this depth, the published VAE, ImageNet's
/// classes.
pub fn config(depth: i64) -> Config {
    let mut config = Config {
        name: format!("d{depth}"),
        patch_nums: SCALES.to_vec(),
        vocabulary: 4096,
        latent_channels: 32,
        vae: VaeConfig {
            channels: 160,
            channel_multipliers: vec![1, 1, 2, 2, 4],
            residual_blocks: 2,
            norm_groups: 32,
        },
        transformer: TransformerConfig { depth, width: 64 * depth, heads: depth },
        num_classes: 1000,
        classes: class_names(1000),
        plans: Vec::new(),
    };
    config.plans = plans(&config, true);
    config
}

/// The names of `count` classes: ImageNet's for 1,000, else numbers.
pub(crate) fn class_names(count: i64) -> Vec<String> {
    if count == 1000 {
        return IMAGENET_CLASSES.lines().map(str::to_owned).collect();
    }
    (0..count).map(|class| format!("class {class}")).collect()
}

/// The published plans for a published size, else one step.
pub(crate) fn plans(config: &Config, has_teacher: bool) -> Vec<PlanPreset> {
    let transformer = &config.transformer;
    let published = PUBLISHED.iter().find(|published| {
        published.depth == transformer.depth
            && transformer.width == 64 * transformer.depth
            && transformer.heads == transformer.depth
            && config.patch_nums == SCALES
            && (config.vocabulary, config.latent_channels, config.num_classes) == (4096, 32, 1000)
    });
    let Some(published) = published else {
        return vec![PlanPreset::new("1 step", Plan::few_step(&[0], config.scales() as u32 / 2))];
    };
    let split = published.split;
    let mut plans = vec![
        PlanPreset::new("1 step", Plan::few_step(&[0], split)).with_fid(published.one_step),
        PlanPreset::new("2 steps", Plan::few_step(&[0, split], split))
            .with_fid(published.two_steps),
    ];
    if has_teacher {
        let guidance = Guidance::default();
        for &(steps, split, start, fid) in published.with_teacher {
            let plan = Plan::teacher_involved([0, 5], split, start, guidance);
            plans.push(PlanPreset::new(format!("{steps} steps with teacher"), plan).with_fid(fid));
        }
        let alone = PlanPreset::new("teacher, 10 steps", Plan::Teacher { guidance });
        plans.push(alone.with_fid(published.teacher));
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn imagenet_has_a_thousand_different_names_in_its_order() {
        let names = class_names(1000);
        assert_eq!(names.len(), 1000);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 1000);
        assert!(names.iter().all(|name| !name.trim().is_empty() && name.trim() == name));
        let known =
            [(0, "tench"), (1, "goldfish"), (207, "golden retriever"), (388, "giant panda")];
        for (class, name) in known.into_iter().chain([(817, "sports car"), (999, "toilet tissue")])
        {
            assert_eq!(names[class], name);
        }
        assert_eq!(class_names(2), ["class 0", "class 1"]);
    }

    #[test]
    fn published_sizes_offer_the_published_plans_and_others_one_step() {
        let scores = |depth, has_teacher| -> Vec<(String, Option<f64>)> {
            let mut config = config(depth);
            config.plans = plans(&config, has_teacher);
            config.validate().unwrap();
            config.plans.into_iter().map(|preset| (preset.name, preset.fid)).collect()
        };
        let row = |name: &str, fid| (name.to_owned(), Some(fid));
        assert_eq!(scores(16, false), [row("1 step", 9.94), row("2 steps", 7.82)]);
        assert_eq!(
            scores(16, true)[2..],
            [
                row("3 steps with teacher", 6.54),
                row("4 steps with teacher", 5.47),
                row("6 steps with teacher", 5.03),
                row("teacher, 10 steps", 4.19)
            ]
        );
        assert_eq!(scores(20, true).len(), 3);
        assert_eq!(scores(24, false)[1], row("2 steps", 6.95));
        assert_eq!(scores(2, true), [("1 step".to_owned(), None)]);
    }
}
