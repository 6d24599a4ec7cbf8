//! A picture file that is opened on the playground: how it was drawn, and whether it can be drawn
//! again to compare.

use var_dd_protocol::{ModelInfo, ParametersError, PictureParameters, PngShape};

use super::{settings::Settings, words};

/// Largest file that is read, in bytes: as large as the server takes.
pub(crate) const MOST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opened {
    pub(crate) file_name: String,
    pub(crate) parameters: PictureParameters,
    shape: PngShape,
}

impl Opened {
    /// Reads a PNG file.
    ///
    /// # Errors
    /// Why it does not say how it was drawn, in words.
    pub(crate) fn read(file_name: String, bytes: &[u8]) -> Result<Self, String> {
        let parameters = PictureParameters::from_png(bytes).map_err(|error| match error {
            // Whoever opens a file here need not have got it here.
            ParametersError::NotPng => {
                "Only PNG files say how they were drawn, and this is none.".to_owned()
            }
            ParametersError::None => "It does not say how it was drawn. Programs that edit, copy \
                or send pictures often drop that."
                .to_owned(),
            error => words::sentence(&format!("{error}.")),
        })?;
        let shape = PngShape::of(bytes).ok_or("It has no size.")?;
        Ok(Self { file_name, parameters, shape })
    }

    /// The model that drew it, if it is loaded.
    fn model<'a>(&self, models: &'a [ModelInfo]) -> Option<&'a ModelInfo> {
        let name = self.parameters.request.model.as_ref();
        models.iter().find(|model| Some(&model.name) == name)
    }

    /// The settings that it was drawn by, each with its name.
    pub(crate) fn settings(&self, models: &[ModelInfo]) -> Vec<(&'static str, String)> {
        let request = &self.parameters.request;
        let model = self.model(models);
        let class = model.and_then(|model| model.classes.get(request.class as usize)).cloned();
        let preset =
            model.and_then(|model| model.plans.iter().find(|preset| preset.plan == request.plan));
        let sides = model.map_or(&[][..], |model| &model.patch_nums);
        let plan = preset.map(|preset| preset.name.clone());
        let mut settings = vec![
            ("Class", class.unwrap_or_else(|| format!("number {}", request.class))),
            ("Plan", plan.unwrap_or_else(|| words::custom_plan(&request.plan, sides))),
            ("Seed", request.seed.map(|seed| seed.to_string()).unwrap_or_default()),
            ("Model", request.model.clone().unwrap_or_default()),
        ];
        if request.count > 1 {
            let which = format!("{} of {}", self.parameters.picture + 1, request.count);
            settings.push(("Picture", which));
        }
        settings
    }

    /// Settings with those of the file, as far as a loaded model has them; then what could not be
    /// taken, in words.
    pub(crate) fn apply(
        &self,
        settings: Settings,
        models: &[ModelInfo],
    ) -> (Settings, Vec<String>) {
        let (settings, mut left_out) = settings.to_draw_again(&self.parameters.request, models);
        if self.parameters.request.explore.is_some() {
            left_out.push(
                "it was made by exploring, and the controls hold only the settings above".into(),
            );
        }
        (settings, left_out)
    }

    /// Why it cannot be held against a picture that is drawn again, if it cannot.
    pub(crate) fn cannot_verify(&self, models: &[ModelInfo]) -> Option<String> {
        let name = self.parameters.request.model.as_deref().unwrap_or_default();
        let Some(model) = self.model(models) else {
            return Some(format!("The model “{name}” is not loaded here."));
        };
        let PngShape { width, height, is_animated } = self.shape;
        let side = model.image_size;
        if is_animated {
            return Some("An animation of the scales is not one picture to compare.".into());
        }
        ((width, height) != (side, side)).then(|| {
            format!(
                "Several pictures side by side, or one that was cut or scaled, are no picture to \
                    compare: it has {width} × {height} pixels, one picture has {side} × {side}."
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::Plan;

    use super::*;
    use crate::state::{
        job::tests::{request, two_steps},
        settings::{PlanChoice, tests::model},
    };

    /// A file of a picture of `model("a", 9)`.
    fn opened(width: u32, height: u32, is_animated: bool) -> Opened {
        let mut request = request(two_steps(), 2);
        (request.model, request.class, request.seed) = (Some("a".into()), 7, Some(41));
        Opened {
            file_name: "x.png".into(),
            parameters: PictureParameters { request, picture: 1 },
            shape: PngShape { width, height, is_animated },
        }
    }

    #[test]
    fn the_settings_of_a_file_come_into_the_controls() {
        let models = [model("b", 3), model("a", 9)];
        let file = opened(64, 64, false);
        let (settings, left_out) = file.apply(Settings::new(1), &models);
        assert_eq!((settings.class, settings.seed.as_str()), (7, "41"));
        assert_eq!(settings.model.as_deref(), Some("a"));
        assert_eq!((settings.plan, settings.count), (PlanChoice::Preset(1), 2));
        assert!(left_out.is_empty() && settings.chosen && !settings.seed_used);
        let told = file.settings(&models);
        let told: Vec<_> = told.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            told,
            ["Class: class 7", "Plan: 2 steps", "Seed: 41", "Model: a", "Picture: 2 of 2"]
        );
    }

    #[test]
    fn a_class_of_a_model_that_is_not_loaded_is_not_taken_for_another() {
        let models = [model("b", 9)];
        let chosen = Settings { class: 2, ..Settings::new(1) };
        let (settings, left_out) = opened(64, 64, false).apply(chosen, &models);
        assert_eq!((settings.class, settings.seed.as_str()), (2, "41"));
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].contains("“a”"), "{left_out:?}");
        let told = opened(64, 64, false).settings(&models);
        assert!(told.contains(&("Class", "number 7".into())), "{told:?}");
    }

    #[test]
    fn what_was_explored_is_told_to_be_more_than_its_settings() {
        let mut file = opened(64, 64, false);
        file.parameters.request.explore = Some(Default::default());
        file.parameters.request.plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        let (_, left_out) = file.apply(Settings::new(1), &[model("a", 9)]);
        assert!(left_out.len() == 1 && left_out[0].contains("exploring"), "{left_out:?}");
    }

    #[test]
    fn only_one_whole_picture_of_a_loaded_model_is_verified() {
        let models = [model("a", 9)];
        for (file, part) in [
            (opened(64, 64, false), None),
            (opened(128, 64, false), Some("side by side")),
            (opened(130, 66, false), Some("130 × 66")),
            (opened(64, 64, true), Some("animation")),
        ] {
            let told = file.cannot_verify(&models);
            assert_eq!(told.is_some(), part.is_some(), "{told:?}");
            assert!(told.is_none_or(|told| told.contains(part.unwrap_or_default())));
        }
        let told = opened(64, 64, false).cannot_verify(&[model("b", 9)]).unwrap();
        assert!(told.contains("“a” is not loaded"), "{told}");
    }

    #[test]
    fn a_file_without_settings_is_told_plainly() {
        for (bytes, part) in
            [(&b"\xff\xd8\xff\xe0 a JPEG"[..], "this is none"), (b"\x89PNG\r\n\x1a\n", "cut off")]
        {
            let told = Opened::read("x".into(), bytes).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
