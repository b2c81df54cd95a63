//! Tests against a fake registry. Tests of the whole pipeline use a real one.

use std::io::Write as _;

use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::avro::schema::TRADE;

fn config(server: &MockServer) -> SchemaRegistryConfig {
    let url = format!("{}/v7", server.uri()).parse().unwrap();
    SchemaRegistryConfig { url, username: None, password_file: None }
}

/// A registry that answers requests about topic `t` with these statuses and bodies.
async fn registry(set_level: ResponseTemplate, register: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let level = Mock::given(method("PUT")).and(path("/v7/config/t-value"));
    level.respond_with(set_level).mount(&server).await;
    let versions = Mock::given(method("POST")).and(path("/v7/subjects/t-value/versions"));
    versions.respond_with(register).mount(&server).await;
    server
}

fn ok(body: serde_json::Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn error(status: u16, code: i32) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"error_code": code, "message": "no"}))
}

#[tokio::test]
async fn compatibility_is_set_before_the_first_version_is_registered() {
    let server = registry(ok(json!({})), ok(json!({"id": 12}))).await;
    let id = Registry::new(&config(&server)).unwrap().register("t", &TRADE).await.unwrap();
    assert_eq!(id, 12);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].url.path(), "/v7/config/t-value");
    let level: serde_json::Value = requests[0].body_json().unwrap();
    assert_eq!(level, json!({"compatibility": "FULL_TRANSITIVE"}));
    assert_eq!(requests[1].url.path(), "/v7/subjects/t-value/versions");
}

#[tokio::test]
async fn a_rejected_schema_is_a_configuration_error_that_names_the_subject() {
    let server = registry(ok(json!({})), error(409, 409)).await;
    let error = Registry::new(&config(&server)).unwrap().register("t", &TRADE).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("subject t-value"), "{error}");
    assert_eq!(Failure::from(error).code(), 78);
}

#[tokio::test]
async fn each_answer_about_a_schema_has_its_error() {
    let server = MockServer::start().await;
    for (id, answer) in [
        (3, ok(json!({"schema": "\"string\""}))),
        (4, error(404, 40403)),
        (5, error(500, 1)),
        (6, ok(json!({"schema": "{}", "schemaType": "JSON"}))),
        (7, ok(json!({"schema": "{\"type\":\"odd\"}"}))),
        (8, error(401, 401)),
    ] {
        let schema = Mock::given(method("GET")).and(path(format!("/v7/schemas/ids/{id}")));
        schema.respond_with(answer).mount(&server).await;
    }
    let registry = Registry::new(&config(&server)).unwrap();
    assert!(matches!(registry.schema(3).await, Ok(Schema::String)));
    assert!(matches!(registry.schema(4).await, Err(RegistryError::UnknownId(4))));
    assert!(matches!(registry.schema(5).await, Err(RegistryError::Unavailable { .. })));
    for id in [6, 7] {
        let answer = registry.schema(id).await;
        assert!(matches!(answer, Err(RegistryError::NotAvro { .. })), "{answer:?}");
    }
    assert!(matches!(registry.schema(8).await, Err(RegistryError::Refused { .. })));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_named_with_its_address() {
    let url = "http://127.0.0.1:1/v7".parse().unwrap();
    let config = SchemaRegistryConfig { url, username: None, password_file: None };
    let error = Registry::new(&config).unwrap().schema(3).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_blocking_lookup_ends_at_its_deadline() {
    let server = MockServer::start().await;
    let slow = ok(json!({"schema": "\"string\""})).set_delay(Duration::from_secs(20));
    Mock::given(method("GET")).respond_with(slow).mount(&server).await;
    let registry = Registry::new(&config(&server)).unwrap();
    let runtime = Handle::current();
    let lookup = move || registry.schema_blocking(3, &runtime, Duration::from_millis(50));
    match crate::shutdown::spawn_blocking_thread("lookup", lookup).await.unwrap() {
        Err(error @ RegistryError::Unavailable { .. }) => {
            assert!(error.to_string().contains("no answer within 50ms for schema 3"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_login_is_sent_with_every_request_and_needs_both_keys() {
    let server = registry(ok(json!({})), ok(json!({"id": 1}))).await;
    let half = SchemaRegistryConfig { username: Some("me".into()), ..config(&server) };
    let message = Registry::new(&half).err().unwrap().to_string();
    assert!(message.contains("schema_registry.password_file: no value"), "{message}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"pw\n").unwrap();
    let login = SchemaRegistryConfig { password_file: Some(file.path().to_owned()), ..half };
    Registry::new(&login).unwrap().register("t", &TRADE).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.headers["authorization"] == "Basic bWU6cHc="));
}

#[tokio::test]
async fn two_services_may_set_a_level_at_once() {
    let server = registry(error(409, 0), ok(json!({"id": 1}))).await;
    let error = Registry::new(&config(&server)).unwrap().register("t", &TRADE).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}
