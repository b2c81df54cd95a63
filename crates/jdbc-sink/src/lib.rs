//! jdbc-sink
