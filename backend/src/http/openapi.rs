//! The HTTP interface described in OpenAPI, made from the handlers and the protocol's types.

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use var_dd_protocol::{ClientMessage, ServerMessage};

use super::{
    body::{Caching, json},
    card, embed,
    error::ApiError,
    events, explore, export, health, jobs, pages, results, thumbnails, walk,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "VAR-DD playground",
        description = "Few-step image generation. Pictures are asked for as jobs, watched while \
            they are drawn, and kept as results."
    ),
    paths(
        jobs::info, events::connect, jobs::submit, jobs::cancel, explore::preview, explore::encode,
        explore::tokens, explore::verify, thumbnails::thumbnail, walk::walk,
        results::recent, results::view, results::delete, results::frame, results::picture,
        export::export,
        document, health::live, health::ready, health::metrics, pages::result,
        embed::player, embed::oembed, embed::qr,
        pages::comparison, pages::grid,
        card::of_result, card::of_comparison, card::of_grid, card::of_walk, card::of_playground,
    ),
    components(schemas(ClientMessage, ServerMessage)),
    tags(
        (name = "server", description = "What the server offers and how it is"),
        (name = "jobs", description = "Asking for pictures"),
        (name = "results", description = "Pictures that were drawn"),
        (name = "page", description = "The page in the browser"),
    ),
    modifiers(&OwnerTokenScheme, &GuardsAnswers),
)]
struct Document;

struct OwnerTokenScheme;

impl Modify for OwnerTokenScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The owner's token that the answer to a job's creation holds"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("owner_token", SecurityScheme::Http(scheme));
    }
}

/// What the guards before the handlers answer, where an operation has no words of its own for it.
struct GuardsAnswers;

impl Modify for GuardsAnswers {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let origin = "Host or origin refused";
            // Only pages of this site may speak over the WebSocket.
            let of_get = if path.as_str() == "/api/ws" { origin } else { "Host refused" };
            for (operation, refused) in
                [(&mut item.get, of_get), (&mut item.post, origin), (&mut item.delete, origin)]
            {
                let Some(operation) = operation else { continue };
                let answers = &mut operation.responses.responses;
                let of_host = (!answers_any_host(path)).then_some(("403", refused));
                let of_rate = ("429", "Too many requests or connections");
                for (status, words) in of_host.into_iter().chain([of_rate]) {
                    answers.entry(status.to_owned()).or_insert_with(|| error(words).into());
                }
            }
        }
    }
}

/// Whoever asks whether the server is well may not know what it is called.
fn answers_any_host(path: &str) -> bool {
    ["/livez", "/readyz"].contains(&path)
}

fn error(words: &str) -> Response {
    let body = RefOr::Ref(Ref::from_schema_name("ErrorBody"));
    let content = ContentBuilder::new().schema(Some(body)).build();
    ResponseBuilder::new().description(words).content("application/json", content).build()
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(super) async fn document(
    request: HttpRequest,
    _site: web::Data<super::Site>,
) -> Result<HttpResponse, ApiError> {
    json(&request, Caching::Ask, &Document::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use var_dd_protocol::{MAX_DEADLINE_MS, MAX_PICTURES, MAX_SEED};

    use super::*;
    use crate::http::endpoints;

    fn document() -> Value {
        serde_json::to_value(Document::openapi()).unwrap()
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(array) => array.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let served: BTreeSet<_> = endpoints()
            .iter()
            .flat_map(|endpoint| {
                endpoint
                    .methods
                    .iter()
                    .map(|(method, _)| (endpoint.path.to_owned(), method.to_string()))
            })
            .collect();
        let document = document();
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "only {} references", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_request_may_leave_out_what_has_a_default_and_every_field_is_explained() {
        let document = document();
        let request = document.pointer("/components/schemas/GenerateRequest").unwrap();
        assert_eq!(request["required"], serde_json::json!(["class", "plan"]));
        assert_eq!(request["properties"]["last_frame_first"]["type"], "boolean");
        let bounds = |name: &str| {
            let field = &request["properties"][name];
            (field["minimum"].as_u64(), field["maximum"].as_u64())
        };
        assert_eq!(bounds("count"), (Some(1), Some(u64::from(MAX_PICTURES))));
        assert_eq!(bounds("seed"), (Some(0), Some(MAX_SEED)));
        assert_eq!(bounds("deadline_ms"), (Some(1), Some(MAX_DEADLINE_MS)));
        assert_eq!(bounds("class").0, Some(0));
        for (name, field) in request["properties"].as_object().unwrap() {
            // An optional object is one of null and a reference, and the word lies with that.
            let mut forms = field["oneOf"].as_array().into_iter().flatten().chain([field]);
            assert!(forms.any(|form| form["description"].is_string()), "{name}");
        }
    }

    #[test]
    fn the_guards_answer_everywhere_and_need_no_host_where_it_may_not_be_known() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("429"), "{method} {path}");
                let needs_host = !["/livez", "/readyz"].contains(&path.as_str());
                assert_eq!(responses.contains_key("403"), needs_host, "{method} {path}");
            }
        }
    }

    #[test]
    fn every_part_of_a_path_is_a_parameter_and_every_operation_says_how_it_ends() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let declared: BTreeSet<_> = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|parameter| parameter["in"] == "path")
                    .filter_map(|parameter| parameter["name"].as_str())
                    .collect();
                let in_path: BTreeSet<_> =
                    path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect();
                assert_eq!(declared, in_path, "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(!responses.is_empty(), "{method} {path}");
                assert!(operation["operationId"].is_string(), "{method} {path}");
            }
        }
    }
}
