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
    Array<T> bias, activations, dgates, dcell;  // the last three: of rows_at_once rows

    explicit Lstm(const Call<T>& p)
        : p(p), H(p.hidden), G(4 * H), groups(p.per_gate ? Groups{{0, 1}, {1, 1}, {2, 1}, {3, 1}} : Groups{{0, 4}}),
          bias(G), activations(rows_at_once * G), dgates(rows_at_once * G), dcell(rows_at_once * H) {
        for (int64_t j = 0; j < G; j++) bias[j] = p.bias_ih[j] + p.bias_hh[j];
    }

    // The summed inputs of a case, and c' on its way to the output.
    struct Row {
        Sums<T, 4> x, h;
        const T *bias, *c, *gain_c, *bias_c;
        Moments<T> m;
        bool cell_normed;

        template <class Lanes> ALWAYS_INLINE Vector<T> gate(int q, int64_t j, Lanes lanes) const {
            const Vector<T> b = load(bias + q * x.H + j, lanes);
            if constexpr (!normed) return x.plain(q, j, lanes) + b;
            return h.normed(q, j, lanes) + (x.normed(q, j, lanes) + b);
        }
        template <class Lanes> ALWAYS_INLINE Vector<T> cell_output(int64_t j, Lanes lanes) const {
            const Vector<T> c_j = load(c + j, lanes);
            if (!cell_normed) return tanh<T>(c_j);
            return tanh<T>((c_j - m.mean) * m.rstd * load(gain_c + j, lanes) + load(bias_c + j, lanes));
        }
    };
    ALWAYS_INLINE Row row(const Step<T>& s) const {
        const bool cell_normed = p.cell_norm != Norm::none;
        return {sums_of<4, normed>(s.sums_x, p.gain_ih, H, s.moments),
                sums_of<4, normed>(s.sums_h, p.gain_hh, H, s.moments + gates),
                bias, s.c, p.gain_c, p.bias_c, cell_normed ? s.moments[2 * gates] : Moments<T>{0, 1}, cell_normed};
    }

    void forward(const Step<T>* steps, int64_t n) {
        in_blocks(n, [&](int64_t first, auto rows) {
            const Step<T>* const block = steps + first;
            if constexpr (normed)
                for (int r = 0; r < rows; r++) {
                    gate_moments(p, groups, block[r].sums_x, block[r].moments);
                    gate_moments(p, groups, block[r].sums_h, block[r].moments + gates);
                }
            for (int r = 0; r < rows; r++) new_cell(block[r], activations + r * H);
            for (int r = 0; r < rows; r++)
                if (p.cell_norm != Norm::none) block[r].moments[2 * gates] = moments<T>(p.cell_norm, block[r].c, H, p.eps);
            for (int r = 0; r < rows; r++) {
                const Row a = row(block[r]);
                const T* output_gate = activations + r * H;
                T* h = block[r].h;
                sweep<T>(H, [&](int64_t j, auto lanes) {
                    store(h + j, load(output_gate + j, lanes) * a.cell_output(j, lanes), lanes);
                });
            }
        });
    }

    void backward(const Step<T>* steps, int64_t n, ParameterGradients<T>& grad) {
        in_blocks(n, [&](int64_t first, auto rows) {
            constexpr int R = decltype(rows)::value;
            const Step<T>* const block = steps + first;
            fetch(p, G, block + R, std::min<int64_t>(R, n - first - R));
            const T *sums_x[R], *sums_h[R], *c[R], *dc_in[R];
            const Moments<T> *moments_x[R], *moments_h[R];
            T *dsums_x[R], *dsums_h[R], *dc[R];
            Moments<T> moments_c[R];
            for (int r = 0; r < R; r++) {
                const Step<T>& s = block[r];
                sums_x[r] = s.sums_x, sums_h[r] = s.sums_h, dsums_x[r] = s.dsums_x, dsums_h[r] = s.dsums_h;
                moments_x[r] = s.moments, moments_h[r] = s.moments + gates;
                c[r] = s.c, dc_in[r] = dc[r] = dcell + r * H;
                if (p.cell_norm != Norm::none) moments_c[r] = s.moments[2 * gates];
                from_output(s, activations + r * G, (normed ? dgates + r * G : s.dsums_x) + 3 * H, dc[r]);
            }
            if (p.cell_norm != Norm::none)
                norm_backward<R, T>(p.cell_norm, dc_in, c, moments_c, p.gain_c, grad.gain_c, grad.bias_c, dc, H);
            for (int r = 0; r < R; r++)
                from_cell(block[r], activations + r * G, dc[r], normed ? dgates + r * G : block[r].dsums_x);
            if constexpr (normed) {
                const T* d = dgates;
                gates_backward<R, T>(p, groups, d, G, sums_x, moments_x, p.gain_ih, grad.gain_ih, grad.bias_ih, dsums_x);
                gates_backward<R, T>(p, groups, d, G, sums_h, moments_h, p.gain_hh, grad.gain_hh, nullptr, dsums_h);
            } else {
                sweep<T>(G, [&](int64_t j, auto lanes) {
                    Vector<T> total = load(grad.bias_ih + j, lanes);
                    for (int r = 0; r < R; r++) total += load(dsums_x[r] + j, lanes);
                    store(grad.bias_ih + j, total, lanes);
                });
            }
        });
    }

    // Biases that enter as a sum have one gradient.
    void finish(ParameterGradients<T>& grad) { std::copy(grad.bias_ih, grad.bias_ih + G, grad.bias_hh); }

  private:
    // c', and the output gate in `o`.
    FLAT void new_cell(const Step<T>& s, T* o) const {
        const Row a = row(s);
        const T* c_before = s.c_before;
        T* c = s.c;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> i = sigmoid<T>(a.gate(0, j, lanes)), f = sigmoid<T>(a.gate(1, j, lanes));
            const Vector<T> g = tanh<T>(a.gate(2, j, lanes));
            store(o + j, sigmoid<T>(a.gate(3, j, lanes)), lanes);
            store(c + j, f * load(c_before + j, lanes) + i * g, lanes);
        });
    }

    // i, f and g once more, and the gradients of the output gate's sum and of what tanh reads.
    FLAT void from_output(const Step<T>& s, T* active, T* dout_gate, T* dy) const {
        const Row a = row(s);
        const T *dh = s.dh, *dout = s.dout;
        T *i = active, *f = i + H, *g = f + H;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            store(i + j, sigmoid<T>(a.gate(0, j, lanes)), lanes);
            store(f + j, sigmoid<T>(a.gate(1, j, lanes)), lanes);
            store(g + j, tanh<T>(a.gate(2, j, lanes)), lanes);
            const Vector<T> o = sigmoid<T>(a.gate(3, j, lanes)), y = a.cell_output(j, lanes);
            Vector<T> d = load(dh + j, lanes);
            if (dout) d += load(dout + j, lanes);
            store(dout_gate + j, d * y * (o - o * o), lanes);
            store(dy + j, d * o * (T(1) - y * y), lanes);
        });
    }

    // The gradients of the sums of i, f and g, in d, and of the c before.
    FLAT void from_cell(const Step<T>& s, const T* active, const T* dc_out, T* d) const {
        const T *gates_i = active, *gates_f = gates_i + H, *gates_g = gates_f + H, *c_before = s.c_before;
        T *dc_before = s.dc, *di = d, *df = d + H, *dg = d + 2 * H;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> dc = load(dc_out + j, lanes) + load(dc_before + j, lanes);
            const Vector<T> i = load(gates_i + j, lanes), f = load(gates_f + j, lanes), g = load(gates_g + j, lanes);
            store(di + j, dc * g * (i - i * i), lanes);
            store(df + j, dc * load(c_before + j, lanes) * (f - f * f), lanes);
            store(dg + j, dc * i * (T(1) - g * g), lanes);
            store(dc_before + j, dc * f, lanes);
        });
    }
};
