//! `domains`: the domains that mail may be sent from.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Account, SetupArgs, print_json};
use crate::address::{Address, Alphabet};
use crate::cli::Failure;
use crate::cli::table::{columns, printable, yes_or_no};
use crate::provider::setup::reading::{self, DnsRecord, Domain, Verification};
use crate::provider::setup::{self, Id, NewDomain, Task};

/// Add the domains that you send from, with their DNS records, and have them verified (ScaiSend)
#[derive(Debug, Args)]
#[command(
    after_help = "Mail with a live key needs a From address in a domain that ScaiSend has verified: add the domain, publish the DNS records that it answers with, and verify.\n\nThis takes a token, in the variable SCAISEND_JWT or in --token-file; an API key that has domains.read and domains.write can stand there in its place. NexusProMail's domains are verified in its dashboard."
)]
pub struct Domains {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a domain and print the DNS records to publish
    Add(Add),
    /// Ask the provider to look at the domain's DNS; exit code 1 if it is not as it should be
    Verify(Verify),
    /// List the domains, and the DNS records of those that are not verified (--json: of all)
    List(List),
}

/// A new domain.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sidepost domains add mail.example.com --dmarc-policy quarantine --dmarc-rua-email dmarc@example.com"
)]
struct Add {
    /// The domain of your From addresses
    #[arg(value_parser = domain)]
    domain: String,
    /// What receivers are to do with mail that claims to be yours and is not: what the DMARC record will say
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(["none", "quarantine", "reject"]))]
    dmarc_policy: Option<String>,
    /// Who gets the receivers' reports about it
    #[arg(long, value_name = "ADDRESS", value_parser = crate::cli::address)]
    dmarc_rua_email: Option<Address>,
    #[command(flatten)]
    of: SetupArgs,
}

#[derive(Debug, Args)]
struct Verify {
    /// The domain, or its id, as `add` and `list` show it
    #[arg(value_name = "DOMAIN", value_parser = Named::parse)]
    domain: Named,
    #[command(flatten)]
    of: SetupArgs,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    of: SetupArgs,
}

/// A domain as an argument; one outside ASCII in its ASCII form, as DNS has it.
fn domain(text: &str) -> Result<String, String> {
    let address = Address::parse_in(Alphabet::Utf8, &format!("postmaster@{text}"));
    match address {
        Ok(address) if address.local() == "postmaster" && address.domain().contains('.') && !text.contains('[') => {
            Ok(address.domain().to_owned())
        }
        _ => Err("is no domain like mail.example.com".to_owned()),
    }
}

impl Domains {
    pub(in crate::cli) fn run(&self) -> Result<(), Failure> {
        crate::cli::acts();
        match &self.action {
            Action::Add(add) => add.run(),
            Action::Verify(verify) => verify.run(),
            Action::List(list) => list.run(),
        }
    }
}

impl Add {
    fn run(&self) -> Result<(), Failure> {
        let task = Task::AddDomain(NewDomain {
            domain: self.domain.clone(),
            dmarc_policy: self.dmarc_policy.clone(),
            dmarc_rua_email: self.dmarc_rua_email.as_ref().map(ToString::to_string),
        });
        let account = self.of.account(|kind| setup::offers(kind, &task))?;
        let answer = account.ask(task)?;
        let added = reading::domain(&answer);
        if self.of.json {
            return print_json(&added);
        }
        if added.dns_records.is_empty() {
            sayln!(
                "{}\n\nThe answer has no records that sidepost can read; the whole of it is above.",
                printable(&answer.to_string())
            );
        } else {
            sayln!("Publish these records in the DNS of {}:\n", self.domain);
            say!("{}", records(&added.dns_records));
            sayln!("\n{PANELS}");
        }
        sayln!("Then, once DNS has them: sidepost domains verify {}", self.domain);
        Ok(())
    }
}

/// What people stumble over.
const PANELS: &str = "The names are whole: a panel that adds your domain by itself takes what stands before it. A name can have one SPF record\n(v=spf1 …) only: if there is one already, put the include: into that. A value over 255 characters is one value; panels\nand name servers cut it by themselves, a zone file wants it in \"quoted\" \"pieces\".";

fn records(records: &[DnsRecord]) -> String {
    let rows: Vec<_> = records.iter().map(|one| vec![one.kind.clone(), one.name.clone(), one.value.clone()]).collect();
    columns(&["TYPE", "NAME", "VALUE"], &rows)
}

impl Verify {
    fn run(&self) -> Result<(), Failure> {
        let account = self.of.account(|kind| setup::offers(kind, &Task::ListDomains))?;
        let asked = self.domain.id(&account)?;
        let id = asked.as_str();
        let found = reading::verification(&account.ask(Task::VerifyDomain(asked.clone()))?);
        if self.of.json {
            let Verification { verified, errors } = &found;
            print_json(&json!({ "id": id, "verified": verified, "errors": errors }))?;
        } else if found.verified {
            sayln!("verified: mail from this domain can be sent with a live key.");
        }
        if found.verified {
            return Ok(());
        }
        let errors = found.errors.iter().map(|error| format!("\n  {error}\n    {}", next_step(error)));
        let errors: String = errors.collect();
        Err(Failure::new(format!(
            "{id} is not verified:{errors}\nDNS takes from minutes to hours to be the same everywhere; then again: sidepost domains verify {id}"
        )))
    }
}

/// A domain as the operator names it.
#[derive(Debug, Clone)]
enum Named {
    Id(Id),
    Name(String),
}

impl Named {
    /// What has a dot is a name.
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('.') { domain(text).map(Self::Name) } else { super::id(text).map(Self::Id) }
    }

    /// The id, by which alone the API knows it.
    fn id(&self, account: &Account) -> Result<Id, Failure> {
        let name = match self {
            Self::Id(id) => return Ok(id.clone()),
            Self::Name(name) => name,
        };
        let listed = reading::domains(&account.ask(Task::ListDomains)?);
        let found = listed.items.iter().find(|known| domain(&known.domain).is_ok_and(|known| known == *name));
        let missing = || Failure::new(format!("there is no domain {name} here; `sidepost domains add {name}` adds it"));
        super::id(&found.ok_or_else(missing)?.id).map_err(Failure::new)
    }
}

/// What to do about an error, by the record that it names.
fn next_step(error: &str) -> &'static str {
    let error = error.to_ascii_lowercase();
    if error.contains("dkim") || error.contains("_domainkey") {
        "Publish the TXT record at scaisend._domainkey.DOMAIN, the value in one piece, as `sidepost domains list` shows it."
    } else if error.contains("dmarc") {
        "Publish a TXT record at _dmarc.DOMAIN that begins with v=DMARC1."
    } else if error.contains("spf") {
        "Publish one TXT record at DOMAIN that begins with v=spf1; if there is one already, put the include: into that."
    } else {
        "Compare the records in DNS with those of `sidepost domains list`."
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let account = self.of.account(|kind| setup::offers(kind, &Task::ListDomains))?;
        let listed = reading::domains(&account.ask(Task::ListDomains)?);
        if self.of.json {
            return print_json(&json!({ "domains": listed.items, "total": listed.total }));
        }
        if listed.items.is_empty() {
            sayln!("There is no domain yet; `sidepost domains add` adds one.");
            return Ok(());
        }
        let rows: Vec<_> = listed.items.iter().map(row).collect();
        say!("{}", columns(&["ID", "VERIFIED", "DOMAIN"], &rows));
        let open = |domain: &&Domain| domain.verified != Some(true) && !domain.dns_records.is_empty();
        for domain in listed.items.iter().filter(open) {
            sayln!("\nDNS records of {}:\n", domain.domain);
            say!("{}", records(&domain.dns_records));
        }
        Ok(())
    }
}

fn row(domain: &Domain) -> Vec<String> {
    let verified = yes_or_no(domain.verified);
    vec![domain.id.clone(), verified.to_owned(), domain.domain.clone()]
}
