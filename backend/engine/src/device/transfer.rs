//! Numbers on their way from a GPU.

use std::sync::Once;

use tch::{Cuda, Device, Tensor};

/// A tensor's numbers in main memory; from a GPU by way of pinned memory, which it fills by itself
/// at the speed of the bus. Memory of the usual kind is filled piece by piece through a buffer of
/// the driver's.
pub fn download(tensor: &Tensor) -> Tensor {
    let Device::Cuda(index) = tensor.device() else { return tensor.to_device(Device::Cpu) };
    // Asked not to wait, libtorch takes pinned memory for the copy, and keeps it for the next one.
    match tensor.f_internal_to_copy((tensor.kind(), Device::Cpu), true) {
        Ok(copy) => {
            Cuda::synchronize(index as i64);
            copy
        }
        Err(error) => {
            // The system may allow no more memory that it must not move.
            static WARNED: Once = Once::new();
            WARNED.call_once(
                || tracing::warn!(%error, "no pinned memory; pictures leave the GPU more slowly"),
            );
            tensor.to_device(Device::Cpu)
        }
    }
}
