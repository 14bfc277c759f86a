//! What is installed with the programs: units of systemd, completions, manual pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use staffetta_config::Config;
use staffetta_tests::program;

const UNITS: [&str; 4] = ["auth", "frontend", "delivery", "up"];

fn unit(name: &str) -> anyhow::Result<String> {
    let path = format!("../deploy/systemd/staffetta-{name}.service");
    fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
}

fn value<'a>(unit: &'a str, key: &str) -> anyhow::Result<&'a str> {
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.with_context(|| format!("no {key} in {unit}"))
}

fn staffetta(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(program("staffetta")?).args(arguments).output()?)
}

/// With the defaults; as in the cluster, some seconds are for the rest.
#[test]
fn units_give_each_service_the_time_that_its_drain_may_take() -> anyhow::Result<()> {
    let config = Config::parse("", "nothing")?;
    let frontend = config.frontend.drain_delay + staffetta_frontend::HARD_STOP;
    let auth = config.auth.drain_delay + staffetta_auth::DRAIN;
    let delivery = config.delivery.drain_limit;
    let longest = [("auth", auth), ("frontend", frontend), ("delivery", delivery), ("up", delivery.max(frontend))];
    for (name, stop) in longest {
        let unit = unit(name)?;
        let seconds = Duration::from_secs(value(&unit, "TimeoutStopSec")?.parse()?);
        ensure!(stop + Duration::from_secs(5) <= seconds, "{name} may take {stop:?}, and is killed after {seconds:?}");
    }
    Ok(())
}

#[test]
fn units_start_programs_with_arguments_that_they_take() -> anyhow::Result<()> {
    for name in UNITS {
        let unit = unit(name)?;
        let mut words = value(&unit, "ExecStart")?.split(' ');
        let path = words.next().unwrap_or_default();
        let path = Path::new(path).file_name().and_then(|name| name.to_str()).context("no program")?;
        let mut run = Command::new(program(path)?);
        // The file is not there, and that is what it complains about.
        let output = run.args(words.map(|word| word.replace("/etc/", "/nowhere/"))).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("/nowhere/staffetta/staffetta.toml"),
            "{name}: {said}"
        );
        // Only who binds ports below 1024 has a right.
        let bound = if ["frontend", "up"].contains(&name) { "CAP_NET_BIND_SERVICE" } else { "" };
        ensure!(value(&unit, "CapabilityBoundingSet")? == bound, "{name}");
    }
    Ok(())
}

/// `--version` of each, and `staffetta_build_info` in another test, come from one place.
#[test]
fn each_program_says_which_build_it_is() -> anyhow::Result<()> {
    let said = |name: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8(Command::new(program(name)?).arg("--version").output()?.stdout)?)
    };
    let whole = said("staffetta")?;
    let build = whole.strip_prefix("staffetta ").context("no name")?;
    ensure!(build.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (")) && build.ends_with(")\n"), "{whole}");
    for name in ["staffetta-frontend", "staffetta-auth", "staffetta-delivery"] {
        ensure!(said(name)? == format!("{name} {build}"), "{name}");
    }
    Ok(())
}

#[test]
fn a_commit_is_what_git_says_or_whoever_builds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("scripts"))?;
    let script = folder.path().join("scripts/commit");
    fs::copy("../scripts/commit", &script)?;
    let git = |arguments: &[&str]| -> anyhow::Result<()> {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let output = Command::new("git").args(identity).args(arguments).current_dir(folder.path()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let commit = |told: &str| -> anyhow::Result<String> {
        let output = Command::new(&script).env("STAFFETTA_COMMIT", told).output()?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    ensure!(commit("")? == "unknown" && commit("v1")? == "v1");
    git(&["init", "--quiet"])?;
    git(&["add", "."])?;
    git(&["commit", "--quiet", "-m", "one"])?;
    let clean = commit("")?;
    ensure!(clean.len() == 40 && clean.bytes().all(|b| b.is_ascii_hexdigit()), "{clean}");
    fs::write(folder.path().join("notes"), "")?;
    ensure!(commit("")? == clean, "what git does not know is no change");
    let mut text = fs::read_to_string(&script)?;
    fs::write(&script, &text)?;
    ensure!(commit("")? == clean, "a file that was only touched is none either");
    text.push('\n');
    fs::write(&script, text)?;
    ensure!(commit("")? == format!("{clean}-dirty") && commit("v1")? == "v1");
    Ok(())
}

#[test]
fn bash_takes_the_completions() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("staffetta");
    fs::write(&file, staffetta(&["completions", "bash"])?.stdout)?;
    let script = "source \"$1\"; COMP_WORDS=(staffetta queue fl); COMP_CWORD=2; _staffetta staffetta fl queue; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-euc", script, "bash"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.trim() == "flush", "{said}{}", String::from_utf8_lossy(&output.stderr));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output = staffetta(&["completions", shell])?;
        ensure!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("flush"), "{shell}");
    }
    ensure!(staffetta(&["completions", "tcl"])?.status.code() == Some(2));
    Ok(())
}

#[test]
fn there_is_a_manual_page_for_each_command_service_and_the_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let pages = folder.path().join("man");
    let output = staffetta(&["man", &pages.display().to_string()])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (page, word) in [
        ("man1/staffetta.1", "queue"),
        ("man1/staffetta-check.1", "service"),
        ("man1/staffetta-queue-list.1", "json"),
        ("man5/staffetta.toml.5", "delivery.drain_limit"),
        ("man8/staffetta-frontend.8", "421"),
        ("man8/staffetta-auth.8", "Dovecot"),
        ("man8/staffetta-delivery.8", "LMTP"),
    ] {
        let text = fs::read_to_string(pages.join(page)).context(page)?;
        ensure!(text.contains(".TH ") && text.contains(word), "{page}: {text}");
    }
    lint(&pages)?;
    fs::write(folder.path().join("file"), "")?;
    let output = staffetta(&["man", &folder.path().join("file").display().to_string()])?;
    ensure!(output.status.code() == Some(1), "a file is no directory");
    Ok(())
}

/// Nothing in them is strange to mandoc, if it is installed. That they have no date is meant: the same build makes the same page. A line
/// too many for a paragraph is clap's, and shows nowhere.
fn lint(pages: &Path) -> anyhow::Result<()> {
    if Command::new("mandoc").stdin(Stdio::null()).output().is_err() {
        return Ok(());
    }
    for section in fs::read_dir(pages)? {
        for page in fs::read_dir(section?.path())? {
            let page = page?.path();
            let said = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output()?.stdout;
            let said = String::from_utf8_lossy(&said);
            let strange: Vec<&str> = said
                .lines()
                .filter(|line| !line.contains("missing date") && !line.contains("skipping paragraph macro: br"))
                .collect();
            ensure!(strange.is_empty(), "{strange:#?}");
        }
    }
    Ok(())
}

/// The package of Debian, of the programs as they are; what is in it, by path, and what it says of itself.
#[test]
fn the_package_has_all_that_the_page_about_one_machine_installs() -> anyhow::Result<()> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        // Another system has other packages.
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let binaries = program("staffetta")?.parent().context("no folder")?.to_owned();
    let made =
        Command::new("../scripts/deb").arg(binaries).arg(folder.path()).env("DEB_COMPRESSION", "none").output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let package = String::from_utf8(made.stdout)?.trim().to_owned();
    let look = |what: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8(Command::new("dpkg-deb").args([what, &package]).output()?.stdout)?)
    };
    let contents = look("--contents")?;
    let has = |mode: &str, path: &str| {
        contents
            .lines()
            .any(|line| line.starts_with(mode) && line.contains(" root/root ") && line.ends_with(&format!(" .{path}")))
    };
    for name in ["staffetta", "staffetta-frontend", "staffetta-auth", "staffetta-delivery"] {
        ensure!(has("-rwxr-xr-x", &format!("/usr/bin/{name}")), "{name}: {contents}");
    }
    for name in UNITS {
        let path = format!("/usr/lib/systemd/system/staffetta-{name}.service");
        ensure!(has("-rw-r--r--", &path), "{path}: {contents}");
        let bin = value(&unit(name)?, "ExecStart")?.split(' ').next().unwrap_or_default().to_owned();
        ensure!(has("-rwx", &bin), "{name} starts {bin}: {contents}");
    }
    for path in [
        "/usr/lib/sysusers.d/staffetta.conf",
        "/usr/share/man/man1/staffetta-sendmail.1.gz",
        "/usr/share/man/man5/staffetta.toml.5.gz",
        "/usr/share/man/man8/staffetta-frontend.8.gz",
        "/usr/share/man/man8/staffetta-auth.8.gz",
        "/usr/share/man/man8/staffetta-delivery.8.gz",
        "/usr/share/bash-completion/completions/staffetta",
        "/usr/share/zsh/vendor-completions/_staffetta",
        "/usr/share/fish/vendor_completions.d/staffetta.fish",
        "/usr/share/doc/staffetta/one-machine.md",
        "/usr/share/doc/staffetta/changelog.gz",
        "/usr/share/doc/staffetta/copyright",
    ] {
        ensure!(has("-rw-r--r--", path), "{path}: {contents}");
    }
    ensure!(has("drwxr-xr-x", "/etc/staffetta/"), "{contents}");
    let control = look("--field")?;
    for line in [concat!("Version: ", env!("CARGO_PKG_VERSION")), "Section: mail"] {
        ensure!(control.lines().any(|it| it == line), "{line}: {control}");
    }
    ensure!(!control.contains('@') || !control.contains("@VERSION@"), "{control}");
    let scripts = folder.path().join("control");
    ensure!(Command::new("dpkg-deb").arg("--control").arg(&package).arg(&scripts).status()?.success());
    for name in ["postinst", "prerm", "postrm"] {
        ensure!(Command::new("sh").arg("-n").arg(scripts.join(name)).status()?.success(), "{name}");
    }
    Ok(())
}
