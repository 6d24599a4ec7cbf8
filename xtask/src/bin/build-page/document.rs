//! A text of `docs/` as a page of its own.

use anyhow::{Result, bail};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Where the template has the text.
const PLACE: &str = "<!-- document -->";

/// The template with a text in Markdown in its place. Headings have the names that links to them
/// use: their words in lower case with hyphens between them.
///
/// # Errors
/// When the template has no place for the text.
pub(crate) fn page(template: &str, markdown: &str) -> Result<String> {
    if !template.contains(PLACE) {
        bail!("the template lacks the line `{PLACE}`, where the text goes");
    }
    let events: Vec<Event> = Parser::new_ext(markdown, Options::ENABLE_TABLES).collect();
    let named = events.iter().enumerate().map(|(at, event)| match event {
        Event::Start(Tag::Heading { level, classes, attrs, .. }) => Event::Start(Tag::Heading {
            level: *level,
            id: Some(CowStr::from(name(&events[at + 1..]))),
            classes: classes.clone(),
            attrs: attrs.clone(),
        }),
        other => other.clone(),
    });
    // What is wider than the page scrolls by itself, and by the keyboard.
    let wide = named.flat_map(|event| match event {
        Event::Start(Tag::Table(_)) => {
            vec![Event::Html("<div class=\"wide\" tabindex=\"0\" role=\"group\">\n".into()), event]
        }
        Event::End(TagEnd::Table) => vec![event, Event::Html("</div>\n".into())],
        event => vec![event],
    });
    let mut text = String::new();
    html::push_html(&mut text, wide);
    Ok(template.replace(PLACE, &text))
}

/// The name of a heading whose content begins here.
fn name(content: &[Event]) -> String {
    let words: String = content
        .iter()
        .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
        .filter_map(|event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_names_and_tables_scroll_by_themselves() {
        let text = "## 2 The teacher: `VAR`\n\n|a|\n|-|\n|1|\n";
        let page = page("<main><!-- document --></main>", text).unwrap();
        assert!(page.contains("<h2 id=\"2-the-teacher-var\">"), "{page}");
        assert!(page.contains("<div class=\"wide\" tabindex=\"0\" role=\"group\">\n<table>"));
        assert!(page.trim_end().ends_with("</div>\n</main>"), "{page}");
        assert!(super::page("<main></main>", text).is_err());
    }
}
