//! What a pairing wants to know: which mail system runs here, how it would be stopped, where it greets.
//!
//! Looks only; nothing is stopped, started or written.

use std::fs;
use std::path::{Path, PathBuf};

use mailkeep_mail::cyrus::Role;
use mailkeep_mail::cyrus::cyrus_conf::CyrusConf;
use mailkeep_mail::cyrus::imapd_conf::ImapdConf;
use mailkeep_mail::detected::{Detected, DetectedCyrus};
use mailkeep_mail::{Profile, Source, quiesce};
use rustix::fs::{CWD, statat};

use crate::probe::greets;
use crate::{AgentError, facts, one_line, owners};

/// Where distributions keep imapd.conf.
const IMAPD_CONFS: &[&str] = &["/etc/imapd.conf", "/etc/cyrus/imapd.conf", "/usr/local/etc/imapd.conf"];

/// Looks at this server; `imapd_conf` where the person has named it.
///
/// # Errors
/// The configuration is there and cannot be read, or Cyrus would not start with it.
pub fn detect(imapd_conf: Option<&Path>) -> Result<Detected, AgentError> {
    let candidates: Vec<PathBuf> = match imapd_conf {
        Some(path) => vec![path.to_owned()],
        None => IMAPD_CONFS.iter().map(PathBuf::from).collect(),
    };
    let found = candidates.iter().find(|path| path.is_file());
    let names: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Ok(Detected {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        cyrus: found.map(|path| cyrus(path)).transpose()?,
        looked_for: format!("none of {} is there", names.join(", ")),
    })
}

fn cyrus(imapd_conf: &Path) -> Result<DetectedCyrus, AgentError> {
    let conf = ImapdConf::read(imapd_conf, &mut |path| fs::read(path))?;
    // Debian has it beside imapd.conf, as all others do.
    let cyrus_conf = imapd_conf.with_file_name("cyrus.conf");
    let services = fs::read(&cyrus_conf).map(|bytes| CyrusConf::parse(&String::from_utf8_lossy(&bytes)));
    let cyrus_conf = services.is_ok().then(|| cyrus_conf.display().to_string());
    let services = services.unwrap_or_default();
    let role = Role::of(&conf, &services);
    let user = owner(conf.path("configdirectory").as_deref()).unwrap_or_else(|| "cyrus".to_owned());
    let source = as_source(imapd_conf, &user, cyrus_conf.as_deref())?;
    let (facts, _) = facts::gather(&source);
    let (quiesce, quiesce_problem) = match quiesce::choose(&source, &facts) {
        Ok(rung) => (Some(rung.describe()), None),
        Err(error) => (None, Some(one_line(&error))),
    };
    Ok(DetectedCyrus {
        imapd_conf: imapd_conf.display().to_string(),
        config_files: config_files(&source, &conf, cyrus_conf.as_deref()),
        cyrus_conf,
        cyrus_user: user,
        version: facts.cyrus_version.map(|version| version.to_string()),
        role,
        quiesce,
        quiesce_problem,
        probe: services
            .probes()
            .into_iter()
            .find(greets)
            .or_else(|| facts::probe(&source))
            .map(|probe| probe.to_string()),
    })
}

/// The source file that would fit, for all that works on one.
fn as_source(imapd_conf: &Path, user: &str, cyrus_conf: Option<&str>) -> Result<Source, AgentError> {
    let quoted = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
    let also = cyrus_conf.map(quoted).unwrap_or_default();
    let text = format!(
        "name = \"detect\"\nsystem = \"cyrus\"\n[transport]\nkind = \"local\"\n[cyrus]\nimapd-conf = {}\ncyrus-user = {}\nalso = [{also}]\n",
        quoted(&imapd_conf.display().to_string()),
        quoted(user),
    );
    Ok(Source::parse(&text, "what was found")?)
}

/// All files of the configuration that are there. A frontend need not have a partition, so what makes no profile is at
/// least the files that were read.
fn config_files(source: &Source, conf: &ImapdConf, cyrus_conf: Option<&str>) -> Vec<String> {
    let mut files: Vec<PathBuf> = match Profile::new(source, &mut |path| fs::read(path)) {
        Ok(profile) => profile.files().iter().map(|file| file.path.clone()).collect(),
        Err(_) => conf.files().iter().cloned().chain(cyrus_conf.map(PathBuf::from)).collect(),
    };
    files.sort();
    files.dedup();
    files.retain(|file| file.is_file());
    files.iter().map(|file| file.display().to_string()).collect()
}

fn owner(folder: Option<&Path>) -> Option<String> {
    let stat = statat(CWD, folder?, rustix::fs::AtFlags::empty()).ok()?;
    let (names, _) = owners::names(&[stat.st_uid].into(), &[].into());
    names.into_iter().next().map(|(_, name)| name)
}
