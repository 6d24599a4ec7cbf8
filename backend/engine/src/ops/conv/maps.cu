// What follows a convolution, over maps with channels last, [B, places, C]. cuDNN's convolutions
// have no bias: libtorch adds it in a pass over memory of its own.

// `cuda.rs` has it too.
constexpr int MAP_THREADS = 256;

/// Adds `plus`, a map of the same size if there is one, and the bias of each channel to `x` in
/// place. A thread has one of so many `vectors` in all.
template <class T>
__device__ void add(T *x, const T *plus, const float *bias, int channels, size_t vectors)
{
    constexpr int SIZE = Vector<T>::SIZE;
    size_t vector = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (vector >= vectors) return;
    int channel = int(vector % (channels / SIZE)) * SIZE;
    float value[SIZE], other[SIZE] = {};
    Vector<T>::load(x + vector * SIZE, value);
    if (plus) Vector<T>::load(plus + vector * SIZE, other);
#pragma unroll
    for (int k = 0; k < SIZE; k++) value[k] += other[k] + bias[channel + k];
    Vector<T>::store(value, x + vector * SIZE);
}

#define ADD_KERNEL(name, T)                                                                        \
    extern "C" __global__ void __launch_bounds__(MAP_THREADS) add_##name(                          \
        T *x, const T *plus, const float *bias, int channels, unsigned long long vectors)          \
    {                                                                                              \
        add<T>(x, plus, bias, channels, vectors);                                                  \
    }

ADD_KERNEL(f32, float)
ADD_KERNEL(f16, F16)
ADD_KERNEL(bf16, Bf16)

/// The map that a convolution with the four phases of a doubling gave, [B, height + 1, width + 1,
/// 4, C], put together: `y`, [B, 2 · height, 2 · width, C], where the place (2i + r, 2j + s) is
/// phase 2r + s at (i + r, j + s); and the bias.
///
/// The grid is parts of a row × rows of all pictures; a thread has a vector of channels at one
/// place.
template <class T>
__device__ void interleave(const T *x, const float *bias, T *y, int height, int width, int channels)
{
    constexpr int SIZE = Vector<T>::SIZE;
    int vectors = channels / SIZE, within = blockIdx.x * blockDim.x + threadIdx.x;
    if (within >= 2 * width * vectors) return;
    int channel = within % vectors * SIZE, column = within / vectors;
    int picture = blockIdx.y / (2 * height), row = blockIdx.y % (2 * height);
    int r = row % 2, s = column % 2;
    size_t from = (size_t(picture) * (height + 1) + row / 2 + r) * (width + 1) + column / 2 + s;
    float value[SIZE];
    Vector<T>::load(x + (from * 4 + 2 * r + s) * channels + channel, value);
#pragma unroll
    for (int k = 0; k < SIZE; k++) value[k] += bias[channel + k];
    Vector<T>::store(value, y + (size_t(blockIdx.y) * 2 * width + column) * channels + channel);
}

#define INTERLEAVE_KERNEL(name, T)                                                                 \
    extern "C" __global__ void __launch_bounds__(MAP_THREADS) interleave_##name(                   \
        const T *x, const float *bias, T *y, int height, int width, int channels)                  \
    {                                                                                              \
        interleave<T>(x, bias, y, height, width, channels);                                        \
    }

INTERLEAVE_KERNEL(f32, float)
INTERLEAVE_KERNEL(f16, F16)
INTERLEAVE_KERNEL(bf16, Bf16)
