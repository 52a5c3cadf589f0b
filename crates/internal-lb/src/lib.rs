//! internal-lb
