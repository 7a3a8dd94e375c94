//! The daemon's part in learning: who is listened to, what follows from what was heard, and keeping it on disk.
//!
//! [`Lessons::due`] waits until there is something to do and loses nothing when it is dropped half way; [`Lessons::work`] does it. What is
//! known is on disk before rules are made of it, so that whoever computes them beside the daemon comes to the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pace::reach;
use super::status::{self, Kind, Moment, ObjectName};
use crate::addr::DeviceName;
use crate::backend::clock;
use crate::learn::capture::{Captures, Counts, Heard};
use crate::learn::learner::{Changes, Learner, Loss, News};
use crate::learn::tap::{self, Tap};
use crate::model::Quirks;
use crate::model::learned::{Learned, Source, Until};
use crate::resolve::Resolved;
use crate::store::learned::{Found, LearnedStore};

/// The clock may be set while we sleep: no sleep before an end is longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Renewals change no rule; they are written no more often than this.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So long rules wait for captures: a thousand are opened in less.
const LONGEST_OPENING: Duration = Duration::from_secs(3);
/// So many frames are judged before rules are made of what they say.
const AT_ONCE: usize = 4096;

/// Learning, as the daemon does it.
#[derive(Debug)]
pub struct Lessons {
    learner: Learner,
    store: Option<LearnedStore>,
    captures: Captures,
    heard: mpsc::Receiver<Heard>,
    /// What was taken from the channel and not worked on yet.
    pending: Option<Heard>,
    /// The devices at the last look; `None` before the first.
    taps: Option<BTreeMap<DeviceName, Tap>>,
    saved: Option<Instant>,
    save_due: Option<Instant>,
}

impl Lessons {
    /// Goes on from what is on disk. A file that cannot be read is told of, and everything is learned anew.
    pub fn open(store: Option<LearnedStore>, quirks: Quirks) -> Self {
        let learned = store.as_ref().map(load).unwrap_or_default();
        let (captures, heard) = Captures::new();
        let mut learner = Learner::new(quirks, learned);
        learner.expire(clock::now());
        let mut lessons = Self { learner, store, captures, heard, pending: None, taps: None, saved: None, save_due: None };
        lessons.save();
        lessons
    }

    /// The addresses that count now.
    pub fn learned(&self) -> Learned {
        self.learner.learned().at(clock::now())
    }

    /// What is known of every guest that learns.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What `status` shows: every address, and the addresses that two guests claim.
    pub fn status(&self) -> (Vec<status::Learned>, Vec<status::Remark>) {
        let now = clock::now();
        let mut addresses = Vec::new();
        for (device, _, known) in self.learner.pupils() {
            let object = ObjectName { kind: Kind::Interface, name: device.to_string() };
            addresses.extend(known.iter().filter(|finding| finding.until.is_after(now)).map(|finding| status::Learned {
                object: object.clone(),
                address: finding.address.to_string(),
                source: match finding.source {
                    Source::Use => "use".to_owned(),
                    Source::Lease(server) => format!("lease from {server}"),
                },
                until: match finding.until {
                    Until::Second(end) => Some(Moment(UNIX_EPOCH + Duration::from_secs(end))),
                    Until::Forever => None,
                },
            }));
        }
        let conflicts = self.learner.denied().map(|(device, address, holder)| status::Remark {
            code: "address-conflict".to_owned(),
            message: format!("interface `{device}` claims {address}, which interface `{holder}` has had first and keeps"),
        });
        (addresses, conflicts.collect())
    }

    /// How much is listened to, and was heard.
    pub fn listening(&self) -> status::Listening {
        let Counts { frames, malformed, surplus } = self.captures.counts();
        let [frames, malformed, surplus] = [frames, malformed, surplus].map(|count| count.load(Ordering::Relaxed));
        status::Listening { taps: self.captures.count(), frames, malformed, surplus }
    }

    /// Takes in a new policy: listens to its guests, and no longer to others. To be called before the rules are made: a lease that a guest
    /// is given between the two would not be heard of before it is renewed.
    pub async fn attend(&mut self, resolved: &Resolved, quirks: Quirks) {
        if self.learner.attend(resolved, quirks) {
            self.save();
        }
        if self.taps.is_none() && self.learner.pupils().next().is_some() {
            self.look().await;
        }
        self.follow();
        self.captures.opened(LONGEST_OPENING).await;
    }

    /// Looks at the devices: a tap that has come is listened to, one that is gone is not. Returns whose addresses changed.
    pub async fn refresh(&mut self) -> BTreeSet<DeviceName> {
        if self.learner.pupils().next().is_none() {
            return BTreeSet::new();
        }
        let gone = self.look().await;
        let mut changes = Changes::default();
        for device in &gone {
            changes.add(self.learner.leave(device));
        }
        let changed = self.keep(&changes);
        self.follow();
        changed
    }

    /// Waits until something was heard, or something ends.
    pub async fn due(&mut self) {
        if self.pending.is_some() {
            return;
        }
        let end = self.learner.next_end().map(|end| UNIX_EPOCH + Duration::from_secs(end));
        let sleep = end.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_SLEEP));
        let wake = [sleep.map(|sleep| Instant::now() + sleep), self.save_due].into_iter().flatten().min();
        tokio::select! {
            heard = self.heard.recv() => self.pending = heard,
            () = reach(wake) => {}
        }
    }

    /// Does what is due. Returns whose addresses changed.
    pub fn work(&mut self) -> BTreeSet<DeviceName> {
        let now = clock::now();
        let mut changes = self.learner.expire(now);
        let mut silence = false;
        let mut next = self.pending.take();
        for _ in 0..AT_ONCE {
            match next.take().or_else(|| self.heard.try_recv().ok()) {
                Some(Heard::Frame(device, frame)) => changes.add(self.learner.hear(&device, &frame, now)),
                Some(Heard::Silence(device, reason)) => {
                    tracing::debug!(%device, reason, "nothing more is heard from this device");
                    self.captures.end(&device);
                    silence = true;
                }
                None => break,
            }
        }
        let changed = self.keep(&changes);
        if silence || !changed.is_empty() {
            self.follow();
        }
        if self.save_due.is_some_and(|due| due <= Instant::now()) {
            self.save();
        }
        changed
    }

    /// Forgets what was learned for the guest with this device; `None` when nothing is ever learned for it, else the addresses.
    pub fn forget(&mut self, device: &DeviceName) -> Option<Vec<std::net::IpAddr>> {
        let changes = self.learner.forget(device)?;
        let lost = changes.news.iter().filter_map(|news| if let News::Lost(_, address, _) = news { Some(*address) } else { None });
        let lost = lost.collect();
        self.keep(&changes);
        self.follow();
        Some(lost)
    }

    /// Stops listening, and keeps what is known.
    pub async fn close(&mut self) {
        if self.save_due.is_some() {
            self.save();
        }
        self.captures.close().await;
    }

    /// Reads the devices; returns those that were there before and are not, or are others under the same name.
    async fn look(&mut self) -> Vec<DeviceName> {
        let taps = match tap::taps().await {
            Ok(taps) => taps,
            Err(error) => {
                tracing::warn!(%error, "the devices are listened to as they were");
                return Vec::new();
            }
        };
        let before = self.taps.replace(taps).unwrap_or_default();
        let now = self.taps.iter().flatten();
        let segments = now.filter_map(|(device, tap)| Some((device.clone(), tap.bridge?))).collect();
        self.learner.place(&segments);
        let is_gone =
            |device: &DeviceName, index: u32| self.taps.as_ref().is_some_and(|taps| taps.get(device).is_none_or(|tap| tap.index != index));
        before.into_iter().filter(|(device, tap)| is_gone(device, tap.index)).map(|(device, _)| device).collect()
    }

    fn follow(&mut self) {
        if let Some(taps) = &self.taps {
            self.captures.follow(&self.learner.hearing(), taps);
        }
    }

    /// Tells of changes and writes them down; returns whose addresses changed.
    fn keep(&mut self, changes: &Changes) -> BTreeSet<DeviceName> {
        let changed = changes.news.iter().filter_map(tell).collect();
        let waits = self.saved.is_some_and(|saved| saved.elapsed() < SAVE_EVERY);
        if changes.addresses || (changes.ends && !waits) {
            self.save();
        } else if changes.ends {
            self.save_due.get_or_insert(Instant::now() + SAVE_EVERY);
        }
        changed
    }

    fn save(&mut self) {
        self.saved = Some(Instant::now());
        self.save_due = None;
        let Some(store) = &self.store else { return };
        if let Err(failure) = tokio::task::block_in_place(|| store.save(self.learner.learned())) {
            tracing::error!("learned addresses would not survive a restart: {failure}");
        }
    }
}

/// Logs one piece of news; returns whose addresses changed by it.
fn tell(news: &News) -> Option<DeviceName> {
    match news {
        News::Found(device, address, source) => {
            tracing::info!(%device, %address, "learned an address, {source}");
            Some(device.clone())
        }
        News::Lost(device, address, loss) => {
            let why = match loss {
                Loss::Released => "given up",
                Loss::Refused => "refused by the server",
                Loss::Expired => "the lease ended",
                Loss::Forgotten => "forgotten",
            };
            tracing::info!(%device, %address, "an address is no longer the guest's: {why}");
            Some(device.clone())
        }
        News::Denied(device, address, holder) => {
            tracing::warn!(%device, %address, %holder, "two guests claim one address; it stays with the first");
            None
        }
        News::Restless(device, address) => {
            tracing::warn!(%device, %address, "this guest changes its addresses too often; the change is ignored");
            None
        }
    }
}

fn load(store: &LearnedStore) -> Learned {
    store.sweep();
    match store.load() {
        Ok(Found::Addresses(learned)) => return learned,
        Ok(Found::Nothing) => {}
        Ok(Found::Corrupt { reason, moved_to }) => {
            tracing::error!(%reason, moved_to = %moved_to.display(), "the file of learned addresses is corrupt; they are learned anew");
        }
        Err(failure) => tracing::error!("the learned addresses are not known, and are learned anew: {failure}"),
    }
    Learned::default()
}
