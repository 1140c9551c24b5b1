//! Passes over all files, several files at once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kms_client::{
    Client, KeyReference,
    envelope::{self, Suite},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    task::JoinSet,
    time::Instant,
};

use crate::{
    failure::{During as _, Failure},
    report::{Measured, Progress},
    tree::{PlainFile, Tree},
};

/// How many files are on their way at once.
pub(crate) const IN_FLIGHT: usize = 16;

/// Where everything of the demo lies.
#[derive(Debug, Clone)]
pub(crate) struct Places(pub(crate) PathBuf);

/// The tree under one key.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    /// Names it for people and in paths.
    pub(crate) name: &'static str,
    pub(crate) key: KeyReference,
    pub(crate) suite: Suite,
}

impl Places {
    pub(crate) fn service(&self) -> PathBuf {
        self.0.join("service")
    }

    pub(crate) fn plain(&self) -> PathBuf {
        self.0.join("plain")
    }

    pub(crate) fn encrypted(&self, vault: &Vault) -> PathBuf {
        self.0.join(format!("encrypted-{}", vault.name))
    }

    pub(crate) fn decrypted(&self, vault: &Vault) -> PathBuf {
        self.0.join(format!("decrypted-{}", vault.name))
    }
}

/// Says of an envelope which file it is.
pub(crate) fn context(name: &str) -> HashMap<String, String> {
    HashMap::from([("object".to_owned(), name.to_owned())])
}

/// Encrypts every file under a data key of its own.
pub(crate) async fn encrypt(
    client: &Client,
    vault: &Vault,
    places: &Places,
    tree: &Arc<Tree>,
) -> Result<Measured, Failure> {
    let (client, vault) = (client.clone(), vault.clone());
    let (from, to) = (places.plain(), places.encrypted(&vault));
    for_each_file(format!("encrypting, {}", vault.name), tree, move |file| {
        let (client, vault) = (client.clone(), vault.clone());
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        async move {
            let sealed = encrypt_file(&client, &vault, &file.name, &from, &to).await;
            sealed.during(format_args!("encrypting {}", from.display()))
        }
    })
    .await
}

async fn encrypt_file(
    client: &Client,
    vault: &Vault,
    name: &str,
    from: &Path,
    to: &Path,
) -> Result<(), envelope::Error> {
    make_parent(to).await?;
    let (mut reader, mut writer) = (File::open(from).await?, File::create(to).await?);
    envelope::encrypt(client, vault.suite, &vault.key, &context(name), &mut reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(())
}

/// Decrypts every file and compares it with what it was.
pub(crate) async fn decrypt(
    client: &Client,
    vault: &Vault,
    places: &Places,
    tree: &Arc<Tree>,
) -> Result<Measured, Failure> {
    let client = client.clone();
    let (from, to) = (places.encrypted(vault), places.decrypted(vault));
    for_each_file(format!("decrypting, {}", vault.name), tree, move |file| {
        let client = client.clone();
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        async move {
            let decrypted = decrypt_file(&client, &file.name, &from, &to).await;
            decrypted.during(format_args!("decrypting {}", from.display()))?;
            compare(&file, &to).await
        }
    })
    .await
}

/// Decrypts an envelope, as the file of this name, to a path.
pub(crate) async fn decrypt_file(
    client: &Client,
    name: &str,
    from: &Path,
    to: &Path,
) -> Result<(), envelope::Error> {
    make_parent(to).await?;
    let mut reader = File::open(from).await?;
    envelope::decrypt_to_path(client, None, &context(name), &mut reader, to).await?;
    Ok(())
}

async fn make_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).await,
        None => Ok(()),
    }
}

async fn compare(file: &PlainFile, decrypted: &Path) -> Result<(), Failure> {
    let content = fs::read(decrypted).await.during(decrypted.display())?;
    if <[u8; 32]>::from(Sha256::digest(&content)) == file.sha256 {
        Ok(())
    } else {
        Err(Failure::new(format!("{} differs from what was encrypted", decrypted.display())))
    }
}

/// Does `work` for every file, [`IN_FLIGHT`] at once; ends at the first failure.
async fn for_each_file<Work, Done>(what: String, tree: &Arc<Tree>, work: Work) -> Result<Measured, Failure>
where
    Work: Fn(Arc<PlainFile>) -> Done + Clone + Send + 'static,
    Done: Future<Output = Result<(), Failure>> + Send,
{
    let progress = Arc::new(Progress::start(what, tree.files.len()));
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (tree, next, progress, work) = (tree.clone(), next.clone(), progress.clone(), work.clone());
        workers.spawn(async move {
            while let Some(file) = tree.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(file.clone()).await?;
                progress.advance();
            }
            Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.during("a worker ended")??;
    }
    Ok(Measured { files: tree.files.len(), bytes: tree.bytes, elapsed: begin.elapsed() })
}
