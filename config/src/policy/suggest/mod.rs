//! A policy that would have let pass what a guest tried and did not get.
//!
//! ```text
//!  missed accesses ──► bits ──► by register, and by what is to be said of them:
//!                                 guarded bits         no policy lets them pass: a comment
//!                                 hidden capabilities  [[show]] and rules, commented out
//!                                 dangerous bits       rules, commented out
//!                                 unknown registers    rules, commented out
//!                                 harmless bits        rules
//! ```

mod danger;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use xenpcid_policy::policy::{Layer, Origin, ReadAction, Visibility, WriteAction};
use xenpcid_policy::registers::AnyCapabilityId;
use xenpcid_policy::{Access, CompileError, ExplainedBits, ExplainedRegister, Plan, Policy, Snapshot, Terms, Width};

/// Which way an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// Accesses of one kind that did not do what the guest wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The register; an access of the guest, where the bytes are in no register.
    pub register: Access,
    /// Which way.
    pub operation: Operation,
    /// The bits that the guest did not get, in the register's position.
    pub bits: u32,
    /// How often.
    pub count: u64,
    /// What was to be written last; nothing for reads.
    pub last_value: u32,
}

/// Bits of a register of which the same is to be said.
struct Wish {
    group: Group,
    mask: u32,
    /// Indices of the accesses that wanted them.
    wanted_by: Vec<usize>,
}

/// What bits have in common that one rule can be for.
#[derive(Clone, PartialEq, Eq)]
struct Group {
    rank: Rank,
    register: Access,
    /// Its name, if the tables have one that means this register only.
    name: Option<String>,
    /// The capability it is in, and where that starts, if the device has only one of that kind.
    capability: Option<(AnyCapabilityId, u16)>,
    /// What the rule is to say.
    read: ReadAction,
    write: WriteAction,
    /// Whether they pass already once the capability is shown.
    passes: bool,
    /// Whether the guest is told that it failed, and why it does.
    is_refused: bool,
    why: Arc<str>,
    origin: Option<Origin>,
}

/// How dangerous it is to let a guest have the bits; the most dangerous first.
#[derive(Clone, PartialEq, Eq)]
enum Rank {
    /// No policy can: why.
    Guarded(&'static str),
    /// The policy hides the capability: why.
    Hidden(AnyCapabilityId, Arc<str>),
    /// What is known against it.
    Dangerous(&'static str),
    /// In no table: nobody knows what the register does.
    Unknown,
    Harmless,
}

impl Rank {
    fn order(&self) -> (u8, Option<AnyCapabilityId>) {
        match self {
            Self::Guarded(_) => (0, None),
            Self::Hidden(capability, _) => (1, Some(*capability)),
            Self::Dangerous(_) => (2, None),
            Self::Unknown => (3, None),
            Self::Harmless => (4, None),
        }
    }
}

/// Writes a policy for the device which extends that of `terms` and lets exactly the missed bits pass. What is
/// dangerous is commented out with `#! `; the text is a policy as it is, and after that mark is removed from the lines of
/// any rule.
///
/// # Errors
/// The policy of `terms` cannot be used for the device.
pub fn suggest(snapshot: &Snapshot, terms: &Terms<'_>, missed: &[Missed]) -> Result<String, CompileError> {
    let plan = Plan::new(snapshot, terms)?;
    let hidden = hidden(&plan);
    let revealed = Plan::new(snapshot, &Terms { policy: &revealing(terms.policy, &hidden), ..*terms })?;
    let device =
        Device { size: snapshot.config.len(), plan: &revealed, hidden: &hidden, registers: revealed.explain() };
    let wishes = device.wishes(missed);
    Ok(text::policy(terms.policy, snapshot, &wishes, missed))
}

/// A capability that is hidden: kind, first byte and end, and why.
type Hidden = (AnyCapabilityId, std::ops::Range<u16>, Arc<str>);

fn hidden(plan: &Plan) -> Vec<Hidden> {
    let capabilities = plan.explain_capabilities();
    capabilities.filter_map(|found| Some((found.id, found.extent, found.hidden?.why))).collect()
}

/// The policy, with nothing hidden.
fn revealing(policy: &Policy, hidden: &[Hidden]) -> Policy {
    let origin = Origin { policy: policy.name.clone(), line: 0 };
    let shown = |(capability, _, why): &Hidden| Visibility {
        capability: *capability,
        hidden: false,
        why: why.clone(),
        origin: origin.clone(),
    };
    let layer = Layer { otherwise: None, rules: Vec::new(), visibility: hidden.iter().map(shown).collect() };
    let mut policy = policy.clone();
    policy.layers.push(layer);
    policy
}

struct Device<'p> {
    /// Bytes of its configuration space.
    size: usize,
    /// With nothing hidden.
    plan: &'p Plan,
    hidden: &'p [Hidden],
    registers: Vec<ExplainedRegister>,
}

/// What was wanted of one bit of the space.
#[derive(Default)]
struct Want {
    read: bool,
    write: bool,
    wanted_by: Vec<usize>,
}

impl Device<'_> {
    /// The most dangerous first, then by register.
    fn wishes(&self, missed: &[Missed]) -> Vec<Wish> {
        // Of accesses to the same bytes, the widest says how wide they are.
        let mut accesses: BTreeMap<u16, Access> = BTreeMap::new();
        let mut bits: BTreeMap<u32, Want> = BTreeMap::new();
        for (index, missed) in missed.iter().enumerate() {
            let access = missed.register;
            for byte in access.offset()..access.offset() + access.width().bytes() {
                let widest = accesses.entry(byte).or_insert(access);
                *widest = if widest.width() < access.width() { access } else { *widest };
            }
            let wanted = missed.bits & access.width().mask();
            for n in (0..32).filter(|n| wanted >> n & 1 != 0) {
                let want = bits.entry(u32::from(access.offset()) * 8 + n).or_default();
                match missed.operation {
                    Operation::Read => want.read = true,
                    Operation::Write => want.write = true,
                }
                want.wanted_by.push(index);
            }
        }
        let mut wishes: Vec<Wish> = Vec::new();
        for (at, want) in bits.into_iter().flat_map(|(at, want)| self.separate(at, want).map(move |want| (at, want))) {
            let Some((group, bit)) = self.group(at, &accesses, &want) else { continue };
            match wishes.iter_mut().find(|wish| wish.group == group) {
                Some(wish) => {
                    wish.mask |= bit;
                    wish.wanted_by.extend(want.wanted_by);
                }
                None => wishes.push(Wish { group, mask: bit, wanted_by: want.wanted_by }),
            }
        }
        for wish in &mut wishes {
            wish.wanted_by.sort_unstable();
            wish.wanted_by.dedup();
        }
        wishes.sort_by_key(|wish| (wish.group.rank.order(), wish.group.register, wish.mask));
        wishes
    }

    /// What is wanted of guarded bits is said for reads and writes apart: a policy can give only the former.
    fn separate(&self, at: u32, want: Want) -> impl Iterator<Item = Want> + use<> {
        let is_guarded = self.explained(at).is_some_and(|bits| bits.guarded.is_some());
        let (one, other) = if is_guarded && want.read && want.write {
            let wanted_by = want.wanted_by.clone();
            (Want { read: false, ..want }, Some(Want { read: true, write: false, wanted_by }))
        } else {
            (want, None)
        };
        std::iter::once(one).chain(other)
    }

    fn placed(&self, byte: u16) -> Option<&ExplainedRegister> {
        self.registers.iter().find(|register| {
            let start = register.access.offset();
            (start..start + register.access.width().bytes()).contains(&byte)
        })
    }

    fn explained(&self, at: u32) -> Option<&ExplainedBits> {
        let placed = self.placed(u16::try_from(at / 8).ok()?)?;
        let bit = 1 << (at - u32::from(placed.access.offset()) * 8);
        placed.bits.iter().find(|bits| bits.mask & bit != 0)
    }

    /// What becomes of reads and writes of bit `at` of the space, why, and who says so.
    fn treatment(&self, at: u32) -> (ReadAction, WriteAction, Arc<str>, Option<Origin>) {
        match self.explained(at) {
            Some(bits) => (bits.read, bits.write, bits.why.clone(), bits.origin.clone()),
            None => {
                let otherwise = self.plan.otherwise();
                (otherwise.read, otherwise.write, otherwise.why.clone(), otherwise.origin.clone())
            }
        }
    }

    /// What is to be said of bit `at` of the space, and which bit of the register it is; `None` if the guest has it already.
    fn group(&self, at: u32, accesses: &BTreeMap<u16, Access>, want: &Want) -> Option<(Group, u32)> {
        let byte = u16::try_from(at / 8).ok().filter(|byte| usize::from(*byte) < self.size)?;
        let in_tables = self.placed(byte).filter(|register| register.spec.is_some());
        let register = match in_tables {
            Some(register) => register.access,
            None => self.beside_tables(*accesses.get(&byte)?, byte),
        };
        let bit = 1 << (at - u32::from(register.offset()) * 8);
        let (read, write, why, origin) = self.treatment(at);
        let capabilities: Vec<_> = self.plan.explain_capabilities().collect();
        let capability = capabilities.iter().find(|capability| capability.extent.contains(&byte));
        let is_missed = want.write && matches!(write, WriteAction::Discard | WriteAction::Deny)
            || want.read && read == ReadAction::Deny;
        let is_refused = want.write && write == WriteAction::Deny || want.read && read == ReadAction::Deny;
        let hidden = self.hidden.iter().find(|(_, extent, _)| extent.contains(&byte));
        if !is_missed && hidden.is_none() {
            return None;
        }
        let name = in_tables.map(|register| register.name.as_ref());
        let guarded = self.explained(at).and_then(|bits| bits.guarded).filter(|_| want.write);
        let rank = if let Some((_, why)) = guarded {
            Rank::Guarded(why)
        } else if let Some((id, _, why)) = hidden {
            Rank::Hidden(*id, why.clone())
        } else if let Some(why) = danger::of(name, bit, capability.map(|capability| capability.id)) {
            Rank::Dangerous(why)
        } else if is_refused {
            Rank::Dangerous("the policy refuses it")
        } else if name.is_none() {
            Rank::Unknown
        } else {
            Rank::Harmless
        };
        let group = Group {
            rank,
            register,
            name: name.filter(|name| self.is_only_one(name)).map(str::to_owned),
            capability: capability
                .filter(|found| capabilities.iter().filter(|other| other.id == found.id).count() == 1)
                .map(|found| (found.id, found.extent.start)),
            read: if want.read || read != ReadAction::Deny { ReadAction::Pass } else { ReadAction::Deny },
            write: if want.write { WriteAction::Pass } else { write },
            passes: !is_missed,
            is_refused,
            why,
            origin,
        };
        Some((group, bit))
    }

    /// The part of an access around `byte`, which no register of the tables has, that no other register has either.
    fn beside_tables(&self, access: Access, byte: u16) -> Access {
        let bytes = access.offset()..access.offset() + access.width().bytes();
        let is_free = |byte| self.placed(byte).is_none_or(|register| register.spec.is_none());
        match access.width() {
            _ if bytes.into_iter().all(is_free) => access,
            Width::Dword => self.beside_tables(Access::word(byte & !1), byte),
            Width::Word | Width::Byte => Access::byte(byte),
        }
    }

    fn is_only_one(&self, name: &str) -> bool {
        self.registers.iter().filter(|register| register.name == name).count() == 1
    }
}
