//! What other sites show of a link (Open Graph, and the few tags that only Twitter reads), and what
//! the page shows without scripts.

use std::fmt::Write;

use html_escape::{encode_double_quoted_attribute as attribute, encode_text};
use url::form_urlencoded;
use var_dd_protocol::{Comparison, Grid, JobState, JobView, ModelInfo};

use super::{
    caption::{self, class_name, lines, plan_name, title},
    card,
    link::{Asked, Walked, picture_query},
    results,
};

/// What the page is called.
pub(super) const NAME: &str = "VAR-DD playground";

/// What the page is for.
const PURPOSE: &str = "Pick a class and watch a picture come into focus, scale by scale, in one or \
    two network passes.";

/// What the page of a place has besides the program; every value is escaped.
pub(super) struct Extra {
    /// The title of the document, as plain text.
    pub(super) title: String,
    /// Tags of the head.
    pub(super) tags: String,
    /// What is shown where no script runs.
    pub(super) without_scripts: String,
}

/// What is told of a link.
struct Told<'a> {
    title: &'a str,
    description: &'a str,
    /// The address of the page and of its card.
    url: &'a str,
    card: Option<&'a str>,
    /// What the card shows, in words.
    alternative: &'a str,
}

impl Told<'_> {
    fn tags(&self) -> String {
        let mut tags = Tags(String::new());
        tags.name("description", self.description);
        tags.property("og:type", "website");
        tags.property("og:site_name", NAME);
        tags.property("og:title", self.title);
        tags.property("og:description", self.description);
        tags.property("og:url", self.url);
        tags.name("twitter:title", self.title);
        tags.name("twitter:description", self.description);
        if let Some(card) = self.card {
            let (width, height) = card::SIZE;
            tags.property("og:image", card);
            tags.property("og:image:type", "image/jpeg");
            tags.property("og:image:width", &width.to_string());
            tags.property("og:image:height", &height.to_string());
            tags.property("og:image:alt", self.alternative);
            tags.name("twitter:image", card);
            tags.name("twitter:image:alt", self.alternative);
        }
        tags.name(
            "twitter:card",
            if self.card.is_some() { "summary_large_image" } else { "summary" },
        );
        tags.0
    }
}

/// Of a result whose server is at `base` (without a slash at its end) and whose page reaches it by
/// `root`; `picture` is the index of the one of several that the link means.
pub(super) fn of_result(view: &JobView, base: &str, root: &str, picture: Option<usize>) -> Extra {
    let title = title(view, picture);
    let lines = lines(view);
    let description = format!("{}.", lines.join(", "));
    let query = picture_query(picture);
    let url = format!("{base}/r/{}{query}", view.id);
    let card = format!("{base}/r/{}/card.jpg{query}", view.id);
    let is_finished = view.state == JobState::Finished && !view.pictures.is_empty();
    let told = Told {
        title: &title,
        description: &description,
        url: &url,
        card: is_finished.then_some(&card),
        alternative: &format!("{title}, and the scales on the way to it"),
    };
    let mut tags = told.tags();
    if is_finished {
        tags += &discovery(base, &url, &title);
    }
    Extra {
        tags,
        without_scripts: unscripted(view, root, picture.unwrap_or(0)),
        title: format!("{title} · {NAME}"),
    }
}

/// The tag by which other sites find what oEmbed says of a link.
fn discovery(base: &str, url: &str, title: &str) -> String {
    let link: String = form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let oembed = format!("{base}/api/oembed?url={link}&format=json");
    format!(
        "<link rel=\"alternate\" type=\"application/json+oembed\" href=\"{}\" title=\"{}\">\n",
        attribute(&oembed),
        attribute(title)
    )
}

/// Of the playground.
pub(super) fn of_playground(base: &str, has_example: bool) -> Extra {
    let url = format!("{base}/");
    let card = format!("{base}/card.jpg");
    let alternative = match has_example {
        true => "A finished picture, and the scales on the way to it",
        false => "Empty token maps from 1×1 on",
    };
    let told =
        Told { title: NAME, description: PURPOSE, url: &url, card: Some(&card), alternative };
    let shown = with_card(&told, "./card.jpg", &paragraph(PURPOSE));
    Extra { title: NAME.to_owned(), ..shown }
}

/// Of a link to the playground that asks for a picture.
pub(super) fn of_asked(asked: &Asked, base: &str) -> Extra {
    let title = asked.class_name();
    let lines = caption::of_asked(asked);
    let description = format!("{}. Watch it come into focus, scale by scale.", lines.join(", "));
    let url = format!("{base}/?{}", asked.query);
    let card_path = format!("card.jpg?{}", asked.query);
    let card = format!("{base}/{card_path}");
    let told = Told {
        title: &title,
        description: &description,
        url: &url,
        card: Some(&card),
        alternative: &format!("{title}, as far as it has been drawn, and the scales of the model"),
    };
    with_card(&told, &format!("./{card_path}"), &paragraph(&lines.join(", ")))
}

/// Of a comparison.
pub(super) fn of_comparison(
    comparison: &Comparison,
    model: &ModelInfo,
    base: &str,
    root: &str,
) -> Extra {
    let class_name = class_name(comparison, model);
    let names: Vec<_> = comparison.plans.iter().map(|plan| plan_name(plan, model)).collect();
    let title = caption::of_comparison(comparison, model);
    let description = format!(
        "{} ways to draw one {class_name} from seed {} with {}, side by side on one clock.",
        comparison.plans.len(),
        comparison.seed,
        model.name
    );
    let url = format!("{base}/{comparison}");
    let card = format!("{url}/card.jpg");
    let told = Told {
        title: &title,
        description: &description,
        url: &url,
        card: Some(&card),
        alternative: &title,
    };
    let settings = [
        ("class", class_name.clone()),
        ("seed", comparison.seed.to_string()),
        ("model", model.name.clone()),
        ("plans", names.join(", ")),
    ];
    let shown = with_card(&told, &format!("{root}{comparison}/card.jpg"), &list(&settings));
    Extra { tags: shown.tags + &discovery(base, &url, &title), ..shown }
}

/// Of a grid, whose address has this query.
pub(super) fn of_grid(grid: &Grid, model: &ModelInfo, base: &str, query: &str) -> Extra {
    let title = grid.title(model);
    let description = caption::of_grid(grid, model);
    let url = format!("{base}/grid?{query}");
    let card_path = format!("grid/card.jpg?{query}");
    let card = format!("{base}/{card_path}");
    let told = Told {
        title: &title,
        description: &description,
        url: &url,
        card: Some(&card),
        alternative: &description,
    };
    let shown = with_card(&told, &format!("./{card_path}"), &paragraph(&description));
    Extra { tags: shown.tags + &discovery(base, &url, &title), ..shown }
}

/// Of a place of the pad, or a walk over it.
pub(super) fn of_walk(walked: &Walked, base: &str) -> Extra {
    let title = caption::of_walk(walked);
    let description = caption::how_walked(walked);
    let url = format!("{base}/explore?{}", walked.query);
    let card_path = format!("explore/card.jpg?{}", walked.query);
    let card = format!("{base}/{card_path}");
    let told = Told {
        title: &title,
        description: &description,
        url: &url,
        card: Some(&card),
        alternative: "The four corners, as far as they have been drawn",
    };
    with_card(&told, &format!("./{card_path}"), &paragraph(&description))
}

/// A place that without scripts shows its card, which the page reaches by `path`, and below it
/// `rest`, which is HTML.
fn with_card(told: &Told, path: &str, rest: &str) -> Extra {
    let (width, height) = card::SIZE;
    let without_scripts = format!(
        "<main class=\"unscripted\"><h1>{}</h1><img class=\"card\" src=\"{}\" \
         width=\"{width}\" height=\"{height}\" alt=\"{}\">{rest}</main>",
        encode_text(told.title),
        attribute(path),
        attribute(told.alternative)
    );
    Extra { title: format!("{} · {NAME}", told.title), tags: told.tags(), without_scripts }
}

fn paragraph(words: &str) -> String {
    format!("<p>{}</p>", encode_text(words))
}

/// Where there is nothing; the page reaches the server by `root`.
pub(super) fn of_nothing(root: &str) -> Extra {
    let mut tags = Tags(String::new());
    tags.name("robots", "noindex");
    Extra {
        title: format!("Nothing here · {NAME}"),
        tags: tags.0,
        without_scripts: format!(
            "<main class=\"unscripted\"><h1>There is nothing at this address (any more)</h1>\
             <p><a href=\"{}\">To the playground</a></p></main>",
            attribute(root)
        ),
    }
}

/// A result without scripts: the picture, the scales on the way to it, the other pictures small,
/// the settings.
fn unscripted(view: &JobView, root: &str, picture: usize) -> String {
    let at =
        |path: &str| attribute(&format!("{root}{}", path.trim_start_matches('/'))).into_owned();
    let mut html = format!("<main class=\"unscripted\"><h1>{}</h1>", encode_text(&view.class_name));
    let shown = if view.state == JobState::Finished { &view.pictures[..] } else { &[] };
    // Writing to a string does not fail.
    if let Some(path) = shown.get(picture) {
        let (side, alternative) = (view.image_size, attribute(&view.class_name));
        let _ = write!(
            html,
            "<img class=\"large\" src=\"{}\" width=\"{side}\" height=\"{side}\" \
             alt=\"{alternative}\">",
            at(path)
        );
    }
    html.push_str("<ul>");
    for frame in view.frames.iter().filter(|frame| frame.header.picture as usize == picture) {
        let side = view.patch_nums.get(frame.header.scale as usize).copied().unwrap_or_default();
        let _ = write!(
            html,
            "<li><img src=\"{}\" alt=\"\" loading=\"lazy\"><span>{side}×{side}</span></li>",
            at(&frame.url)
        );
    }
    html.push_str("</ul><ul class=\"others\">");
    for (index, path) in shown.iter().enumerate().filter(|&(index, _)| index != picture) {
        let (query, number) = (picture_query(Some(index)), index + 1);
        let _ = write!(
            html,
            "<li><a href=\"{query}\"><img src=\"{}\" alt=\"Picture {number}\" \
             loading=\"lazy\"></a></li>",
            at(path)
        );
    }
    html.push_str("</ul>");
    let settings = [
        ("class", view.class_name.clone()),
        ("plan", results::plan_name(view)),
        ("seed", view.request.seed.unwrap_or_default().to_string()),
        ("pictures", view.request.count.to_string()),
        ("model", view.request.model.clone().unwrap_or_default()),
        ("made", lines(view).swap_remove(0)),
    ];
    html + &list(&settings) + "</main>"
}

fn list(settings: &[(&str, String)]) -> String {
    let mut list = "<dl>".to_owned();
    for (name, value) in settings {
        let _ = write!(list, "<div><dt>{name}</dt><dd>{}</dd></div>", encode_text(value));
    }
    list + "</dl>"
}

struct Tags(String);

impl Tags {
    fn property(&mut self, property: &str, content: &str) {
        self.tag("property", property, content);
    }

    fn name(&mut self, name: &str, content: &str) {
        self.tag("name", name, content);
    }

    fn tag(&mut self, kind: &str, name: &str, content: &str) {
        let content = attribute(content);
        let _ = writeln!(self.0, "<meta {kind}=\"{name}\" content=\"{content}\">");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn view(state: &str, class_name: &str, count: u32) -> JobView {
        let pictures: Vec<_> =
            (0..count).map(|index| format!("/api/results/{ID}/pictures/{index}.png")).collect();
        serde_json::from_value(serde_json::json!({
            "id": ID, "state": state, "class_name": class_name,
            "request": { "model": "demo<b>", "class": 7, "seed": 42, "count": count,
                "plan": { "kind": "few_step", "t_list": [0, 3], "loss_split_t": 3 } },
            "patch_nums": [1, 2], "image_size": 256, "created_ms": 0,
            "passes": [{ "kind": "student", "first_scale": 0, "end_scale": 2 }],
            "timings": { "queue_ms": 10.0, "transformer_ms": 1.0, "decode_ms": 1.0,
                "first_frame_ms": 50.0, "last_frame_ms": 95.4 },
            "frames": [{ "seq": 3, "picture": 0, "pass": 0, "scale": 0, "width": 256,
                "height": 256, "media_type": "image/webp", "last": false, "at_ms": 1.0, "encode_ms": 0.5,
                "url": format!("/api/results/{ID}/frames/3") }],
            "pictures": pictures
        }))
        .unwrap()
    }

    #[test]
    fn a_finished_result_shows_its_card_with_an_absolute_address() {
        let extra =
            of_result(&view("finished", "snowman", 1), "https://draw.example/play", "../", None);
        for part in [
            r#"<meta property="og:title" content="snowman">"#,
            r#"<meta property="og:image" content="https://draw.example/play/r/0123456789abcdef0123456789abcdef/card.jpg">"#,
            r#"content="https://draw.example/play/r/0123456789abcdef0123456789abcdef""#,
            r#"<meta property="og:image:width" content="1200">"#,
            r#"<meta name="twitter:card" content="summary_large_image">"#,
            "Drawn by 1 step in 85 ms, demo&lt;b&gt; · seed 42.",
        ] {
            assert!(extra.tags.contains(part), "{part} is missing in\n{}", extra.tags);
        }
        assert_eq!(extra.title, "snowman · VAR-DD playground");
    }

    #[test]
    fn a_link_to_one_of_several_pictures_means_that_one() {
        let extra = of_result(&view("finished", "snowman", 4), "http://h", "../", Some(2));
        for part in ["picture 3 of 4", "card.jpg?picture=3", &format!("/r/{ID}?picture=3")] {
            assert!(extra.tags.contains(part), "{part} is missing in\n{}", extra.tags);
        }
        let html = &extra.without_scripts;
        let first = html.find("pictures/2.png").unwrap();
        for (index, number) in [(0, 1), (1, 2), (3, 4)] {
            let other = html.find(&format!("pictures/{index}.png")).unwrap();
            assert!(first < other && html.contains(&format!("<a href=\"?picture={number}\">")));
        }
        assert_eq!(html.matches("class=\"large\"").count(), 1, "{html}");
    }

    #[test]
    fn without_scripts_there_are_picture_strip_and_settings() {
        let html =
            of_result(&view("finished", "snowman", 1), "http://h", "../", None).without_scripts;
        for part in [
            format!("src=\"../api/results/{ID}/pictures/0.png\""),
            format!("src=\"../api/results/{ID}/frames/3\""),
            "1×1".into(),
            "<dt>seed</dt><dd>42</dd>".into(),
            "<h1>snowman</h1>".into(),
        ] {
            assert!(html.contains(&part), "{part} is missing in\n{html}");
        }
    }

    #[test]
    fn without_scripts_the_playground_shows_what_it_is_for() {
        let extra = of_playground("http://h", true);
        assert_eq!(extra.title, NAME);
        for part in ["<h1>VAR-DD playground</h1>", "src=\"./card.jpg\"", PURPOSE] {
            assert!(extra.without_scripts.contains(part), "{}", extra.without_scripts);
        }
    }

    #[test]
    fn a_job_that_runs_shows_no_picture_yet() {
        let extra = of_result(&view("running", "snowman", 1), "http://localhost:8080", "../", None);
        assert!(!extra.tags.contains("og:image") && !extra.without_scripts.contains("0.png"));
        assert!(extra.tags.contains("Being drawn"));
    }

    #[test]
    fn a_hostile_class_name_stays_inside_its_place() {
        let name = "\"><script>alert('&')</script><!--";
        let extra = of_result(&view("finished", name, 1), "http://localhost", "../", None);
        for html in [&extra.tags, &extra.without_scripts] {
            assert!(!html.contains("<script"), "{html}");
        }
        assert!(!extra.tags.contains("\"><"), "{}", extra.tags);
        let line = extra.tags.lines().find(|line| line.contains("og:title")).unwrap();
        assert_eq!(line.matches('"').count(), 4, "{line}");
    }
}
