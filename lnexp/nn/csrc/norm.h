// Normalisation of one row: N(a) = (a - mean) * rstd, the layer normalisation of equations (3) and (4) or its
// root-mean-square form.
#pragma once
#include "simd.h"

enum class Norm : int64_t { none, ln, rms, bn };  // bn does not work on rows: see batch_lstm.h

template <class T> struct Moments {
    T mean, rstd;
};

// The sum of value(j, lanes) over a row, as four sums, since one alone would wait for itself at every step.
template <class T, class Value> ALWAYS_INLINE T row_sum(long n, Value value) {
    Vector<T> parts[4] = {};
    long j = 0;
    for (; j + 4 * width<T> <= n; j += 4 * width<T>)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) parts[k] += value(j + k * width<T>, Whole{});
    sweep<T>(n - j, [&](long k, auto lanes) { parts[0] += value(j + k, lanes); });
    return sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

template <class T> Moments<T> moments(Norm norm, const T* a, long n, T eps) {
    if (norm == Norm::none) return {0, 1};
    const T mean = norm == Norm::ln ? row_sum<T>(n, [&](long j, auto lanes) { return load(a + j, lanes); }) / n : 0;
    const T squares = row_sum<T>(n, [&](long j, auto lanes) {
        const Vector<T> d = only<T>(load(a + j, lanes) - mean, lanes);
        return d * d;
    });
    return {mean, 1 / std::sqrt(squares / n + eps)};
}

// Given d, the gradient of gain * N(a) + bias: adds to the gradient of the gain and returns that of a in da.
//   da = rstd (e - mean(e) - N(a) mean(e N(a))),  e = d gain;  rms has no mean(e).
template <class T>
void norm_backward(Norm norm, const T* d, const T* a, Moments<T> m, const T* gain, T* dgain, T* da, long n) {
    Vector<T> total{}, projected{};
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> dj = load(d + j, lanes), normalised = (load(a + j, lanes) - m.mean) * m.rstd;
        const Vector<T> e = dj * load(gain + j, lanes);
        total += e;
        projected += e * normalised;
        store(dgain + j, load(dgain + j, lanes) + dj * normalised, lanes);
    });
    const T mean = norm == Norm::ln ? sum(total) / n : 0, slope = sum(projected) / n;
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> normalised = (load(a + j, lanes) - m.mean) * m.rstd;
        const Vector<T> e = load(d + j, lanes) * load(gain + j, lanes);
        store(da + j, m.rstd * ((e - mean) - normalised * slope), lanes);
    });
}
