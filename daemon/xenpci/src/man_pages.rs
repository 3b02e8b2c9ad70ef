//! Man pages from the command line's own description.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::arguments::{Arguments, ManPages};
use crate::failure::Failure;
use crate::xl::differences::DIFFERENCES;

const NAME: &str = "xenpci";

/// How pages of clap_mangen define the apostrophe.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Writes `xenpci.1`, and a page for each command.
pub fn run(arguments: &ManPages) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.folder)?;
    let mut all = Arguments::command().disable_help_subcommand(true);
    all.build();
    let commands: Vec<&Command> = all.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    for command in &commands {
        let name = format!("{NAME}-{}", command.get_name());
        let mut page = own(command, &name)?;
        page.push_str(&see_also(related(command.get_name()).map(|(name, section)| (name.to_owned(), section))));
        write(&arguments.folder, &name, &page)?;
    }
    let mut page = own(&all, NAME)?;
    page.push_str(&differences());
    let others = commands.iter().map(|command| (format!("{NAME}-{}", command.get_name()), 1));
    let rest = [("xenpcid.toml", 5), ("xenpcid", 8), ("xl", 1)].map(|(name, section)| (name.to_owned(), section));
    page.push_str(&see_also(others.chain(rest)));
    write(&arguments.folder, NAME, &page)
}

fn write(folder: &Path, name: &str, page: &str) -> Result<(), Failure> {
    Ok(std::fs::write(folder.join(format!("{name}.1")), page)?)
}

/// What a command says of itself.
fn own(command: &Command, name: &str) -> Result<String, Failure> {
    // Its own options, without those of all commands.
    let everywhere = |option: &clap::Arg| option.is_global_set() && name != NAME;
    let called = name.replacen('-', " ", 1);
    let man = Man::new(
        command
            .clone()
            .display_name(name.to_owned())
            .bin_name(called)
            .mut_args(|option| if everywhere(&option) { option.hide(true) } else { option }),
    );
    let mut page = Vec::new();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if name == NAME {
        man.render_subcommands_section(&mut page)?;
    }
    // Each section comes with the same beginning.
    let page = String::from_utf8_lossy(&page).replace(APOSTROPHE, "");
    let mut page = format!("{APOSTROPHE}.TH {name} 1 \"\" \"xenpcid {}\" xenpcid\n{page}", env!("CARGO_PKG_VERSION"));
    if let Some(text) = command.get_after_help() {
        page.push_str(&format!(".SH NOTES\n.nf\n{}.fi\n", lines(&text.to_string())));
    }
    Ok(page)
}

fn differences() -> String {
    let mut section = ".SH \"DIFFERENCES FROM XL\"\nThe commands that begin with \\fBpci\\-\\fR are those of \\fBxl\\fR(1): the same \
                       grammar, options, output and exit statuses, also by symlinks to \\fBxenpci\\fR that are called \
                       \\fBxl\\-pci\\fR, \\fBxl\\-pci\\-attach\\fR and so on. These are the differences.\n"
        .to_owned();
    for difference in DIFFERENCES {
        section.push_str(&format!(
            ".TP\n\\fB{}\\fR\n\\fIxl:\\fR {}\n.br\n\\fIhere:\\fR {}\n",
            escape(difference.key),
            escape(difference.xl),
            escape(difference.here)
        ));
    }
    section
}

/// Pages that belong to a command's, and their sections.
fn related(command: &str) -> impl Iterator<Item = (&'static str, u8)> {
    let xl: &[_] = &[("xenpci", 1), ("xl", 1), ("xl-pci-configuration", 5)];
    let own: &[_] = &[("xenpci", 1), ("xenpcid.toml", 5), ("xenpcid", 8)];
    if command.starts_with("pci-") { xl } else { own }.iter().copied()
}

fn see_also(pages: impl Iterator<Item = (String, u8)>) -> String {
    let pages: Vec<_> = pages.map(|(name, section)| format!(".BR {} ({section})", escape(&name))).collect();
    format!(".SH \"SEE ALSO\"\n{}\n", pages.join(",\n"))
}

/// Text as it stands.
fn lines(text: &str) -> String {
    text.lines().map(|line| format!("\\&{}\n", escape(line))).collect()
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
