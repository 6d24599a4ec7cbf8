// The stream on which libtorch works, for kernels that are launched beside it.

#include <exception>

#include <c10/cuda/CUDAStream.h>

/// The calling thread's current stream on a device, also while it is being captured. Gives null, or why it failed.
extern "C" const char* var_dd_current_stream(int device, void** stream) {
  try {
    *stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
    return nullptr;
  } catch (const std::exception&) {
    return "libtorch has no stream on this device";
  }
}
