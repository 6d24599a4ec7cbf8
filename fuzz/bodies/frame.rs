//! Binary frames and messages of the protocol: what is understood is written as it was.

use var_dd_protocol::{ClientMessage, Frame, ServerMessage};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(bytes) {
        let written = frame.encode();
        assert_eq!(Frame::decode(&written).ok().as_ref(), Some(&frame));
    }
    if let Ok(message) = serde_json::from_slice::<ClientMessage>(bytes) {
        let written = serde_json::to_vec(&message).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<ClientMessage>(&written).ok(), Some(message));
    }
    if let Ok(message) = serde_json::from_slice::<ServerMessage>(bytes) {
        let written = serde_json::to_vec(&message).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<ServerMessage>(&written).ok(), Some(message));
    }
}
