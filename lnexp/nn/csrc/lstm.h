// One step of the LSTM, equations (20) to (22) of the supplement. Gates in torch's order: i, f, g, o.
//
//   a  = gain_hh N(W_hh h) + gain_ih N(W_ih x + bias_in) + bias_ih + bias_hh
//   c' = sigmoid(f) c + sigmoid(i) tanh(g)            the c' that is carried on is not normalised
//   h' = sigmoid(o) tanh(gain_c N(c') + bias_c)
#pragma once
#include "layer.h"

template <class T, bool normed> struct Lstm {
    static constexpr int gates = 4;
    static constexpr bool joint = !normed;  // without a norm, W_ih x and W_hh h need not be kept apart
    static constexpr bool carries_h = false;  // h enters the next step through W_hh alone
    static constexpr bool over_cases = false;

    const Call<T>& p;
    const int64_t H, G;
    const Groups groups;
    Array<T> bias, activations, dgates, dcell;

    explicit Lstm(const Call<T>& p)
        : p(p), H(p.hidden), G(4 * H), groups(p.per_gate ? Groups{{0, 1}, {1, 1}, {2, 1}, {3, 1}} : Groups{{0, 4}}),
          bias(G), activations(G), dgates(G), dcell(H) {
        for (int64_t j = 0; j < G; j++) bias[j] = p.bias_ih[j] + p.bias_hh[j];
    }

    // The summed input of unit j of a gate, after the norms.
    template <class Lanes> ALWAYS_INLINE Vector<T> gate(const Step<T>& s, int q, int64_t j, Lanes lanes) const {
        j += q * H;
        const Vector<T> x = load(s.sums_x + j, lanes), b = load(bias + j, lanes);
        if constexpr (!normed) return x + b;
        const Moments<T> mx = s.moments[q], mh = s.moments[gates + q];
        const Vector<T> from_x = (x - mx.mean) * mx.rstd * load(p.gain_ih + j, lanes) + b;
        return (load(s.sums_h + j, lanes) - mh.mean) * mh.rstd * load(p.gain_hh + j, lanes) + from_x;
    }

    template <class Lanes>
    ALWAYS_INLINE Vector<T> cell_output(const Step<T>& s, Moments<T> m, int64_t j, Lanes lanes) const {
        const Vector<T> c = load(s.c + j, lanes);
        if (p.cell_norm == Norm::none) return tanh<T>(c);
        return tanh<T>((c - m.mean) * m.rstd * load(p.gain_c + j, lanes) + load(p.bias_c + j, lanes));
    }

    void forward(const Step<T>& s) {
        if constexpr (normed) {
            gate_moments(p, groups, s.sums_x, s.moments);
            gate_moments(p, groups, s.sums_h, s.moments + gates);
        }
        T* output_gate = activations;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> i = sigmoid<T>(gate(s, 0, j, lanes)), f = sigmoid<T>(gate(s, 1, j, lanes));
            const Vector<T> g = tanh<T>(gate(s, 2, j, lanes)), o = sigmoid<T>(gate(s, 3, j, lanes));
            store(s.c + j, f * load(s.c_before + j, lanes) + i * g, lanes);
            store(output_gate + j, o, lanes);
        });
        const Moments<T> m = moments<T>(p.cell_norm, s.c, H, p.eps);
        if (p.cell_norm != Norm::none) s.moments[2 * gates] = m;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            store(s.h + j, load(output_gate + j, lanes) * cell_output(s, m, j, lanes), lanes);
        });
    }

    void backward(const Step<T>& s, ParameterGradients<T>& grad) {
        T *gi = activations, *gf = gi + H, *gg = gf + H;
        T* d = normed ? (T*)dgates : s.dsums_x;  // gradient of the gates' summed inputs
        T* dc_out = dcell;                       // gradient of c' by way of the output
        const bool cell_normed = p.cell_norm != Norm::none;
        const Moments<T> m = cell_normed ? s.moments[2 * gates] : Moments<T>{0, 1};
        sweep<T>(H, [&](int64_t j, auto lanes) {
            store(gi + j, sigmoid<T>(gate(s, 0, j, lanes)), lanes);
            store(gf + j, sigmoid<T>(gate(s, 1, j, lanes)), lanes);
            store(gg + j, tanh<T>(gate(s, 2, j, lanes)), lanes);
            const Vector<T> o = sigmoid<T>(gate(s, 3, j, lanes)), y = cell_output(s, m, j, lanes);
            Vector<T> dh = load(s.dh + j, lanes);
            if (s.dout) dh += load(s.dout + j, lanes);
            const Vector<T> dout_gate = dh * y * (o - o * o), dy = dh * o * (T(1) - y * y);
            store(d + 3 * H + j, dout_gate, lanes);
            store(dc_out + j, dy, lanes);
            if (cell_normed) store(grad.bias_c + j, load(grad.bias_c + j, lanes) + dy, lanes);
        });
        if (cell_normed) norm_backward<T>(p.cell_norm, dc_out, s.c, m, p.gain_c, grad.gain_c, dc_out, H);
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> dc = load(dc_out + j, lanes) + load(s.dc + j, lanes);
            const Vector<T> i = load(gi + j, lanes), f = load(gf + j, lanes), g = load(gg + j, lanes);
            store(d + j, dc * g * (i - i * i), lanes);
            store(d + H + j, dc * load(s.c_before + j, lanes) * (f - f * f), lanes);
            store(d + 2 * H + j, dc * i * (T(1) - g * g), lanes);
            store(s.dc + j, dc * f, lanes);
        });
        sweep<T>(G, [&](int64_t j, auto lanes) {
            store(grad.bias_ih + j, load(grad.bias_ih + j, lanes) + load(d + j, lanes), lanes);
        });
        if constexpr (normed) {
            gates_backward(p, groups, d, s.sums_x, s.moments, p.gain_ih, grad.gain_ih, s.dsums_x);
            gates_backward(p, groups, d, s.sums_h, s.moments + gates, p.gain_hh, grad.gain_hh, s.dsums_h);
        }
    }

    // Biases that enter as a sum have one gradient.
    void finish(ParameterGradients<T>& grad) { std::copy(grad.bias_ih, grad.bias_ih + G, grad.bias_hh); }
};
