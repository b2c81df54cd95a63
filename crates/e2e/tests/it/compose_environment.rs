//! Compares the settings that docker-compose.yml gives our services with the ones that they take. Needs no Docker.

use std::collections::BTreeMap;
use std::fmt::Debug;

use common::config::{ServiceConfig, load_from};
use serde_norway::Value;

/// The whole of docker-compose.yml, aliases and merges resolved.
struct Compose(Value);

impl Compose {
    fn read() -> Self {
        let text = include_str!("../../../../docker-compose.yml");
        let mut compose: Value = serde_norway::from_str(text).unwrap();
        // Twice, as merged parts merge others in turn.
        compose.apply_merge().unwrap();
        compose.apply_merge().unwrap();
        Self(compose)
    }

    fn service(&self, name: &str) -> &Value {
        self.0
            .get("services")
            .and_then(|all| all.get(name))
            .unwrap_or_else(|| panic!("docker-compose.yml has no service {name}"))
    }

    fn environment(&self, service: &str) -> BTreeMap<String, String> {
        let given: BTreeMap<String, String> =
            serde_norway::from_value(self.service(service)["environment"].clone()).unwrap();
        assert!(
            given.values().all(|value| !value.contains('$')),
            "{service}: compose would replace a variable"
        );
        given
    }

    /// The ports of the container that are published, always on loopback.
    fn published(&self, service: &str) -> Vec<u16> {
        let ports: Vec<String> = serde_norway::from_value(self.service(service)["ports"].clone()).unwrap();
        ports
            .iter()
            .map(|port| {
                assert!(port.starts_with("127.0.0.1:${"), "{service}: {port}");
                port.rsplit_once(':').unwrap().1.parse().unwrap()
            })
            .collect()
    }
}

fn load<C: ServiceConfig>(environment: &BTreeMap<String, String>) -> C {
    load_from(None, environment.clone()).unwrap_or_else(|refused| panic!("{}: {refused}", C::SERVICE.name()))
}

/// Every variable must change something: a service ignores those that only another one knows.
fn takes_its_environment<C: ServiceConfig + Debug>(compose: &Compose) {
    let environment = compose.environment(C::SERVICE.name());
    let all = format!("{:?}", load::<C>(&environment));
    for variable in environment.keys() {
        let mut others = environment.clone();
        others.remove(variable);
        assert_ne!(
            all,
            format!("{:?}", load::<C>(&others)),
            "{}: {variable} changes nothing",
            C::SERVICE.name()
        );
    }
}

/// Compose publishes the port that the service listens on, and the service listens where the network can reach it.
fn can_be_reached<C: ServiceConfig>(compose: &Compose) {
    let name = C::SERVICE.name();
    let listen = load::<C>(&compose.environment(name)).admin().listen;
    assert!(listen.ip().is_unspecified(), "{name} listens on {listen}, where no other container comes");
    assert!(
        compose.published(name).contains(&listen.port()),
        "{name} listens on {listen}, which is not published"
    );
}

#[test]
fn every_variable_that_compose_gives_a_service_is_one_that_it_takes() {
    let compose = Compose::read();
    takes_its_environment::<raw_producer::Config>(&compose);
    takes_its_environment::<agg_producer::Config>(&compose);
    takes_its_environment::<jdbc_sink::Config>(&compose);
    takes_its_environment::<deribit_sim::Config>(&compose);
}

#[test]
fn the_admin_endpoints_are_where_compose_publishes_them() {
    let compose = Compose::read();
    can_be_reached::<raw_producer::Config>(&compose);
    can_be_reached::<agg_producer::Config>(&compose);
    can_be_reached::<jdbc_sink::Config>(&compose);
    can_be_reached::<deribit_sim::Config>(&compose);
}

#[test]
fn services_are_sent_to_containers_that_exist() {
    let compose = Compose::read();
    for service in ["raw-producer", "agg-producer", "jdbc-sink", "deribit-sim"] {
        for (variable, value) in compose.environment(service) {
            let host = value.rsplit_once("://").map_or(value.as_str(), |(_, rest)| rest);
            let host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
            let Some((host, _)) = host.split_once(':') else { continue };
            if host != "0.0.0.0" {
                assert!(compose.0["services"].get(host).is_some(), "{service}: {variable} leads to {host}");
            }
        }
    }
}

#[test]
fn the_password_lies_at_the_same_place_for_jdbc_sink_and_for_connect() {
    let compose = Compose::read();
    let config: jdbc_sink::Config = load(&compose.environment("jdbc-sink"));
    assert_eq!(config.postgres.password_file.to_str(), Some("/run/secrets/postgres_password"));
    for service in ["jdbc-sink", "connect"] {
        let volumes: Vec<String> =
            serde_norway::from_value(compose.service(service)["volumes"].clone()).unwrap();
        assert!(volumes.contains(&format!("secrets-{service}:/run/secrets:ro")), "{service}: {volumes:?}");
    }
}
