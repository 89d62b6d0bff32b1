// Normalisation of one row: N(a) = (a - mean) * rstd, the layer normalisation of equations (3) and (4) or its
// root-mean-square form.
#pragma once
#include <type_traits>
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

template <class T> FLAT Moments<T> moments(Norm norm, const T* a, long n, T eps) {
    if (norm == Norm::none) return {0, 1};
    const T mean = norm == Norm::ln ? row_sum<T>(n, [&](long j, auto lanes) { return load(a + j, lanes); }) / n : 0;
    const T squares = row_sum<T>(n, [&](long j, auto lanes) {
        const Vector<T> d = only<T>(load(a + j, lanes) - mean, lanes);
        return d * d;
    });
    return {mean, 1 / std::sqrt(squares / n + eps)};
}

constexpr int rows_at_once = 4;  // that a cell works on, so that no row's chain of dependent sums is waited for

// Given d, the gradients of gain * N(a) + bias of R rows: adds to those of gain and bias, and returns those of a in da.
//   da = rstd (e - mean(e) - N(a) mean(e N(a))),  e = d gain;  rms has no mean(e).
// `dbias` may be null, and da may be d. Every row's sums are the same whatever R (see fma).
template <int R, class T>
FLAT void norm_backward(Norm norm, const T* const* d, const T* const* a, const Moments<T>* moments, const T* gain, T* dgain,
                   T* dbias, T* const* da, long n) {
    Vector<T> total[R] = {}, projected[R] = {};
    T mean[R], rstd[R], mean_e[R], slope[R];
    for (int r = 0; r < R; r++) mean[r] = moments[r].mean, rstd[r] = moments[r].rstd;
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> gain_j = load(gain + j, lanes);
        Vector<T> dgain_j = load(dgain + j, lanes), dbias_j{};
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const Vector<T> dj = load(d[r] + j, lanes), normalised = (load(a[r] + j, lanes) - mean[r]) * rstd[r];
            const Vector<T> e = dj * gain_j;
            total[r] = fma(dj, gain_j, total[r]);
            projected[r] = fma(e, normalised, projected[r]);
            dgain_j = fma(dj, normalised, dgain_j);
            dbias_j += dj;
        }
        store(dgain + j, dgain_j, lanes);
        if (dbias) store(dbias + j, load(dbias + j, lanes) + dbias_j, lanes);
    });
    for (int r = 0; r < R; r++) {
        mean_e[r] = norm == Norm::ln ? sum(total[r]) / n : 0;
        slope[r] = sum(projected[r]) / n;
    }
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> gain_j = load(gain + j, lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const Vector<T> normalised = (load(a[r] + j, lanes) - mean[r]) * rstd[r];
            const Vector<T> e = fma(load(d[r] + j, lanes), gain_j, -all<T>(mean_e[r]));
            store(da[r] + j, rstd[r] * fma(-normalised, all<T>(slope[r]), e), lanes);
        }
    });
}

// Calls body(first, rows) for all n rows, `rows_at_once` at a time while there are so many, then two, then one.
template <class Body> ALWAYS_INLINE void in_blocks(long n, Body body) {
    long i = 0;
    for (; i + rows_at_once <= n; i += rows_at_once) body(i, std::integral_constant<int, rows_at_once>{});
    for (; i + 2 <= n; i += 2) body(i, std::integral_constant<int, 2>{});
    for (; i < n; i++) body(i, std::integral_constant<int, 1>{});
}
