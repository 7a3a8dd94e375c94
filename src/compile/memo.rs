//! Guests as they were compiled before, for the passes after a first one: of a thousand guests, one changes.
//!
//! A guest's rules follow from its policy and the quirks alone. Where both equal what they were, its rules are taken again, and so is what there was to say
//! about them. Guests with a fault are always compiled anew.

use std::collections::HashMap;
use std::sync::Arc;

use super::ObjectRules;
use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::resolve::GuestPolicy;

/// What an earlier call of [`super::compile_again`] found out.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    quirks: Quirks,
    guests: HashMap<DeviceName, Known>,
}

/// One guest's rules, what they follow from, and what there is to say about them.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub policy: Arc<GuestPolicy>,
    pub rules: Arc<ObjectRules>,
    pub remarks: Vec<Diagnostic>,
}

impl Memo {
    /// Hands out what is known from before, and forgets it.
    pub(super) fn begin(&mut self, quirks: Quirks) -> Self {
        let guests = if self.quirks == quirks { std::mem::take(&mut self.guests) } else { HashMap::new() };
        self.quirks = quirks;
        self.guests.clear();
        Self { quirks, guests }
    }

    /// What is known of a guest with exactly this policy.
    pub(super) fn take(&mut self, guest: &Arc<GuestPolicy>) -> Option<Known> {
        self.guests.remove(&guest.device).filter(|known| known.policy == *guest)
    }

    /// Keeps a guest for the next call.
    pub(super) fn keep(&mut self, known: Known) {
        self.guests.insert(known.policy.device.clone(), known);
    }
}
