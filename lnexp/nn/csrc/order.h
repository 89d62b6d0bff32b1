// Order violations of I images and C captions in D dimensions, and their gradients:
//
//   E[i, c] = sum_d max(0, s[c, d] - v[i, d])^2
//   dv[i] = -2 sum_c dE[i, c] max(0, s[c] - v[i]),   ds[c] = 2 sum_i dE[i, c] max(0, s[c] - v[i])
//
// A thread owns rows of E, then images, then captions: it writes to no other, and the order of all sums is fixed.
#pragma once
#include "layer.h"

template <class T> struct Side {
    const T* data;
    int64_t rows, stride;
    const T* row(int64_t r) const { return data + r * stride; }
};

// Mirrored by `Call` in order.py: same order, every field 8 bytes.
template <class T> struct Order {
    Side<T> images, captions;
    int64_t dims, threads;
    T* e;         // [I, C]
    const T* de;  // [I, C], any strides
    int64_t de_image, de_caption;
    T *dv, *ds;  // [I, D], [C, D]

    // Rows of one side that are worked on together: as many as leave room in the second cache.
    int64_t block() const { return std::max<int64_t>(32, (1 << 17) / sizeof(T) / std::max<int64_t>(1, dims)) / 4 * 4; }
};

// max(0, x) that lets a NaN through.
#if defined(__AVX512F__)  // in one instruction, which compilers do not see
ALWAYS_INLINE Vector<float> above_zero(Vector<float> x) {
    return (Vector<float>)_mm512_max_ps(_mm512_setzero_ps(), (__m512)x);
}
ALWAYS_INLINE Vector<double> above_zero(Vector<double> x) {
    return (Vector<double>)_mm512_max_pd(_mm512_setzero_pd(), (__m512d)x);
}
#else
template <class V> ALWAYS_INLINE V above_zero(V x) { return x < V{} ? V{} : x; }
#endif

// E[i ..., c ...] of a few images and captions, each read once. Lanes past the end are 0 on both sides and add nothing.
template <class T, int images, int captions> ALWAYS_INLINE void scores(const Order<T>& p, int64_t i, int64_t c) {
    Vector<T> sums[images][captions] = {};
    sweep<T>(p.dims, [&](int64_t d, auto lanes) {
        Vector<T> v[images];
#pragma GCC unroll 4
        for (int a = 0; a < images; a++) v[a] = load(p.images.row(i + a) + d, lanes);
#pragma GCC unroll 4
        for (int b = 0; b < captions; b++) {
            const Vector<T> s = load(p.captions.row(c + b) + d, lanes);
#pragma GCC unroll 4
            for (int a = 0; a < images; a++) {
                const Vector<T> over = above_zero(s - v[a]);
                sums[a][b] = fma(over, over, sums[a][b]);
            }
        }
    });
    for (int a = 0; a < images; a++)
        for (int b = 0; b < captions; b++) p.e[(i + a) * p.captions.rows + c + b] = sum(sums[a][b]);
}

template <class T, int images> void row_scores(const Order<T>& p, int64_t i, int64_t c, int64_t end) {
    for (; c + 4 <= end; c += 4) scores<T, images, 4>(p, i, c);
    for (; c < end; c++) scores<T, images, 1>(p, i, c);
}

template <class T> void order_forward(const Order<T>& p) {
    const int64_t C = p.captions.rows, block = p.block();
#pragma omp parallel num_threads(p.threads)
    {
        const Share mine(p.images.rows, 1, thread_number(), thread_count());
        for (int64_t c = 0; c < C; c += block) {
            const int64_t end = std::min(C, c + block);
            int64_t i = mine.begin;
            for (; i + 2 <= mine.end; i += 2) row_scores<T, 2>(p, i, c, end);
            if (i < mine.end) row_scores<T, 1>(p, i, c, end);
        }
    }
}

// A row of the other side whose violation has a gradient, with +-2 times that gradient.
template <class T> struct Weighted {
    const T* row;
    T weight;
};

// Adds to some vectors of one row's gradient what n rows of the other side contribute.
template <class T, bool of_images, int vectors, class Lanes>
ALWAYS_INLINE void add_strip(const Weighted<T>* others, int64_t n, const T* own, T* to, int64_t d, Lanes lanes) {
    Vector<T> x[vectors], total[vectors];
#pragma GCC unroll 8
    for (int k = 0; k < vectors; k++) {
        x[k] = load(own + d + k * width<T>, lanes);
        total[k] = load(to + d + k * width<T>, lanes);
    }
    for (int64_t o = 0; o < n; o++) {
        const Vector<T> weight = all<T>(others[o].weight);
#pragma GCC unroll 8
        for (int k = 0; k < vectors; k++) {
            const Vector<T> y = load(others[o].row + d + k * width<T>, lanes);
            total[k] += weight * above_zero(of_images ? y - x[k] : x[k] - y);
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < vectors; k++) store(to + d + k * width<T>, total[k], lanes);
}

// The gradients of this thread's images, or of its captions. Violations whose own gradient is 0, as a hinge leaves most of
// them, cost nothing, and what is not finite in them does not matter.
template <class T, bool of_images> void side_gradients(const Order<T>& p, int thread, int threads) {
    constexpr int vectors = tile_rows;  // as many as the registers hold twice
    const Side<T>&own = of_images ? p.images : p.captions, &other = of_images ? p.captions : p.images;
    const Share mine(own.rows, 1, thread, threads);
    T* const to = of_images ? p.dv : p.ds;
    std::fill(to + mine.begin * p.dims, to + mine.end * p.dims, T(0));
    const int64_t block = p.block(), strip = vectors * width<T>, whole = p.dims / strip * strip;
    std::vector<Weighted<T>> others(std::min(block, other.rows));
    for (int64_t begin = 0; begin < other.rows; begin += block) {
        const int64_t end = std::min(other.rows, begin + block);
        for (int64_t r = mine.begin; r < mine.end; r++) {
            int64_t n = 0;
            for (int64_t o = begin; o < end; o++) {
                const T de = p.de[(of_images ? r : o) * p.de_image + (of_images ? o : r) * p.de_caption];
                if (de != 0) others[n++] = {other.row(o), of_images ? -2 * de : 2 * de};  // nor is a NaN
            }
            if (n == 0) continue;
            for (int64_t d = 0; d < whole; d += strip)
                add_strip<T, of_images, vectors>(others.data(), n, own.row(r), to + r * p.dims, d, Whole{});
            sweep<T>(p.dims - whole, [&](int64_t d, auto lanes) {
                add_strip<T, of_images, 1>(others.data(), n, own.row(r), to + r * p.dims, whole + d, lanes);
            });
        }
    }
}

template <class T> void order_backward(const Order<T>& p) {
#pragma omp parallel num_threads(p.threads)
    {
        side_gradients<T, true>(p, thread_number(), thread_count());
        side_gradients<T, false>(p, thread_number(), thread_count());
    }
}
