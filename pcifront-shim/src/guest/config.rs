//! One function's configuration space as a guest's kernel accesses it.

use xenpcid_address::Sbdf;

use crate::blocking::{Connection, Frontend, RequestError};
use crate::request::Width;

use super::capabilities::ReadConfig;

pub(super) const COMMAND: u16 = 0x04;
pub(super) const COMMAND_IO: u16 = 1 << 0;
pub(super) const COMMAND_MEMORY: u16 = 1 << 1;
pub(super) const COMMAND_BUS_MASTER: u16 = 1 << 2;
pub(super) const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;

/// Accesses as Linux makes them: a refused read is all ones, a refused write is not noticed.
pub(super) struct FunctionConfig<'f, C> {
    pub(super) frontend: &'f mut Frontend<C>,
    pub(super) address: Sbdf,
}

impl<C: Connection> ReadConfig for FunctionConfig<'_, C> {
    type Error = RequestError;

    fn byte(&mut self, offset: u16) -> Result<u8, RequestError> {
        let [value, ..] = self.read(offset, Width::Byte)?.to_le_bytes();
        Ok(value)
    }

    fn word(&mut self, offset: u16) -> Result<u16, RequestError> {
        let [low, high, ..] = self.read(offset, Width::Word)?.to_le_bytes();
        Ok(u16::from_le_bytes([low, high]))
    }

    fn dword(&mut self, offset: u16) -> Result<u32, RequestError> {
        self.read(offset, Width::Dword)
    }
}

impl<C: Connection> FunctionConfig<'_, C> {
    pub(super) fn set_word(&mut self, offset: u16, value: u16) -> Result<(), RequestError> {
        self.write(offset, Width::Word, value.into())
    }

    pub(super) fn set_dword(&mut self, offset: u16, value: u32) -> Result<(), RequestError> {
        self.write(offset, Width::Dword, value)
    }

    /// Reads a word, changes bits of it, and writes it back if that made a difference. Gives the word as it was.
    pub(super) fn change_word(&mut self, offset: u16, clear: u16, set: u16) -> Result<u16, RequestError> {
        let old = self.word(offset)?;
        let new = old & !clear | set;
        if new != old {
            self.set_word(offset, new)?;
        }
        Ok(old)
    }

    fn read(&mut self, offset: u16, width: Width) -> Result<u32, RequestError> {
        match self.frontend.config_read(self.address, offset, width) {
            Err(RequestError::Refused { .. }) => Ok(width.all_ones()),
            result => result,
        }
    }

    fn write(&mut self, offset: u16, width: Width, value: u32) -> Result<(), RequestError> {
        match self.frontend.config_write(self.address, offset, width, value) {
            Err(RequestError::Refused { .. }) => Ok(()),
            result => result,
        }
    }
}
