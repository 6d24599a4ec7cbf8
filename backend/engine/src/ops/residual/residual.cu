// The residual stream of a transformer and the layer norms between its layers, in one pass over
// memory: libtorch takes a pass for every sum and product, and on a GPU those take longer than the
// products of matrices.

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
__device__ void residual_norm(const float *x, Rows x_rows, const T *branch, const float *gamma,
                              Rows gamma_rows, const float *between, Rows between_rows, float *y,
                              T *normed, const float *scale, const float *shift, Rows norm_rows,
                              int channels, float epsilon, float *shared)
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
        for (int k = 0; k < 8; k++)
            value[k] = (value[k] - mean) * reciprocal * (1.0f + factor[k]) + more[k];
        store_eight(value, normed + out);
    }
}

// Most threads of a block; `cuda.rs` has it too.
constexpr int ROW_THREADS = 512;

#define RESIDUAL_KERNELS(name, T)                                                                  \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS) residual_norm_##name(                \
        const float *x, Rows x_rows, const T *branch, const float *gamma, Rows gamma_rows,         \
        const float *between, Rows between_rows, float *y, T *normed, const float *scale,          \
        const float *shift, Rows norm_rows, int channels, float epsilon)                           \
    {                                                                                              \
        residual_norm<T>(x, x_rows, branch, gamma, gamma_rows, between, between_rows, y, normed,   \
                         scale, shift, norm_rows, channels, epsilon, shared_memory);               \
    }

RESIDUAL_KERNELS(f32, float)
RESIDUAL_KERNELS(f16, F16)
RESIDUAL_KERNELS(bf16, Bf16)
