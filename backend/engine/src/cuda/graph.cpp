// CUDA graphs, which the Rust bindings of libtorch do not have: capture on a stream of its own,
// replay, free.
//
// The caller captures on one thread at a time, and runs the graphs of one pool one after the other.

#include "guarded.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

/// Memory that some graphs share, since they never run at the same time. It lives as long as one of
/// them.
struct Pool {
    const c10::DeviceIndex device;
    const at::cuda::MempoolId_t id = at::cuda::graph_pool_handle();

    // Counted as a user of itself: libtorch forgets a pool without users, and refuses its name from
    // then on.
    explicit Pool(c10::DeviceIndex device) : device(device)
    {
        allocator::createOrIncrefPool(device, id);
    }
    ~Pool()
    {
        guarded([&] { allocator::releasePool(device, id); });
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;
};

/// The stream on which captures happen; one a device, since cuBLAS keeps a workspace for every
/// stream it has seen.
c10::cuda::CUDAStream side_stream(c10::DeviceIndex device)
{
    static std::mutex mutex;
    static std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
    std::lock_guard<std::mutex> lock(mutex);
    auto found = streams.find(device);
    if (found == streams.end()) {
        found = streams.emplace(device, c10::cuda::getStreamFromPool(false, device)).first;
    }
    return found->second;
}

struct Graph : at::cuda::CUDAGraph {
    explicit Graph(std::shared_ptr<Pool> pool) : pool(std::move(pool)) {}

    const std::shared_ptr<Pool> pool;
    /// Makes the side stream the current one while it lives.
    std::optional<c10::cuda::CUDAStreamGuard> aside;

    /// Undoes a capture that did not come to its end, which libtorch leaves to its callers: as long
    /// as it believes that one is under way, tensors may come from the pool, and random numbers are
    /// refused.
    void abandon() noexcept
    {
        guarded([&] {
            if (aside) {
                cudaGraph_t unfinished = nullptr;
                cudaStreamEndCapture(aside->current_stream().stream(), &unfinished);
                if (unfinished != nullptr) {
                    cudaGraphDestroy(unfinished);
                }
            }
        });
        cudaGetLastError(); // Not to be taken for the failure of what comes next.
        for (auto &[state, increment] : captured_generator_states_) {
            state->capturing_ = false;
        }
        // The pool counts the captures that began and were not released; this refuses unless one
        // began.
        guarded([&] {
            allocator::endAllocateToPool(capture_dev_, mempool_id_);
            allocator::releasePool(capture_dev_, mempool_id_);
        });
        guarded([&] {
            at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(mempool_id_);
            at::getHostAllocator(at::kCUDA)->release_pool(mempool_id_);
        });
        aside.reset();
    }
};

/// Hands a graph out if there is no reason against it; else undoes its capture.
const char *settled(const char *reason, std::unique_ptr<Graph> graph, void **out) noexcept
{
    if (reason == nullptr) {
        *out = graph.release();
        return nullptr;
    }
    // Undoing has failures of its own, whose text would take the place of this one.
    thread_local std::string first;
    try {
        first = reason;
        reason = first.c_str();
    } catch (...) {
        reason = "no memory";
    }
    if (graph) {
        graph->abandon();
    }
    return reason;
}

} // namespace

extern "C" {

/// A pool for graphs on a device.
const char *var_dd_pool_new(int device, void **pool)
{
    return guarded([&] {
        *pool = new std::shared_ptr<Pool>(
            std::make_shared<Pool>(static_cast<c10::DeviceIndex>(device)));
    });
}

void var_dd_pool_free(void *pool) { delete static_cast<std::shared_ptr<Pool> *>(pool); }

/// From here to the end, or until it is abandoned, what this thread does on the device is captured
/// and not done.
const char *var_dd_graph_begin(void *pool, void **graph)
{
    const auto &shared = *static_cast<std::shared_ptr<Pool> *>(pool);
    std::unique_ptr<Graph> made;
    const char *reason = guarded([&] {
        made = std::make_unique<Graph>(shared);
        made->aside.emplace(side_stream(shared->device));
        // Memory cached for other uses can be given back now, and not during the capture.
        c10::cuda::device_synchronize();
        allocator::emptyCache();
        // Other threads may do as they like.
        made->capture_begin(shared->id, cudaStreamCaptureModeThreadLocal);
    });
    return settled(reason, std::move(made), graph);
}

/// Ends the capture. A graph that failed is gone.
const char *var_dd_graph_end(void *graph)
{
    std::unique_ptr<Graph> captured(static_cast<Graph *>(graph));
    const char *reason = guarded([&] {
        captured->capture_end();
        captured->aside.reset();
    });
    return settled(reason, std::move(captured), &graph);
}

/// Gives a capture up, and frees the graph.
void var_dd_graph_abandon(void *graph)
{
    std::unique_ptr<Graph> captured(static_cast<Graph *>(graph));
    captured->abandon();
}

/// Runs the captured work on the current stream.
const char *var_dd_graph_replay(void *graph)
{
    return guarded([&] { static_cast<Graph *>(graph)->replay(); });
}

void var_dd_graph_free(void *graph)
{
    guarded([&] { delete static_cast<Graph *>(graph); });
}

} // extern "C"
