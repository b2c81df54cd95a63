//! One connection to one broker: TCP, TLS if asked for, SASL if asked for, then requests one after another.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::security::Security;
use super::{BrokerRequestError, REQUEST_TIMEOUT};

/// Largest response that is read, in bytes. The list of a large cluster's producers is far below it.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    address: String,
    client_id: StrBytes,
    correlation_id: i32,
}

impl Connection {
    pub(super) async fn open(
        address: &str,
        client_id: &str,
        security: &Security,
    ) -> Result<Self, BrokerRequestError> {
        let opening = Self::connect(address, client_id, security);
        match tokio::time::timeout(REQUEST_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(unreachable(address, "no answer to the connection")),
        }
    }

    async fn connect(
        address: &str,
        client_id: &str,
        security: &Security,
    ) -> Result<Self, BrokerRequestError> {
        let tcp = TcpStream::connect(address).await.map_err(|error| unreachable(address, error))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(address, error))?;
        let stream: Box<dyn Stream> = match security.tls(address)? {
            Some((connector, name)) => {
                Box::new(connector.connect(name, tcp).await.map_err(|error| unreachable(address, error))?)
            }
            None => Box::new(tcp),
        };
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            correlation_id: 0,
        };
        if let Some(sasl) = security.sasl() {
            connection.authenticate(sasl).await?;
        }
        Ok(connection)
    }

    async fn authenticate(&mut self, sasl: &super::sasl::Sasl) -> Result<(), BrokerRequestError> {
        let mechanism = StrBytes::from_static_str(sasl.mechanism());
        let handshake = self.exchange(&SaslHandshakeRequest::default().with_mechanism(mechanism), 1).await?;
        if handshake.error_code != 0 {
            return Err(BrokerRequestError::Unsupported(format!(
                "{}: the broker does not accept SASL {}",
                self.address,
                sasl.mechanism()
            )));
        }
        let mut conversation = sasl.start();
        let mut message = conversation.first();
        loop {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
            let answer = self.exchange(&request, 1).await?;
            if answer.error_code != 0 {
                let reason = answer.error_message.map_or_else(String::new, |text| text.to_string());
                return Err(BrokerRequestError::Unsupported(format!(
                    "{}: authentication failed (SASL {}): {reason}",
                    self.address,
                    sasl.mechanism()
                )));
            }
            match conversation.next(&answer.auth_bytes).map_err(BrokerRequestError::Unsupported)? {
                Some(next) => message = next,
                None => return Ok(()),
            }
        }
    }

    /// Sends one request of that version and waits for its response.
    pub(super) async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, BrokerRequestError> {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(request, version)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable(&self.address, "no response in time")),
        }
    }

    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, BrokerRequestError> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut body = BytesMut::new();
        header
            .encode(&mut body, R::header_version(version))
            .and_then(|()| request.encode(&mut body, version))
            .map_err(|error| self.unsupported(R::KEY, &error))?;
        let length = u32::try_from(body.len()).map_err(|error| self.unsupported(R::KEY, &error))?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        let mut response =
            self.round_trip(&frame).await.map_err(|error| unreachable(&self.address, error))?;
        ResponseHeader::decode(&mut response, R::Response::header_version(version))
            .and_then(|header| {
                let in_turn = header.correlation_id == self.correlation_id;
                in_turn.then_some(()).ok_or_else(|| anyhow::anyhow!("response out of turn"))
            })
            .and_then(|()| R::Response::decode(&mut response, version))
            .map_err(|error| self.unsupported(R::KEY, &error))
    }

    async fn round_trip(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_RESPONSE_BYTES {
            let problem = format!("a response of {length} bytes: not a Kafka broker?");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
        }
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response).await?;
        Ok(Bytes::from(response))
    }

    fn unsupported(&self, key: i16, error: &impl std::fmt::Display) -> BrokerRequestError {
        let name = ApiKey::try_from(key).map_or_else(|()| key.to_string(), |key| format!("{key:?}"));
        BrokerRequestError::Unsupported(format!("{}: {name}: {error}", self.address))
    }

    /// Fails unless the broker knows every one of these request kinds. One that it does not know would make it hang up.
    pub(super) async fn require(&mut self, keys: &[ApiKey]) -> Result<(), BrokerRequestError> {
        let answer = self.send(&ApiVersionsRequest::default(), 0).await?;
        let knows = |key: &ApiKey| answer.api_keys.iter().any(|known| known.api_key == *key as i16);
        match keys.iter().find(|key| !knows(key)) {
            None => Ok(()),
            Some(missing) => Err(BrokerRequestError::Unsupported(format!(
                "{}: the broker does not know the request {missing:?}",
                self.address
            ))),
        }
    }
}

fn unreachable(address: &str, reason: impl std::fmt::Display) -> BrokerRequestError {
    BrokerRequestError::Unreachable { address: address.to_owned(), reason: reason.to_string() }
}
