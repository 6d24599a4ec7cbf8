// What attention does with queries and keys before their product, in one pass over memory.

/// Queries and keys get length 1, then each head's queries its sharpness
/// `exp(min(log_sharpness, most))`: in place in [rows, 3, heads, width], where values come third
/// and stay. Eight-number parts of a head's width, a power of two up to 32, lie side by side; a
/// thread has one of so many parts of queries and keys in all.
template <class T>
__device__ void unit_heads(T *qkv, const float *log_sharpness, int heads, int parts,
                           size_t parts_in_all, float most)
{
    size_t part = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    int of_row = 2 * heads * parts;
    size_t row = part / of_row;
    int within = int(part % of_row), head = within / parts;
    T *at = qkv + row * (3 * size_t(heads) * parts * 8) + size_t(within) * 8;
    bool mine = part < parts_in_all;
    float value[8] = {}, squares = 0.0f;
    if (mine) load_eight(at, value);
#pragma unroll
    for (int k = 0; k < 8; k++) squares += value[k] * value[k];
    float length = sqrtf(sum_over(squares, parts));
    if (mine) {
        float factor = head < heads ? expf(fminf(log_sharpness[head], most)) : 1.0f;
        factor /= fmaxf(length, 1e-12f);
#pragma unroll
        for (int k = 0; k < 8; k++) value[k] *= factor;
        store_eight(value, at);
    }
}

// Threads of a block; `cuda.rs` has it too.
constexpr int HEAD_THREADS = 256;

#define ATTENTION_KERNELS(name, T)                                                                 \
    extern "C" __global__ void __launch_bounds__(HEAD_THREADS)                                     \
        unit_heads_##name(T *qkv, const float *log_sharpness, int heads, int parts,                \
                          unsigned long long parts_in_all, float most)                             \
    {                                                                                              \
        unit_heads<T>(qkv, log_sharpness, heads, parts, parts_in_all, most);                       \
    }

ATTENTION_KERNELS(f32, float)
ATTENTION_KERNELS(f16, F16)
ATTENTION_KERNELS(bf16, Bf16)
