// Group norm with or without SiLU over maps with channels last: x is [B, places, C], the statistics are f32.
//
// libtorch's own runs with channels first and would have every map turned round between two convolutions. Three
// launches: sums of pieces ("chunks") of each picture, their union, the norm itself. How places are cut depends on the
// size of one picture alone and sums are taken in a fixed order, so a picture is the same to the bit in any batch.
//
// NVRTC compiles this file at run time for the GPU at hand; `stand_in.cpp` compiles it as C++ for tests without a GPU.
// No header is needed: the few words that differ are here for the one and there for the other.

constexpr int GROUPS = 32;

#ifdef __CUDACC__
__device__ inline float half_to_float(unsigned short bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline unsigned short float_to_half(float value)
{
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ inline float exponential(float value) { return __expf(value); }
__device__ inline float quotient(float a, float b) { return __fdividef(a, b); }
#endif

/// A number of two bytes whose upper half of a float it is.
struct Bf16 {
    unsigned short bits;
};

/// A half-precision number.
struct F16 {
    unsigned short bits;
};

__device__ inline float widened(Bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ inline float widened(F16 x) { return half_to_float(x.bits); }

__device__ inline void narrow(float value, F16 &to) { to.bits = float_to_half(value); }

/// To the nearest, ties to even.
__device__ inline void narrow(float value, Bf16 &to)
{
    unsigned bits = __float_as_uint(value);
    // What is no number stays none: rounding could carry it to infinity.
    to.bits = value != value ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/// Sixteen bytes of numbers, read and written at once. Channels are a multiple of 32, so no vector is cut.
template <class T> struct Vector {
    static constexpr int SIZE = 8;

    static __device__ inline void load(const T *from, float (&to)[SIZE])
    {
        uint4 words = *reinterpret_cast<const uint4 *>(from);
        unsigned word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            to[2 * i] = widened(T{(unsigned short)(word[i] & 0xffff)});
            to[2 * i + 1] = widened(T{(unsigned short)(word[i] >> 16)});
        }
    }

    static __device__ inline void store(const float (&from)[SIZE], T *to)
    {
        unsigned word[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            T low, high;
            narrow(from[2 * i], low);
            narrow(from[2 * i + 1], high);
            word[i] = unsigned(low.bits) | unsigned(high.bits) << 16;
        }
        *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
    }
};

template <> struct Vector<float> {
    static constexpr int SIZE = 4;

    static __device__ inline void load(const float *from, float (&to)[SIZE])
    {
        float4 words = *reinterpret_cast<const float4 *>(from);
        to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    }

    static __device__ inline void store(const float (&from)[SIZE], float *to)
    {
        *reinterpret_cast<float4 *>(to) = make_float4(from[0], from[1], from[2], from[3]);
    }
};

/// What a thread of the first and the last launch works on: one vector of channels, at every so manieth place of a
/// chunk. The grid is chunks × pictures; a block's threads are vectors of a place × lanes.
template <class T> struct Share {
    int vector, lane, lanes, begin, end;
    /// Of this thread's channels at the picture's first place.
    size_t origin;

    __device__ Share(int places, int channels, int chunk_places)
    {
        int vectors = channels / Vector<T>::SIZE;
        vector = threadIdx.x % vectors, lane = threadIdx.x / vectors, lanes = blockDim.x / vectors;
        begin = blockIdx.x * chunk_places, end = min(begin + chunk_places, places);
        origin = size_t(blockIdx.y) * places * channels + vector * Vector<T>::SIZE;
    }
};

/// Mean and sum of squared deviations of each group in each chunk: `partials` is [B, chunks, GROUPS].
///
/// Sums are of differences from the chunk's first place, so that a mean far from zero costs no digits. One that lies
/// far off itself costs few: it is among the numbers, and the spread is as large as what is lost is small beside.
/// `shared` holds 2 · channels floats for every two lanes, and for one.
template <class T>
__device__ void partial(const T *x, float2 *partials, int places, int channels, int chunk_places, float *shared)
{
    constexpr int SIZE = Vector<T>::SIZE;
    Share<T> share(places, channels, chunk_places);
    float first[SIZE], sum[SIZE] = {}, square[SIZE] = {};
    Vector<T>::load(x + share.origin + size_t(share.begin) * channels, first);
#pragma unroll 4
    for (int place = share.begin + share.lane; place < share.end; place += share.lanes) {
        float value[SIZE];
        Vector<T>::load(x + share.origin + size_t(place) * channels, value);
#pragma unroll
        for (int k = 0; k < SIZE; k++) {
            float difference = value[k] - first[k];
            sum[k] += difference;
            square[k] += difference * difference;
        }
    }

    // Lanes together, the upper half onto the lower until one is left.
    for (int left = share.lanes; left > 1;) {
        int half = (left + 1) / 2;
        if (share.lane >= half && share.lane < left) {
            float *slot = shared + 2 * ((share.lane - half) * channels + share.vector * SIZE);
#pragma unroll
            for (int k = 0; k < SIZE; k++) slot[k] = sum[k], slot[SIZE + k] = square[k];
        }
        __syncthreads();
        if (share.lane + half < left) {
            const float *slot = shared + 2 * (share.lane * channels + share.vector * SIZE);
#pragma unroll
            for (int k = 0; k < SIZE; k++) sum[k] += slot[k], square[k] += slot[SIZE + k];
        }
        __syncthreads();
        left = half;
    }

    float count = share.end - share.begin;
    if (share.lane == 0) {
#pragma unroll
        for (int k = 0; k < SIZE; k++) {
            int channel = share.vector * SIZE + k;
            float off = sum[k] / count;
            shared[channel] = first[k] + off;
            shared[channels + channel] = fmaxf(square[k] - sum[k] * off, 0.0f);
        }
    }
    __syncthreads();

    // Channels of a group together; each has as many numbers.
    int group_channels = channels / GROUPS;
    for (int group = threadIdx.x; group < GROUPS; group += blockDim.x) {
        const float *means = shared + group * group_channels, *squares = means + channels;
        float total = 0.0f;
        for (int i = 0; i < group_channels; i++) total += means[i];
        float mean = total / group_channels, spread = 0.0f;
        for (int i = 0; i < group_channels; i++) {
            float off = means[i] - mean;
            spread += squares[i] + count * off * off;
        }
        partials[(size_t(blockIdx.y) * gridDim.x + blockIdx.x) * GROUPS + group] = make_float2(mean, spread);
    }
}

/// How many numbers there are, their mean, and the sum of their squared deviations from it.
struct Moments {
    float count, mean, spread;

    __device__ void unite(const Moments &other)
    {
        if (other.count == 0.0f) return;
        float all = count + other.count, off = other.mean - mean, weight = other.count / all;
        mean += off * weight;
        spread += other.spread + off * off * count * weight;
        count = all;
    }
};

/// Mean and reciprocal deviation of each group of each picture, [B, GROUPS], of the `chunks` partials of each.
///
/// The grid is pictures; a block's threads are GROUPS × lanes. `shared` holds three floats for every two threads.
__device__ void unite(const float2 *partials, float2 *moments, int places, int channels, int chunk_places, int chunks,
                      float epsilon, float *shared)
{
    int group = threadIdx.x % GROUPS, lane = threadIdx.x / GROUPS, lanes = blockDim.x / GROUPS;
    int group_channels = channels / GROUPS;
    Moments mine = {0.0f, 0.0f, 0.0f};
    for (int chunk = lane; chunk < chunks; chunk += lanes) {
        float2 partial = partials[(size_t(blockIdx.x) * chunks + chunk) * GROUPS + group];
        int begin = chunk * chunk_places, end = min(begin + chunk_places, places);
        mine.unite({float(end - begin) * group_channels, partial.x, partial.y});
    }
    for (int left = lanes; left > 1;) {
        int half = (left + 1) / 2;
        if (lane >= half && lane < left) {
            float *slot = shared + 3 * ((lane - half) * GROUPS + group);
            slot[0] = mine.count, slot[1] = mine.mean, slot[2] = mine.spread;
        }
        __syncthreads();
        if (lane + half < left) {
            const float *slot = shared + 3 * (lane * GROUPS + group);
            mine.unite({slot[0], slot[1], slot[2]});
        }
        __syncthreads();
        left = half;
    }
    if (lane == 0) {
        float reciprocal = 1.0f / sqrtf(mine.spread / mine.count + epsilon);
        moments[size_t(blockIdx.x) * GROUPS + group] = make_float2(mine.mean, reciprocal);
    }
}

/// The norm, with weight and bias of each channel in f32, then SiLU if `silu` is not 0.
template <class T>
__device__ void apply(const T *__restrict__ x, T *__restrict__ y, const float2 *moments, const float *weight,
                      const float *bias, int places, int channels, int chunk_places, int silu)
{
    constexpr int SIZE = Vector<T>::SIZE;
    Share<T> share(places, channels, chunk_places);
    int group_channels = channels / GROUPS;
    float mean[SIZE], scale[SIZE], shift[SIZE];
#pragma unroll
    for (int k = 0; k < SIZE; k++) {
        int channel = share.vector * SIZE + k;
        float2 group = moments[size_t(blockIdx.y) * GROUPS + channel / group_channels];
        mean[k] = group.x, scale[k] = group.y * weight[channel], shift[k] = bias[channel];
    }
#pragma unroll 4
    for (int place = share.begin + share.lane; place < share.end; place += share.lanes) {
        size_t at = share.origin + size_t(place) * channels;
        float value[SIZE];
        Vector<T>::load(x + at, value);
#pragma unroll
        for (int k = 0; k < SIZE; k++) {
            float normed = (value[k] - mean[k]) * scale[k] + shift[k];
            value[k] = silu ? quotient(normed, 1.0f + exponential(-normed)) : normed;
        }
        Vector<T>::store(value, y + at);
    }
}

extern __shared__ float shared_memory[];

// Most threads of a block, so that the compiler gives each few enough registers: `device/group_norm.rs` has them too.
constexpr int THREADS = 256;
constexpr int UNITE_THREADS = 1024;

#define KERNELS(name, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        partial_##name(const T *x, float2 *partials, int places, int channels, int chunk_places)                       \
    {                                                                                                                  \
        partial<T>(x, partials, places, channels, chunk_places, shared_memory);                                        \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        apply_##name(const T *__restrict__ x, T *__restrict__ y, const float2 *moments, const float *weight,           \
                     const float *bias, int places, int channels, int chunk_places, int silu)                          \
    {                                                                                                                  \
        apply<T>(x, y, moments, weight, bias, places, channels, chunk_places, silu);                                   \
    }

KERNELS(f32, float)
KERNELS(f16, F16)
KERNELS(bf16, Bf16)

extern "C" __global__ void __launch_bounds__(UNITE_THREADS)
    unite_chunks(const float2 *partials, float2 *moments, int places, int channels, int chunk_places, int chunks,
                 float epsilon)
{
    unite(partials, moments, places, channels, chunk_places, chunks, epsilon, shared_memory);
}
