//! The profile of a Cyrus server: from imapd.conf and the source file to the trees, files and rules.
//!
//! A missing root stops the backup only where Cyrus itself could not live without it (the configuration
//! folder and the default partition). Other partitions are made by Cyrus when the first mailbox needs them;
//! that no mailbox of the list lacks its folder is proved by the mail check, not by the presence of a root.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::imapd_conf::ImapdConf;
use super::murder::Murder;
use super::rules::{Area, AreaKind, Rules};
use crate::error::MailError;
use crate::scope::{ExtraFile, FileClass, Presence, Root, without_nested};
use crate::source::CyrusOptions;

/// Databases with a path of their own that hold state which nothing else holds.
const NEEDED_DATABASES: &[&str] = &[
    "annotation_db_path",
    "mboxlist_db_path",
    "newsrc_db_path",
    "userdeny_db_path",
    "mboxkey_db_path",
    "backup_db_path",
];
/// Databases that Cyrus makes again; they are left out wherever they lie (see `rules.rs`).
const REBUILT_DATABASES: &[&str] = &[
    "duplicate_db_path",
    "statuscache_db_path",
    "tls_sessions_db_path",
    "tlscache_db_path",
    "ptscache_db_path",
    "sync_cache_db_path",
];
/// Folders whose contents belong to running processes.
const VOLATILE_FOLDERS: &[&str] =
    &["proc_path", "mboxname_lockpath", "temp_path", "prometheus_stats_dir", "backup_staging_path"];
/// Other files that an imapd.conf may name, beside the `tls_*` ones.
const NAMED_FILES: &[&str] = &[
    "sasl_keytab",
    "srvtab",
    "autocreate_sieve_script",
    "autocreate_sieve_compiledscript",
    "search_stopword_path",
    "ischedule_dkim_key_file",
    "rss_feedlist_template",
    "ldap_ca_file",
    "ldap_client_cert",
    "ldap_client_key",
    "ldap_tls_cacert_file",
    "ldap_tls_cert",
    "ldap_tls_key",
];

/// Settings beside the kinds of databases that say how files are laid out.
const SHAPE: &[&str] = &[
    "defaultpartition",
    "fulldirhash",
    "hashimapspool",
    "improved_mboxlist_sort",
    "mailbox_legacy_dirs",
    "metapartition_files",
    "unixhierarchysep",
    "virtdomains",
];

/// A partition: up to three folders, in which a mailbox has the same path below each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The name, as in the exported mailbox list.
    pub name: String,
    /// partition-NAME.
    pub data: PathBuf,
    /// metapartition-NAME.
    pub meta: Option<PathBuf>,
    /// archivepartition-NAME.
    pub archive: Option<PathBuf>,
    /// metapartition_files has `header`.
    pub header_in_meta: bool,
    /// metapartition_files has `index`.
    pub index_in_meta: bool,
}

impl Partition {
    /// The folder below which each cyrus.header lies.
    pub fn header_folder(&self) -> &Path {
        self.meta.as_deref().filter(|_| self.header_in_meta).unwrap_or(&self.data)
    }

    /// The folder below which each cyrus.index lies.
    pub fn index_folder(&self) -> &Path {
        self.meta.as_deref().filter(|_| self.index_in_meta).unwrap_or(&self.data)
    }

    /// The folders below which message files lie.
    pub fn message_folders(&self) -> Vec<&Path> {
        std::iter::once(self.data.as_path()).chain(self.archive.as_deref()).collect()
    }

    /// All folders of the partition.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.data.as_path()).chain(self.meta.as_deref()).chain(self.archive.as_deref())
    }
}

/// What is backed up of a Cyrus server.
#[derive(Debug, Clone)]
pub struct CyrusProfile {
    roots: Vec<Root>,
    files: Vec<ExtraFile>,
    rules: Rules,
    partitions: Vec<Partition>,
    notes: Vec<String>,
    conf: ImapdConf,
}

impl CyrusProfile {
    /// Reads imapd.conf through `read_file` and works out what belongs to the server.
    pub fn new(
        options: &CyrusOptions,
        read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<CyrusProfile, MailError> {
        let conf = ImapdConf::read(&options.imapd_conf, read_file)?;
        Collector::new(&conf, options).collect()
    }

    /// The trees to walk.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Single files beside the trees.
    pub fn files(&self) -> &[ExtraFile] {
        &self.files
    }

    /// What an absolute path means; see [`Profile::classify`](crate::profile::Profile::classify).
    pub fn classify(&self, path: &Path, is_dir: bool) -> FileClass {
        self.rules.classify(path, is_dir)
    }

    /// The partitions with their folders: where the mail check walks.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The folders that hold its state, by the key of imapd.conf that names them: what has to lie alike where files of one
    /// server go to another.
    pub fn named_folders(&self) -> Vec<(String, PathBuf)> {
        let mut folders = Vec::new();
        folders.extend(self.conf.path("configdirectory").map(|path| ("configdirectory".to_owned(), path)));
        folders.extend(self.conf.path("sievedir").map(|path| ("sievedir".to_owned(), path)));
        for (key, _) in self.conf.iter() {
            let is_partition = ["partition-", "metapartition-", "archivepartition-"]
                .iter()
                .any(|kind| key.starts_with(kind));
            folders.extend(self.conf.path(key).filter(|_| is_partition).map(|path| (key.to_owned(), path)));
        }
        folders.sort();
        folders
    }

    /// The settings that say how files are laid out and written: kinds of databases, order and names of mailboxes. Those of
    /// one server do not serve another one that has these differently.
    pub fn shape(&self) -> Vec<(String, String)> {
        let says = |key: &str| key.ends_with("_db") || SHAPE.contains(&key);
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        let mut shape: Vec<_> = self
            .conf
            .iter()
            .filter(|(key, _)| says(key))
            .map(|(key, value)| (key.to_owned(), text(value)))
            .collect();
        shape.sort();
        shape
    }

    /// The Murder that its mailboxes belong to.
    pub fn murder(&self) -> Option<Murder> {
        Murder::of(&self.conf)
    }

    /// What is left out that a person should know of.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The configuration that the profile was made from.
    pub fn conf(&self) -> &ImapdConf {
        &self.conf
    }
}

struct Collector<'a> {
    conf: &'a ImapdConf,
    options: &'a CyrusOptions,
    roots: Vec<Root>,
    files: Vec<ExtraFile>,
    areas: Vec<Area>,
    partitions: Vec<Partition>,
    notes: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(conf: &'a ImapdConf, options: &'a CyrusOptions) -> Collector<'a> {
        Collector {
            conf,
            options,
            roots: Vec::new(),
            files: Vec::new(),
            areas: Vec::new(),
            partitions: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn collect(mut self) -> Result<CyrusProfile, MailError> {
        let config_directory = self.required_path("configdirectory")?;
        self.root(&config_directory, Presence::Required, "configdirectory", AreaKind::Config);
        self.partitions()?;
        self.sieve();
        self.databases();
        self.configuration_files();
        self.tls_and_other_files();

        let roots = without_nested(std::mem::take(&mut self.roots));
        let mut files = std::mem::take(&mut self.files);
        // Required first, so that of two namings of one file the stricter one stays.
        files.sort_by(|a, b| {
            (&a.path, a.presence != Presence::Required).cmp(&(&b.path, b.presence != Presence::Required))
        });
        files.dedup_by(|later, kept| later.path == kept.path);
        files.retain(|file| !roots.iter().any(|root| file.path.starts_with(&root.path)));
        let (excluded, emptied) = (self.excluded_files(), self.emptied_folders());
        let rules = Rules::new(self.areas, excluded, emptied);
        Ok(CyrusProfile {
            roots,
            files,
            rules,
            partitions: self.partitions,
            notes: self.notes,
            conf: self.conf.clone(),
        })
    }

    fn unusable(&self, problem: String) -> MailError {
        MailError::ConfigUnusable { path: self.options.imapd_conf.clone(), problem }
    }

    /// A path without which Cyrus would not start: absolute and not `/`.
    fn required_path(&self, key: &str) -> Result<PathBuf, MailError> {
        match self.conf.path(key) {
            Some(path) if path.parent().is_some() => Ok(path),
            Some(_) => Err(self.unusable(format!("{key} is the root folder; give it a folder of its own"))),
            None if self.conf.get(key).is_none() => Err(self.unusable(format!("{key} is not set"))),
            None => Err(self.unusable(format!("{key} is no absolute path without `..`"))),
        }
    }

    fn root(&mut self, path: &Path, presence: Presence, key: &str, kind: AreaKind) {
        let named_by = format!("{key} in {}", self.options.imapd_conf.display());
        self.roots.push(Root { path: path.to_owned(), presence, named_by });
        self.areas.push(Area { path: path.to_owned(), kind });
    }

    fn file(&mut self, path: PathBuf, presence: Presence, named_by: String) {
        self.files.push(ExtraFile { path, presence, named_by });
    }

    fn partitions(&mut self) -> Result<(), MailError> {
        let default = format!("partition-{}", self.conf.text("defaultpartition").unwrap_or("default"));
        let keys: Vec<String> = self.conf.iter().map(|(key, _)| key.to_owned()).collect();
        for key in &keys {
            if key.starts_with("partition-")
                || key.starts_with("metapartition-")
                || key.starts_with("archivepartition-")
            {
                let path = self.required_path(key)?;
                let presence =
                    if key.eq_ignore_ascii_case(&default) { Presence::Required } else { Presence::Optional };
                self.root(&path, presence, key, AreaKind::Partition);
                if let Some(name) = key.strip_prefix("partition-") {
                    let partition = self.partition(name, path)?;
                    self.partitions.push(partition);
                }
            } else if key.contains("searchpartition-") {
                let Some(path) = self.conf.path(key) else { continue };
                self.notes.push(format!(
                    "search index {} ({key}) is left out: squatter makes it again",
                    path.display()
                ));
                self.areas.push(Area { path, kind: AreaKind::Search });
            } else if key.starts_with("backuppartition-") {
                self.notes.push(format!("{key} is left out: it holds Cyrus Backups of other servers"));
            }
        }
        if self.partitions.is_empty() {
            return Err(self.unusable("no partition-NAME is set, so there is no mail to back up".to_owned()));
        }
        Ok(())
    }

    fn partition(&self, name: &str, data: PathBuf) -> Result<Partition, MailError> {
        let beside = |kind: &str| {
            let key = format!("{kind}-{name}");
            self.conf.get(&key).map(|_| self.required_path(&key)).transpose()
        };
        let in_meta = |file: &str| {
            let files = self.conf.text("metapartition_files").unwrap_or_default();
            files.split_ascii_whitespace().any(|word| word == file)
        };
        Ok(Partition {
            name: name.to_owned(),
            data,
            meta: beside("metapartition")?,
            archive: beside("archivepartition")?,
            header_in_meta: in_meta("header"),
            index_in_meta: in_meta("index"),
        })
    }

    fn sieve(&mut self) {
        if self.conf.switch("sieveusehomedir", false) {
            let note = "sieveusehomedir is set: filters lie in the users' home folders and are not backed up";
            self.notes.push(note.to_owned());
            return;
        }
        // Cyrus' own default; distributions set the key.
        let path = self.conf.path("sievedir").unwrap_or_else(|| PathBuf::from("/usr/sieve"));
        self.root(&path, Presence::Optional, "sievedir", AreaKind::Sieve);
    }

    fn databases(&mut self) {
        for key in NEEDED_DATABASES {
            if let Some(path) = self.conf.path(key) {
                self.named_file(path, key);
            }
        }
        // quotalegacy keeps a folder of small files there, every other database one file.
        if let Some(path) = self.conf.path("quota_db_path") {
            match self.conf.text("quota_db") {
                None | Some("quotalegacy") => {
                    self.root(&path, Presence::Optional, "quota_db_path", AreaKind::Quota);
                }
                Some(_) => self.named_file(path, "quota_db_path"),
            }
        }
    }

    fn configuration_files(&mut self) {
        let main = self.options.imapd_conf.clone();
        for path in self.conf.files() {
            let named_by = if *path == main { "cyrus.imapd-conf".to_owned() } else { "@include".to_owned() };
            self.files.push(ExtraFile { path: path.clone(), presence: Presence::Required, named_by });
        }
        for path in &self.options.also {
            // The default, /etc/cyrus.conf, need not be where this server has its own.
            self.file(path.clone(), Presence::Optional, "cyrus.also".to_owned());
        }
        let sasldb = self.conf.path("sasl_sasldb_path").unwrap_or_else(|| PathBuf::from("/etc/sasldb2"));
        self.named_file(sasldb, "sasl_sasldb_path");
    }

    fn tls_and_other_files(&mut self) {
        let entries: Vec<(String, OsString)> =
            self.conf.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        for (key, value) in &entries {
            // A service's own setting has its name in front: imap_tls_server_cert.
            let is_tls = key.split_once("tls_").is_some_and(|(service, rest)| {
                (service.is_empty() || service.ends_with('_'))
                    && ["cert", "key", "file", "dhparam"].iter().any(|end| rest.ends_with(end))
            });
            let is_named = NAMED_FILES
                .iter()
                .any(|name| key.strip_suffix(name).is_some_and(|s| s.is_empty() || s.ends_with('_')));
            if !is_tls && !is_named {
                continue;
            }
            // Two certificates may stand in one value, with a comma between.
            for part in value.as_bytes().split(|byte| *byte == b',') {
                if let Some(path) = self.conf.resolve(&OsString::from_vec(part.trim_ascii().to_vec())) {
                    self.named_file(path, key);
                }
            }
        }
    }

    fn named_file(&mut self, path: PathBuf, key: &str) {
        let named_by = format!("{key} in {}", self.options.imapd_conf.display());
        self.file(path, Presence::Optional, named_by);
    }

    /// Files that are left out wherever they lie: databases that are made again, and sockets.
    fn excluded_files(&self) -> BTreeSet<PathBuf> {
        let is_socket = |key: &str| ["socket", "_sock"].iter().any(|end| key.ends_with(end));
        self.paths_of(|key| ends_with_any(key, REBUILT_DATABASES) || is_socket(key))
    }

    fn emptied_folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = self.paths_of(|key| ends_with_any(key, VOLATILE_FOLDERS));
        // `temp_path` may well be the configuration folder itself: what is a root stays one.
        folders.retain(|folder| !self.areas.iter().any(|area| area.path == *folder));
        folders
    }

    fn paths_of(&self, wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
        let values = self.conf.iter().filter(|(key, _)| wanted(key)).map(|(_, value): (&str, &OsStr)| value);
        values.filter_map(|value| self.conf.resolve(value)).collect()
    }
}

/// Whether a key is one of `names`, or a service's or channel's own form of it.
fn ends_with_any(key: &str, names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| key.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('_')))
}

#[cfg(test)]
mod tests;
