//! The words of the trade, each in two or three plain sentences.

use var_dd_protocol::Axis;

/// A word that the page explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Scale,
    Token,
    Codeword,
    Pass,
    Step,
    Student,
    Teacher,
    Guidance,
    Fid,
    Seed,
    Class,
    Model,
    Plan,
    Count,
    Split,
    TopK,
    TopP,
    Pace,
    Wipe,
    Difference,
    Measuring,
}

impl Term {
    pub(crate) const ALL: [Self; 21] = [
        Self::Scale,
        Self::Token,
        Self::Codeword,
        Self::Pass,
        Self::Step,
        Self::Student,
        Self::Teacher,
        Self::Guidance,
        Self::Fid,
        Self::Seed,
        Self::Class,
        Self::Model,
        Self::Plan,
        Self::Count,
        Self::Split,
        Self::TopK,
        Self::TopP,
        Self::Pace,
        Self::Wipe,
        Self::Difference,
        Self::Measuring,
    ];

    /// Its name in attributes.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Token => "token",
            Self::Codeword => "codeword",
            Self::Pass => "pass",
            Self::Step => "step",
            Self::Student => "student",
            Self::Teacher => "teacher",
            Self::Guidance => "guidance",
            Self::Fid => "fid",
            Self::Seed => "seed",
            Self::Class => "class",
            Self::Model => "model",
            Self::Plan => "plan",
            Self::Count => "count",
            Self::Split => "split",
            Self::TopK => "top-k",
            Self::TopP => "top-p",
            Self::Pace => "pace",
            Self::Wipe => "wipe",
            Self::Difference => "difference",
            Self::Measuring => "measuring",
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fid => "FID",
            Self::Count => "number of pictures",
            other => other.id(),
        }
    }

    /// What it means.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Scale => {
                "A picture is made of token maps of growing size: 1×1, 2×2, 3×3 and so on. Each is \
                 a scale. The first says roughly what is there; every further one adds detail. All \
                 maps up to one scale already give a whole picture, only blurred."
            }
            Self::Token => {
                "The smallest thing that the networks draw: one square of a token map. A decoder \
                 turns all tokens together into pixels."
            }
            Self::Codeword => {
                "A token chosen from a fixed list that was learned with the decoder. The student \
                 may instead draw a token freely, as a vector between codewords; the later scales \
                 usually gain from that."
            }
            Self::Pass => {
                "One run of a network. It is what costs time, so fewer passes are faster. The \
                 student draws all of its scales in one pass, the teacher only one."
            }
            Self::Step => {
                "A pass that draws tokens. A plan of two steps runs a network twice: the second \
                 step keeps the coarse scales of the first and draws the finer ones again, better \
                 informed."
            }
            Self::Student => {
                "The fast network. Distilled Decoding trained it to guess in one pass what the \
                 teacher would draw from the same noise."
            }
            Self::Teacher => {
                "The slow and more exact network, VAR: it draws one scale per pass and looks at \
                 everything drawn before."
            }
            Self::Guidance => {
                "How strongly the teacher is pushed towards the class, against what it would draw \
                 without one. More is clearer, too much is garish."
            }
            Self::Fid => {
                "Fréchet distance between many drawn pictures and real ones, as published for \
                 50,000 pictures of ImageNet at 256×256. Lower is better."
            }
            Self::Seed => {
                "The number that all chance comes from. The same seed, class and plan give the \
                 same \
                 picture, for everyone."
            }
            Self::Class => {
                "What the picture shows. A model was trained on pictures of a fixed list of kinds; \
                 it draws one of those, and takes no other words."
            }
            Self::Model => {
                "The networks and their decoder, trained together. The same seed gives another \
                 picture with another model."
            }
            Self::Plan => {
                "Who draws which scales, in how many steps. More steps usually give a better \
                 picture and take longer: much longer with a large model, hardly with a small \
                 one, whose passes cost little beside decoding the scales."
            }
            Self::Count => {
                "Pictures of one request, each from noise of its own that the seed leads to. \
                 Several at once cost less than one after the other."
            }
            Self::Split => {
                "How many scales the student draws in codewords, counted from the coarsest. The \
                 later ones may be any vector."
            }
            Self::TopK => {
                "How many codewords the teacher chooses among at each token: the likeliest ones. \
                 0 keeps all."
            }
            Self::TopP => {
                "How much of its probability the teacher keeps at each token: the likeliest \
                 codewords that make up as much together. 0 keeps all."
            }
            Self::Pace => {
                "How fast the scales are shown: as they were drawn, five times slower, or each for \
                 the same time. The picture itself is drawn already."
            }
            Self::Wipe => {
                "Two pictures over each other with a line between them. Drag it to see both at one \
                 place."
            }
            Self::Difference => {
                "Where two pictures differ, the brighter the more, and how near they are in all \
                 (PSNR, in decibels: more is nearer)."
            }
            Self::Measuring => {
                "One run says little. Every plan is drawn several times in turn, and the run in \
                 the middle is told, with the least and the most of all. Where the runs of two \
                 plans overlap, no difference between them is clear."
            }
        }
    }
}

/// What explains a side of a grid.
pub(crate) fn of_axis(axis: Axis) -> Term {
    match axis {
        Axis::Class => Term::Class,
        Axis::Seed => Term::Seed,
        Axis::Plan => Term::Plan,
        Axis::Steps => Term::Step,
        Axis::Split => Term::Split,
        Axis::Cfg => Term::Guidance,
        Axis::TopK => Term::TopK,
        Axis::TopP => Term::TopP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_explained_under_a_name_of_its_own() {
        let mut ids: Vec<_> = Term::ALL.map(Term::id).into();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Term::ALL.len());
        for term in Term::ALL {
            assert!(term.meaning().ends_with('.'), "{term:?}");
        }
    }
}
