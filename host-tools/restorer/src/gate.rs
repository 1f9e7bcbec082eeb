//! How many batches may be under way: whoever walks waits here, so that memory does not follow how far the walk is ahead.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Lets a limited number of passes out at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    free: Mutex<usize>,
    changed: Condvar,
}

/// The right to be under way; given back when it is dropped, also by a thread that panics.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    pub(crate) fn new(most: usize) -> Arc<Gate> {
        Arc::new(Gate { free: Mutex::new(most), changed: Condvar::new() })
    }

    /// Waits for a pass.
    pub(crate) fn enter(self: &Arc<Self>) -> Pass {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Pass(Arc::clone(self))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_too_many_waits_until_one_leaves() {
        let gate = Gate::new(2);
        let (one, two) = (gate.enter(), gate.enter());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| gate.enter());
            drop(one);
            drop(third.join().unwrap());
        });
        drop(two);
        assert_eq!(*gate.free.lock().unwrap(), 2);
    }
}
