//! The addresses that were learned, kept on disk over restarts and reboots: `<learned dir>/<network namespace>/learned.json`.
//!
//! Whole or not at all, versioned, bounded. Only the daemon (or `forget`, where none runs) writes; everybody who computes rules reads, so
//! that all of them come to the same ones. Losing the file costs guests their addresses until they are learned again, never more.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::header::Header;
use super::{Saved, StoreFailure, directory};
use crate::addr::{DeviceName, Mac};
use crate::backend::namespace::Identity;
use crate::model::learned::{Anchor, Claimant, Finding, Knowledge, Learned, MOST_ADDRESSES, Method, Source, Until};

const FILE: &str = "learned.json";
/// Of the format below.
const VERSION: u32 = 1;
/// A hundred thousand guests fit; what is larger was not written by us.
const LARGEST: u64 = 64 << 20;
/// The first network namespace of a boot, which is the same host at every boot; all others are new ones.
const HOST: &str = "cookie-1";

/// The directory of one network namespace, checked and open.
#[derive(Debug)]
pub struct LearnedStore {
    identity: Identity,
    path: PathBuf,
    directory: OwnedFd,
}

/// What was found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what belongs to a namespace of an earlier boot.
    Nothing,
    /// What cannot be read; it was moved aside.
    Corrupt {
        /// Why.
        reason: String,
        /// Where it is now.
        moved_to: PathBuf,
    },
    /// The addresses, ended ones among them.
    Addresses(Learned),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    boot_id: String,
    namespace: String,
    guests: Vec<Guest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    mac: String,
    filter: String,
    learning: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<IpAddr>,
    addresses: Vec<Address>,
}

/// Without a server the guest used the address; without an end it is for ever.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    #[serde(rename = "address")]
    ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl LearnedStore {
    /// Opens the directory of this namespace below `learned_dir`; makes both where they are missing, mode 0700. What lies above must exist.
    ///
    /// # Errors
    /// When they cannot be made, or could be written by somebody else.
    pub fn open(learned_dir: &Path, identity: Identity) -> Result<Self, StoreFailure> {
        let directory = directory::open(learned_dir, identity.namespace.as_str())?;
        let path = learned_dir.join(identity.namespace.as_str());
        Ok(Self { identity, path, directory })
    }

    /// Reads the file, and moves it aside if it is corrupt.
    ///
    /// # Errors
    /// When it is there and can neither be read nor be moved.
    pub fn load(&self) -> Result<Found, StoreFailure> {
        let read = directory::read_at_most(&self.directory, FILE, LARGEST);
        let reason = match read.map(|bytes| bytes.map(|bytes| parse(&bytes, &self.identity))) {
            Ok(None) => return Ok(Found::Nothing),
            Ok(Some(Ok(learned))) => return Ok(learned.map_or(Found::Nothing, Found::Addresses)),
            Ok(Some(Err(reason))) => reason,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => error.to_string(),
            Err(source) => return Err(self.failure("read", source)),
        };
        let name = directory::move_aside(&self.directory, FILE).map_err(|source| self.failure("move aside", source))?;
        Ok(Found::Corrupt { reason, moved_to: self.path.join(name) })
    }

    /// Replaces the file, whole or not at all; when this returns it is on stable storage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, learned: &Learned) -> Result<Saved, StoreFailure> {
        let bytes = write(learned, &self.identity);
        if directory::read_at_most(&self.directory, FILE, LARGEST).is_ok_and(|old| old.is_some_and(|old| old == bytes)) {
            return Ok(Saved::Unchanged);
        }
        directory::replace(&self.directory, FILE, &bytes).map_err(|source| self.failure("write", source))?;
        Ok(Saved::Written)
    }

    /// Removes what namespaces of earlier boots left behind: nobody will ever ask for it again. What cannot be removed stays.
    pub fn sweep(&self) {
        let Some(entries) = self.path.parent().and_then(|parent| fs::read_dir(parent).ok()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let strange = !name.to_str().is_some_and(|name| name.starts_with("cookie-") || name.starts_with("inode-"));
            if strange || name.to_str() == Some(HOST) || entry.path() == self.path {
                continue;
            }
            let file = entry.path().join(FILE);
            let header = fs::read(&file).ok().and_then(|bytes| Header::read(&bytes).ok());
            if header.is_some_and(|header| !header.same_boot(&self.identity)) {
                let _ = fs::remove_file(&file).and_then(|()| fs::remove_dir(entry.path()));
            }
        }
    }

    fn failure(&self, verb: &'static str, source: io::Error) -> StoreFailure {
        StoreFailure::Io { verb, path: self.path.join(FILE), source }
    }
}

/// What is known, for those who only read: makes and moves nothing.
///
/// # Errors
/// When there is a file and it cannot be read; what that means, in words.
pub fn peek(learned_dir: &Path, identity: &Identity) -> Result<Learned, String> {
    let path = learned_dir.join(identity.namespace.as_str()).join(FILE);
    let bytes = match fs::metadata(&path).and_then(|metadata| if metadata.len() > LARGEST { Err(too_large()) } else { fs::read(&path) }) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Learned::default()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let read = parse(&bytes, identity).map_err(|reason| format!("{} is corrupt: {reason}", path.display()))?;
    Ok(read.unwrap_or_default())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", LARGEST >> 20))
}

fn write(learned: &Learned, identity: &Identity) -> Vec<u8> {
    let guests = learned
        .0
        .iter()
        .filter(|(_, knowledge)| !knowledge.findings.is_empty())
        .map(|(claimant, knowledge)| Guest::of(claimant, knowledge));
    let document = Document {
        version: VERSION,
        boot_id: identity.boot_id.clone(),
        namespace: identity.namespace.to_string(),
        guests: guests.collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&document).expect("strings, numbers and lists are JSON, and memory takes every write");
    bytes.push(b'\n');
    bytes
}

/// The addresses in a file; `None` for one of another namespace, or of another boot where that makes another namespace.
fn parse(bytes: &[u8], identity: &Identity) -> Result<Option<Learned>, String> {
    let header = Header::read(bytes)?;
    if !header.same_namespace(identity) || !(header.same_boot(identity) || header.namespace == HOST) {
        return Ok(None);
    }
    header.require(VERSION)?;
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let guests = document.guests.into_iter().map(Guest::parse);
    Ok(Some(Learned(guests.collect::<Result<_, String>>()?)))
}

impl Guest {
    fn of(claimant: &Claimant, knowledge: &Knowledge) -> Self {
        let (owner, device) = match &claimant.anchor {
            Anchor::Owner(owner) => (Some(*owner), None),
            Anchor::Device(device) => (None, Some(device.to_string())),
            Anchor::Address => (None, None),
        };
        let addresses = knowledge.findings.iter().map(|finding| Address {
            ip: finding.address,
            server: if let Source::Lease(server) = finding.source { Some(server) } else { None },
            until: if let Until::Second(end) = finding.until { Some(end) } else { None },
        });
        Self {
            owner,
            device,
            mac: claimant.mac.to_string(),
            filter: claimant.filter.to_string(),
            learning: claimant.method.to_string(),
            first: knowledge.first,
            addresses: addresses.collect(),
        }
    }

    fn parse(self) -> Result<(Claimant, Knowledge), String> {
        let anchor = match (self.owner, self.device) {
            (Some(owner), None) => Anchor::Owner(owner),
            (None, Some(device)) => Anchor::Device(DeviceName::new(&device).ok_or_else(|| format!("`{device}` is no device"))?),
            (None, None) => Anchor::Address,
            (Some(_), Some(_)) => return Err("a guest has an owner and a device".to_owned()),
        };
        let mac = Mac::parse(&self.mac).ok_or_else(|| format!("`{}` is no Ethernet address", self.mac))?;
        if self.addresses.len() > MOST_ADDRESSES {
            return Err(format!("a guest has more than {MOST_ADDRESSES} addresses"));
        }
        let findings = self.addresses.into_iter().map(|address| Finding {
            address: address.ip,
            source: address.server.map_or(Source::Use, Source::Lease),
            until: address.until.map_or(Until::Forever, Until::Second),
        });
        let knowledge = Knowledge { findings: findings.collect(), first: self.first };
        let claimant = Claimant { anchor, mac, filter: self.filter.into(), method: method(&self.learning)? };
        Ok((claimant, knowledge))
    }
}

fn method(text: &str) -> Result<Method, String> {
    let mut words = text.split(' ');
    match words.next() {
        Some("any") if text == "any" => Ok(Method::Any),
        Some("dhcp") => {
            let servers = words.map(|word| word.parse().map_err(|_| format!("`{word}` is no server's address")));
            Ok(Method::Dhcp(servers.collect::<Result<_, _>>()?))
        }
        _ => Err(format!("`{text}` is no way to learn an address")),
    }
}

#[cfg(test)]
mod tests;
