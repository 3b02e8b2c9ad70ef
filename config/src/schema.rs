//! The file as serde sees it: keys and types, with the place of each value.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use crate::ResetRequirement;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) domain: DomainTables,
}

/// A list whose type error tells the two kinds of TOML headers apart.
#[derive(Default)]
pub(crate) struct DomainTables(pub(crate) Vec<Spanned<DomainTable>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DomainTable {
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) uuid: Option<Spanned<String>>,
    pub(crate) vectors: Option<Spanned<i64>>,
    pub(crate) devices: Vec<Spanned<DeviceEntry>>,
}

/// `"0000:01:00.0"` or `{ bdf = "0000:01:00.0", reset = "required" }`.
pub(crate) enum DeviceEntry {
    Address(String),
    Table(DeviceTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceTable {
    pub(crate) bdf: Spanned<String>,
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) policy: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) reset: ResetRequirement,
}

impl<'de> Deserialize<'de> for DomainTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables;

        impl<'de> Visitor<'de> for Tables {
            type Value = DomainTables;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tables; write [[domain]], with two brackets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<DomainTables, A::Error> {
                let mut list = Vec::new();
                while let Some(table) = tables.next_element()? {
                    list.push(table);
                }
                Ok(DomainTables(list))
            }
        }

        deserializer.deserialize_seq(Tables)
    }
}

impl<'de> Deserialize<'de> for DeviceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = DeviceEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a PCI address such as \"0000:03:00.0\", or { bdf = \"0000:03:00.0\", reset = ... }")
            }

            fn visit_str<E: Error>(self, address: &str) -> Result<DeviceEntry, E> {
                Ok(DeviceEntry::Address(address.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<DeviceEntry, A::Error> {
                DeviceTable::deserialize(MapAccessDeserializer::new(table)).map(DeviceEntry::Table)
            }
        }

        deserializer.deserialize_any(Entry)
    }
}
