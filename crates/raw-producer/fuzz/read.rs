//! The fuzz target: everything that may be made of what comes from the socket. Shared by `cargo test` and libFuzzer.

use raw_producer::deribit::history;
use raw_producer::deribit::message::{Frame, parse};

/// Reads it as each of the things that it may be.
pub(crate) fn frame(bytes: &[u8]) {
    // The websocket passes on nothing but UTF-8.
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Frame::Response { outcome: Ok(result), .. }) = parse(&text, 1) {
        history::page(result, 1).ok();
        history::time(result).ok();
        history::instruments(result).ok();
    }
}
