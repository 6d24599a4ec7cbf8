// Group norm with or without SiLU over maps with channels last: x is [B, places, C], the statistics
// are f32.
//
// libtorch's own runs with channels first and would have every map turned round between two
// convolutions. Three launches: sums of pieces ("chunks") of each picture, their union, the norm
// itself. How places are cut depends on the size of one picture alone and sums are taken in a fixed
// order, so a picture is the same to the bit in any batch.

/// What a thread of the first and the last launch works on: one vector of channels, at every so
/// manieth place of a chunk. The grid is chunks × pictures; a block's threads are vectors of a
/// place × lanes.
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

/// Mean and sum of squared deviations of each group in each chunk: `partials` is [B, chunks,
/// groups].
///
/// Sums are of differences from the chunk's first place, so that a mean far from zero costs no
/// digits. One that lies far off itself costs few: it is among the numbers, and the spread is as
/// large as what is lost is small beside. `before`, if there is one, is added to each channel
/// first. `shared` holds 2 · channels floats for every two lanes, and for one.
template <class T>
__device__ void partial(const T *x, const float *before, float2 *partials, int places, int channels,
                        int groups, int chunk_places, float *shared)
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
            shared[channel] = first[k] + off + (before ? before[channel] : 0.0f);
            shared[channels + channel] = fmaxf(square[k] - sum[k] * off, 0.0f);
        }
    }
    __syncthreads();

    // Channels of a group together; each has as many numbers.
    int group_channels = channels / groups;
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        const float *means = shared + group * group_channels, *squares = means + channels;
        float total = 0.0f;
        for (int i = 0; i < group_channels; i++) total += means[i];
        float mean = total / group_channels, spread = 0.0f;
        for (int i = 0; i < group_channels; i++) {
            float off = means[i] - mean;
            spread += squares[i] + count * off * off;
        }
        partials[(size_t(blockIdx.y) * gridDim.x + blockIdx.x) * groups + group] =
            make_float2(mean, spread);
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

/// Mean and reciprocal deviation of each group of each picture, [B, groups], of the `chunks`
/// partials of each.
///
/// The grid is pictures; a block's threads are groups × lanes. `shared` holds three floats for
/// every two threads.
__device__ void unite(const float2 *partials, float2 *moments, int places, int channels, int groups,
                      int chunk_places, int chunks, float epsilon, float *shared)
{
    int group = threadIdx.x % groups, lane = threadIdx.x / groups, lanes = blockDim.x / groups;
    int group_channels = channels / groups;
    Moments mine = {0.0f, 0.0f, 0.0f};
    for (int chunk = lane; chunk < chunks; chunk += lanes) {
        float2 partial = partials[(size_t(blockIdx.x) * chunks + chunk) * groups + group];
        int begin = chunk * chunk_places, end = min(begin + chunk_places, places);
        mine.unite({float(end - begin) * group_channels, partial.x, partial.y});
    }
    for (int left = lanes; left > 1;) {
        int half = (left + 1) / 2;
        if (lane >= half && lane < left) {
            float *slot = shared + 3 * ((lane - half) * groups + group);
            slot[0] = mine.count, slot[1] = mine.mean, slot[2] = mine.spread;
        }
        __syncthreads();
        if (lane + half < left) {
            const float *slot = shared + 3 * (lane * groups + group);
            mine.unite({slot[0], slot[1], slot[2]});
        }
        __syncthreads();
        left = half;
    }
    if (lane == 0) {
        float reciprocal = 1.0f / sqrtf(mine.spread / mine.count + epsilon);
        moments[size_t(blockIdx.x) * groups + group] = make_float2(mine.mean, reciprocal);
    }
}

/// The norm, with weight and bias of each channel in f32, then SiLU if `silu` is not 0. `before` is
/// as in `partial`.
template <class T>
__device__ void apply(const T *__restrict__ x, const float *before, T *__restrict__ y,
                      const float2 *moments, const float *weight, const float *bias, int places,
                      int channels, int groups, int chunk_places, int silu)
{
    constexpr int SIZE = Vector<T>::SIZE;
    Share<T> share(places, channels, chunk_places);
    int group_channels = channels / groups;
    float mean[SIZE], scale[SIZE], shift[SIZE];
#pragma unroll
    for (int k = 0; k < SIZE; k++) {
        int channel = share.vector * SIZE + k;
        float2 group = moments[size_t(blockIdx.y) * groups + channel / group_channels];
        mean[k] = group.x - (before ? before[channel] : 0.0f);
        scale[k] = group.y * weight[channel], shift[k] = bias[channel];
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

// Most threads of a block, so that the compiler gives each few enough registers:
// `cuda.rs` has them too.
constexpr int THREADS = 256;
constexpr int UNITE_THREADS = 1024;

#define NORM_KERNELS(name, T)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
        partial_##name(const T *x, const float *before, float2 *partials, int places,              \
                       int channels, int groups, int chunk_places)                                 \
    {                                                                                              \
        partial<T>(x, before, partials, places, channels, groups, chunk_places, shared_memory);    \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
        apply_##name(const T *__restrict__ x, const float *before, T *__restrict__ y,              \
                     const float2 *moments, const float *weight, const float *bias, int places,    \
                     int channels, int groups, int chunk_places, int silu)                         \
    {                                                                                              \
        apply<T>(x, before, y, moments, weight, bias, places, channels, groups, chunk_places,      \
                 silu);                                                                            \
    }

NORM_KERNELS(f32, float)
NORM_KERNELS(f16, F16)
NORM_KERNELS(bf16, Bf16)

extern "C" __global__ void __launch_bounds__(UNITE_THREADS)
    unite_chunks(const float2 *partials, float2 *moments, int places, int channels, int groups,
                 int chunk_places, int chunks, float epsilon)
{
    unite(partials, moments, places, channels, groups, chunk_places, chunks, epsilon,
          shared_memory);
}
