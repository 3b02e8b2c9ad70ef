//! From files to policies: each on top of those that it extends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use xenpcid_policy::Policy;

use super::file::PolicyFile;
use super::{Entry, Policies};
use crate::ConfigError;
use crate::error::{Mistake, Problem, locate};

/// Most policies on top of each other.
const LAYERS_MAX: usize = 16;

/// The text of a policy file, and where it is from.
pub(super) struct Source {
    /// Name of the file without `.toml`.
    pub(super) stem: String,
    /// What mistakes call the file.
    pub(super) label: String,
    pub(super) text: String,
    /// `None` if it comes with xenpcid.
    pub(super) path: Option<PathBuf>,
}

/// Reads all of them, or finds every mistake.
pub(super) fn resolve(sources: Vec<Source>) -> Result<Policies, ConfigError> {
    let mut problems = Vec::new();
    let mut files: BTreeMap<Arc<str>, (Source, PolicyFile)> = BTreeMap::new();
    // Of a file with mistakes it is not known what it extends; it is not unknown itself.
    let mut unread = Vec::new();
    for source in sources {
        match PolicyFile::parse(&source.text, &source.stem) {
            Ok(file) if files.contains_key(&file.name.value) => {
                let mistake = Mistake::new(file.name.span, format!("{} is a policy of xenpcid's own", file.name.value));
                let help = format!("give it another name, and extends = \"{}\"", file.name.value);
                problems.extend(locate(vec![mistake.help(help)], &source.text, &source.label));
            }
            Ok(file) => {
                files.insert(file.name.value.clone(), (source, file));
            }
            Err(mistakes) => {
                problems.extend(locate(mistakes, &source.text, &source.label));
                unread.push(source.stem);
            }
        }
    }
    let mut entries = BTreeMap::new();
    for (source, file) in files.values() {
        match lineage(file, &files, &unread) {
            Ok(lineage) => {
                entries.insert(file.name.value.clone(), entry(source, file, &lineage));
            }
            Err(None) => {}
            Err(Some(mistake)) => problems.extend(locate(vec![mistake], &source.text, &source.label)),
        }
    }
    if problems.is_empty() {
        Ok(Policies { entries })
    } else {
        Err(ConfigError::Invalid { problems: sorted(problems) })
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    problems
}

fn entry(source: &Source, file: &PolicyFile, lineage: &[&PolicyFile]) -> Entry {
    let policy = Policy {
        name: file.name.value.clone(),
        description: file.description.clone(),
        applies_to: file.applies_to.clone(),
        layers: lineage.iter().rev().map(|file| file.layer.clone()).collect(),
    };
    Entry {
        policy: Arc::new(policy),
        extends: lineage.get(1).map(|extended| extended.name.value.clone()),
        path: source.path.clone(),
    }
}

/// The policy and those that it extends, lowest last; or the mistake of this file, if it is of this file.
fn lineage<'f>(
    file: &'f PolicyFile,
    files: &'f BTreeMap<Arc<str>, (Source, PolicyFile)>,
    unread: &[String],
) -> Result<Vec<&'f PolicyFile>, Option<Mistake>> {
    let mut lineage = vec![file];
    let mut top = file;
    while let Some(extends) = &top.extends {
        // The mistake of an extended policy is said once, of its own file.
        let is_own = lineage.len() == 1;
        let Some((_, next)) = files.get(extends.value.as_str()) else {
            let is_unknown = is_own && !unread.contains(&extends.value);
            return Err(is_unknown.then(|| {
                let known: Vec<&str> = files.keys().map(AsRef::as_ref).collect();
                let message = format!("there is no policy {}", extends.value.escape_debug());
                Mistake::new(extends.span.clone(), message).help(format!("there are {}", known.join(", ")))
            }));
        };
        let own = file.extends.as_ref().map(|own| own.span.clone()).unwrap_or_default();
        if next.name.value == file.name.value {
            let names: Vec<&str> = lineage.iter().map(|file| file.name.value.as_ref()).collect();
            let message =
                format!("{} extends itself: {} extends {}", file.name.value, names.join(" extends "), file.name.value);
            return Err(Some(Mistake::new(own, message).help("one of them must not extend another")));
        }
        if lineage.iter().any(|seen| seen.name.value == next.name.value) {
            return Err(None);
        }
        lineage.push(next);
        if lineage.len() > LAYERS_MAX {
            let message = format!("more than {LAYERS_MAX} policies extend each other");
            return Err(Some(Mistake::new(own, message).help("write rules of several of them into one")));
        }
        top = next;
    }
    Ok(lineage)
}
