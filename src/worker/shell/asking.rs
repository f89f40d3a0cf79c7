//! When a worker asks for more leases, and for how many.
//!
//! One call at a time, under way for as long as it waits at the coordinator. Free slots ask at once; the queue behind
//! them asks when it is half empty, so that short tasks come in bundles and not one by one.

use super::link::LinkError;
use epsweep::coordinator::prefetch;
use epsweep::proto::AcquireResponse;
use std::future::Future;
use std::pin::Pin;

type Call = Pin<Box<dyn Future<Output = Result<AcquireResponse, LinkError>> + Send>>;

/// What an Acquire asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The number of the request.
    pub request: u64,
    pub free_slots: u32,
    pub prefetch: u32,
}

pub struct Asking {
    slots: u32,
    request: u64,
    /// The queue is filled up when no more leases than this are held.
    refill: u32,
    call: Option<(Want, Call)>,
}

impl Asking {
    pub fn new(slots: u32, first_request: u64) -> Asking {
        Asking { slots, request: first_request, refill: slots, call: None }
    }

    /// Begins a call where one is needed for a worker that holds so many leases. A call that was begun before a slot
    /// became free is dropped: it may have been answered already, but its number is used again, so nothing is lost.
    pub fn update(&mut self, held: u32, begin: impl FnOnce(Want) -> Call) {
        if let Some(want) = self.want(held)
            && self.call.as_ref().is_none_or(|(under_way, _)| under_way.free_slots < want.free_slots)
        {
            self.call = Some((want, begin(want)));
        }
    }

    fn want(&self, held: u32) -> Option<Want> {
        let free_slots = self.slots.saturating_sub(held);
        let most = self.slots + prefetch(self.slots);
        let prefetch = if held <= self.refill { most.saturating_sub(held + free_slots) } else { 0 };
        (free_slots + prefetch > 0).then_some(Want { request: self.request, free_slots, prefetch })
    }

    /// The answer to the call that is under way; without one, this waits for ever.
    pub async fn answered(&mut self) -> Result<AcquireResponse, LinkError> {
        let Some((_, call)) = &mut self.call else { return std::future::pending().await };
        let answer = call.await;
        self.call = None;
        answer
    }

    /// So many leases came with the last answer, and so many are held now.
    pub fn granted(&mut self, leases: usize, held: u32) {
        if leases > 0 {
            self.request += 1;
            self.refill = self.slots + held.saturating_sub(self.slots) / 2;
        }
    }

    pub fn stop(&mut self) {
        self.call = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn free_slots_ask_at_once_and_a_queue_when_it_is_half_empty() {
        let mut asking = Asking::new(2, 7);
        let begun = std::cell::Cell::new(0);
        let begin = |_| -> Call {
            begun.set(begun.get() + 1);
            Box::pin(async { Ok(AcquireResponse::default()) })
        };
        let first = asking.want(0).unwrap();
        assert_eq!((first.free_slots, first.prefetch), (2, 2048));
        asking.update(0, begin);
        asking.update(0, begin);
        assert_eq!(begun.get(), 1, "one call at a time");
        asking.answered().await.unwrap();
        // A hundred wait behind two that run.
        asking.granted(102, 102);
        assert!((53..=102).all(|held| asking.want(held).is_none()));
        let half = asking.want(52).unwrap();
        assert_eq!((half.free_slots, half.prefetch, half.request), (0, 2048 - 50, first.request + 1));
        asking.update(52, begin);
        asking.update(2, begin);
        assert_eq!(begun.get(), 2, "a queue that shrinks does not interrupt the call");
        asking.update(1, begin);
        assert_eq!(begun.get(), 3, "a free slot does: the call may be waiting for short tasks");
        assert_eq!(asking.want(1).unwrap().request, half.request);
        asking.answered().await.unwrap();
        // Long tasks: nothing waits, and what may come is asked for all the time.
        asking.granted(1, 2);
        assert_eq!(asking.want(2).unwrap().free_slots, 0);
    }
}
