//! `[repository.NAME.hold.http]`

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use crate::config::across::Thing;
use crate::config::key::{Key, Kind, Section};
use crate::config::read::table::Table;
use crate::config::value::{Value, nearest};
use crate::config::{HttpHold, Secret};

const URL: Key = Key::required(
    "url",
    Kind::Text,
    "\"http://127.0.0.1:8080/admin/synapse/status\"",
    "Where the switch is read (GET) and set (PUT).",
);
const PAUSE_DOCUMENT: Key = Key::required(
    "pause",
    Kind::Document,
    "{ status = \"READ_ONLY\", currentMessage = \"The nightly backup is running.\" }",
    "The document that pauses, sent as JSON.",
);
const RELEASE_DOCUMENT: Key = Key::required(
    "release",
    Kind::Document,
    "{ status = \"READ_WRITE\" }",
    "The document that releases, sent as JSON.",
);
const FIELD: Key = Key::defaulted(
    "field",
    Kind::Text,
    "\"/status\"",
    "The field that tells the state, in the answer and in both documents: a JSON pointer.",
);
const HEADERS: Key = Key::optional(
    "headers",
    Kind::Headers,
    "none",
    "{ Authorization = { credential = \"app-token\" } }",
    "Headers of every request. A value that is secret is { credential = \"NAME\" }, the name of a systemd credential.",
);
const HTTP_TIMEOUT: Key =
    Key::defaulted("timeout", Kind::Duration, "\"30s\"", "The longest that one request may take.");

/// `[repository.NAME.hold.http]`
pub(crate) static HTTP: Section = Section {
    name: "http",
    named: None,
    doc: "A maintenance switch behind HTTP.",
    keys: &[URL, PAUSE_DOCUMENT, RELEASE_DOCUMENT, FIELD, HEADERS, HTTP_TIMEOUT],
    sections: &[],
};

/// The switch is given to `claim`.
pub(crate) fn http(table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<HttpHold> {
    let url = table.get(&URL, url);
    if let Some(url) = &url {
        claim(Thing::Held(format!("the switch at {url}")), table.place_of_value(&URL));
    }
    let pause = table.get(&PAUSE_DOCUMENT, Value::document);
    let release = table.get(&RELEASE_DOCUMENT, Value::document);
    let field = table.get(&FIELD, pointer);
    if let (Some(pause), Some(release), Some(field)) = (&pause, &release, &field) {
        let (before, after) = (pause.pointer(field), release.pointer(field));
        for (key, found) in [(&PAUSE_DOCUMENT, before), (&RELEASE_DOCUMENT, after)] {
            if found.is_none() {
                table.source.fault_of_whole(
                    table.place_of_value(key),
                    format!("the document `{}` has nothing at {field}", key.name),
                    Some("the state is proved by this field: put it into both documents, or name another `field`"
                        .to_owned()),
                );
            }
        }
        if before.is_some() && before == after {
            table.source.fault_of_whole(
                table.place_of_value(&RELEASE_DOCUMENT),
                format!("`pause` and `release` have the same value at {field}"),
                Some("then nobody can tell whether it is paused".to_owned()),
            );
        }
    }
    let headers = table.get_optional(&HEADERS, headers);
    let timeout = table.get(&HTTP_TIMEOUT, Value::duration);
    Some(HttpHold {
        url: url?,
        pause: pause?,
        release: release?,
        field: field?,
        headers: headers?.unwrap_or_default(),
        timeout: timeout?,
    })
}

fn url(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.contains('@') {
        value.source.hide(value.span.clone());
    }
    let Ok(url) = reqwest::Url::parse(&text) else {
        return value
            .wrong("this is not a URL", "write it like \"http://127.0.0.1:8080/admin/status\"".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return value.wrong("this is not an HTTP URL", "it must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return value.wrong(
            "this URL has a password in plain sight",
            "send it as a header: headers = { Authorization = { credential = \"NAME\" } }".to_owned(),
        );
    }
    Some(text)
}

/// RFC 6901.
fn pointer(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.starts_with('/') {
        return Some(text);
    }
    value.wrong(format!("`{text}` is not a JSON pointer"), format!("write it as \"/{text}\""))
}

const SECRET_HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "x-auth-token",
    "api-key",
    "private-token",
];

fn headers(value: &Value<'_>) -> Option<BTreeMap<String, Secret>> {
    let DeValue::Table(table) = value.node else {
        return value.wrong(
            format!("expected {}", Kind::Headers.expected()),
            "write it like { Accept = \"application/json\", Authorization = { credential = \"NAME\" } }"
                .to_owned(),
        );
    };
    let mut headers = Some(BTreeMap::new());
    for (key, node) in table {
        let name = key.get_ref().as_ref();
        let read = header(name, &Value::new(value.source, node));
        if name.parse::<reqwest::header::HeaderName>().is_err() {
            value.source.fault(key.span(), format!("`{name}` is not the name of an HTTP header"), None);
            headers = None;
        }
        match (read, headers.as_mut()) {
            (Some(secret), Some(headers)) => {
                headers.insert(name.to_owned(), secret);
            }
            _ => headers = None,
        }
    }
    headers
}

fn header(name: &str, value: &Value<'_>) -> Option<Secret> {
    let Some(table) = value.node.as_table() else {
        let text = value.any_text()?;
        if SECRET_HEADERS.iter().any(|secret| secret.eq_ignore_ascii_case(name)) {
            value.source.hide(value.span.clone());
            return value.wrong(
                format!("the header `{name}` has a secret in plain sight"),
                format!(
                    "write {name} = {{ credential = \"NAME\" }} and give the daemon that systemd credential"
                ),
            );
        }
        if text.parse::<reqwest::header::HeaderValue>().is_err() {
            return value.wrong(format!("this cannot be the value of an HTTP header `{name}`"), None);
        }
        return Some(Secret::Plain(text));
    };
    let mut credential = None;
    for (key, node) in table {
        let inner = key.get_ref().as_ref();
        if inner == "credential" {
            credential = Value::new(value.source, node).credential();
        } else {
            let help =
                nearest(inner, ["credential"].into_iter()).map(|known| format!("did you mean `{known}`?"));
            value.source.fault(key.span(), format!("unknown key `{inner}` in the header `{name}`"), help);
        }
    }
    match (credential, table.len()) {
        (Some(credential), 1) => Some(Secret::Credential(credential)),
        (None, 0) => value.wrong("this header has no value", "write { credential = \"NAME\" }".to_owned()),
        _ => None,
    }
}
