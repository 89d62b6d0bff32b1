// Vectors as wide as the machine's registers, over the compiler's own vector types: written once for AVX-512, AVX, SSE
// and NEON.
//
// Nothing here relaxes IEEE arithmetic: a NaN goes in and comes out, infinities saturate.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || (defined(__AVX__) && defined(__FMA__))
#include <immintrin.h>
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define FLAT __attribute__((flatten))  // everything it calls becomes part of it: what loops use stays in registers

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class T> struct VectorOf;
template <> struct VectorOf<float> {
    typedef float type __attribute__((vector_size(vector_bytes)));
    typedef float unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    typedef int32_t bits __attribute__((vector_size(vector_bytes)));
};
template <> struct VectorOf<double> {
    typedef double type __attribute__((vector_size(vector_bytes)));
    typedef double unaligned __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
    typedef int64_t bits __attribute__((vector_size(vector_bytes)));
};
template <> struct VectorOf<int32_t> {
    typedef int32_t type __attribute__((vector_size(vector_bytes)));
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> using Bits = typename VectorOf<T>::bits;
template <class T> constexpr long width = vector_bytes / sizeof(T);

template <class T> ALWAYS_INLINE Vector<T> all(T x) { return x - Vector<T>{}; }

// x * y + z, rounded once. Compilers are free to make this of `x * y + z`, and do so in one loop and not in another (GCC: not
// in a single chain of sums, on Zen), so what a row's sums are would hang on how many rows are worked on together, and with
// that on the number of threads.
#if defined(__AVX512F__)
ALWAYS_INLINE Vector<float> fma(Vector<float> x, Vector<float> y, Vector<float> z) {
    return (Vector<float>)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
ALWAYS_INLINE Vector<double> fma(Vector<double> x, Vector<double> y, Vector<double> z) {
    return (Vector<double>)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)z);
}
#elif defined(__AVX__) && defined(__FMA__)
ALWAYS_INLINE Vector<float> fma(Vector<float> x, Vector<float> y, Vector<float> z) {
    return (Vector<float>)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
ALWAYS_INLINE Vector<double> fma(Vector<double> x, Vector<double> y, Vector<double> z) {
    return (Vector<double>)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)z);
}
#else  // NEON, where compilers always do; processors without the instruction, where they cannot
template <class V> ALWAYS_INLINE V fma(V x, V y, V z) { return x * y + z; }
#endif

// sums + x * y: what a matrix product does with an item of a row, given to all lanes, and a vector of the other matrix.
template <class V> ALWAYS_INLINE V multiply_add(V x, V y, V sums) { return fma(x, y, sums); }

// Two bfloat16 one after the other, the first in the lower half: items of products whose factors are rounded to bfloat16 and
// whose sums are in float32.
using Pair = int32_t;
#if defined(__AVX512BF16__)
constexpr bool has_bfloat16 = true;
ALWAYS_INLINE Vector<float> multiply_add(Vector<Pair> x, Vector<Pair> y, Vector<float> sums) {
    return (Vector<float>)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)y);
}
// Each lane of both, rounded to nearest.
ALWAYS_INLINE Vector<Pair> pairs(Vector<float> first, Vector<float> second) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
    return (Vector<Pair>)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
// n numbers of a row, rounded, in (n + 1) / 2 pairs; up to 8 pairs behind them are overwritten.
inline void round_row(const float* from, long n, Pair* to) {
    for (long j = 0; j < n; j += 16) {
        const __mmask16 lanes = n - j >= 16 ? 0xffff : (1u << (n - j)) - 1;
        _mm256_storeu_si256((__m256i*)(to + j / 2), (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from + j)));
    }
}
#else
constexpr bool has_bfloat16 = false;
#endif

// How many lanes an operation touches: all of them, or the first n at the end of a row.
struct Whole {};
struct First {
    long n;
};

template <class T> ALWAYS_INLINE Vector<T> load(const T* p, Whole) {
    return *(const typename VectorOf<T>::unaligned*)p;
}
template <class T> ALWAYS_INLINE void store(T* p, Vector<T> x, Whole) { *(typename VectorOf<T>::unaligned*)p = x; }

#if defined(__AVX512F__)  // masked moves; the loops below do the same elsewhere
ALWAYS_INLINE Vector<float> load(const float* p, First lanes) {
    return (Vector<float>)_mm512_maskz_loadu_ps((1u << lanes.n) - 1, p);
}
ALWAYS_INLINE Vector<double> load(const double* p, First lanes) {
    return (Vector<double>)_mm512_maskz_loadu_pd((1u << lanes.n) - 1, p);
}
ALWAYS_INLINE void store(float* p, Vector<float> x, First lanes) {
    _mm512_mask_storeu_ps(p, (1u << lanes.n) - 1, (__m512)x);
}
ALWAYS_INLINE void store(double* p, Vector<double> x, First lanes) {
    _mm512_mask_storeu_pd(p, (1u << lanes.n) - 1, (__m512d)x);
}
#else
template <class T> ALWAYS_INLINE Vector<T> load(const T* p, First lanes) {
    Vector<T> x{};
    for (long i = 0; i < lanes.n; i++) x[i] = p[i];
    return x;
}
template <class T> ALWAYS_INLINE void store(T* p, Vector<T> x, First lanes) {
    for (long i = 0; i < lanes.n; i++) p[i] = x[i];
}
#endif

// x limited to [-limit, limit]. The comparisons are false for a NaN, which therefore stays.
#if defined(__AVX512F__)  // the same in one instruction each, which compilers do not see
ALWAYS_INLINE Vector<float> clamp(Vector<float> x, float limit) {
    const __m512 least = _mm512_set1_ps(-limit), most = _mm512_set1_ps(limit);
    return (Vector<float>)_mm512_max_ps(least, _mm512_min_ps(most, (__m512)x));
}
ALWAYS_INLINE Vector<double> clamp(Vector<double> x, double limit) {
    const __m512d least = _mm512_set1_pd(-limit), most = _mm512_set1_pd(limit);
    return (Vector<double>)_mm512_max_pd(least, _mm512_min_pd(most, (__m512d)x));
}
#else
template <class V, class T> ALWAYS_INLINE V clamp(V x, T limit) {
    x = x > V{} + limit ? V{} + limit : x;
    return x < V{} - limit ? V{} - limit : x;
}
#endif

// x with the untouched lanes set to zero, so that they add nothing to a sum.
template <class T> ALWAYS_INLINE Vector<T> only(Vector<T> x, Whole) { return x; }
template <class T> ALWAYS_INLINE Vector<T> only(Vector<T> x, First lanes) {
    Bits<T> lane;
#pragma GCC unroll 16
    for (int i = 0; i < width<T>; i++) lane[i] = i;
    return lane < Bits<T>{} + (decltype(lane[0] + 0))lanes.n ? x : Vector<T>{};
}

// Calls body(j, lanes) for j = 0, width, 2 width, ... up to n.
template <class T, class Body> ALWAYS_INLINE void sweep(long n, Body body) {
    long j = 0;
    for (; j + width<T> <= n; j += width<T>) body(j, Whole{});
    if (j < n) body(j, First{n - j});
}

#if defined(__AVX512F__)
ALWAYS_INLINE float sum(Vector<float> x) { return _mm512_reduce_add_ps((__m512)x); }
ALWAYS_INLINE double sum(Vector<double> x) { return _mm512_reduce_add_pd((__m512d)x); }
#else
template <class V> ALWAYS_INLINE auto sum(V x) {
    auto total = x[0];
    for (unsigned i = 1; i < sizeof x / sizeof total; i++) total += x[i];
    return total;
}
#endif

// exp(x) = 2^n (q + 1) with x = n log 2 + r, |r| <= log(2) / 2 and q = exp(r) - 1 from a polynomial; x is limited to
// where exp is finite.
template <class T> struct Exponential;
template <> struct Exponential<float> {  // coefficients: Cephes, expf
    static constexpr float largest = 88.f, round = 12582912.f, log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float series[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                       4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};
template <> struct Exponential<double> {  // coefficients: 1 / k!, k = 13 ... 2
    static constexpr double largest = 708., round = 6755399441055744., log2_high = 6.93145751953125e-1,
                            log2_low = 1.42860682030941723212e-6;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double series[] = {1 / 6227020800., 1 / 479001600., 1 / 39916800., 1 / 3628800.,
                                        1 / 362880.,     1 / 40320.,     1 / 5040.,     1 / 720.,
                                        1 / 120.,        1 / 24.,        1 / 6.,        1 / 2.};
};

// Returns q and sets scale = 2^n, so that exp(x) = scale * (q + 1).
template <class T> ALWAYS_INLINE Vector<T> exponential_parts(Vector<T> x, Vector<T>& scale) {
    using E = Exponential<T>;
    x = clamp(x, E::largest);
    const Vector<T> shifted = x * T(1.44269504088896340736) + E::round;  // the integer n now sits in the lowest bits
    const Vector<T> n = shifted - E::round;
    const Vector<T> r = (x - n * E::log2_high) - n * E::log2_low;
    Vector<T> p = all<T>(E::series[0]);
    constexpr int terms = sizeof(E::series) / sizeof(T);
#pragma GCC unroll 12
    for (int k = 1; k < terms; k++) p = p * r + E::series[k];
    const Bits<T> exponent = (Bits<T>)shifted - (Bits<T>)all<T>(E::round) + E::bias;
    scale = (Vector<T>)(exponent << E::mantissa);
    return p * (r * r) + r;
}

template <class T> ALWAYS_INLINE Vector<T> exponential(Vector<T> x) {
    Vector<T> scale;
    const Vector<T> q = exponential_parts<T>(x, scale);
    return scale * q + scale;
}

template <class T> ALWAYS_INLINE Vector<T> sigmoid(Vector<T> x) {
    Vector<T> scale;
    const Vector<T> q = exponential_parts<T>(-x, scale);
    return T(1) / (T(1) + (scale * q + scale));
}

template <class T> ALWAYS_INLINE Vector<T> tanh(Vector<T> x) {
    Vector<T> scale;
    const Vector<T> q = exponential_parts<T>(x + x, scale);
    const Vector<T> e = scale * q + (scale - T(1));  // exp(2x) - 1 without cancellation near 0
    return e / (e + T(2));
}
