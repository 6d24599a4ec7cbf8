//! A picture file that is opened on the playground: how it was drawn, and whether it can be drawn
//! again to compare.

use var_dd_protocol::{
    FileFormat, FileParameters, FileShape, GenerateRequest, ModelInfo, ParametersError,
    PictureParameters, SheetParameters, WalkRequest,
};

use super::{
    pad::Pad,
    settings::Settings,
    words::{self, counted},
};

/// Largest file that is read, in bytes: as large as the server takes.
pub(crate) const MOST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// Files that say how they were drawn, by their media types.
pub(crate) const MEDIA_TYPES: [&str; 5] =
    ["image/png", "image/apng", "image/webp", "image/gif", "video/mp4"];

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opened {
    pub(crate) file_name: String,
    pub(crate) parameters: FileParameters,
    shape: FileShape,
    /// The place in the page that shows it, as the file says, if it does.
    page: Option<String>,
}

/// Where in the page the same is seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place<'a> {
    /// A comparison, a grid or a walk, by its address without a slash at its beginning.
    Page(&'a str),
    /// On the pad of a model.
    Pad(&'a str, Pad),
}

impl Opened {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it does not say how it was drawn, in words.
    pub(crate) fn read(file_name: String, bytes: &[u8]) -> Result<Self, String> {
        let parameters = FileParameters::of(bytes).map_err(|error| match error {
            // Whoever opens a file here need not have got it here.
            ParametersError::OtherFormat => {
                "Only PNG, WebP, GIF and MP4 files say how they were drawn, and this is none."
                    .to_owned()
            }
            ParametersError::None => "It does not say how it was drawn. Programs that edit, copy \
                or send pictures often drop that."
                .to_owned(),
            error => words::sentence(&format!("{error}.")),
        })?;
        let shape = FileShape::of(bytes).ok_or("It has no size.")?;
        let page = match &parameters {
            FileParameters::Sheet(sheet) => Some(sheet.page.clone()),
            FileParameters::Picture(_) => {
                WalkRequest::of_file(bytes).filter(|_| shape.is_walk).and_then(|walk| walk.page)
            }
        };
        Ok(Self { file_name, parameters, shape, page })
    }

    /// Whether it is a video, which no picture element shows.
    pub(crate) fn is_video(&self) -> bool {
        self.shape.format == FileFormat::Mp4
    }

    /// Its larger side in pixels.
    pub(crate) fn side(&self) -> u32 {
        self.shape.width.max(self.shape.height)
    }

    /// The request of its picture, or of the first one of a sheet.
    fn request(&self) -> Option<&GenerateRequest> {
        match &self.parameters {
            FileParameters::Picture(picture) => Some(&picture.request),
            FileParameters::Sheet(sheet) => sheet.requests.first(),
        }
    }

    /// The place in this page that shows the same, if it is no picture of the playground.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        // A file of strangers leads to these places alone.
        let leads = |page: &&String| {
            let is_place = ["c/", "grid?", "explore?"].iter().any(|place| page.starts_with(place));
            let is_plain = page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
            is_place && is_plain && !page.contains("..")
        };
        if let Some(page) = self.page.as_ref().filter(leads) {
            return Some(Place::Page(page));
        }
        let FileParameters::Picture(PictureParameters { request, .. }) = &self.parameters else {
            return None;
        };
        Some(Place::Pad(request.model.as_deref()?, Pad::of_request(request)?))
    }

    /// The model that drew it, if it is loaded.
    fn model<'a>(&self, models: &'a [ModelInfo]) -> Option<&'a ModelInfo> {
        let name = self.request()?.model.as_ref()?;
        models.iter().find(|model| model.name == *name)
    }

    /// The settings that it was drawn by, each with its name.
    pub(crate) fn settings(&self, models: &[ModelInfo]) -> Vec<(&'static str, String)> {
        let Some(request) = self.request() else { return Vec::new() };
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
        match &self.parameters {
            FileParameters::Picture(PictureParameters { picture, request }) => {
                if request.count > 1 {
                    let which = format!("{} of {}", picture + 1, request.count);
                    settings.push(("Picture", which));
                }
            }
            FileParameters::Sheet(SheetParameters { requests, .. }) => {
                // What differs from picture to picture is told by the sheet itself.
                let same = |is: fn(&GenerateRequest, &GenerateRequest) -> bool| {
                    requests.iter().all(|other| is(other, request))
                };
                let (class, plan, seed) = (
                    same(|one, other| one.class == other.class),
                    same(|one, other| one.plan == other.plan),
                    same(|one, other| one.seed == other.seed),
                );
                settings.retain(|(name, _)| match *name {
                    "Class" => class,
                    "Plan" => plan,
                    "Seed" => seed,
                    _ => true,
                });
                settings.push(("Sheet", counted(requests.len(), "picture", "pictures")));
            }
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
        let Some(request) = self.request() else { return (settings, Vec::new()) };
        let (settings, mut left_out) = settings.drawing_again(request, models);
        if request.explore.is_some() {
            left_out.push(
                "it was made by exploring, and the controls hold only the settings above".into(),
            );
        }
        (settings, left_out)
    }

    /// Why it cannot be held against a picture that is drawn again, if it cannot.
    pub(crate) fn cannot_verify(&self, models: &[ModelInfo]) -> Option<String> {
        if let FileParameters::Sheet(_) = self.parameters {
            return Some("A sheet is painted here, with words and from several pictures.".into());
        }
        let Some(model) = self.model(models) else {
            let name = self.request().and_then(|request| request.model.as_deref());
            let name = name.unwrap_or_default();
            return Some(format!("The model “{name}” is not loaded here."));
        };
        let FileShape { format, width, height, .. } = self.shape;
        let side = model.image_size;
        let never_equal = match format {
            FileFormat::Gif => Some("A GIF has at most 256 colours"),
            FileFormat::Mp4 => Some("An MP4 is compressed with loss"),
            FileFormat::Png | FileFormat::WebP => None,
        };
        if let Some(why) = never_equal {
            return Some(format!(
                "{why}, so that it is never equal to what was drawn. The APNG and the WebP can be \
                    verified."
            ));
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
    fn opened(width: u32, height: u32, format: FileFormat) -> Opened {
        let mut request = request(two_steps(), 2);
        (request.model, request.class, request.seed) = (Some("a".into()), 7, Some(41));
        Opened {
            file_name: "x.png".into(),
            parameters: FileParameters::Picture(PictureParameters { request, picture: 1 }),
            shape: FileShape { format, width, height, is_animated: false, is_walk: false },
            page: None,
        }
    }

    #[test]
    fn the_settings_of_a_file_come_into_the_controls() {
        let models = [model("b", 3), model("a", 9)];
        let file = opened(64, 64, FileFormat::Png);
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
        let (settings, left_out) = opened(64, 64, FileFormat::Png).apply(chosen, &models);
        assert_eq!((settings.class, settings.seed.as_str()), (2, "41"));
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].contains("“a”"), "{left_out:?}");
        let told = opened(64, 64, FileFormat::Png).settings(&models);
        assert!(told.contains(&("Class", "number 7".into())), "{told:?}");
    }

    #[test]
    fn what_was_explored_is_told_to_be_more_than_its_settings() {
        let mut file = opened(64, 64, FileFormat::Png);
        let FileParameters::Picture(picture) = &mut file.parameters else { panic!("a sheet") };
        picture.request.explore = Some(Default::default());
        picture.request.plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        let (_, left_out) = file.apply(Settings::new(1), &[model("a", 9)]);
        assert!(left_out.len() == 1 && left_out[0].contains("exploring"), "{left_out:?}");
    }

    #[test]
    fn only_one_whole_picture_of_a_loaded_model_is_verified() {
        let models = [model("a", 9)];
        for (file, part) in [
            (opened(64, 64, FileFormat::Png), None),
            (opened(64, 64, FileFormat::WebP), None),
            (opened(128, 64, FileFormat::Png), Some("side by side")),
            (opened(130, 66, FileFormat::Png), Some("130 × 66")),
            (opened(64, 64, FileFormat::Gif), Some("256 colours")),
            (opened(64, 64, FileFormat::Mp4), Some("with loss")),
        ] {
            let told = file.cannot_verify(&models);
            assert_eq!(told.is_some(), part.is_some(), "{told:?}");
            assert!(told.is_none_or(|told| told.contains(part.unwrap_or_default())));
        }
        let told = opened(64, 64, FileFormat::Png).cannot_verify(&[model("b", 9)]).unwrap();
        assert!(told.contains("“a” is not loaded"), "{told}");
    }

    #[test]
    fn a_sheet_tells_what_its_pictures_share_and_leads_to_its_place_alone() {
        let mut file = opened(900, 400, FileFormat::Png);
        let FileParameters::Picture(picture) = file.parameters else { panic!("a sheet") };
        let other = GenerateRequest { seed: Some(42), ..picture.request.clone() };
        file.parameters = FileParameters::Sheet(SheetParameters {
            requests: vec![picture.request.clone(), other],
            page: "grid?across=seed%3A41-42".into(),
        });
        file.page = Some("grid?across=seed%3A41-42".into());
        let models = [model("a", 9)];
        let told: Vec<_> = file.settings(&models).into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, ["Class", "Plan", "Model", "Sheet"]);
        assert_eq!(file.apply(Settings::new(1), &models).0.seed, "41", "that of the first");
        assert!(file.cannot_verify(&models).unwrap().contains("painted"));
        assert_eq!(file.place(), Some(Place::Page("grid?across=seed%3A41-42")));
        for elsewhere in
            ["//evil.example", "https://evil.example", "c/../api", "r/1", "c/a b", "c/\\x", ""]
        {
            file.page = Some(elsewhere.to_owned());
            assert_eq!(file.place(), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_walk_leads_to_its_place_and_what_was_explored_to_the_pad() {
        let mut file = opened(64, 64, FileFormat::Gif);
        assert_eq!(file.place(), None, "a picture of the playground");
        let pad = Pad::new(9, |end| end / 2).at(20, 70);
        let request = pad.request(&model("a", 9)).unwrap();
        file.parameters = FileParameters::Picture(PictureParameters { request, picture: 0 });
        assert_eq!(file.place(), Some(Place::Pad("a", pad)), "a walk of an earlier version");
        file.page = Some("explore?at=20-70&pins=1-2_3-4".into());
        assert_eq!(file.place(), Some(Place::Page("explore?at=20-70&pins=1-2_3-4")));
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
