// What one call of a recurrent layer is given, and which part of it a thread works on.
//
// T steps, B cases, I inputs, H hidden units, G = gates * H summed inputs. All arrays are dense in the order of their
// letters unless a stride is given.
#pragma once
#include <numeric>
#include <vector>
#include "gemm.h"
#include "norm.h"
#if defined(_OPENMP)
#include <omp.h>
#endif

enum class Kind : int64_t { lstm, gru, rnn };

// Mirrored by `Call` in call.py: same order, every field 8 bytes. Null pointers where the cell has no such thing.
template <class T> struct Call {
    Kind kind;
    Norm norm, cell_norm;
    int64_t per_gate, relu, population, recompute, threads;
    int64_t steps, cases, inputs, hidden;
    int64_t x_step, x_case, dout_step, dout_case;  // strides of x_TBI and dout_TBH, whose last dimension is dense
    // Steps held in a buffer that is used as a ring: all of them where the backward pass needs them again.
    int64_t sums_x_ring, sums_h_ring, cells_ring, moments_ring;
    int64_t chunk;  // steps whose input sums, or gradients, are computed in one go
    double eps;

    const int64_t* lengths;  // [B], or null: all cases are `steps` long
    const T *x, *h0, *c0;
    T* packed;  // both weights as `pack` leaves them; null: forward packs them itself
    const T *weight_ih, *weight_hh, *bias_in, *bias_ih, *bias_hh, *gain_ih, *gain_hh, *gain_c, *bias_c;

    // [ring, B, G] W_ih x + bias_in and W_hh h, before any normalisation; a joint cell has the sum of both in sums_x.
    T *sums_x, *sums_h;
    T* cells;             // [ring, B, H]
    Moments<T>* moments;  // [ring, B, 2 gates + 1] of the input's gates, the state's gates, the cell
    T *out, *h_n, *c_n;
    T *mean_ih, *var_ih, *mean_hh, *var_hh, *mean_c, *var_c;  // bn: [T, G], [T, H]; read if `population`, else written

    const T* dout;            // [T, B, H] or null
    T *dh, *dc;               // [B, H] gradients of the last states going in, of the initial states coming out
    T *dsums_x, *dsums_h;     // [chunk, B, G]
    T *dx, *dweight_ih, *dweight_hh;  // dx may be null
    T* dparameters;           // [5 G + 2 H], see ParameterGradients
    int64_t turn;             // steps taken before the first: only whether it is even matters, see `multiply`
    int64_t bfloat16;         // whether the factors of products with the weights are rounded to bfloat16; float32 only

    const T* x_row(int64_t t, int64_t b) const { return x + t * x_step + b * x_case; }
    const T* h_before(int64_t t, int64_t b) const { return t == 0 ? h0 + b * hidden : out_row(t - 1, b); }
    const T* c_before(int64_t t, int64_t b) const { return t == 0 ? c0 + b * hidden : cell_row(t - 1, b); }
    T* out_row(int64_t t, int64_t b) const { return out + (t * cases + b) * hidden; }
    T* cell_row(int64_t t, int64_t b) const { return cells + (t % cells_ring * cases + b) * hidden; }
    int64_t length(int64_t b) const { return lengths ? lengths[b] : steps; }
};

// One case at one step, as a cell sees it.
template <class T> struct Step {
    const T *sums_x, *sums_h, *h_before, *c_before;
    T *h, *c;
    Moments<T>* moments;
    const T* dout;  // null where the output has no gradient
    T *dh, *dc, *dsums_x, *dsums_h;
};

// The gradients of gains and biases that one thread has summed up.
template <class T> struct ParameterGradients {
    T *bias_ih, *bias_hh, *gain_ih, *gain_hh, *bias_in, *gain_c, *bias_c;
    static int64_t size(int64_t G, int64_t H) { return 5 * G + 2 * H; }
    ParameterGradients(T* at, int64_t G, int64_t H)
        : bias_ih(at), bias_hh(at + G), gain_ih(at + 2 * G), gain_hh(at + 3 * G), bias_in(at + 4 * G),
          gain_c(at + 5 * G), bias_c(at + 5 * G + H) {
        std::fill(at, at + size(G, H), T(0));
    }
};

// What a gate's summed inputs are made of, by value: in a loop that writes, the compiler would read members again and again.
template <class T, int gates> struct Sums {
    const T *sums, *gain;
    int64_t H;
    T mean[gates], rstd[gates];

    // Unit j of gate q, normalised if there are moments, with its gain and no bias.
    template <class Lanes> ALWAYS_INLINE Vector<T> normed(int q, int64_t j, Lanes lanes) const {
        return (load(sums + q * H + j, lanes) - mean[q]) * rstd[q] * load(gain + q * H + j, lanes);
    }
    template <class Lanes> ALWAYS_INLINE Vector<T> plain(int q, int64_t j, Lanes lanes) const {
        return load(sums + q * H + j, lanes);
    }
};
template <int gates, bool normed, class T>
ALWAYS_INLINE Sums<T, gates> sums_of(const T* sums, const T* gain, int64_t H, const Moments<T>* m) {
    Sums<T, gates> s{sums, gain, H, {}, {}};
    if constexpr (normed)
        for (int q = 0; q < gates; q++) s.mean[q] = m[q].mean, s.rstd[q] = m[q].rstd;
    return s;
}

// Asks for what the backward pass reads of some cases, which has long left the caches, while others are worked on.
template <class T> void fetch(const Call<T>& p, int64_t G, const Step<T>* steps, int64_t n) {
    const auto row = [](const T* at, int64_t length) {
        for (int64_t j = 0; at && j < length; j += 64 / sizeof(T)) __builtin_prefetch(at + j);
    };
    for (int64_t i = 0; i < n; i++) {
        row(steps[i].sums_h, G);
        if (!p.recompute) row(steps[i].sums_x, G);
        row(steps[i].dout, p.hidden);
        row(steps[i].c_before, p.hidden);
    }
}

// Gates that are normalised together: the first of them and how many.
struct Group {
    int first, count;
};
using Groups = std::vector<Group>;

// The moments of each gate's sums, the gates of a group sharing theirs.
template <class T> void gate_moments(const Call<T>& p, const Groups& groups, const T* sums, Moments<T>* to) {
    for (const Group& group : groups) {
        const T* at = sums + group.first * p.hidden;
        std::fill_n(to + group.first, group.count, moments<T>(p.norm, at, group.count * p.hidden, p.eps));
    }
}

// The backward pass of a side's norms, for R rows: from the gradients d of gain N(sums) + bias, [R, G], to those of sums.
template <int R, class T>
void gates_backward(const Call<T>& p, const Groups& groups, const T* d, int64_t G, const T* const* sums,
                    const Moments<T>* const* moments, const T* gain, T* dgain, T* dbias, T* const* dsums) {
    for (const Group& group : groups) {
        const int64_t at = group.first * p.hidden, n = group.count * p.hidden;
        const T *d_at[R], *sums_at[R];
        T* dsums_at[R];
        Moments<T> m[R];
        for (int r = 0; r < R; r++) {
            d_at[r] = d + r * G + at, sums_at[r] = sums[r] + at, dsums_at[r] = dsums[r] + at;
            m[r] = moments[r][group.first];
        }
        norm_backward<R, T>(p.norm, d_at, sums_at, m, gain + at, dgain + at, dbias ? dbias + at : nullptr, dsums_at, n);
    }
}

// The cases of one thread, longest first: at step t the first `real(t)` of them are not yet at their end.
template <class T> struct Cases {
    const Call<T>& p;
    std::vector<int64_t> index;

    Cases(const Call<T>& p, int thread, int threads) : p(p) {
        std::vector<int64_t> order(p.cases);
        std::iota(order.begin(), order.end(), 0);
        if (!p.lengths) {
            const Share share(p.cases, 1, thread, threads);
            index.assign(order.begin() + share.begin, order.begin() + share.end);
            return;
        }
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p.lengths[a] > p.lengths[b]; });
        for (int64_t i = thread; i < p.cases; i += threads) index.push_back(order[i]);
    }
    int64_t real(int64_t t) const {
        int64_t n = index.size();
        while (n > 0 && p.length(index[n - 1]) <= t) n--;
        return n;
    }
};

inline int thread_number() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}
inline int thread_count() {
#if defined(_OPENMP)
    return omp_get_num_threads();
#else
    return 1;
#endif
}
