// The negative log density of pen movements under a mixture of bivariate Gaussians, and its gradient (Graves 2013, equations 18 to
// 26). One thread.
#pragma once
#include "window.h"

constexpr int64_t most_components = 64;

// A row of y: end, then M each of pi, mu_x, mu_y, log sigma_x, log sigma_y, atanh rho; of target: x, y, end. log sigma is at
// least `least`, |atanh rho| at most `most`. nll: [N, 2], of the position and of the end of stroke; dy: their gradients, [N, 6M+1].
template <class T> struct Density {
    int64_t rows, components;
    T *least, *most;  // one number each
    const T *y, *target;
    T *nll, *dy;
};

template <class T> void density_row(int64_t M, T least, T most, const T* y, const T* target, T* nll, T* dy) {
    alignas(64) T log_p[most_components], zx[most_components], zy[most_components], ix[most_components], iy[most_components],
        rho[most_components], inverse[most_components], sech[most_components];
    const T *pi = y + 1, *mx = pi + M, *my = mx + M, *sx = my + M, *sy = sx + M, *r = sy + M;
    T top = pi[0];
    for (int64_t k = 1; k < M; k++) top = std::max(top, pi[k]);
    const auto at_least = [&](Vector<T> v) { return v < Vector<T>{} + least ? Vector<T>{} + least : v; };
    Vector<T> total{};
    sweep<T>(M, [&](int64_t k, auto lanes) {
        const Vector<T> lx = at_least(load(sx + k, lanes)), ly = at_least(load(sy + k, lanes)), R = clamp(load(r + k, lanes), most);
        const Vector<T> a = exponential<T>(-lx), b = exponential<T>(-ly), E = exponential<T>(R), F = T(1) / E;
        const Vector<T> s = T(2) / (E + F), q = (E - F) / (E + F);  // 1 - rho^2 = sech^2, without cancellation
        const Vector<T> u = (target[0] - load(mx + k, lanes)) * a, v = (target[1] - load(my + k, lanes)) * b, c = T(1) / (s * s);
        store(zx + k, u, Whole{}), store(zy + k, v, Whole{}), store(ix + k, a, Whole{}), store(iy + k, b, Whole{});
        store(rho + k, q, Whole{}), store(inverse + k, c, Whole{}), store(sech + k, s, Whole{});
        store(log_p + k, T(-0.5) * c * (u * u + v * v - T(2) * q * u * v) - lx - ly, Whole{});
        total += only<T>(exponential<T>(load(pi + k, lanes) - top), lanes);
    });
    const T log_pi = top + std::log(sum(total));
    T best = -INFINITY;
    for (int64_t k = 0; k < M; k++) {
        log_p[k] += pi[k] - log_pi - std::log(sech[k]);
        best = std::max(best, log_p[k]);
    }
    total = Vector<T>{};
    sweep<T>(M, [&](int64_t k, auto lanes) { total += only<T>(exponential<T>(load(log_p + k, lanes) - best), lanes); });
    const T log_mixture = best + std::log(sum(total)), end = target[2];
    nll[0] = T(1.83787706640934548356) - log_mixture;  // log 2 pi
    nll[1] = std::max(y[0], T(0)) + std::log1p(std::exp(-std::abs(y[0]))) - end * y[0];
    dy[0] = 1 / (1 + std::exp(-y[0])) - end;
    sweep<T>(M, [&](int64_t k, auto lanes) {
        T* d = dy + 1 + k;
        const Vector<T> g = exponential<T>(load(log_p + k, lanes) - log_mixture), u = load(zx + k, lanes), v = load(zy + k, lanes);
        const Vector<T> c = load(inverse + k, lanes), q = load(rho + k, lanes), gu = c * (u - q * v), gv = c * (v - q * u);
        const Vector<T> lx = load(sx + k, lanes), ly = load(sy + k, lanes), R = load(r + k, lanes);
        store(d, exponential<T>(load(pi + k, lanes) - log_pi) - g, lanes);
        store(d + M, -g * gu * load(ix + k, lanes), lanes);
        store(d + 2 * M, -g * gv * load(iy + k, lanes), lanes);
        store(d + 3 * M, lx < Vector<T>{} + least ? Vector<T>{} : g * (T(1) - u * gu), lanes);
        store(d + 4 * M, ly < Vector<T>{} + least ? Vector<T>{} : g * (T(1) - v * gv), lanes);
        const Vector<T> dr = -g * (u * v + q * (T(1) - c * (u * u + v * v - T(2) * q * u * v)));
        store(d + 5 * M, R > Vector<T>{} + most || R < Vector<T>{} - most ? Vector<T>{} : dr, lanes);
    });
}

template <class T> void density(const Density<T>& a) {
    const int64_t P = 6 * a.components + 1;
    for (int64_t i = 0; i < a.rows; i++)
        density_row<T>(a.components, *a.least, *a.most, a.y + i * P, a.target + 3 * i, a.nll + 2 * i, a.dy + i * P);
}
