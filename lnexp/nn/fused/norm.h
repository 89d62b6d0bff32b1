// Normalisation of one row: N(a) = (a - mean) * rstd, the layer normalisation of equations (3) and (4) or its root-mean-square form.
#pragma once
#include "simd.h"

enum class Norm : int64_t { none, ln, rms };

template <class T> struct Moments {
    T mean, rstd;
};

template <class T> Moments<T> moments(Norm norm, const T* a, long n, T eps) {
    if (norm == Norm::none) return {0, 1};
    T mean = 0;
    if (norm == Norm::ln) {
        Vector<T> total{};
        sweep<T>(n, [&](long j, auto lanes) { total += load(a + j, lanes); });
        mean = sum<T>(total) / n;
    }
    Vector<T> squares{};
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> d = only<T>(load(a + j, lanes) - mean, lanes);
        squares += d * d;
    });
    return {mean, 1 / std::sqrt(sum<T>(squares) / n + eps)};
}

// Given d, the gradient of gain * N(a) + bias: adds to the gradient of the gain and returns that of a in da.
//   da = rstd (e - mean(e) - N(a) mean(e N(a))),  e = d gain;  rms has no mean(e).
template <class T> void norm_backward(Norm norm, const T* d, const T* a, Moments<T> m, const T* gain, T* dgain, T* da, long n) {
    Vector<T> total{}, projected{};
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> dj = load(d + j, lanes), normalised = (load(a + j, lanes) - m.mean) * m.rstd, e = dj * load(gain + j, lanes);
        total += e;
        projected += e * normalised;
        store(dgain + j, load(dgain + j, lanes) + dj * normalised, lanes);
    });
    const T mean = norm == Norm::ln ? sum<T>(total) / n : 0, slope = sum<T>(projected) / n;
    sweep<T>(n, [&](long j, auto lanes) {
        const Vector<T> normalised = (load(a + j, lanes) - m.mean) * m.rstd, e = load(d + j, lanes) * load(gain + j, lanes);
        store(da + j, m.rstd * ((e - mean) - normalised * slope), lanes);
    });
}
