//! How much of the processor a thread gets beside others.

use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// On a scale from 0 to 99 on which ordinary threads have about 50: a tenth of an ordinary thread's share of a busy processor. What
/// has such a priority goes on under full load, and does not stand between a question and its answer.
pub const BEHIND: u8 = 24;

/// Sets the priority of the calling thread, on a scale from 0 to 99. Threads that it starts from then on have the same on Linux.
pub fn give_way(priority: u8) {
    let wanted = ThreadPriorityValue::try_from(priority).map(ThreadPriority::Crossplatform);
    let set = wanted.map(thread_priority::set_current_thread_priority);
    if !matches!(set, Ok(Ok(()))) {
        tracing::warn!(priority, "a background thread keeps its normal priority");
    }
}

/// Leaves the calling thread, and those that it starts, what nobody else wants. On Linux that is a policy of its own: whoever answers takes the
/// processor from it at once, where a low priority would first let it finish its slice.
pub fn take_what_is_left() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_ok() {
            return;
        }
    }
    give_way(0);
}
