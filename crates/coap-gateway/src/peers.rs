//! The last messages of every peer, to tell a retransmission from a new uplink.
//!
//! In: who sent which datagram, when. Out: whether it was seen before.
//! Never here: the answers (a kept uplink's answer follows from the request alone), disk.
//!
//! RFC 7252 §4.5 tells duplicates by endpoint and message id. That alone would lose uplinks: a
//! meter that restarts, or another one that gets the same address behind the carrier's NAT,
//! may use an id again within its lifetime. A retransmission is the *same bytes* (§4.2), so a
//! message is a duplicate only when all of it is; one taken for new at worst is stored twice,
//! which the store sees. Memory is bounded: eight messages per peer, peers forgotten oldest first.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem,
    net::SocketAddr,
};

/// Messages remembered per peer. A meter has one exchange open at a time (NSTART = 1).
const MESSAGES: usize = 8;

/// `EXCHANGE_LIFETIME` of RFC 7252 §4.8.2: afterwards the same bytes are a new message.
const LIFETIME_S: i64 = 247;

/// A datagram, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

#[derive(Debug, Clone, Copy)]
struct Seen {
    fingerprint: Fingerprint,
    at_s: i64,
}

/// The peers heard last. Two halves: when the younger is full, the older is dropped.
pub(crate) struct Peers {
    recent: HashMap<SocketAddr, Ring>,
    older: HashMap<SocketAddr, Ring>,
    half: usize,
    hasher: RandomState,
}

#[derive(Debug, Clone, Default)]
struct Ring {
    seen: [Option<Seen>; MESSAGES],
    next: usize,
}

impl Peers {
    /// Remembers at most `peers_max` peers.
    pub(crate) fn new(peers_max: usize) -> Self {
        Self {
            recent: HashMap::new(),
            older: HashMap::new(),
            half: (peers_max / 2).max(1),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn fingerprint(&self, datagram: &[u8]) -> Fingerprint {
        Fingerprint(self.hasher.hash_one(datagram))
    }

    /// Whether `peer` sent this within the lifetime; if not, remembers it.
    pub(crate) fn is_duplicate(
        &mut self,
        peer: SocketAddr,
        fingerprint: Fingerprint,
        now_s: i64,
    ) -> bool {
        let ring = self.ring(peer);
        let duplicate = ring.seen.iter().flatten().any(|seen| {
            seen.fingerprint == fingerprint && now_s.saturating_sub(seen.at_s) < LIFETIME_S
        });
        if !duplicate {
            if let Some(slot) = ring.seen.get_mut(ring.next) {
                *slot = Some(Seen { fingerprint, at_s: now_s });
            }
            ring.next = (ring.next + 1) % MESSAGES;
        }
        duplicate
    }

    /// Forgets a message that could not be kept, so that its retransmission is tried again.
    pub(crate) fn forget(&mut self, peer: SocketAddr, fingerprint: Fingerprint) {
        for slot in &mut self.ring(peer).seen {
            if slot.is_some_and(|seen| seen.fingerprint == fingerprint) {
                *slot = None;
            }
        }
    }

    fn ring(&mut self, peer: SocketAddr) -> &mut Ring {
        if !self.recent.contains_key(&peer) {
            if self.recent.len() >= self.half {
                self.older = mem::take(&mut self.recent);
            }
            let ring = self.older.remove(&peer).unwrap_or_default();
            self.recent.insert(peer, ring);
        }
        self.recent.entry(peer).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn only_the_same_bytes_from_the_same_peer_within_the_lifetime_are_a_duplicate() {
        let mut peers = Peers::new(100);
        let (one, two) = (peers.fingerprint(b"id 1, one"), peers.fingerprint(b"id 1, two"));
        assert!(!peers.is_duplicate(peer(1), one, 0));
        assert!(!peers.is_duplicate(peer(1), two, 0), "the same id with another content is new");
        assert!(!peers.is_duplicate(peer(2), one, 0));
        assert!(peers.is_duplicate(peer(1), one, 246));
        assert!(!peers.is_duplicate(peer(1), one, 247), "a duplicate does not renew the lifetime");
        peers.forget(peer(1), one);
        assert!(!peers.is_duplicate(peer(1), one, 247), "what was not kept is tried again");
    }

    #[test]
    fn memory_is_bounded_and_the_peers_heard_last_stay() {
        let mut peers = Peers::new(10);
        let same = peers.fingerprint(b"same");
        for port in 1..1000 {
            assert!(!peers.is_duplicate(peer(port), same, 0));
            assert!(peers.recent.len() + peers.older.len() <= 10);
        }
        for port in 995..1000 {
            assert!(peers.is_duplicate(peer(port), same, 0));
        }
        assert!(!peers.is_duplicate(peer(1), same, 0));
        for n in 0..MESSAGES {
            let other = peers.fingerprint(&[u8::try_from(n).unwrap()]);
            peers.is_duplicate(peer(999), other, 0);
        }
        assert!(!peers.is_duplicate(peer(999), same, 0), "eight later messages push one out");
    }
}
