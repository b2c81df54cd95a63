//! The fuzz target: every parser of bytes from the socket. `cargo test` and libFuzzer share it.

use raw_producer::deribit::history;
use raw_producer::deribit::message::{Frame, parse};

/// Parses the frame, and a response with every parser.
pub(crate) fn frame(bytes: &[u8]) {
    // The websocket library passes on UTF-8 only.
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Frame::Response { outcome: Ok(result), .. }) = parse(&text, 1) {
        history::page(result, 1).ok();
        history::time(result).ok();
        history::instruments(result).ok();
    }
}
