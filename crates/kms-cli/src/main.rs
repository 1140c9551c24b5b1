//! The `dewctl` command: every operation of the service, and what operators do.

mod account;
mod alias;
mod audit;
mod backup;
mod bucket_key;
mod campaign;
mod connection;
mod data_key;
mod destroyed;
mod dev;
mod encryption;
mod explain;
mod grant;
mod hsm;
mod identities;
mod import;
mod input;
mod key;
mod keystore;
mod metering;
mod moment;
mod output;
mod replica;
mod root;
mod rotation;
mod signing;
mod tag;
mod traffic;
mod usage;
mod wrapping;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{connection::ConnectionOptions, output::Failure};

/// Dewpoint's command line: every operation of the service, and what operators do.
#[derive(Debug, Parser)]
#[command(name = "dewctl", version, arg_required_else_help = true)]
#[command(
    after_help = "Results go to stdout, everything else to stderr.\n\nExit codes: 0 done; 1 the call was refused or failed; \
                  2 wrong usage, or files that cannot be used; 3 --wait found the rotation blocked; \
                  4 the HSM cannot be used, or lacks what is needed; 5 a backup holds faulty values, or was altered on its way."
)]
struct Arguments {
    #[command(flatten)]
    connection: ConnectionOptions,
    /// Print results as JSON, one object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Master keys and their life cycle
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Further names of master keys
    #[command(subcommand)]
    Alias(alias::AliasCommand),
    /// Tags of master keys, and keys by their tags
    #[command(subcommand)]
    Tag(tag::TagCommand),
    /// What remains of keys whose deletion was due, of all accounts; for operators
    ///
    /// A destruction is final when the root keys that wrapped the material are destroyed, too: until then, who has the
    /// token and an old backup can open it. `dewctl root rotate` ends that.
    Destroyed,
    /// When the keys of all accounts were last used, and how often; or what billing would need, by account and month
    ///
    /// By itself it asks the service, as an operator, how each key was used; with --json it tells what each version did.
    /// Destroyed keys are among them: their counts stay. With directories, or with --from-server, it tells for how long
    /// keys of each kind lived and which calls were made, counted from the audit log.
    Usage(usage::UsageOptions),
    /// Grants of keys to users and accounts, also of other accounts
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Data keys: make, seal, open
    #[command(subcommand)]
    DataKey(data_key::DataKeyCommand),
    /// Bucket keys, which gateways make for many objects at once: make, open, report their use
    #[command(subcommand)]
    BucketKey(bucket_key::BucketKeyCommand),
    /// Encrypt small data under a key itself
    Encrypt(encryption::EncryptOptions),
    /// Decrypt small data
    Decrypt(encryption::DecryptOptions),
    /// Sign a message
    Sign(signing::SignOptions),
    /// Check a signature
    Verify(signing::VerifyOptions),
    /// Show the public half of a key pair
    PublicKey(signing::PublicKeyOptions),
    /// Compute a message authentication code
    Mac(signing::MacOptions),
    /// Check a message authentication code
    VerifyMac(signing::VerifyMacOptions),
    /// Agree on a secret with another key pair
    Derive(signing::DeriveOptions),
    /// What the account may have in the region, and has
    Quotas,
    /// How often may be called
    #[command(subcommand)]
    Traffic(traffic::TrafficCommand),
    /// How many custom keys the account has in the region
    CountKeys,
    /// The versions of the API
    Versions {
        /// Only this one, as v1
        id: Option<String>,
    },
    /// Key material from outside
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// HSMs that the account has for keys of its own
    #[command(subcommand)]
    Keystore(keystore::KeystoreCommand),
    /// The rotation of master keys
    #[command(subcommand)]
    Rotation(rotation::RotationCommand),
    /// Keys in other regions that share a key's material
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
    /// Move what older versions of a key sealed under the current one
    #[command(subcommand)]
    Campaign(campaign::CampaignCommand),
    /// Random bytes of the HSM
    Random(data_key::RandomOptions),
    /// Write a backup of the key store for the same token, while the service runs
    ///
    /// It holds all keys as they are stored, wrapped under the token's root key, names and grants: no secret without
    /// the token, and nothing of use without it. Back up the token and the audit log by their own means. Prints the
    /// backup's digest. `dewpoint restore --drill` proves that it can be restored.
    Backup(backup::BackupOptions),
    /// Read the service's audit log: who did what with which key, and how it ended
    ///
    /// A user sees the records of its account, and of its account's keys those of others, too (--key-id); an operator
    /// sees all. Reading is recorded.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Who may call, and may do what; for operators
    #[command(subcommand)]
    Identities(identities::IdentitiesCommand),
    /// Who may do what with a key, and by which statement or grant; for operators
    Explain(explain::ExplainOptions),
    /// The root key above all master keys
    #[command(subcommand)]
    Root(root::RootCommand),
    /// The clock and the traffic control of a deployment under test (`dewpoint dev --clock manual`)
    #[command(subcommand)]
    Dev(dev::DevCommand),
    /// The HSM itself: what it offers, and its root key (on its own machine, without the service)
    #[command(subcommand)]
    Hsm(hsm::HsmCommand),
    /// Print a completion script, as: dewctl completions bash > /etc/bash_completion.d/dewctl
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (connection, as_json) = (&arguments.connection, arguments.json);
    let ended = match &arguments.command {
        Command::Hsm(command) => hsm::run(command, as_json),
        Command::Root(command) => block_on(root::run(command, connection, as_json)),
        Command::Key(command) => block_on(key::run(command, connection, as_json)),
        Command::Alias(command) => block_on(alias::run(command, connection, as_json)),
        Command::Tag(command) => block_on(tag::run(command, connection, as_json)),
        Command::Audit(command) => block_on(audit::run(command, connection, as_json)),
        Command::Identities(command) => block_on(identities::run(command, connection, as_json)),
        Command::Explain(options) => block_on(explain::run(options, connection, as_json)),
        Command::Replica(command) => block_on(replica::run(command, connection, as_json)),
        Command::Rotation(command) => block_on(rotation::run(command, connection, as_json)),
        Command::Campaign(command) => block_on(campaign::run(command, connection, as_json)),
        Command::Grant(command) => block_on(grant::run(command, connection, as_json)),
        Command::BucketKey(command) => block_on(bucket_key::run(command, connection, as_json)),
        Command::DataKey(command) => block_on(data_key::run(command, connection, as_json)),
        Command::Encrypt(options) => block_on(encryption::encrypt(options, connection, as_json)),
        Command::Sign(options) => block_on(signing::sign(options, connection, as_json)),
        Command::Verify(options) => block_on(signing::verify(options, connection, as_json)),
        Command::PublicKey(options) => block_on(signing::public_key(options, connection, as_json)),
        Command::Mac(options) => block_on(signing::mac(options, connection, as_json)),
        Command::VerifyMac(options) => block_on(signing::verify_mac(options, connection, as_json)),
        Command::Derive(options) => block_on(signing::derive(options, connection, as_json)),
        Command::Traffic(command) => block_on(traffic::run(command, connection, as_json)),
        Command::Quotas => block_on(account::quotas(connection, as_json)),
        Command::CountKeys => block_on(account::count_keys(connection, as_json)),
        Command::Versions { id } => block_on(account::versions(id.as_ref(), connection, as_json)),
        Command::Decrypt(options) => block_on(encryption::decrypt(options, connection, as_json)),
        Command::Import(command) => block_on(import::run(command, connection, as_json)),
        Command::Keystore(command) => block_on(keystore::run(command, connection, as_json)),
        Command::Random(options) => block_on(data_key::random(options, connection, as_json)),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "dewctl", &mut std::io::stdout());
            Ok(())
        }
        Command::Backup(options) => block_on(backup::run(options, connection, as_json)),
        Command::Destroyed => block_on(destroyed::run(connection, as_json)),
        Command::Usage(options) => block_on(usage::run(options, connection, as_json)),
        Command::Dev(command) => block_on(dev::run(command, connection, as_json)),
    };
    ended.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Usage(format!("no runtime: {error}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_options_are_confused() {
        Arguments::command().debug_assert();
    }
}
