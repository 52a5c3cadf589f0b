//! Memory that was needed for a moment only.

/// Gives the heap's free memory back to the system. Reading a large topology takes many times the
/// memory of what is kept, and glibc holds on to it; on other C libraries there is nothing to do.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number and touches free memory only, under the allocator's own locks.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
