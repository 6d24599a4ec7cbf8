//! The OpenAPI document held against what is said on the WebSocket.

use serde_json::{Value, json};
use var_dd_protocol::{ClientMessage, JobEvent, JobId, OwnerToken, ServerMessage};

use crate::server::{Client, Heard, Server, request};

/// Whether a value is as a schema of the document says, with no field that is not described. Knows
/// the words of JSON Schema that the document uses.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let all = |name: &str| schema[name].as_array().map(Vec::as_slice);
    let of_part = |part: &Value| fits(document, part, value);
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        return target.is_some_and(of_part);
    }
    if let Some(choices) = all("oneOf").or(all("anyOf")) {
        return choices.iter().any(of_part);
    }
    if let Some(parts) = all("allOf") {
        return parts.iter().all(of_part);
    }
    if all("enum").is_some_and(|values| !values.contains(value)) {
        return false;
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("a kind that is not known here: {other}"),
    };
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
        return false;
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            let required = all("required").unwrap_or_default();
            required.iter().filter_map(Value::as_str).all(|name| fields.contains_key(name))
                && fields.iter().all(|(name, field)| {
                    let property = &schema["properties"][name];
                    !property.is_null() && fits(document, property, field)
                })
        }
        Value::Array(items) if schema["items"].is_object() => {
            items.iter().all(|item| fits(document, &schema["items"], item))
        }
        _ => true,
    }
}

#[tokio::test]
async fn every_message_of_a_conversation_is_as_the_document_says() {
    let server = Server::start(&[]).await;
    let document: Value = server.get("/api/openapi.json").await.json().await.unwrap();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let (of_client, of_server) = (schema("ClientMessage"), schema("ServerMessage"));
    let missing = JobId::from_bits(7);
    let version = var_dd_protocol::PROTOCOL_VERSION;
    let said = [
        ClientMessage::Hello { version, client_key: Some("k".repeat(16)) },
        ClientMessage::Ping,
        ClientMessage::Generate { tag: 1, request: request(99) },
        ClientMessage::Watch { job: missing.clone(), after: Some(3) },
        ClientMessage::Cancel { job: missing.clone(), owner_token: OwnerToken("t".into()) },
        ClientMessage::Unwatch { job: missing },
        ClientMessage::Generate { tag: 2, request: request(3) },
    ];
    let mut client = Client::silent(&server).await;
    for message in &said {
        let value = serde_json::to_value(message).unwrap();
        assert!(fits(&document, &of_client, &value), "{value}");
        client.say(message).await;
    }
    let mut kinds = Vec::new();
    loop {
        let message = match client.hear().await {
            Heard::Message(message) => message,
            Heard::Frame(..) => continue,
            other => panic!("heard {other:?}"),
        };
        let value = serde_json::to_value(&message).unwrap();
        assert!(fits(&document, &of_server, &value), "{value}");
        let kind = value["event"]["type"].as_str().or(value["type"].as_str());
        kinds.extend(kind.map(str::to_owned));
        if matches!(message, ServerMessage::Event { event: JobEvent::Finished { .. }, .. }) {
            break;
        }
    }
    for kind in
        ["hello", "pong", "rejected", "error", "accepted", "queued", "started", "pass_began"]
    {
        assert!(kinds.iter().any(|heard| heard == kind), "{kind} was not heard: {kinds:?}");
    }
    for wrong in [
        json!({"type": "hello"}),
        json!({"type": "hello", "version": "1"}),
        json!({"type": "ping", "tag": 1}),
        json!({"type": "watch", "job": 7}),
        json!({"type": "nonsense"}),
        json!([]),
    ] {
        assert!(!fits(&document, &of_client, &wrong), "{wrong}");
    }
}
