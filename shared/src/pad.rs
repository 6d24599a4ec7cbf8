//! The address of the pad, a place between four corners and a walk over it:
//! `/explore?model=…&corners=0-11_1-22_2-33_3-44&at=40-40&pins=10-90_50-20&pictures=50`.

use crate::{MAX_SEED, ModelInfo};

/// Steps from one edge of the pad to the other.
pub const STEPS: u32 = 100;

/// Most pins of a walk.
pub const MAX_PINS: usize = 8;

/// Pictures of a walk that can be chosen: two, four and nearly eight seconds.
pub const LENGTHS: [usize; 3] = [25, 50, 96];

/// One corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Number of the class.
    pub class: usize,
    /// Its seed.
    pub seed: u64,
}

/// What a link says of a pad, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linked {
    /// The model that it is for, one of those that are loaded; absent where it says nothing of
    /// corners.
    pub model: Option<String>,
    /// The corners, row by row.
    pub corners: Option<[End; 4]>,
    /// The place, from the left and from the top.
    pub at: Option<(u32, u32)>,
    /// Places of a closed walk, in its order.
    pub pins: Option<Vec<(u32, u32)>>,
    /// Pictures of the walk.
    pub length: Option<usize>,
    /// What could not be taken, in words.
    pub left_out: Vec<String>,
}

impl Linked {
    /// Reads the pairs of a query. Names that are none of a pad are passed over; of a name that
    /// stands twice, the last one counts. Corners are of the model that is named, else of the first
    /// one.
    pub fn of_query(pairs: &[(String, String)], models: &[ModelInfo]) -> Self {
        let value = |name: &str| {
            pairs.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str())
        };
        let pair = |text: &str| -> Option<(u64, u64)> {
            let (first, second) = text.split_once('-')?;
            Some((first.parse().ok()?, second.parse().ok()?))
        };
        let within = |at: u64| u32::try_from(at).ok().filter(|&at| at <= STEPS);
        let place = |text: &str| {
            let (x, y) = pair(text)?;
            Some((within(x)?, within(y)?))
        };
        let mut link = Self::default();
        let model = match value("model") {
            Some(name) => models.iter().find(|model| model.name == name),
            None => models.first().filter(|_| value("corners").is_some()),
        };
        link.model = model.map(|model| model.name.clone());
        match (value("model"), model) {
            (Some(name), None) => {
                let corners = value("corners").map_or("", |_| ", and the corners are of that one");
                link.left_out.push(format!("there is no model “{}” here{corners}", short(name)));
            }
            _ => {
                let classes = model.map_or(0, |model| model.classes.len());
                let end = |text: &str| {
                    let (class, seed) = pair(text)?;
                    let class = usize::try_from(class).ok()?;
                    (class < classes && seed <= MAX_SEED).then_some(End { class, seed })
                };
                let ends = |text: &str| -> Option<[End; 4]> {
                    text.split('_').map(end).collect::<Option<Vec<_>>>()?.try_into().ok()
                };
                link.corners = link.read(value("corners"), ends, || {
                    let last = classes.saturating_sub(1);
                    format!(
                        "are not four corners, each a class from 0 to {last} and a seed, as in \
                         0-11_1-22_2-33_3-44"
                    )
                });
            }
        }
        link.at = link.read(value("at"), place, || {
            format!("is no place, which is two numbers from 0 to {STEPS}, as in 40-60")
        });
        let pins = |text: &str| -> Option<Vec<(u32, u32)>> {
            let pins: Vec<_> = text.split('_').map(place).collect::<Option<_>>()?;
            (pins.len() <= MAX_PINS).then_some(pins)
        };
        link.pins = link.read(value("pins"), pins, || {
            format!(
                "are no pins, which are 1 to {MAX_PINS} places of two numbers from 0 to {STEPS}, \
                 as in 10-90_50-20"
            )
        });
        let length = |text: &str| {
            let length = text.parse().ok()?;
            LENGTHS.contains(&length).then_some(length)
        };
        link.length = link.read(value("pictures"), length, || {
            let [short, middle, long] = LENGTHS;
            format!("is no length of a walk, which has {short}, {middle} or {long} pictures")
        });
        link
    }

    /// A value, if it is there and can be read; what one that cannot is not is noted.
    fn read<T>(
        &mut self,
        value: Option<&str>,
        read: impl Fn(&str) -> Option<T>,
        is_not: impl Fn() -> String,
    ) -> Option<T> {
        let text = value?;
        let read = read(text);
        if read.is_none() {
            self.left_out.push(format!("“{}” {}", short(text), is_not()));
        }
        read
    }
}

/// A value of a link, not longer than a line.
fn short(value: &str) -> String {
    match value.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
