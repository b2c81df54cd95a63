//! `regex-lite` in the place of `regex`: the same interface without Unicode's tables and the fast automata.
//!
//! The only user is the migrations library, which takes the names of ten files apart with it; the whole of `regex` for
//! that would be a twentieth of `jdbc-sink` (docs/SIZES.md). A dependency that needs more of `regex` than this has does not compile.

pub use regex_lite::*;
