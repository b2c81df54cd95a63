//! Records to trades and watermarks, windows to records.

pub mod decode;
pub mod encode;
pub mod watermark_reader;
