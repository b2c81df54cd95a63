//! Against a registry of a few lines: the real one is asked in the tests over the real servers.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};

use super::*;
use crate::avro::schema::TRADE;

type Calls = Arc<Mutex<Vec<String>>>;

async fn registry(register: (StatusCode, &'static str)) -> (SchemaRegistryConfig, Calls) {
    let calls = Calls::default();
    let note = |what: &'static str| {
        let calls = calls.clone();
        move |headers: HeaderMap, body: String| {
            let login =
                headers.get("authorization").map_or(String::new(), |v| format!(" {}", v.to_str().unwrap()));
            calls.lock().unwrap().push(format!("{what}{login} {}", body.get(..40).unwrap_or(&body)));
        }
    };
    let (on_config, on_register) = (note("config"), note("register"));
    let router = Router::new()
        .route(
            "/v7/config/t-value",
            put(async move |h: HeaderMap, b: String| {
                on_config(h, b);
                "{}"
            }),
        )
        .route(
            "/v7/subjects/t-value/versions",
            post(async move |h: HeaderMap, b: String| {
                on_register(h, b);
                register
            }),
        )
        .route("/v7/schemas/ids/3", get(async || serde_json::json!({"schema": "\"string\""}).to_string()))
        .route(
            "/v7/schemas/ids/6",
            get(async || serde_json::json!({"schema": "{}", "schemaType": "JSON"}).to_string()),
        )
        .route(
            "/v7/schemas/ids/7",
            get(async || serde_json::json!({"schema": "{\"type\":\"odd\"}"}).to_string()),
        )
        .route(
            "/v7/schemas/ids/8",
            get(async || (StatusCode::UNAUTHORIZED, r#"{"error_code":401,"message":"who?"}"#)),
        )
        .route(
            "/v7/schemas/ids/4",
            get(async || (StatusCode::NOT_FOUND, r#"{"error_code":40403,"message":"no"}"#)),
        )
        .route(
            "/v7/schemas/ids/5",
            get(async || (StatusCode::INTERNAL_SERVER_ERROR, r#"{"error_code":1,"message":"oh"}"#)),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v7", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (SchemaRegistryConfig { url: url.parse().unwrap(), username: None, password_file: None }, calls)
}

#[tokio::test]
async fn compatibility_is_set_before_the_first_version_is_registered() {
    let (config, calls) = registry((StatusCode::OK, r#"{"id":12}"#)).await;
    let id = Registry::new(&config).unwrap().register("t", &TRADE).await.unwrap();
    assert_eq!(id, 12);
    let calls = calls.lock().unwrap().clone();
    assert!(calls[0].starts_with(r#"config {"compatibility":"FULL_TRANSITIVE"}"#), "{calls:?}");
    assert!(calls[1].starts_with("register "), "{calls:?}");
}

#[tokio::test]
async fn a_refused_schema_is_a_configuration_mistake_that_names_the_subject() {
    let (config, _) =
        registry((StatusCode::CONFLICT, r#"{"error_code":409,"message":"incompatible"}"#)).await;
    let error = Registry::new(&config).unwrap().register("t", &TRADE).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("subject t-value"), "{error}");
    assert_eq!(Failure::from(error).code(), 78);
}

#[tokio::test]
async fn an_unknown_id_is_told_from_a_registry_that_is_away() {
    let (config, _) = registry((StatusCode::OK, "")).await;
    let registry = Registry::new(&config).unwrap();
    assert!(matches!(registry.schema(3).await, Ok(Schema::String)));
    assert!(matches!(registry.schema(4).await, Err(RegistryError::UnknownId(4))));
    assert!(matches!(registry.schema(5).await, Err(RegistryError::Unavailable { .. })));
    for id in [6, 7] {
        let answer = registry.schema(id).await;
        assert!(matches!(answer, Err(RegistryError::NotAvro { .. })), "{answer:?}");
    }
    assert!(matches!(registry.schema(8).await, Err(RegistryError::Refused { .. })));
    let nobody = SchemaRegistryConfig { url: "http://127.0.0.1:1/v7".parse().unwrap(), ..config };
    let error = Registry::new(&nobody).unwrap().schema(3).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_login_goes_with_every_call_and_half_of_one_is_refused() {
    let (config, calls) = registry((StatusCode::OK, r#"{"id":1}"#)).await;
    let half = SchemaRegistryConfig { username: Some("me".into()), ..config.clone() };
    let message = Registry::new(&half).err().unwrap().to_string();
    assert!(message.contains("schema_registry.password_file: no value"), "{message}");

    let file = std::env::temp_dir().join(format!("kstream-registry-{}", std::process::id()));
    std::fs::write(&file, "pw\n").unwrap();
    let whole = SchemaRegistryConfig { password_file: Some(file.clone()), ..half };
    Registry::new(&whole).unwrap().register("t", &TRADE).await.unwrap();
    std::fs::remove_file(file).unwrap();
    let calls = calls.lock().unwrap().clone();
    assert!(calls.iter().all(|call| call.contains(" Basic bWU6cHc= ")), "{calls:?}");
}

#[tokio::test]
async fn two_services_that_set_a_level_at_once_do_not_end_each_other() {
    let conflict = async || (StatusCode::CONFLICT, r#"{"error_code":0,"message":"already exists"}"#);
    let router = Router::new().route("/v7/config/t-value", put(conflict));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v7", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = SchemaRegistryConfig { url, username: None, password_file: None };
    let error = Registry::new(&config).unwrap().register("t", &TRADE).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}
