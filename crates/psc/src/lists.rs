//! The accept and reject lists of one service attachment, indexed: a list may have 5,000 entries
//! and an attachment thousands of endpoints.

use crate::policy::{Blocked, blocks};
use names::{NetworkId, SelfLink};
use slice::psc::{ConnectionPreference, Consumer, Endpoint, EndpointKind, ServiceAttachment};
use std::collections::HashMap;

/// What the lists say of one endpoint today, limits aside.
pub(crate) enum Standing {
    /// An organization policy of the producer blocks it.
    Blocked(Blocked),
    /// The entry of the reject list that names it.
    Rejected(usize),
    /// `ACCEPT_AUTOMATIC`.
    Automatic,
    /// The entries of the accept list that name it, in the order of the list; at least one.
    Listed(Vec<usize>),
    /// No list names it.
    Unlisted,
}

/// What an entry names, in a form in which equal means the same consumer.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Project(&'a str),
    ProjectNumber(u64),
    Network(&'a NetworkId),
    Endpoint(&'a SelfLink),
}

fn key(consumer: &Consumer) -> Key<'_> {
    match consumer {
        // A project id begins with a letter, so digits are a number.
        Consumer::ProjectIdOrNum(text) => match text.parse() {
            Ok(number) => Key::ProjectNumber(number),
            Err(_) => Key::Project(text),
        },
        Consumer::NetworkUrl(network) => Key::Network(network),
        Consumer::EndpointUrl(link) => Key::Endpoint(link),
    }
}

/// Everything by which a list may name this endpoint. Networks match by name, so a deleted and
/// recreated network stays accepted. An entry that names a single endpoint never covers a backend,
/// that is, a network endpoint group (private-connectivity 1.1).
fn keys(endpoint: &Endpoint) -> impl Iterator<Item = Key<'_>> {
    let single = (endpoint.kind != EndpointKind::NetworkEndpointGroup)
        .then_some(Key::Endpoint(&endpoint.self_link));
    [
        Key::Project(&endpoint.project),
        Key::ProjectNumber(endpoint.project_number),
        Key::Network(&endpoint.network),
    ]
    .into_iter()
    .chain(single)
}

/// The kind of value that the lists of an attachment hold: both hold one kind only
/// (private-connectivity 1.1). Projects where they are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    Projects,
    Networks,
    Endpoints,
}

pub(crate) fn kind(attachment: &ServiceAttachment) -> ListKind {
    let accept = attachment.consumer_accept_lists.iter().map(|entry| &entry.consumer);
    match accept.chain(&attachment.consumer_reject_lists).next() {
        Some(Consumer::NetworkUrl(_)) => ListKind::Networks,
        Some(Consumer::EndpointUrl(_)) => ListKind::Endpoints,
        Some(Consumer::ProjectIdOrNum(_)) | None => ListKind::Projects,
    }
}

pub(crate) struct Lists<'a> {
    attachment: &'a ServiceAttachment,
    accept: HashMap<Key<'a>, Vec<usize>>,
    reject: HashMap<Key<'a>, usize>,
}

impl<'a> Lists<'a> {
    pub(crate) fn new(attachment: &'a ServiceAttachment) -> Self {
        let mut accept: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, entry) in attachment.consumer_accept_lists.iter().enumerate() {
            accept.entry(key(&entry.consumer)).or_default().push(index);
        }
        let mut reject = HashMap::new();
        for (index, consumer) in attachment.consumer_reject_lists.iter().enumerate() {
            reject.entry(key(consumer)).or_insert(index);
        }
        Lists { attachment, accept, reject }
    }

    /// The accept list's entries that name this endpoint, in the order of the list.
    pub(crate) fn accepting(&self, endpoint: &Endpoint) -> Vec<usize> {
        let mut entries: Vec<usize> =
            keys(endpoint).filter_map(|key| self.accept.get(&key)).flatten().copied().collect();
        entries.sort_unstable();
        entries
    }

    /// private-connectivity 1.2 without the limit. An organization policy wins over everything, the
    /// reject list over the accept list. That the reject list is honoured under `ACCEPT_AUTOMATIC`
    /// too is (unconfirmed).
    pub(crate) fn standing(&self, endpoint: &Endpoint) -> Standing {
        let policy = self.attachment.consumer_policy.as_ref();
        if let Some(blocked) = policy.and_then(|policy| blocks(policy, &endpoint.ancestry)) {
            return Standing::Blocked(blocked);
        }
        let rejecting = keys(endpoint).filter_map(|key| self.reject.get(&key)).min().copied();
        if let Some(index) = rejecting {
            return Standing::Rejected(index);
        }
        if self.attachment.connection_preference == ConnectionPreference::AcceptAutomatic {
            return Standing::Automatic;
        }
        match self.accepting(endpoint) {
            entries if entries.is_empty() => Standing::Unlisted,
            entries => Standing::Listed(entries),
        }
    }

    /// How many accepted connections this entry allows. An entry for a single endpoint has no limit
    /// to speak of: `connectionLimit` has no effect there (private-connectivity 1.1).
    pub(crate) fn limit(&self, entry: usize) -> u32 {
        let accept = &self.attachment.consumer_accept_lists[entry];
        match accept.consumer {
            Consumer::EndpointUrl(_) => u32::MAX,
            Consumer::ProjectIdOrNum(_) | Consumer::NetworkUrl(_) => accept.connection_limit,
        }
    }
}
