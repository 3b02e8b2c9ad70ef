//! The two kinds of messages (<https://varlink.org/Method-Call>), and where one ends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::refusal::Refusal;

/// What ends each message.
pub(crate) const END: u8 = 0;

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
