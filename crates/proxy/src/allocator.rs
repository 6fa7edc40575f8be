//! The allocator of the process: mimalloc, asked for aligned memory only where plain memory is not aligned enough.
//!
//! The only module with `unsafe`: an allocator is a contract that the compiler cannot check.

#![allow(unsafe_code, reason = "the contract of `GlobalAlloc` and C functions")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// mimalloc. Returns memory to the system sooner than the system's allocator, and is faster at small objects.
///
/// Its functions for aligned memory cost half as much again as the plain ones and round sizes up; the `mimalloc` crate
/// uses them for everything.
#[derive(Debug)]
pub struct Allocator;

/// The alignment of every block that is at least so large; smaller blocks are aligned to a word (mimalloc's
/// `MI_MAX_ALIGN_SIZE`).
const NATURAL: usize = 16;

const fn is_natural(size: usize, align: usize) -> bool {
    align <= size_of::<usize>() || (align <= NATURAL && size >= NATURAL)
}

// SAFETY: each block comes from mimalloc, which hands out disjoint blocks of at least the asked size, aligned as
// `is_natural` says or as asked for, and takes back any block of its own.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: both functions may be called with any size and any power of two.
        unsafe {
            if is_natural(size, align) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
        }
        .cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe {
            if is_natural(size, align) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
        }
        .cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives back a block of this allocator.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the block is one of this allocator; the new one is aligned as the old one was.
        unsafe {
            if is_natural(size, align) {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, align)
            }
        }
        .cast()
    }
}

/// Gives pages that the calling thread has emptied back to the system. Reading configuration takes ten times what the
/// result holds; without this the pages stay, since the thread that read has nothing to do afterwards. Takes up to a
/// few milliseconds: not for threads that serve.
pub fn give_back() {
    // SAFETY: may be called at any time, on any thread.
    unsafe { mi::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_survives_a_collection() {
        let kept: Vec<u64> = (0..100_000).collect();
        drop(vec![1_u8; 5_000_000]);
        give_back();
        assert!(kept.iter().copied().eq(0..100_000));
    }

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_their_bytes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in (1..200).chain([1000, 1024, 5000, 70_000, 3_000_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout has a size, each block is used within its bounds and freed once.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{size} bytes aligned to {align}");
                    block.write_bytes(7, size);
                    let grown = Allocator.realloc(block, layout, size + 13);
                    assert!(grown.addr().is_multiple_of(align), "{size} bytes aligned to {align}, grown");
                    assert!((0..size).all(|at| grown.add(at).read() == 7));
                    Allocator.dealloc(grown, Layout::from_size_align(size + 13, align).unwrap());
                    let zeros = Allocator.alloc_zeroed(layout);
                    assert!(zeros.addr().is_multiple_of(align));
                    assert!((0..size).all(|at| zeros.add(at).read() == 0));
                    Allocator.dealloc(zeros, layout);
                }
            }
        }
    }
}
