//! Memory that the allocator keeps for the next request.
//!
//! What is freed is given back to the system a second later, by whoever frees something then. After
//! a load nobody does, and what its last second had freed stays resident: tails that were sealed,
//! buffers of connections. So a core that has come to rest asks for it.

use mimalloc as _;

/// Of a thousandths of its time: a core that works less rests.
const REST_PERMILLE: u32 = 50;
/// Ticks of rest after which memory is given back, of 20 ms each: twice as long as the allocator
/// waits.
const REST_TICKS: u32 = 100;

/// How long a core has rested.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    ticks: u32,
}

impl Rest {
    /// A tick has passed, of which so many thousandths were work; gives memory back once in each
    /// rest.
    pub(crate) fn tick(&mut self, permille: u32) {
        self.ticks = if permille < REST_PERMILLE { self.ticks.saturating_add(1) } else { 0 };
        if self.ticks == REST_TICKS {
            give_back();
        }
    }
}

#[expect(unsafe_code, reason = "the allocator has no other face; a rest after a load frees 20 MiB")]
fn give_back() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: mimalloc's documented function, of this signature. It may be called by any thread at
    // any time, whether or not mimalloc is what allocates, and no memory in use is touched.
    unsafe { mi_collect(false) };
}
