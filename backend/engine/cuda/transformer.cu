// What a transformer block does between its matrix products, each in one pass over memory: libtorch
// takes a pass for every sum and product, and on a GPU those take longer than the products of
// matrices.

/// Eight numbers of any type.
template <class T> __device__ inline void load_eight(const T *from, float (&to)[8])
{
    constexpr int SIZE = Vector<T>::SIZE;
#pragma unroll
    for (int part = 0; part < 8 / SIZE; part++) {
        float some[SIZE];
        Vector<T>::load(from + part * SIZE, some);
#pragma unroll
        for (int k = 0; k < SIZE; k++) to[part * SIZE + k] = some[k];
    }
}

template <class T> __device__ inline void store_eight(const float (&from)[8], T *to)
{
    constexpr int SIZE = Vector<T>::SIZE;
#pragma unroll
    for (int part = 0; part < 8 / SIZE; part++) {
        float some[SIZE];
#pragma unroll
        for (int k = 0; k < SIZE; k++) some[k] = from[part * SIZE + k];
        Vector<T>::store(some, to + part * SIZE);
    }
}

/// Where numbers of a position are: a step from one picture to the next, and one between positions,
/// 0 where they share.
struct Rows {
    long long picture, position;

    __device__ size_t at(int picture_index, int position_index) const
    {
        return size_t(picture) * picture_index + size_t(position) * position_index;
    }
};

/// The residual stream `x` of a transformer, f32, takes in what a branch gave:
/// `y = x + gamma · branch + between`, without `branch` just x. Then the layer norm of y, with its
/// own scale and shift: `normed = LN(y) · (1 + scale) + shift`.
///
/// `between`, `y` and `normed` may be null. The grid is positions × pictures, y and normed are [B,
/// L, C], and the threads of a block, a multiple of 32, have eight channels each.
template <class T>
__device__ void residual_norm(const float *x, Rows x_rows, const T *branch, const float *gamma, Rows gamma_rows,
                              const float *between, Rows between_rows, float *y, T *normed, const float *scale,
                              const float *shift, Rows norm_rows, int channels, float epsilon, float *shared)
{
    int position = blockIdx.x, picture = blockIdx.y, channel = threadIdx.x * 8;
    bool mine = channel < channels;
    size_t out = (size_t(picture) * gridDim.x + position) * channels + channel;
    float value[8] = {};
    if (mine) {
        load_eight(x + x_rows.at(picture, position) + channel, value);
        if (branch) {
            float more[8], factor[8];
            load_eight(branch + out, more);
            load_eight(gamma + gamma_rows.at(picture, position) + channel, factor);
#pragma unroll
            for (int k = 0; k < 8; k++) value[k] += factor[k] * more[k];
        }
        if (between) {
            float more[8];
            load_eight(between + between_rows.at(picture, position) + channel, more);
#pragma unroll
            for (int k = 0; k < 8; k++) value[k] += more[k];
        }
        if (y) store_eight(value, y + out);
    }
    if (!normed) return;

    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++) sum += value[k];
    float mean = sum_over_block(sum, shared) / channels;
    if (mine) {
#pragma unroll
        for (int k = 0; k < 8; k++) squares += (value[k] - mean) * (value[k] - mean);
    }
    float variance = sum_over_block(squares, shared + 32) / channels;
    float reciprocal = 1.0f / sqrtf(variance + epsilon);
    if (mine) {
        float factor[8], more[8];
        load_eight(scale + norm_rows.at(picture, position) + channel, factor);
        load_eight(shift + norm_rows.at(picture, position) + channel, more);
#pragma unroll
        for (int k = 0; k < 8; k++) value[k] = (value[k] - mean) * reciprocal * (1.0f + factor[k]) + more[k];
        store_eight(value, normed + out);
    }
}

/// Queries and keys get length 1, then each head's queries its sharpness
/// `exp(min(log_sharpness, most))`: in place in [rows, 3, heads, width], where values come third
/// and stay. Eight-number parts of a head's width, a power of two up to 32, lie side by side; a
/// thread has one of so many parts of queries and keys in all.
template <class T>
__device__ void unit_heads(T *qkv, const float *log_sharpness, int heads, int parts, size_t parts_in_all, float most)
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

// `native/transformer_kernels.rs` has them too.
constexpr int ROW_THREADS = 512;
constexpr int HEAD_THREADS = 256;

#define TRANSFORMER_KERNELS(name, T)                                                                                   \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS)                                                          \
        residual_norm_##name(const float *x, Rows x_rows, const T *branch, const float *gamma, Rows gamma_rows,        \
                             const float *between, Rows between_rows, float *y, T *normed, const float *scale,         \
                             const float *shift, Rows norm_rows, int channels, float epsilon)                          \
    {                                                                                                                  \
        residual_norm<T>(x, x_rows, branch, gamma, gamma_rows, between, between_rows, y, normed, scale, shift,         \
                         norm_rows, channels, epsilon, shared_memory);                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(HEAD_THREADS)                                                         \
        unit_heads_##name(T *qkv, const float *log_sharpness, int heads, int parts, unsigned long long parts_in_all,   \
                          float most)                                                                                  \
    {                                                                                                                  \
        unit_heads<T>(qkv, log_sharpness, heads, parts, parts_in_all, most);                                           \
    }

TRANSFORMER_KERNELS(f32, float)
TRANSFORMER_KERNELS(f16, F16)
TRANSFORMER_KERNELS(bf16, Bf16)
