//! Faults that change the text of a notification.

use serde_json::Value;

use super::{FaultKind, InjectedFault};

/// Bytes of padding: more than any client accepts.
const OVERSIZE: usize = 20 << 20;

/// Applies the fault to the text; a fault of another kind leaves it unchanged.
pub(crate) fn corrupt(text: String, fault: InjectedFault) -> String {
    match fault.kind {
        FaultKind::Thin => thin(text, fault.chance),
        FaultKind::Garbage => garbage(text, fault.chance),
        FaultKind::Oversize => oversize(&text),
        _ => text,
    }
}

/// Removes every second or third trade, at least one.
fn thin(text: String, chance: u64) -> String {
    let Ok(mut notification) = serde_json::from_str::<Value>(&text) else { return text };
    let Some(Value::Array(trades)) = notification.pointer_mut("/params/data") else { return text };
    let step = 2 + usize::from(chance.is_multiple_of(2));
    let mut at = 0;
    trades.retain(|_| {
        at += 1;
        at % step != 1
    });
    notification.to_string()
}

/// Makes one price a text, cuts the frame in half, or replaces it with HTML.
fn garbage(mut text: String, chance: u64) -> String {
    match chance % 3 {
        0 => {
            let Ok(mut notification) = serde_json::from_str::<Value>(&text) else { return text };
            let Some(trade) = notification.pointer_mut("/params/data/0") else { return text };
            trade["price"] = "much".into();
            notification.to_string()
        }
        1 => {
            let half = text.len() / 2;
            text.truncate((0..=half).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
            text
        }
        _ => "<html><body>502 Bad Gateway</body></html>".to_owned(),
    }
}

fn oversize(text: &str) -> String {
    let padding = " ".repeat(OVERSIZE);
    format!("{padding}{text}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: &str = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.x","data":[{"trade_seq":1,"price":5.0},{"trade_seq":2,"price":5.5},{"trade_seq":3,"price":6.0}]}}"#;

    fn corrupted(kind: FaultKind, chance: u64) -> String {
        corrupt(TEXT.to_owned(), InjectedFault { kind, lasts: Duration::ZERO, chance, begins: true })
    }

    #[test]
    fn a_thinned_notification_can_be_read_and_has_fewer_trades() {
        for chance in 0..4 {
            let read: Value = serde_json::from_str(&corrupted(FaultKind::Thin, chance)).unwrap();
            let trades = read["params"]["data"].as_array().unwrap();
            assert!((1..3).contains(&trades.len()), "{trades:?}");
        }
    }

    #[test]
    fn garbage_is_an_invalid_trade_or_an_unparsable_frame() {
        let read: Value = serde_json::from_str(&corrupted(FaultKind::Garbage, 0)).unwrap();
        assert!(read["params"]["data"][0]["price"].is_string());
        assert!(read["params"]["data"][1]["price"].is_number());
        for chance in [1, 2] {
            assert!(serde_json::from_str::<Value>(&corrupted(FaultKind::Garbage, chance)).is_err());
        }
    }

    #[test]
    fn what_is_too_large_is_whole_all_the_same() {
        let text = corrupted(FaultKind::Oversize, 0);
        assert!(text.len() > OVERSIZE && text.trim_start() == TEXT);
        assert_eq!(corrupted(FaultKind::Stall, 0), TEXT);
    }
}
