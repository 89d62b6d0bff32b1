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
    const int64_t H;
    const Groups groups;
    Array<T> dgates_x, dgates_h;

    explicit Gru(const Call<T>& p)
        : p(p), H(p.hidden), groups(p.per_gate ? Groups{{0, 1}, {1, 1}, {2, 1}} : Groups{{0, 2}, {2, 1}}),
          dgates_x(3 * H), dgates_h(3 * H) {}

    template <class Lanes> ALWAYS_INLINE Vector<T> from_x(const Step<T>& s, int q, int64_t j, Lanes lanes) const {
        j += q * H;
        const Vector<T> a = load(s.sums_x + j, lanes), b = load(p.bias_ih + j, lanes);
        if constexpr (!normed) return a + b;
        const Moments<T> m = s.moments[q];
        return (a - m.mean) * m.rstd * load(p.gain_ih + j, lanes) + b;
    }
    template <class Lanes> ALWAYS_INLINE Vector<T> from_h(const Step<T>& s, int q, int64_t j, Lanes lanes) const {
        j += q * H;
        const Vector<T> a = load(s.sums_h + j, lanes), b = load(p.bias_hh + j, lanes);
        if constexpr (!normed) return a + b;
        const Moments<T> m = s.moments[gates + q];
        return (a - m.mean) * m.rstd * load(p.gain_hh + j, lanes) + b;
    }

    void forward(const Step<T>& s) {
        if constexpr (normed) {
            gate_moments(p, groups, s.sums_x, s.moments);
            gate_moments(p, groups, s.sums_h, s.moments + gates);
        }
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> r = sigmoid<T>(from_x(s, 0, j, lanes) + from_h(s, 0, j, lanes));
            const Vector<T> z = sigmoid<T>(from_x(s, 1, j, lanes) + from_h(s, 1, j, lanes));
            const Vector<T> n = tanh<T>(from_x(s, 2, j, lanes) + r * from_h(s, 2, j, lanes));
            store(s.h + j, n + z * (load(s.h_before + j, lanes) - n), lanes);
        });
    }

    void backward(const Step<T>& s, ParameterGradients<T>& grad) {
        T* dgx = normed ? (T*)dgates_x : s.dsums_x;
        T* dgh = normed ? (T*)dgates_h : s.dsums_h;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> r = sigmoid<T>(from_x(s, 0, j, lanes) + from_h(s, 0, j, lanes));
            const Vector<T> z = sigmoid<T>(from_x(s, 1, j, lanes) + from_h(s, 1, j, lanes));
            const Vector<T> candidate = from_h(s, 2, j, lanes), n = tanh<T>(from_x(s, 2, j, lanes) + r * candidate);
            Vector<T> dh = load(s.dh + j, lanes);
            if (s.dout) dh += load(s.dout + j, lanes);
            const Vector<T> dn = (dh - dh * z) * (T(1) - n * n);
            const Vector<T> dz = dh * (load(s.h_before + j, lanes) - n) * (z - z * z);
            const Vector<T> dr = dn * candidate * (r - r * r);
            const auto put = [&](int q, Vector<T> dx, Vector<T> dh) {
                const int64_t k = q * H + j;
                store(dgx + k, dx, lanes);
                store(dgh + k, dh, lanes);
                store(grad.bias_ih + k, load(grad.bias_ih + k, lanes) + dx, lanes);
                store(grad.bias_hh + k, load(grad.bias_hh + k, lanes) + dh, lanes);
            };
            put(0, dr, dr);
            put(1, dz, dz);
            put(2, dn, dn * r);
            store(s.dh + j, dh * z, lanes);
        });
        if constexpr (normed) {
            gates_backward(p, groups, dgx, s.sums_x, s.moments, p.gain_ih, grad.gain_ih, s.dsums_x);
            gates_backward(p, groups, dgh, s.sums_h, s.moments + gates, p.gain_hh, grad.gain_hh, s.dsums_h);
        }
    }

    void finish(ParameterGradients<T>&) {}
};
