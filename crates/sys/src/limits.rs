//! How many file descriptors this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Raises the limit as far as it may be raised without privilege: shells give 1,024, kept low for
/// programs that use `select(2)`.
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn raise_descriptors_max() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// How many there may be at once.
pub fn descriptors_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise_descriptors_max().expect("raised");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        assert_eq!(soft, hard);
        assert_eq!(descriptors_max() as u64, hard);
    }
}
