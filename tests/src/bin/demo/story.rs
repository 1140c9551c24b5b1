//! The demo from its beginning to its end.

use std::{path::PathBuf, sync::Arc};

use dewpoint_tests::{Dev, DevOptions};
use kms_client::{Client, CreateKeyRequest, Key, KeyReference, KeySpec, envelope::Suite};
use tokio::time::Instant;

use crate::{
    failure::{During as _, Failure},
    log, objects, refusals,
    report::{Measured, Mebibytes, heading, say},
    stage::{self, IN_FLIGHT, Places, Vault},
    tree::Tree,
    users::Users,
};

/// Tells the story in `directory`.
pub(crate) async fn tell(directory: PathBuf) -> Result<(), Failure> {
    let places = Places(directory);
    let tree = Arc::new(collect(&places)?);
    let mut dev = start(&places);
    let users = Users::connect(&dev.description).await?;
    let (vaults, aes_key) = make_vaults(&users.admin).await?;
    encrypt(&users.downloader, &vaults, &places, &tree).await?;
    drop(users);
    restart(&mut dev)?;
    let users = Users::connect(&dev.description).await?;
    decrypt(&users.downloader, &vaults, &places, &tree).await?;
    let before = log::end(&places.service().join("audit"))?;
    refuse(&users, &places, &vaults[1], &tree, &aes_key.key_id).await?;
    drop(users);
    heading(
        "6. An object with SSE-KMS: OBS' own SDK, and the object gateway that dev mode started beside the service",
    );
    objects::show(&dev, &places, &tree, &aes_key.key_id).await?;
    stop(&mut dev)?;
    heading("7. The audit log: the records of parts 5 and 6, as they lie on disk");
    log::show(&places.service().join("audit"), before)
}

fn collect(places: &Places) -> Result<Tree, Failure> {
    say("1. Real files: this repository's, and a sample of the system's");
    let tree = Tree::collect(&places.plain())?;
    let text = tree.files.iter().filter(|file| file.is_text).count();
    let empty = tree.files.iter().filter(|file| file.length == 0).count();
    let largest = tree.largest().map_or(0, |file| file.length);
    say(format_args!("   {} files, {}", tree.files.len(), Mebibytes(tree.bytes)));
    say(format_args!(
        "   {text} of text ({empty} of them empty), {} binary; the largest has {}",
        tree.files.len() - text,
        Mebibytes(largest)
    ));
    Ok(tree)
}

fn start(places: &Places) -> Dev {
    heading(
        "2. The service: `dewpoint dev` in an empty directory makes a token, certificates, accounts and users",
    );
    let begin = Instant::now();
    let arguments = ["--with-obs", "--obs-port=0"].map(str::to_owned).into();
    let options = DevOptions { arguments, ..DevOptions::default() };
    let dev = Dev::start_in(places.service(), options, None);
    say(format_args!(
        "   ready at {} after {:.1} s; the object gateway is at {}",
        dev.description.endpoint(),
        begin.elapsed().as_secs_f64(),
        dev.description.obs_endpoint()
    ));
    dev
}

/// Makes the keys; the default key comes by itself with its first use.
async fn make_vaults(admin: &Client) -> Result<([Vault; 3], Key), Failure> {
    let aes = make_key(admin, "demo-aes", KeySpec::Aes256).await?;
    let sm4 = make_key(admin, "demo-sm4", KeySpec::Sm4).await?;
    let by_id = |key: &Key| KeyReference::KeyId(key.key_id.clone());
    let vaults = [
        Vault { name: "default", key: KeyReference::Service("obs".to_owned()), suite: Suite::Aes256Gcm },
        Vault { name: "aes", key: by_id(&aes), suite: Suite::Aes256Gcm },
        Vault { name: "sm4", key: by_id(&sm4), suite: Suite::Sm4Gcm },
    ];
    Ok((vaults, aes))
}

async fn make_key(admin: &Client, alias: &str, spec: KeySpec) -> Result<Key, Failure> {
    let request =
        CreateKeyRequest { alias: alias.to_owned(), key_spec: spec.into(), ..CreateKeyRequest::default() };
    let key = admin.create_key(request).await.during(format_args!("making the key {alias}"))?;
    say(format_args!("   alpha's admin made the key {alias}, {}", key.key_id));
    Ok(key)
}

async fn encrypt(
    downloader: &Client,
    vaults: &[Vault],
    places: &Places,
    tree: &Arc<Tree>,
) -> Result<(), Failure> {
    heading(format_args!(
        "3. Encryption by alpha's downloader, three times all files, each under a data key of its own, {IN_FLIGHT} at once"
    ));
    for vault in vaults {
        report(vault, stage::encrypt(downloader, vault, places, tree).await?);
    }
    let key = downloader.describe_key(&vaults[0].key).await.during("describing the default key")?;
    say(format_args!("   The default key {} was made by its first use.", key.key_id));
    Ok(())
}

async fn decrypt(
    downloader: &Client,
    vaults: &[Vault],
    places: &Places,
    tree: &Arc<Tree>,
) -> Result<(), Failure> {
    for vault in vaults {
        report(vault, stage::decrypt(downloader, vault, places, tree).await?);
    }
    say("   The SHA-256 of every file is that of its original.");
    Ok(())
}

fn report(vault: &Vault, measured: Measured) {
    let with = match vault.name {
        "default" => "default key (AES-256), files in AES-256-GCM",
        "aes" => "custom AES-256 key, files in AES-256-GCM",
        _ => "custom SM4 key, files in SM4-GCM",
    };
    say(format_args!("   {with:<45} {measured}"));
}

fn restart(dev: &mut Dev) -> Result<(), Failure> {
    heading("4. SIGTERM, a new start in the same directory, and decryption");
    stop(dev)?;
    let begin = Instant::now();
    dev.start_again();
    say(format_args!(
        "   ended with exit code 0, and was ready again after {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn stop(dev: &mut Dev) -> Result<(), Failure> {
    let status = dev.stop();
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("dewpoint ended with {status}: {}", dev.log().trim())))
}

async fn refuse(
    users: &Users,
    places: &Places,
    vault: &Vault,
    tree: &Tree,
    key_id: &str,
) -> Result<(), Failure> {
    let file = tree.largest().ok_or_else(|| Failure::new("there are no files"))?;
    heading(format_args!("5. What must not work, tried on {} under the custom AES-256 key", file.name));
    let subject = refusals::Subject::load(places, vault, file).await?;
    refusals::by_the_service(&subject, users, key_id).await?;
    refusals::by_the_client(&subject, users).await
}
