//! The two kinds of messages (<https://varlink.org/Method-Call>), and where one ends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::refusal::Refusal;

/// What ends each message.
pub(crate) const END: u8 = 0;

/// What was received and not yet taken, message by message.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// How many of them are known to have no end of a message among them.
    searched: usize,
}

impl Inbox {
    /// The first message that is there as a whole, without its end.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().skip(self.searched).position(|byte| *byte == END).map(|end| self.searched + end);
        self.searched = if end.is_some() { 0 } else { self.bytes.len() };
        let rest = self.bytes.split_off(end? + 1);
        let mut message = std::mem::replace(&mut self.bytes, rest);
        message.pop();
        Some(message)
    }

    /// Bytes of a message that is not whole yet, once [`Inbox::take`] has found none.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where more is received.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// A method call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) parameters: Option<Value>,
    /// The caller wants no reply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) oneway: bool,
    /// The caller takes several replies.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) more: bool,
    /// The caller wants to speak another protocol afterwards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) upgrade: bool,
}

/// An answer to one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) parameters: Option<Value>,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) continues: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A message as it goes over the socket.
pub(crate) fn frame(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(END);
    Ok(bytes)
}

impl Reply {
    /// One with a result: the last, or one that others follow.
    pub(crate) fn with(parameters: Value, continues: bool) -> Self {
        Self { error: None, parameters: Some(parameters), continues }
    }

    /// The result, or what the call was refused with; `Err(None)` for an error that is not known here.
    pub(crate) fn result(self) -> Result<Value, Option<Refusal>> {
        let parameters = self.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        match self.error {
            None => Ok(parameters),
            Some(error) => {
                let tagged = serde_json::json!({ "error": error, "parameters": parameters });
                Err(serde_json::from_value(tagged).ok())
            }
        }
    }
}
