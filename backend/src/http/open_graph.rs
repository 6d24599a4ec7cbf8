//! What other sites show of a link to a result (Open Graph, and the few tags that only Twitter
//! reads).

use std::fmt::Write;

use html_escape::encode_double_quoted_attribute as escaped;
use var_dd_protocol::{JobState, JobView};

use super::results::plan_name;

/// Pictures from this side on are shown large.
const LARGE: u32 = 280;

/// The tags of a result whose server is at `base` (without a slash at its end). Every value is
/// escaped.
pub(super) fn tags(view: &JobView, base: &str) -> String {
    let title = match view.request.count {
        1 => view.class_name.clone(),
        count => format!("{}, {count} pictures", view.class_name),
    };
    let model = view.request.model.as_deref().unwrap_or("default");
    let seed = view.request.seed.unwrap_or_default();
    let drawn = match view.state {
        JobState::Finished => "Drawn",
        JobState::Queued | JobState::Running => "Being drawn",
        JobState::Failed | JobState::Cancelled | JobState::Expired => "Not finished",
    };
    let description = format!("{drawn} in {} by {model}, seed {seed}", plan_name(view));
    let mut tags = Tags(String::new());
    tags.name("description", &description);
    tags.property("og:type", "website");
    tags.property("og:site_name", "VAR-DD playground");
    tags.property("og:title", &title);
    tags.property("og:description", &description);
    tags.property("og:url", &format!("{base}/r/{}", view.id));
    tags.name("twitter:title", &title);
    tags.name("twitter:description", &description);
    // Shown by most sites for the first picture; some show more.
    let pictures = if view.state == JobState::Finished { view.pictures.as_slice() } else { &[] };
    for path in pictures {
        let side = view.image_size.to_string();
        tags.property("og:image", &format!("{base}{path}"));
        tags.property("og:image:type", "image/png");
        tags.property("og:image:width", &side);
        tags.property("og:image:height", &side);
        tags.property("og:image:alt", &title);
    }
    if let Some(path) = pictures.first() {
        tags.name("twitter:image", &format!("{base}{path}"));
        tags.name("twitter:image:alt", &title);
    }
    let large = !pictures.is_empty() && view.image_size >= LARGE;
    tags.name("twitter:card", if large { "summary_large_image" } else { "summary" });
    tags.0
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
        let content = escaped(content);
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "<meta {kind}=\"{name}\" content=\"{content}\">");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, class_name: &str) -> JobView {
        let id = "0123456789abcdef0123456789abcdef";
        serde_json::from_value(serde_json::json!({
            "id": id, "state": state, "class_name": class_name,
            "request": { "model": "demo<b>", "class": 7, "seed": 42,
                "plan": { "kind": "few_step", "t_list": [0, 3], "loss_split_t": 3 } },
            "patch_nums": [1, 2], "image_size": 256, "created_ms": 0,
            "passes": [{ "kind": "student", "first_scale": 0, "end_scale": 2 }],
            "pictures": [format!("/api/results/{id}/pictures/0.png")]
        }))
        .unwrap()
    }

    #[test]
    fn a_finished_result_shows_its_picture_with_an_absolute_address() {
        let tags = tags(&view("finished", "snowman"), "https://draw.example");
        for part in [
            r#"<meta property="og:title" content="snowman">"#,
            r#"content="https://draw.example/api/results/0123456789abcdef0123456789abcdef/pictures/0.png""#,
            r#"content="https://draw.example/r/0123456789abcdef0123456789abcdef""#,
            r#"<meta property="og:image:width" content="256">"#,
            "Drawn in 1 step by demo&lt;b&gt;, seed 42",
        ] {
            assert!(tags.contains(part), "{part} is missing in\n{tags}");
        }
    }

    #[test]
    fn a_job_that_runs_shows_no_picture_yet() {
        let tags = tags(&view("running", "snowman"), "http://localhost:8080");
        assert!(!tags.contains("og:image"));
        assert!(tags.contains("Being drawn"));
    }

    #[test]
    fn a_hostile_class_name_stays_inside_its_attribute() {
        let tags =
            tags(&view("finished", "\"><script>alert('&')</script><!--"), "http://localhost");
        assert!(!tags.contains("<script"), "{tags}");
        assert!(!tags.contains("\"><"), "{tags}");
        let line = tags.lines().find(|line| line.contains("og:title")).unwrap();
        assert_eq!(line.matches('"').count(), 4, "{line}");
    }
}
