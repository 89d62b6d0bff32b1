// One step of the GRU, equations (23) to (28) of the supplement, in torch's form. Gates in torch's order: r, z, n.
//
//   r, z = sigmoid(gain_hh N(W_hh h) + bias_hh + gain_ih N(W_ih x + bias_in) + bias_ih)    one N over both gates
//   n    = tanh(gain_ih N(W_ih x + bias_in) + bias_ih + r (gain_hh N(W_hh h) + bias_hh))
//   h'   = (1 - z) n + z h
#pragma once
#include "layer.h"

template <class T, bool normed> struct Gru {
    static constexpr int gates = 3;
    static constexpr bool joint = false;     // r stands between the two sums of n
    static constexpr bool carries_h = true;  // h also enters the next step as z h
    static constexpr bool over_cases = false;

    const Call<T>& p;
    const int64_t H, G;
    const Groups groups;
    Array<T> dgates_x, dgates_h;  // of rows_at_once rows

    explicit Gru(const Call<T>& p)
        : p(p), H(p.hidden), G(3 * H), groups(p.per_gate ? Groups{{0, 1}, {1, 1}, {2, 1}} : Groups{{0, 2}, {2, 1}}),
          dgates_x(rows_at_once * G), dgates_h(rows_at_once * G) {}

    // The summed inputs of a case, after the norms.
    struct Row {
        Sums<T, 3> x, h;
        const T *bias_x, *bias_h;

        template <class Lanes> ALWAYS_INLINE Vector<T> from_x(int q, int64_t j, Lanes lanes) const {
            const Vector<T> b = load(bias_x + q * x.H + j, lanes);
            if constexpr (normed) return x.normed(q, j, lanes) + b;
            return x.plain(q, j, lanes) + b;
        }
        template <class Lanes> ALWAYS_INLINE Vector<T> from_h(int q, int64_t j, Lanes lanes) const {
            const Vector<T> b = load(bias_h + q * h.H + j, lanes);
            if constexpr (normed) return h.normed(q, j, lanes) + b;
            return h.plain(q, j, lanes) + b;
        }
    };
    ALWAYS_INLINE Row row(const Step<T>& s) const {
        return {sums_of<3, normed>(s.sums_x, p.gain_ih, H, s.moments),
                sums_of<3, normed>(s.sums_h, p.gain_hh, H, s.moments + gates), p.bias_ih, p.bias_hh};
    }

    void forward(const Step<T>* steps, int64_t n) {
        in_blocks(n, [&](int64_t first, auto rows) {
            const Step<T>* const block = steps + first;
            if constexpr (normed)
                for (int r = 0; r < rows; r++) {
                    gate_moments(p, groups, block[r].sums_x, block[r].moments);
                    gate_moments(p, groups, block[r].sums_h, block[r].moments + gates);
                }
            for (int r = 0; r < rows; r++) new_state(block[r]);
        });
    }

    void backward(const Step<T>* steps, int64_t n, ParameterGradients<T>& grad) {
        in_blocks(n, [&](int64_t first, auto rows) {
            constexpr int R = decltype(rows)::value;
            const Step<T>* const block = steps + first;
            fetch(p, G, block + R, std::min<int64_t>(R, n - first - R));
            const T *sums_x[R], *sums_h[R];
            const Moments<T> *moments_x[R], *moments_h[R];
            T *dsums_x[R], *dsums_h[R];
            for (int r = 0; r < R; r++) {
                const Step<T>& s = block[r];
                sums_x[r] = s.sums_x, sums_h[r] = s.sums_h, dsums_x[r] = s.dsums_x, dsums_h[r] = s.dsums_h;
                moments_x[r] = s.moments, moments_h[r] = s.moments + gates;
                from_state(s, normed ? dgates_x + r * G : s.dsums_x, normed ? dgates_h + r * G : s.dsums_h);
            }
            if constexpr (normed) {
                const T *dx = dgates_x, *dh = dgates_h;
                gates_backward<R, T>(p, groups, dx, G, sums_x, moments_x, p.gain_ih, grad.gain_ih, grad.bias_ih, dsums_x);
                gates_backward<R, T>(p, groups, dh, G, sums_h, moments_h, p.gain_hh, grad.gain_hh, grad.bias_hh, dsums_h);
            } else {
                sweep<T>(G, [&](int64_t j, auto lanes) {
                    Vector<T> total_x = load(grad.bias_ih + j, lanes), total_h = load(grad.bias_hh + j, lanes);
                    for (int r = 0; r < R; r++) {
                        total_x += load(dsums_x[r] + j, lanes);
                        total_h += load(dsums_h[r] + j, lanes);
                    }
                    store(grad.bias_ih + j, total_x, lanes);
                    store(grad.bias_hh + j, total_h, lanes);
                });
            }
        });
    }

    void finish(ParameterGradients<T>&) {}

  private:
    FLAT void new_state(const Step<T>& s) const {
        const Row a = row(s);
        const T* h_before = s.h_before;
        T* h = s.h;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> r = sigmoid<T>(a.from_x(0, j, lanes) + a.from_h(0, j, lanes));
            const Vector<T> z = sigmoid<T>(a.from_x(1, j, lanes) + a.from_h(1, j, lanes));
            const Vector<T> n = tanh<T>(a.from_x(2, j, lanes) + r * a.from_h(2, j, lanes));
            store(h + j, n + z * (load(h_before + j, lanes) - n), lanes);
        });
    }

    // The gradients of both sides of the gates' sums, and what of that of h goes past them.
    FLAT void from_state(const Step<T>& s, T* dgx, T* dgh) const {
        const Row a = row(s);
        const T *dout = s.dout, *h_before = s.h_before;
        T* carried = s.dh;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> r = sigmoid<T>(a.from_x(0, j, lanes) + a.from_h(0, j, lanes));
            const Vector<T> z = sigmoid<T>(a.from_x(1, j, lanes) + a.from_h(1, j, lanes));
            const Vector<T> candidate = a.from_h(2, j, lanes), n = tanh<T>(a.from_x(2, j, lanes) + r * candidate);
            Vector<T> dh = load(carried + j, lanes);
            if (dout) dh += load(dout + j, lanes);
            const Vector<T> dn = (dh - dh * z) * (T(1) - n * n);
            const Vector<T> dz = dh * (load(h_before + j, lanes) - n) * (z - z * z);
            const Vector<T> dr = dn * candidate * (r - r * r);
            store(dgx + j, dr, lanes);
            store(dgh + j, dr, lanes);
            store(dgx + H + j, dz, lanes);
            store(dgh + H + j, dz, lanes);
            store(dgx + 2 * H + j, dn, lanes);
            store(dgh + 2 * H + j, dn * r, lanes);
            store(carried + j, dh * z, lanes);
        });
    }
};
