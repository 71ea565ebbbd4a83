//! Every rule of the request shapes: one broken thing, the field it is said about.

use serde_json::{Value, json};
use sidepost::address::Alphabet;
use sidepost::config::ProviderKind::{NexusProMail, ScaiSend, SendGrid};
use sidepost::sandbox::request_shape::{check, is_canonical_base64};

use super::{KEY, NEXUSPROMAIL, SENDGRID_KEY, V3, nexuspromail_to, running, v3_to};

/// A place in the request, what is put there (null: it is taken away), and where the fault is said to be ("" is none).
type Row = (&'static str, Value, &'static str);

fn with(mut body: Value, place: &str, value: &Value) -> Value {
    if place.is_empty() {
        return value.clone();
    }
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap_or_else(|| panic!("{place}"));
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(name)),
        (Value::Object(fields), value) => drop(fields.insert(name.to_owned(), value.clone())),
        (Value::Array(list), value) => list[name.parse::<usize>().unwrap()] = value.clone(),
        _ => panic!("{place}"),
    }
    body
}

fn full_v3() -> Value {
    let mut body = v3_to(&["ann@example.com"]);
    body["personalizations"][0]["cc"] = json!([{ "email": "cc@example.com", "name": "C" }]);
    body["personalizations"][0]["bcc"] = json!([{ "email": "bcc@example.com" }]);
    body["personalizations"][0]["headers"] = json!({ "X-One": "1" });
    body["personalizations"][0]["custom_args"] = json!({ "a": "b" });
    body["reply_to"] = json!({ "email": "help@example.com" });
    body["headers"] = json!({ "List-Unsubscribe": "<https://example.com/u>", "X-Two": "2" });
    body["custom_args"] = json!({ "c": "d" });
    body["send_at"] = json!(1_900_000_000);
    body["asm"] = json!({ "group_id": 1, "groups_to_display": [1, 2] });
    body["ip_pool_name"] = json!("pool");
    body["batch_id"] = json!("b1");
    body["mail_settings"] =
        json!({ "bypass_list_management": { "enable": true }, "footer": { "enable": false, "text": "t" } });
    body["tracking_settings"] =
        json!({ "click_tracking": { "enable": false, "enable_text": false }, "open_tracking": { "enable": false } });
    body["attachments"] = json!([
        { "content": "aGVsbG8=", "filename": "a.txt", "type": "text/plain", "disposition": "attachment" },
        { "content": "aGVsbG8=", "filename": "b.png", "type": "image/png", "disposition": "inline", "content_id": "b" },
    ]);
    body
}

fn fields(api: sidepost::config::ProviderKind, body: &Value) -> Vec<String> {
    check(api, Alphabet::Ascii, body).into_iter().map(|finding| finding.field).collect()
}

#[test]
fn what_the_operator_says_about_addresses_is_believed() {
    let body = v3_to(&["j\u{f6}rg@example.com"]);
    assert_eq!(fields(ScaiSend, &body), ["personalizations.0.to.0.email"]);
    assert!(check(ScaiSend, Alphabet::Utf8, &body).is_empty());
}

#[test]
fn nexuspromail() {
    let rows: Vec<Row> = vec![
        ("/text", Value::Null, ""),
        ("/reply_to", Value::Null, ""),
        ("/to/name", json!("Ann"), ""),
        ("", json!([]), ""),
        ("/to", Value::Null, "to"),
        ("/to", json!([{ "email": "ann@example.com" }]), "to"),
        ("/to", json!("ann@example.com"), "to"),
        ("/to/email", Value::Null, "to.email"),
        ("/to/email", json!("ann"), "to.email"),
        ("/to/email", json!("ann@localhost"), "to.email"),
        ("/to/email", json!("ann@example.com, bob@example.com"), "to.email"),
        ("/to/name", json!("A\nBcc: b@example.com"), "to.name"),
        ("/to/type", json!("to"), "to.type"),
        ("/from", Value::Null, "from"),
        ("/from/email", json!("\u{e4}@example.com"), "from.email"),
        ("/from/name", json!(1), "from.name"),
        ("/subject", Value::Null, "subject"),
        ("/subject", json!("a\r\nb"), "subject"),
        ("/subject", json!(["a"]), "subject"),
        ("/html", Value::Null, "html"),
        ("/html", json!({}), "html"),
        ("/text", json!(1), "text"),
        ("/reply_to", json!("help@example.com"), "reply_to"),
        ("/cc", json!([]), "cc"),
        ("/attachments", json!([]), "attachments"),
        ("/headers", json!({}), "headers"),
    ];
    for (place, value, field) in rows {
        let found = fields(NexusProMail, &with(nexuspromail_to("ann@example.com"), place, &value));
        let expected = if field.is_empty() && !place.is_empty() { vec![] } else { vec![field.to_owned()] };
        assert_eq!(found, expected, "{place} {value}");
    }
}

/// What ScaiSend and SendGrid refuse alike.
#[test]
fn both_dialects() {
    let one = |entry: Value| json!([entry]);
    let file =
        |field: &str, value: Value| with(full_v3(), &format!("/attachments/1/{field}"), &value)["attachments"].clone();
    let rows: Vec<Row> = vec![
        ("/content", one(json!({ "type": "text/plain", "value": "only" })), ""),
        ("/personalizations/0/to/0/name", json!("Ann O'Neil"), ""),
        ("/personalizations", Value::Null, "personalizations"),
        ("/personalizations", json!([]), "personalizations"),
        ("/personalizations", json!({}), "personalizations"),
        ("/personalizations/0/to", Value::Null, "personalizations.0.to"),
        ("/personalizations/0/to", json!([]), "personalizations.0.to"),
        ("/personalizations/0/to", json!({ "email": "ann@example.com" }), "personalizations.0.to"),
        ("/personalizations/0/to/0/email", json!("x"), "personalizations.0.to.0.email"),
        ("/personalizations/0/to/0/email", json!("CC@example.com"), "personalizations.0"),
        ("/personalizations/0/cc/0/email", json!("bcc@example.com"), "personalizations.0"),
        ("/personalizations/0/bcc", json!([]), "personalizations.0.bcc"),
        ("/personalizations/0/subject", json!("a\nb"), "personalizations.0.subject"),
        ("/personalizations/0/headers", json!({ "Bcc": "x" }), "personalizations.0.headers.Bcc"),
        ("/personalizations/0/text", json!("x"), "personalizations.0.text"),
        ("/personalizations/0/substitutions", json!({ "-a-": 1 }), "personalizations.0.substitutions.-a-"),
        ("/from", Value::Null, "from"),
        ("/from/email", Value::Null, "from.email"),
        ("/subject", Value::Null, "subject"),
        ("/subject", json!(1), "subject"),
        ("/content", Value::Null, "content"),
        ("/content", json!([]), "content"),
        ("/content/0/value", Value::Null, "content.0.value"),
        ("/content/0/charset", json!("utf-8"), "content.0.charset"),
        ("/content", json!([{ "type": "text/html", "value": "h" }, { "type": "text/plain", "value": "t" }]), "content"),
        ("/reply_to_list", json!([{ "email": "a@example.com" }]), "reply_to"),
        ("/headers", json!([]), "headers"),
        ("/headers", json!({ "DKIM-Signature": "x" }), "headers.DKIM-Signature"),
        ("/headers", json!({ "content-type": "x" }), "headers.content-type"),
        ("/headers", json!({ "X-A": 1 }), "headers.X-A"),
        ("/headers", json!({ "X-A": "a\r\nb" }), "headers.X-A"),
        ("/headers", json!({ "X A": "a" }), "headers.X A"),
        ("/headers", json!({ "X-A": "a", "x-a": "a" }), "headers.x-a"),
        ("/categories", json!("a"), "categories"),
        ("/categories", json!(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]), "categories"),
        ("/categories", json!(["x".repeat(256)]), "categories.0"),
        ("/custom_args", json!([]), "custom_args"),
        ("/send_at", json!("soon"), "send_at"),
        ("/asm", json!({}), "asm.group_id"),
        ("/mail_settings", json!({ "spam_check": {} }), "mail_settings.spam_check"),
        ("/mail_settings/footer/enable", json!("yes"), "mail_settings.footer.enable"),
        ("/tracking_settings/open_tracking", json!(false), "tracking_settings.open_tracking"),
        ("/attachments", json!({}), "attachments"),
        ("/attachments", file("content", Value::Null), "attachments.1.content"),
        ("/attachments", file("content", json!("aGVs\r\nbG8=")), "attachments.1.content"),
        ("/attachments", file("content", json!("aGVsbG8")), "attachments.1.content"),
        ("/attachments", file("filename", Value::Null), "attachments.1.filename"),
        ("/attachments", file("filename", json!("")), "attachments.1.filename"),
        ("/attachments", file("disposition", json!("Inline")), "attachments.1.disposition"),
        ("/attachments", file("content_id", Value::Null), "attachments.1.content_id"),
        ("/attachments", file("content_id", json!("<b>")), "attachments.1.content_id"),
        ("/attachments", file("name", json!("x")), "attachments.1.name"),
        ("/to", json!([]), "to"),
    ];
    for api in [ScaiSend, SendGrid] {
        assert_eq!(fields(api, &full_v3()), Vec::<String>::new());
        for (place, value, field) in &rows {
            let found = fields(api, &with(full_v3(), place, value));
            let expected = if field.is_empty() { vec![] } else { vec![(*field).to_owned()] };
            assert_eq!(found, expected, "{api:?} {place} {value}");
        }
    }
}

/// Where the dialects differ: the field ScaiSend names, the field SendGrid names.
#[test]
fn either_dialect() {
    let file = json!({ "content": "", "filename": "a" });
    let both = json!([{ "type": "text/calendar", "value": "x" }]);
    let rows: Vec<(&str, Value, &str, &str)> = vec![
        ("/template_id", json!("d-1"), "template_id", ""),
        ("/attachments", json!(vec![json!({ "content": "aGk=", "filename": "a" }); 11]), "attachments", ""),
        ("/attachments", json!([file]), "", "attachments.0.content"),
        ("/content", both, "content.0.type", ""),
        ("/subject", json!(""), "", "subject"),
        ("/content/0/value", json!(""), "", "content.0.value"),
        ("/custom_args", json!({ "n": 1 }), "", "custom_args.n"),
        ("/custom_args", json!({ "n": "x".repeat(10_000) }), "", "custom_args"),
        ("/categories", json!(["a", "a"]), "", "categories"),
        ("/personalizations/0/from", json!({ "email": "b@example.com" }), "personalizations.0.from", ""),
        ("/personalizations/0/to/0/name", json!("O'Neil, Ann"), "", "personalizations.0.to.0.name"),
    ];
    for (place, value, scaisend, sendgrid) in rows {
        for (api, field) in [(ScaiSend, scaisend), (SendGrid, sendgrid)] {
            let expected: Vec<String> = Some(field.to_owned()).into_iter().filter(|field| !field.is_empty()).collect();
            assert_eq!(fields(api, &with(full_v3(), place, &value)), expected, "{api:?} {place}");
        }
    }
}

#[test]
fn templates_and_subjects() {
    let template = with(with(full_v3(), "/content", &Value::Null), "/template_id", &json!("d-7"));
    assert_eq!(fields(ScaiSend, &template), Vec::<String>::new());
    assert_eq!(fields(ScaiSend, &with(template.clone(), "/subject", &Value::Null)), Vec::<String>::new());
    assert_eq!(fields(ScaiSend, &with(template.clone(), "/template_id", &json!("7"))), ["template_id"]);
    assert_eq!(fields(SendGrid, &with(template, "/template_id", &json!("7"))), Vec::<String>::new());
    let own = with(with(full_v3(), "/subject", &Value::Null), "/personalizations/0/subject", &json!("own"));
    assert_eq!(fields(ScaiSend, &own), Vec::<String>::new());
}

#[test]
fn sendgrid_counts_all_recipients_together() {
    let people = |n: usize| json!((0..n).map(|i| json!({ "email": format!("p{i}@example.com") })).collect::<Vec<_>>());
    let body = json!([{ "to": people(600) }, { "to": people(600) }]);
    assert_eq!(fields(ScaiSend, &with(full_v3(), "/personalizations", &body)), Vec::<String>::new());
    assert_eq!(fields(SendGrid, &with(full_v3(), "/personalizations", &body)), ["personalizations"]);
    let body = json!([{ "to": people(1001) }]);
    assert_eq!(fields(ScaiSend, &with(full_v3(), "/personalizations", &body)), ["personalizations.0.to"]);
}

#[test]
fn canonical_base64() {
    for good in ["", "QQ==", "QUI=", "QUJD", "+/+/"] {
        assert!(is_canonical_base64(good), "{good}");
    }
    for bad in [
        "Q",
        "QQ",
        "QQ=",
        "QR==",
        "QUJ=",
        "QUJD\n",
        "QU JD",
        "QQ==QQ==",
        "====",
        "Q===",
        "-_-_",
        "QUJD====",
        "\u{e4}\u{e4}",
    ] {
        assert!(!is_canonical_base64(bad), "{bad}");
    }
}

#[tokio::test]
async fn the_answer_names_the_faults_and_the_page_shows_them() {
    let running = running().await;
    let answer = running.send(NEXUSPROMAIL, KEY, &json!({ "to": {}, "tags": [] })).await;
    assert_eq!((answer.status, &answer.json()["error"]), (422, &json!("validation")));
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    for words in ["tags is not a documented field", "to.email is required", "from is required", "html is required"] {
        assert!(message.contains(words), "{message}");
    }
    for key in [KEY, SENDGRID_KEY] {
        let answer = running.send(V3, key, &json!({ "subject": 1 })).await;
        assert_eq!(answer.status, 400);
        let error = &answer.json()["errors"][3];
        assert_eq!(
            (&error["field"], &error["message"]),
            (&json!("content"), &json!("content is required unless template_id is given"))
        );
        assert!(error["help"].is_null());
    }
    let mails = running.mails().await;
    assert_eq!(mails.len(), 3);
    assert!(mails[2]["answer"].as_str().unwrap().starts_with("422 Unprocessable Entity: tags is not"));
}
