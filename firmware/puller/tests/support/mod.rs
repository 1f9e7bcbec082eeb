//! What the suites of this crate share: a server in memory, a repository in memory, a listener, and a way to run a
//! backup between them.

mod server;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use mailkeep_mail::Source;
use mailkeep_puller::{Progress, PullError, PullOptions, Status, Summary};
use mailkeep_repository::{
    Encryption, InitOptions, KeySource, LogMonitor, MemoryStorage, Repository, RepositoryError, Storage,
    WriterOptions,
};

pub use server::{Fate, Server, State, Then};

/// A repository in memory.
pub struct Target {
    pub storage: MemoryStorage,
    pub repository: Repository,
}

impl Target {
    pub fn new() -> Self {
        let storage = MemoryStorage::new();
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let options = InitOptions { label: "test".into(), encryption: Encryption::Plain };
        let repository = Repository::init(shared, &options).unwrap().repository;
        Target { storage, repository }
    }

    /// Opens the repository anew, as the next run would.
    pub fn reopened(&self) -> Repository {
        Repository::open(Arc::new(self.storage.clone()), &KeySource::Plain, &LogMonitor).unwrap()
    }

    pub fn snapshots(&self) -> usize {
        self.reopened().snapshots(&LogMonitor).unwrap().len()
    }

    /// The files of the newest snapshot by path.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let repository = self.reopened();
        let entry = repository.latest_for("t", &LogMonitor).unwrap().unwrap();
        let reader = repository.reader(&LogMonitor).unwrap();
        let mut files = BTreeMap::new();
        let mut rest = vec![(String::new(), entry.manifest.root)];
        while let Some((path, content)) = rest.pop() {
            for node in reader.tree(&content).unwrap() {
                let name = format!("{path}{}", String::from_utf8(node.name.clone()).unwrap());
                if node.is_directory() {
                    rest.push((format!("{name}/"), node.content().to_vec()));
                    continue;
                }
                let mut bytes = Vec::new();
                reader
                    .read_file(node.content(), |piece| {
                        bytes.extend_from_slice(piece);
                        Ok::<(), RepositoryError>(())
                    })
                    .unwrap();
                assert_eq!(bytes.len() as u64, node.size(), "{name}");
                files.insert(name, bytes);
            }
        }
        files
    }
}

/// Everything that a run has told.
#[derive(Default)]
pub struct News(pub Mutex<Vec<String>>);

impl Progress for News {
    fn update(&self, status: &Status) {
        let mut told = self.0.lock().unwrap();
        let word = format!("phase {}", status.phase.word());
        if told.iter().rev().find(|line| line.starts_with("phase")) != Some(&word) {
            told.push(word);
        }
    }
    fn problem(&self, what: &str, path: &str) {
        self.0.lock().unwrap().push(format!("problem {path}: {what}"));
    }
    fn window(&self, open: bool) {
        self.0.lock().unwrap().push(format!("window {}", if open { "open" } else { "closed" }));
    }
}

/// How a test runs a backup.
#[derive(Default)]
pub struct How {
    pub force_window: bool,
    pub live_only: bool,
    pub budget: Option<&'static str>,
    pub freeze: &'static str,
    /// Keeps how far it has come after each message.
    pub keeps_all: bool,
    pub cancel: Arc<AtomicBool>,
    pub news: News,
}

impl How {
    pub fn source(&self) -> Source {
        let budget = self.budget.unwrap_or("600s");
        let freeze = if self.freeze.is_empty() { "auto" } else { self.freeze };
        let text = format!(
            "name = \"t\"\nsystem = \"generic\"\noutage-budget = \"{budget}\"\n[transport]\nkind = \"local\"\n\
             [generic]\npaths = [\"/spool\"]\n[quiesce]\nfreeze = \"{freeze}\"\n"
        );
        Source::parse(&text, "test").unwrap()
    }

    pub fn with<T>(&self, server: &Server, go: impl FnOnce(&Source, &PullOptions<'_>, &News) -> T) -> T {
        let mut writer = WriterOptions::default();
        if self.keeps_all {
            writer.checkpoint_every = std::time::Duration::ZERO;
        }
        let options = PullOptions {
            force_window: self.force_window,
            live_only: self.live_only,
            transport: server,
            cancel: &self.cancel,
            writer: &writer,
            program: "mailkeep test",
            bandwidth: None,
        };
        go(&self.source(), &options, &self.news)
    }

    pub fn pull(&self, target: &Target, server: &Server) -> Result<Summary, PullError> {
        self.with(server, |source, options, news| {
            mailkeep_puller::pull(&target.repository, source, options, news)
        })
    }

    pub fn told(&self) -> Vec<String> {
        self.news.0.lock().unwrap().clone()
    }
}

/// A backup as it is asked for without any option.
pub fn pull(target: &Target, server: &Server) -> Result<Summary, PullError> {
    How::default().pull(target, server)
}
