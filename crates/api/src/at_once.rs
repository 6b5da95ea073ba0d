//! A task that is woken while it is polled goes on at once.
//!
//! hyper hands the body of a request to its handler through a channel inside one task, so that every request with a
//! body wakes the task that is just running. A runtime with many threads then queues the task behind all others and
//! wakes another thread to fetch it, which takes the processor from the one that answers: three changes of thread for
//! a request instead of one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// How often a task goes on at once before others have their turn.
const TURNS_MAX: u32 = 8;

const WAITING: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// A future that polls another one again, where that was woken meanwhile.
#[derive(Debug)]
pub(crate) struct AtOnce<F> {
    work: Pin<Box<F>>,
    wakes: Arc<Wakes>,
    /// Of `wakes`.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F: Future> AtOnce<F> {
    pub(crate) fn new(work: F) -> Self {
        let wakes = Arc::new(Wakes::default());
        Self {
            work: Box::pin(work),
            waker: Waker::from(wakes.clone()),
            wakes,
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state != WAITING).then_some(WOKEN)
            });
        if noted.is_err() {
            self.task.wake();
        }
    }
}

impl<F: Future> Future for AtOnce<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // before the state: who wakes from now on either is noted, or finds whom to wake
        this.wakes.task.register(context.waker());
        for _ in 0..TURNS_MAX {
            this.wakes.state.store(POLLED, Ordering::Release);
            let mut own = Context::from_waker(&this.waker);
            if let Poll::Ready(output) = this.work.as_mut().poll(&mut own) {
                return Poll::Ready(output);
            }
            let rests = this.wakes.state.compare_exchange(
                POLLED,
                WAITING,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        this.wakes.state.store(WAITING, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures::future::poll_fn;
    use futures::task::ArcWake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicU32);

    impl ArcWake for Counted {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counted {
        fn wakes(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// Wakes itself `times` times, then is ready.
    fn waking_itself(times: u32) -> impl Future<Output = u32> {
        let mut polls = 0;
        poll_fn(move |context| {
            polls += 1;
            if polls > times {
                return Poll::Ready(polls);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn poll<F: Future>(work: &mut AtOnce<F>, task: &Arc<Counted>) -> Poll<F::Output> {
        let waker = futures::task::waker(task.clone());
        Pin::new(work).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn what_wakes_itself_goes_on_without_the_runtime() {
        let task = Arc::new(Counted::default());
        let mut work = AtOnce::new(waking_itself(3));
        assert_eq!(poll(&mut work, &task), Poll::Ready(4));
        assert_eq!(task.wakes(), 0);
    }

    #[test]
    fn what_wakes_itself_without_end_lets_others_have_their_turn() {
        let task = Arc::new(Counted::default());
        let mut work = AtOnce::new(waking_itself(TURNS_MAX + 1));
        assert_eq!(poll(&mut work, &task), Poll::Pending);
        assert_eq!(task.wakes(), 1);
        assert_eq!(poll(&mut work, &task), Poll::Ready(TURNS_MAX + 2));
    }

    #[test]
    fn who_wakes_it_later_wakes_the_task() {
        let task = Arc::new(Counted::default());
        let (send, receive) = futures::channel::oneshot::channel();
        let mut work = AtOnce::new(receive);
        assert_eq!(poll(&mut work, &task), Poll::Pending);
        assert_eq!(task.wakes(), 0);
        send.send(7).unwrap();
        assert_eq!(task.wakes(), 1);
        assert_eq!(poll(&mut work, &task), Poll::Ready(Ok(7)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_that_other_threads_wake_is_lost() {
        let (there, mut here) = tokio::sync::mpsc::channel(1);
        let (back, mut again) = tokio::sync::mpsc::channel(1);
        let echo = tokio::spawn(AtOnce::new(async move {
            while let Some(number) = here.recv().await {
                back.send(number).await.unwrap();
            }
        }));
        for number in 0..10_000_u32 {
            there.send(number).await.unwrap();
            assert_eq!(again.recv().await, Some(number));
        }
        drop(there);
        echo.await.unwrap();
    }
}
