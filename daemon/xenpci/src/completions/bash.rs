use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap_complete::env::{self, EnvCompleter};

/// As [`env::Bash`], for words with colons: Bash breaks words at colons and equal signs, so that it would ask about a
/// part of an address. Here the words are those between blanks.
#[derive(Debug)]
pub struct Bash;

const SCRIPT: &str = r#"_NAME() {
    local line=${COMP_LINE:0:COMP_POINT}
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    local IFS=$'\013'
    COMPREPLY=($(_CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        VARIABLE=bash "COMPLETER" -- "${words[@]}" 2> /dev/null)) || { COMPREPLY=(); return; }
    # What Bash replaces begins after the last of its own word breaks.
    local current=${words[-1]} breaks=${COMP_WORDBREAKS//[^:=]/}
    local kept=${current%"${current##*["${breaks:-:}"]}"}
    [[ -n $breaks ]] && COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ ${COMPREPLY-} == *[=/:] ]] && compopt -o nospace 2> /dev/null
}
complete -o bashdefault -F _NAME PROGRAM
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        env::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        env::Bash.is(name)
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        program: &str,
        completer: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let script = SCRIPT.replace("NAME", &name.replace('-', "_")).replace("PROGRAM", program);
        out.write_all(script.replace("COMPLETER", completer).replace("VARIABLE", variable).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        env::Bash.write_complete(command, words, folder, out)
    }
}
