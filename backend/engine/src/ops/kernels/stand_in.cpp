// A driver of a GPU that is not there, for tests: the few functions of `libcuda.so.1` that the
// program calls to launch the engine's kernels, which are compiled here as C++ and run on the CPU.
//
// Threads of a block are fibres: each runs until it waits for the others. The module's image is
// "forward" or "backward", the order in which they take turns: where threads race, the two give
// different numbers. Shared memory begins as no numbers at all, and a launch fails where what lies
// behind it was written to, or where some threads end while others wait.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <ucontext.h>
#include <utility>
#include <vector>

using std::min;
using std::size_t;

struct uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct float2 {
    float x, y;
};
struct uint3 {
    unsigned x, y, z;
};
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static float2 make_float2(float x, float y) { return {x, y}; }

template <class To, class From> static To same_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
static float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
static unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
static float half_to_float(unsigned short bits) { return float(same_bits<_Float16>(bits)); }
static unsigned short float_to_half(float value)
{
    return same_bits<unsigned short>(_Float16(value));
}
static float exponential(float value) { return std::exp(value); }
static float quotient(float a, float b) { return a / b; }

static uint3 threadIdx, blockIdx, blockDim, gridDim;
static void __syncthreads();

/// As lanes exchange their sums: each adds that of the one half the lanes apart, then a quarter,
/// and so on.
static float sum_over(float value, int lanes)
{
    static float values[1024];
    values[threadIdx.x] = value;
    __syncthreads();
    float mine[32];
    for (int lane = 0; lane < lanes; lane++)
        mine[lane] = values[threadIdx.x / lanes * lanes + lane];
    for (int left = lanes / 2; left > 0; left /= 2) {
        for (int lane = 0; lane < left; lane++) mine[lane] += mine[lane + left];
    }
    __syncthreads();
    return mine[0];
}

#define __device__
#define __global__
#define __shared__
#define __launch_bounds__(threads)

#include "numbers.cuh"

#include "../attention/attention.cu"
#include "../conv/maps.cu"
#include "../group_norm/group_norm.cu"
#include "../residual/residual.cu"

enum Outcome {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719
};

constexpr size_t SHARED_FLOATS = 48 * 1024 / sizeof(float);
constexpr size_t STACK_BYTES = 32 * 1024;
float shared_memory[SHARED_FLOATS];

/// Calls a kernel with the arguments that a launch points to.
struct Kernel {
    const char *name;
    unsigned most_threads;
    void (*call)(void **arguments);
};

template <auto kernel> struct Caller;
template <class... A, void (*kernel)(A...)> struct Caller<kernel> {
    template <size_t... i> static void at(void **arguments, std::index_sequence<i...>)
    {
        kernel(*static_cast<A *>(arguments[i])...);
    }
    static void call(void **arguments) { at(arguments, std::index_sequence_for<A...>()); }
};

#define KERNEL(name, threads) {#name, threads, Caller<name>::call}
static const Kernel KERNELS_KNOWN[] = {
    KERNEL(partial_f32, THREADS),           KERNEL(apply_f32, THREADS),
    KERNEL(partial_f16, THREADS),           KERNEL(apply_f16, THREADS),
    KERNEL(partial_bf16, THREADS),          KERNEL(apply_bf16, THREADS),
    KERNEL(unite_chunks, UNITE_THREADS),    KERNEL(add_f32, MAP_THREADS),
    KERNEL(add_f16, MAP_THREADS),           KERNEL(add_bf16, MAP_THREADS),
    KERNEL(interleave_f32, MAP_THREADS),    KERNEL(interleave_f16, MAP_THREADS),
    KERNEL(interleave_bf16, MAP_THREADS),   KERNEL(residual_norm_f32, ROW_THREADS),
    KERNEL(residual_norm_f16, ROW_THREADS), KERNEL(residual_norm_bf16, ROW_THREADS),
    KERNEL(unit_heads_f32, HEAD_THREADS),   KERNEL(unit_heads_f16, HEAD_THREADS),
    KERNEL(unit_heads_bf16, HEAD_THREADS),
};

struct Module {
    bool backward;
};
struct Function {
    const Module *module;
    const Kernel *kernel;
};

struct Fibre {
    ucontext_t context;
    bool ended;
};
static ucontext_t scheduler;
static std::vector<Fibre> fibres;
static std::vector<char> stacks;
static const Kernel *running;
static void **running_arguments;

static void __syncthreads() { swapcontext(&fibres[threadIdx.x].context, &scheduler); }

static void run_fibre()
{
    running->call(running_arguments);
    fibres[threadIdx.x].ended = true;
}

/// Runs a block to its end.
static Outcome run_block(unsigned threads, size_t shared_floats, bool backward)
{
    for (float &value : shared_memory) value = std::numeric_limits<float>::quiet_NaN();
    fibres.resize(threads);
    stacks.resize(threads * STACK_BYTES);
    for (unsigned i = 0; i < threads; i++) {
        getcontext(&fibres[i].context);
        fibres[i].context.uc_stack.ss_sp = stacks.data() + i * STACK_BYTES;
        fibres[i].context.uc_stack.ss_size = STACK_BYTES;
        fibres[i].context.uc_link = &scheduler;
        fibres[i].ended = false;
        makecontext(&fibres[i].context, run_fibre, 0);
    }
    for (unsigned ended = 0; ended == 0;) {
        for (unsigned i = 0; i < threads; i++) {
            threadIdx.x = backward ? threads - 1 - i : i;
            swapcontext(&scheduler, &fibres[threadIdx.x].context);
            ended += fibres[threadIdx.x].ended;
        }
        if (ended != 0 && ended != threads) return LAUNCH_FAILED;
    }
    for (size_t i = shared_floats; i < SHARED_FLOATS; i++) {
        if (shared_memory[i] == shared_memory[i]) return ILLEGAL_ADDRESS;
    }
    return SUCCESS;
}

extern "C" {

int cuInit(unsigned) { return SUCCESS; }

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}

/// 75 is the major part of the compute capability, 76 the minor one.
int cuDeviceGetAttribute(int *value, int attribute, int)
{
    *value = attribute == 75 ? 9 : 0;
    return attribute == 75 || attribute == 76 ? SUCCESS : INVALID_VALUE;
}

int cuDevicePrimaryCtxRetain(void **context, int)
{
    static int only;
    *context = &only;
    return SUCCESS;
}

static int contexts;
int cuCtxPushCurrent_v2(void *) { return contexts++, SUCCESS; }
int cuCtxPopCurrent_v2(void **) { return contexts-- > 0 ? SUCCESS : INVALID_VALUE; }

int cuModuleLoadData(void **module, const void *image)
{
    bool backward = std::strcmp(static_cast<const char *>(image), "backward") == 0;
    if (contexts == 0 ||
        (!backward && std::strcmp(static_cast<const char *>(image), "forward") != 0)) {
        return INVALID_VALUE;
    }
    *module = new Module{backward};
    return SUCCESS;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    for (const Kernel &kernel : KERNELS_KNOWN) {
        if (std::strcmp(kernel.name, name) == 0) {
            *function = new Function{static_cast<Module *>(module), &kernel};
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void *, void **arguments, void **)
{
    const Function &launched = *static_cast<Function *>(function);
    if (contexts == 0 || grid_x == 0 || grid_y == 0 || grid_y > 65535 || grid_z != 1 ||
        block_x == 0 || block_x > launched.kernel->most_threads || block_y != 1 || block_z != 1 ||
        shared_bytes > sizeof shared_memory) {
        return INVALID_VALUE;
    }
    running = launched.kernel, running_arguments = arguments;
    gridDim = {grid_x, grid_y, 1}, blockDim = {block_x, 1, 1};
    for (blockIdx.y = 0; blockIdx.y < grid_y; blockIdx.y++) {
        for (blockIdx.x = 0; blockIdx.x < grid_x; blockIdx.x++) {
            Outcome outcome =
                run_block(block_x, shared_bytes / sizeof(float), launched.module->backward);
            if (outcome != SUCCESS) return outcome;
        }
    }
    return SUCCESS;
}

} // extern "C"
