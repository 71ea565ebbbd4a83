//! The OpenAPI document says what is: each call that it names is made, and what comes back is held to it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{call, error, get, seed, state};
use crate::binary::Relay;
use crate::store::Folder;

/// What is wrong with a value by a schema: in what it lacks, in what it has too much, in its type.
fn faults(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let found = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not there"));
        return faults(document, found, value, place);
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let all: Vec<Vec<String>> = ways.iter().map(|way| faults(document, way, value, place)).collect();
        let fits = all.iter().filter(|faults| faults.is_empty()).count();
        return if fits == 1 { Vec::new() } else { all.concat() };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => panic!("{place} has no type"),
    };
    if !types.contains(&kind) {
        return vec![format!("{place} is {kind}, not {types:?}: {value}")];
    }
    let mut found = Vec::new();
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{place}: {value} is not in the list"));
    }
    if schema["format"] == "date-time" && value.is_string() {
        humantime::parse_rfc3339(value.as_str().unwrap()).unwrap_or_else(|e| panic!("{place}: {e}"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(document, &schema["items"], item, &format!("{place}.{number}")));
    }
    let Some(members) = value.as_object() else { return found };
    let required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
    found.extend(required.filter(|name| !members.contains_key(*name)).map(|name| format!("{place} lacks {name}")));
    let Some(properties) = schema["properties"].as_object() else { return found };
    for (name, value) in members {
        match properties.get(name) {
            Some(schema) => found.extend(faults(document, schema, value, &format!("{place}.{name}"))),
            None => found.push(format!("{place} has {name}, which the document does not know")),
        }
    }
    found
}

/// The calls, in an order in which each finds what it needs: operation, target, body, status.
fn calls() -> Vec<(&'static str, &'static str, Value, u16)> {
    vec![
        ("describe", "/api/openapi.json", Value::Null, 200),
        ("addSuppressions", "/api/suppressions", json!({"address": "ann@example.net", "until": "30d"}), 200),
        (
            "addSuppressions",
            "/api/suppressions",
            json!([{"address": "eve@example.net", "reason": "bounce", "evidence": "x"}]),
            200,
        ),
        ("addSuppressions", "/api/suppressions", json!({"adress": "ann@example.net"}), 400),
        ("listSuppressions", "/api/suppressions", Value::Null, 200),
        ("listSuppressions", "/api/suppressions?limit=1", Value::Null, 200),
        ("listMessages", "/api/messages", Value::Null, 200),
        ("showMessage", "/api/messages/0a01", Value::Null, 200),
        ("showMessage", "/api/messages/msg_9", Value::Null, 200),
        ("showMessage", "/api/messages/none", Value::Null, 404),
        ("listProviderMessages", "/api/provider/messages?to_email=ann%40example.net", Value::Null, 200),
        ("listProviderMessages", "/api/provider/messages", Value::Null, 400),
        ("listEvents", "/api/events", Value::Null, 200),
        ("showEvent", "/api/events/1", Value::Null, 200),
        ("showEvent", "/api/events/99", Value::Null, 404),
        ("replayEvents", "/api/events/replay", json!({"since": "2026-11-22"}), 200),
        ("replayEvents", "/api/events/replay", json!({}), 400),
        ("removeSuppression", "/api/suppressions/ann%40example.net", Value::Null, 200),
        ("removeSuppression", "/api/suppressions/ann%40example.net", Value::Null, 404),
    ]
}

#[test]
fn the_document_is_true() {
    let folder = Folder::new("admin-document");
    seed(&folder);
    let relay = Relay::sandbox(&["--set", &state(&folder)]);
    let document = get(relay.web, "/api/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let mut known = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(known.insert(id.to_owned()), "{id} is there twice");
            let mine: Vec<_> = calls().into_iter().filter(|(of, ..)| *of == id).collect();
            assert!(!mine.is_empty(), "no call of {id} is made");
            for (_, target, ..) in mine {
                let parts =
                    |text: &str| text.split('?').next().unwrap().split('/').map(str::to_owned).collect::<Vec<_>>();
                let same =
                    parts(path).iter().zip(parts(target)).all(|(one, other)| one.starts_with('{') || *one == other);
                assert!(same && parts(path).len() == parts(target).len(), "{id}: {path} {target} {method}");
            }
        }
    }
    for (id, target, body, status) in calls() {
        assert!(known.contains(id), "{id} is not in the document");
        let (method, operation) = operation(&document, id);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = call(relay.web, &method.to_uppercase(), target, &[], &body);
        assert_eq!(answer.status, status, "{id} {target}: {answer:?}");
        let mut response = &operation["responses"][status.to_string()];
        if let Some(name) = response["$ref"].as_str() {
            response = document.pointer(name.trim_start_matches('#')).unwrap();
        }
        let schema = &response["content"]["application/json"]["schema"];
        let faults = faults(&document, schema, &answer.json(), id);
        assert!(faults.is_empty(), "{target}: {faults:#?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{id}");
    }
}

fn operation<'a>(document: &'a Value, id: &str) -> (&'a str, &'a Value) {
    let paths = document["paths"].as_object().unwrap().values();
    let mut all = paths.flat_map(|methods| methods.as_object().unwrap());
    all.find(|(_, operation)| operation["operationId"] == id).map(|(method, one)| (method.as_str(), one)).unwrap()
}

/// The parameters of the document are those that the API names, and no others.
#[test]
fn the_document_names_the_parameters() {
    let relay = Relay::sandbox(&[]);
    let document = get(relay.web, "/api/openapi.json");
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path == "/api/openapi.json" {
            continue;
        }
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named =
                parameters.filter(|one| one["in"] == "query").map(|one| one["name"].as_str().unwrap().to_owned());
            let named: BTreeSet<String> = named.collect();
            let target = path.replace("{address}", "a%40b.example").replace("{number}", "1").replace("{id}", "x");
            let answer = call(relay.web, &method.to_uppercase(), &format!("{target}?nonsense=1"), &[], "");
            assert_eq!(answer.status, 400, "{path}");
            let error = error(&answer);
            let known = error.split("known are: ").nth(1).unwrap_or_else(|| panic!("{error}"));
            let known: BTreeSet<String> = known.split(", ").filter(|name| *name != "none").map(str::to_owned).collect();
            assert_eq!(named, known, "{path} {method}");
        }
    }
}

/// Kinds and reasons are the ones of the program.
#[test]
fn the_document_names_all_words() {
    let document: Value = serde_json::from_str(sidepost::web::admin::OPENAPI).unwrap();
    let words = |pointer: &str| -> BTreeSet<String> {
        let list = document.pointer(pointer).unwrap().as_array().unwrap();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let kinds = sidepost::feedback::EventKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(words("/components/schemas/Event/properties/kind/enum"), kinds);
    assert_eq!(words("/components/schemas/Replay/properties/kind/enum"), kinds);
    let reasons = sidepost::suppression::Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(words("/components/schemas/Suppression/properties/reason/enum"), reasons);
    assert_eq!(words("/components/schemas/NewSuppression/properties/reason/enum"), reasons);
}
