//! SASL PLAIN and SCRAM (RFC 5802), the client's side.

use std::num::NonZeroU32;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret as _, SecretString};

/// Fewest rounds that a client accepts, as RFC 7677 says; fewer would make a stolen message cheap to guess from.
const MIN_ROUNDS: u32 = 4096;

/// Credentials and the way that they are shown to the broker.
#[derive(Clone)]
pub(super) struct Sasl {
    mechanism: Mechanism,
    username: String,
    password: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Sasl {
    /// `None` for a mechanism that is not implemented here.
    pub(super) fn new(mechanism: &str, username: &str, password: &str) -> Option<Self> {
        let mechanism = match mechanism.to_uppercase().as_str() {
            "PLAIN" => Mechanism::Plain,
            "SCRAM-SHA-256" => Mechanism::ScramSha256,
            "SCRAM-SHA-512" => Mechanism::ScramSha512,
            _ => return None,
        };
        Some(Self { mechanism, username: username.to_owned(), password: password.into() })
    }

    pub(super) fn mechanism(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    pub(super) fn start(&self) -> Conversation<'_> {
        let mut nonce = [0_u8; 18];
        SystemRandom::new().fill(&mut nonce).expect("the system has a source of random numbers");
        Conversation { sasl: self, nonce: hex(&nonce), state: State::First }
    }
}

/// One authentication, message by message.
pub(super) struct Conversation<'s> {
    sasl: &'s Sasl,
    nonce: String,
    state: State,
}

enum State {
    First,
    /// The signature that proves that the broker knows the password too.
    ServerSignature(Vec<u8>),
    Done,
}

impl Conversation<'_> {
    pub(super) fn first(&mut self) -> Vec<u8> {
        let Sasl { mechanism, username, password } = self.sasl;
        if *mechanism == Mechanism::Plain {
            self.state = State::Done;
            return format!("\0{username}\0{}", password.expose_secret()).into_bytes();
        }
        format!("n,,{}", self.client_first_bare()).into_bytes()
    }

    fn client_first_bare(&self) -> String {
        let username = self.sasl.username.replace('=', "=3D").replace(',', "=2C");
        format!("n={username},r={}", self.nonce)
    }

    /// The answer to the broker's message; `None` when the authentication is complete.
    pub(super) fn next(&mut self, received: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let text = || {
            std::str::from_utf8(received).map_err(|_| "SCRAM: the broker's message is not text".to_owned())
        };
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Ok(None),
            State::First => {
                let (answer, signature) = self.prove(text()?)?;
                self.state = State::ServerSignature(signature);
                Ok(Some(answer))
            }
            State::ServerSignature(expected) => {
                let sent = attribute(text()?, 'v').map(base64_decode);
                match sent.flatten() {
                    // Known to be equal only if the broker has the password: a stranger cannot.
                    Some(sent) if sent == expected => Ok(None),
                    _ => Err("SCRAM: the broker does not prove that it knows the password".into()),
                }
            }
        }
    }

    fn prove(&self, server_first: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let malformed = || format!("SCRAM: cannot read the broker's message {server_first:?}");
        let nonce = attribute(server_first, 'r').filter(|nonce| nonce.starts_with(&self.nonce));
        let nonce = nonce.ok_or_else(malformed)?;
        let salt = attribute(server_first, 's').and_then(base64_decode).ok_or_else(malformed)?;
        let rounds: u32 =
            attribute(server_first, 'i').and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        let rounds =
            NonZeroU32::new(rounds).filter(|rounds| rounds.get() >= MIN_ROUNDS).ok_or_else(malformed)?;
        let (kdf, mac, hash) = match self.sasl.mechanism {
            Mechanism::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
            _ => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(kdf, rounds, &salt, self.sasl.password.expose_secret().as_bytes(), &mut salted);
        let sign =
            |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(mac, key), message).as_ref().to_vec();
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.client_first_bare());
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_signature = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
        Ok((format!("{without_proof},p={}", base64_encode(&proof)).into_bytes(), server_signature))
    }
}

fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn scram_gives_the_proof_of_the_rfcs_example_and_checks_the_brokers() {
        let sasl = Sasl::new("SCRAM-SHA-256", "user", "pencil").unwrap();
        let mut conversation =
            Conversation { sasl: &sasl, nonce: "rOprNGfwEbeRWgbNEkqO".into(), state: State::First };
        assert_eq!(conversation.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = conversation.next(server_first).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(conversation.next(server_final), Ok(None));
    }

    #[test]
    fn a_broker_without_the_password_is_refused() {
        let sasl = Sasl::new("SCRAM-SHA-256", "user", "pencil").unwrap();
        let mut conversation = sasl.start();
        conversation.first();
        let server_first = format!("r={}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", conversation.nonce);
        conversation.next(server_first.as_bytes()).unwrap().unwrap();
        assert!(conversation.next(b"v=AAAA").is_err());
    }

    #[test]
    fn too_few_rounds_and_a_nonce_of_somebody_else_are_refused() {
        let sasl = Sasl::new("SCRAM-SHA-512", "user", "pencil").unwrap();
        for message in ["r=other,s=AAAA,i=4096", "r=NONCE,s=AAAA,i=100", "nonsense"] {
            let mut conversation = sasl.start();
            let message = message.replace("NONCE", &conversation.nonce);
            assert!(conversation.next(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn plain_is_one_message() {
        let sasl = Sasl::new("plain", "user", "secret").unwrap();
        let mut conversation = sasl.start();
        assert_eq!(conversation.first(), b"\0user\0secret");
        assert_eq!(conversation.next(b""), Ok(None));
    }
}
