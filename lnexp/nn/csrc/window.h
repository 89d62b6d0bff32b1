// An LSTM whose input at each step holds a soft window on a text, which the LSTM has moved at the step before (Graves 2013,
// equations 46 to 51), and its hand-derived backward pass. One thread.
//
//   (alpha, beta, step) = exp(W_p h_t + b_p)      kappa_t = kappa_{t-1} + step
//   phi(u) = sum_k alpha_k exp(-beta_k (kappa_k - u)^2)      w_t[c] = sum of phi(u) over the places u < characters with symbol c
//
// D inputs of the caller's and C of the window, I = D + C; K Gaussians; U places. All arrays dense in the order of their letters.
#pragma once
#include "passes.h"

// Mirrored by `Call` of ops/window/cpu.py.
template <class T> struct TextWindow {
    Call<T> layer;  // x: [T, B, I], where the forward pass writes the window; all rings, and the chunk, hold all steps
    int64_t symbols, gaussians, places;
    const int64_t *codes, *characters;  // [B, U], [B]
    const T *weight_p, *bias_p;         // [3 K, H], [3 K]
    T *parameters, *kappa, *w;          // [T, B, 3 K] after exp, [T, B, K], [T, B, C]
    const T* dw;                        // [T, B, C], or null
    T* dparameters_p;                   // [T, B, 3 K], of what goes into exp
};

template <class T> ALWAYS_INLINE Vector<T> places_from(int64_t u) {
    Vector<T> at;
#pragma GCC unroll 16
    for (int i = 0; i < width<T>; i++) at[i] = u + i;
    return at;
}

// The window of one case at one step, from the sums in q.
template <class T> void read_text(const TextWindow<T>& a, int64_t t, int64_t b, T* phi) {
    const int64_t B = a.layer.cases, K = a.gaussians, C = a.symbols, n = a.characters[b];
    T *q = a.parameters + (t * B + b) * 3 * K, *kappa = a.kappa + (t * B + b) * K, *w = a.w + (t * B + b) * C;
    sweep<T>(3 * K, [&](int64_t j, auto lanes) { store(q + j, exponential<T>(load(q + j, lanes)), lanes); });
    for (int64_t k = 0; k < K; k++) kappa[k] = (t ? kappa[k - B * K] : 0) + q[2 * K + k];
    std::fill_n(w, C, T(0));
    for (int64_t u = 0; u < n; u += width<T>) {
        const Vector<T> at = places_from<T>(u);
        Vector<T> total{};
        for (int64_t k = 0; k < K; k++) {
            const Vector<T> d = kappa[k] - at;
            total += q[k] * exponential<T>(-q[K + k] * d * d);
        }
        store(phi + u, total, Whole{});
    }
    for (int64_t u = 0; u < n; u++) w[a.codes[b * a.places + u]] += phi[u];
}

// From dphi of one case at one step, 0 beyond its text, to the gradients of the sums; dkappa [K] is carried from later steps.
template <class T> void read_text_backward(const TextWindow<T>& a, int64_t t, int64_t b, const T* dphi, T* dkappa) {
    const int64_t B = a.layer.cases, K = a.gaussians, n = a.characters[b];
    const T *q = a.parameters + (t * B + b) * 3 * K, *kappa = a.kappa + (t * B + b) * K;
    T* d = a.dparameters_p + (t * B + b) * 3 * K;
    for (int64_t k = 0; k < K; k++) {
        Vector<T> dalpha{}, dbeta{}, dcentre{};
        for (int64_t u = 0; u < n; u += width<T>) {
            const Vector<T> away = kappa[k] - places_from<T>(u);
            const Vector<T> e = exponential<T>(-q[K + k] * away * away) * load(dphi + u, Whole{});
            dalpha += e, dbeta += e * away * away, dcentre += e * away;
        }
        dkappa[k] -= 2 * q[k] * q[K + k] * sum(dcentre);
        d[k] = sum(dalpha) * q[k];
        d[K + k] = -q[k] * q[K + k] * sum(dbeta);
        d[2 * K + k] = dkappa[k] * q[2 * K + k];
    }
}

template <class T, class Cell> void window_forward(const TextWindow<T>& a) {
    const Call<T>& p = a.layer;
    const int64_t B = p.cases, H = p.hidden, G = Cell::gates * H, I = p.inputs, K = a.gaussians, C = a.symbols;
    Panels<T> ih(I, G), hh(H, G), to_window(H, 3 * K);
    ih.pack_transposed(p.weight_ih, 0, 1), hh.pack_transposed(p.weight_hh, 0, 1), to_window.pack_transposed(a.weight_p, 0, 1);
    Cell cell(p);
    const Cases<T> cases(p, 0, 1);
    Rows<T> x(B), sums_x(B), sums_h(B), h(B), out(B), parameters(B), bias_in(B, p.bias_in), bias_p(B, a.bias_p);
    std::vector<Step<T>> steps;
    steps.reserve(B);
    Array<T> phi(a.places + width<T>);
    for (int64_t t = 0; t < p.steps; t++) {
        const int64_t n = cases.real(t);
        steps.resize(n);
        for (int64_t i = 0; i < n; i++) {
            const int64_t b = cases.index[i];
            const Step<T>& s = steps[i] = step_of<T, Cell>(p, t, b);
            x[i] = p.x_row(t, b), h[i] = s.h_before, out[i] = s.h, parameters[i] = a.parameters + (t * B + b) * 3 * K;
            sums_x[i] = s.sums_x, sums_h[i] = Cell::joint ? s.sums_x : s.sums_h;
        }
        multiply<T>(ih, n, x.data(), p.bias_in ? bias_in.data() : nullptr, writable<T>(sums_x));
        multiply<T>(hh, n, h.data(), Cell::joint ? sums_x.data() : nullptr, writable<T>(sums_h));
        if constexpr (Cell::over_cases) cell.forward(t, steps, Share(H, width<T>, 0, 1));
        else cell.forward(steps.data(), n);
        multiply<T>(to_window, n, out.data(), bias_p.data(), writable<T>(parameters));
        for (int64_t i = 0; i < n; i++) {
            const int64_t b = cases.index[i];
            read_text<T>(a, t, b, phi);
            if (t + 1 < p.steps) std::copy_n(a.w + (t * B + b) * C, C, const_cast<T*>(p.x_row(t + 1, b)) + I - C);
        }
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = p.length(b); t < p.steps; t++) {
            std::fill_n(p.out_row(t, b), H, T(0));
            std::fill_n(a.w + (t * B + b) * C, C, T(0));
        }
}

// The gradients of x (p.dx [T, B, I]) and of all sums; the caller multiplies the latter into those of the weights.
template <class T, class Cell> void window_backward(const TextWindow<T>& a) {
    const Call<T>& p = a.layer;
    const int64_t B = p.cases, H = p.hidden, G = Cell::gates * H, I = p.inputs, K = a.gaussians, C = a.symbols, U = a.places;
    Panels<T> ih(G, I), hh(G, H), to_window(3 * K, H);
    ih.pack(p.weight_ih, 0, 1), hh.pack(p.weight_hh, 0, 1), to_window.pack(a.weight_p, 0, 1);
    Cell cell(p);
    const Cases<T> cases(p, 0, 1);
    ParameterGradients<T> grad(p.dparameters, G, H);
    Array<T> dkappa(B * K), dphi(U + width<T>);
    std::fill_n((T*)dkappa, B * K, T(0));
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = p.length(b); t < p.steps; t++) {  // padding: it enters products with 0
            const Step<T> s = gradients_of<T, Cell>(p, t, b);
            std::fill_n(s.dsums_x, G, T(0)), std::fill_n(s.dsums_h, G, T(0));
            std::fill_n(p.dx + (t * B + b) * I, I, T(0)), std::fill_n(const_cast<T*>(p.x_row(t, b)), I, T(0));
            std::fill_n(a.dparameters_p + (t * B + b) * 3 * K, 3 * K, T(0));
        }
    Rows<T> dx(B), dsums_x(B), dsums_h(B), dh(B), dparameters(B);
    std::vector<Step<T>> steps;
    steps.reserve(B);
    for (int64_t t = p.steps - 1; t >= 0; t--) {
        const int64_t n = cases.real(t);
        steps.resize(n);
        for (int64_t i = 0; i < n; i++) {
            const int64_t b = cases.index[i];
            const Step<T>& s = steps[i] = gradients_of<T, Cell>(p, t, b);
            dx[i] = p.dx + (t * B + b) * I, dsums_x[i] = s.dsums_x, dsums_h[i] = s.dsums_h, dh[i] = s.dh;
            dparameters[i] = a.dparameters_p + (t * B + b) * 3 * K;
            const T* from_next = t + 1 < p.steps ? p.dx + ((t + 1) * B + b) * I + I - C : nullptr;  // as part of the next input
            const T* from_out = a.dw ? a.dw + (t * B + b) * C : nullptr;
            for (int64_t u = 0; u < a.characters[b]; u++) {
                const int64_t c = a.codes[b * U + u];
                dphi[u] = (from_next ? from_next[c] : 0) + (from_out ? from_out[c] : 0);
            }
            std::fill_n(dphi + a.characters[b], std::min(width<T>, U + width<T> - a.characters[b]), T(0));
            read_text_backward<T>(a, t, b, dphi, dkappa + b * K);
        }
        multiply<T>(to_window, n, dparameters.data(), dh.data(), writable<T>(dh));
        if constexpr (Cell::over_cases) cell.backward(t, steps, Share(H, width<T>, 0, 1), grad);
        else cell.backward(steps.data(), n, grad);
        multiply<T>(hh, n, dsums_h.data(), nullptr, writable<T>(dh));
        multiply<T>(ih, n, dsums_x.data(), nullptr, writable<T>(dx));
    }
    cell.finish(grad);
}
