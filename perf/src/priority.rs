//! Who runs first.

/// Has this thread run before all that are not real-time, if the system allows it (as root, or with
/// `CAP_SYS_NICE`); whether it does. What the thread starts does not inherit it.
///
/// An open loop says how late answers are. On a small machine its thread shares the CPUs with the
/// server and with the system's own threads, and may wait for milliseconds until it can read what
/// has long come: that would be charged to the server.
#[expect(unsafe_code, reason = "no library in the tree has this call of the system's")]
pub(crate) fn raise() -> bool {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads `param`, which lives until it returns, and changes this thread only.
    let answer = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    answer == 0
}
