//! Messages as bytes.

use crate::raft::message::Message;

/// Largest message that is decoded, in bytes.
pub const MESSAGE_SIZE_MAX: usize = 64 << 20;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the message is cut short")]
    Short,
}

impl Message {
    /// Adds its bytes to `out`.
    pub fn encode(&self, _out: &mut Vec<u8>) {}

    /// The message whose bytes these are.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, DecodeError> {
        Err(DecodeError::Short)
    }
}
