//! Locks that a thread waits for asleep.
//!
//! Those of `parking_lot` give the processor away a few times before they sleep (`sched_yield`). Under Linux's fair scheduler that
//! gives up the whole of a thread's turn, so that a thread of training, which is only to take what is left, has the processor for
//! some milliseconds while an answer waits for a lock that has long been free. Those of the standard library do not. What a panic
//! left behind is used as it is, as there: whoever holds one of our locks leaves nothing half done that another could mistake.

use std::fmt;
use std::sync::{self, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// One at a time.
#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Around a value.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// The value, once nobody else has it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, where only the caller can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Many who read, or one who writes.
#[derive(Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Around a value.
    pub const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// The value to read, once nobody writes.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value to write, once nobody else has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_goes_on_after_a_panic() {
        let mutex = Mutex::new(1);
        let lock = RwLock::new(2);
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let (_one, _two) = (mutex.lock(), lock.write());
                panic!("while it holds both");
            });
            holder.join().is_err()
        });
        assert!(panicked);
        *mutex.lock() += 1;
        *lock.write() += 1;
        assert_eq!((mutex.into_inner(), *lock.read()), (2, 3));
    }
}
