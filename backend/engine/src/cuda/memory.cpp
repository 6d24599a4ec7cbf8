// What libtorch counts of the memory that it takes on a GPU.

#include <cstdint>
#include <exception>

#include <c10/cuda/CUDACachingAllocator.h>

/// The most bytes that tensors had on a device since the last call, or since the start; 0 where
/// nobody knows.
extern "C" int64_t var_dd_peak_memory(int device)
{
    try {
        const auto index = static_cast<c10::DeviceIndex>(device);
        const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
        const int64_t peak =
            c10::cuda::CUDACachingAllocator::getDeviceStats(index).allocated_bytes[all].peak;
        c10::cuda::CUDACachingAllocator::resetPeakStats(index);
        return peak;
    } catch (const std::exception &) {
        return 0;
    }
}
