// Numbers as kernels read and write them, and sums over threads. What the other files here begin
// with.
//
// NVRTC compiles these files at run time for the GPU at hand, one after the other as one text;
// `stand_in.cpp` compiles them as C++ for tests without a GPU. No header is needed: the few words
// that differ are here for the one and there for the other.

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

/// The sum over `lanes` threads side by side, a power of two up to 32, which all of them get. All
/// threads of a block come here.
__device__ inline float sum_over(float value, int lanes)
{
    for (int apart = lanes / 2; apart > 0; apart /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}
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

/// Sixteen bytes of numbers, read and written at once. Channels are a multiple of 32, so no vector
/// is cut.
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

extern __shared__ float shared_memory[];

/// The sum over a block, whose threads are a multiple of 32. `shared` holds a float for every 32 of
/// them, and is free again when the next barrier is passed.
__device__ inline float sum_over_block(float value, float *shared)
{
    value = sum_over(value, 32);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < int(blockDim.x / 32); warp++) total += shared[warp];
    return total;
}

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
