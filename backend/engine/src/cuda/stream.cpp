// The stream on which libtorch works, for kernels that are launched beside it.

#include "guarded.h"

#include <c10/cuda/CUDAStream.h>

/// The calling thread's current stream on a device, also while it is being captured.
extern "C" const char *var_dd_current_stream(int device, void **stream)
{
    return guarded([&] {
        *stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
    });
}
