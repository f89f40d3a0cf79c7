//! Answers on their way to the coordinator: one call at a time, with all that is finished when it leaves.
//!
//! The first answer goes at once. What is finished while its call is under way goes together with the next one: the
//! slower the coordinator's disk, the larger the bundles. Nothing waits for a timer.

use super::link::{Link, LinkError, bounded};
use super::run::CALL_TIMEOUT;
use epsweep::proto::{CommitRequest, CommitResponse, CommitsRequest};
use epsweep::transport::limits;
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// A bundle is closed when it has so many bytes; a single answer may have more.
const BUNDLE: usize = 4 << 20;

/// The way for answers. Closed when it is dropped.
#[derive(Debug)]
pub struct Post(UnboundedSender<Letter>);

#[derive(Debug)]
struct Letter {
    answer: CommitRequest,
    bytes: usize,
    reply: oneshot::Sender<Result<CommitResponse, LinkError>>,
}

impl Post {
    pub fn open(link: Link) -> Post {
        let (letters, waiting) = unbounded_channel();
        tokio::spawn(carry(link, waiting));
        Post(letters)
    }

    /// Hands an answer in, and returns what the coordinator says of it: durable, where it was accepted.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub async fn send(&self, answer: CommitRequest) -> Result<CommitResponse, LinkError> {
        let (reply, verdict) = oneshot::channel();
        let bytes = answer.encoded_len();
        self.0.send(Letter { answer, bytes, reply }).expect("answers are carried for as long as they can be sent");
        verdict.await.expect("every letter is answered")
    }
}

async fn carry(link: Link, mut waiting: UnboundedReceiver<Letter>) {
    let mut next = None;
    while let Some(first) = match next.take() {
        Some(letter) => Some(letter),
        None => waiting.recv().await,
    } {
        let (bundle, rest) = bundle(first, &mut waiting);
        next = rest;
        let (answers, replies): (Vec<_>, Vec<_>) =
            bundle.into_iter().map(|letter| (letter.answer, letter.reply)).unzip();
        let verdicts = deliver(&link, CommitsRequest { answers }).await;
        for (at, reply) in replies.into_iter().enumerate() {
            // Whoever sent it may have stopped waiting.
            let _ = reply.send(verdicts.as_ref().map(|verdicts| verdicts[at].clone()).map_err(Clone::clone));
        }
    }
}

/// What waits and fits into one call, and the letter that did not fit any more.
fn bundle(first: Letter, waiting: &mut UnboundedReceiver<Letter>) -> (Vec<Letter>, Option<Letter>) {
    let mut bytes = first.bytes;
    let mut bundle = vec![first];
    while bundle.len() < limits::ANSWERS
        && let Ok(letter) = waiting.try_recv()
    {
        bytes += letter.bytes;
        if bytes > BUNDLE {
            return (bundle, Some(letter));
        }
        bundle.push(letter);
    }
    (bundle, None)
}

async fn deliver(link: &Link, message: CommitsRequest) -> Result<Vec<CommitResponse>, LinkError> {
    let count = message.answers.len();
    let response = link
        .call(CALL_TIMEOUT, |mut client, timeout| {
            let message = message.clone();
            async move { client.commits(bounded(message, timeout)).await }
        })
        .await?;
    if response.verdicts.len() != count {
        return Err(link.refusal(format!("{} verdicts on {count} answers", response.verdicts.len())));
    }
    Ok(response.verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(attempt: u32, bytes: usize) -> Letter {
        let lease = Some(epsweep::proto::LeaseRef { attempt, ..Default::default() });
        Letter { answer: CommitRequest { lease, ..Default::default() }, bytes, reply: oneshot::channel().0 }
    }

    #[test]
    fn a_bundle_takes_what_waits_in_order_and_as_much_as_fits() {
        let (letters, mut waiting) = unbounded_channel();
        let attempts = |bundle: &[Letter]| -> Vec<u32> {
            bundle.iter().map(|letter| letter.answer.lease.as_ref().unwrap().attempt).collect()
        };
        (2..=4).for_each(|n| letters.send(letter(n, 10)).unwrap());
        letters.send(letter(5, BUNDLE)).unwrap();
        letters.send(letter(6, 10)).unwrap();
        let (first, rest) = bundle(letter(1, 10), &mut waiting);
        assert_eq!(attempts(&first), [1, 2, 3, 4]);
        let (second, rest) = bundle(rest.unwrap(), &mut waiting);
        assert_eq!((attempts(&second), rest.map(|letter| letter.bytes)), (vec![5], Some(10)));
        let (alone, rest) = bundle(letter(7, 2 * BUNDLE), &mut waiting);
        assert_eq!((attempts(&alone), rest.is_none()), (vec![7], true), "a large one goes by itself");
        (0..5000).for_each(|n| letters.send(letter(n, 1)).unwrap());
        let (many, rest) = bundle(letter(0, 1), &mut waiting);
        assert_eq!((many.len(), rest.is_none()), (limits::ANSWERS, true));
    }
}
