//! How libtorch and CUDA say that they failed.

use std::any::Any;

/// What a panic says; the tensor library reports by one what a device refuses.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
