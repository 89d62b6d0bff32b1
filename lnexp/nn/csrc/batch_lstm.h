// One step of the batch-normalised LSTM (Cooijmans et al. 2016, section 3), gates in torch's order: i, f, g, o.
//
//   a  = gain_hh N(W_hh h) + gain_ih N(W_ih x + bias_in) + bias_ih + bias_hh
//   c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(gain_c N(c') + bias_c)
//
// N looks at one feature in all cases of the step, so that a thread takes units here, not cases: a vector of them at a
// time.
#pragma once
#include "layer.h"

// The features from j on, a vector of them: their statistics at one step.
template <class T> struct Feature {
    Vector<T> mean, rstd;
};

template <class T> struct BatchLstm {
    static constexpr int gates = 4;
    static constexpr bool joint = false;
    static constexpr bool carries_h = false;
    static constexpr bool over_cases = true;

    const Call<T>& p;
    const int64_t H, G;
    Array<T> bias, scratch;  // scratch: [B, 5, width]

    explicit BatchLstm(const Call<T>& p) : p(p), H(p.hidden), G(4 * H), bias(G), scratch(5 * p.cases * width<T>) {
        for (int64_t j = 0; j < G; j++) bias[j] = p.bias_ih[j] + p.bias_hh[j];
    }

    T* held(int64_t i, int q) const { return scratch + (5 * i + q) * width<T>; }

    // The statistics of `count` features, `apart` from each other, at value(i, k) of case i. In training they are
    // measured and noted down, otherwise read. At a step with no variance rstd is 1 / sqrt(eps), and N(.) is 0.
    template <int count, class Lanes, class Value>
    ALWAYS_INLINE void statistics(int64_t n, T* means, T* variances, int64_t apart, Lanes lanes, Feature<T>* to,
                                  Value value) const {
        if (!p.population) {
            Vector<T> total[count] = {}, squares[count] = {};
            for (int64_t i = 0; i < n; i++)
#pragma GCC unroll 4
                for (int k = 0; k < count; k++) total[k] += value(i, k);
            const T cases = std::max<int64_t>(n, 1);
            for (int k = 0; k < count; k++) total[k] /= cases;
            for (int64_t i = 0; i < n; i++)
#pragma GCC unroll 4
                for (int k = 0; k < count; k++) {
                    const Vector<T> d = value(i, k) - total[k];
                    squares[k] += d * d;
                }
            for (int k = 0; k < count; k++) {
                store(means + k * apart, total[k], lanes);
                store(variances + k * apart, squares[k] / cases, lanes);
            }
        }
        read<count>(means, variances, apart, lanes, to);
    }

    template <int count, class Lanes>
    ALWAYS_INLINE void read(const T* means, const T* variances, int64_t apart, Lanes lanes, Feature<T>* to) const {
        for (int k = 0; k < count; k++) {
            Vector<T> deviation = load(variances + k * apart, lanes) + T(p.eps);
            for (int lane = 0; lane < width<T>; lane++) deviation[lane] = std::sqrt(deviation[lane]);
            to[k] = {load(means + k * apart, lanes), T(1) / deviation};
        }
    }

    template <class Lanes> struct Gates {  // what the summed inputs of the units from j on are made of
        Feature<T> x[4], h[4];
        Vector<T> gain_x[4], gain_h[4], bias[4];
        int64_t H, j;
        Lanes lanes;

        ALWAYS_INLINE Vector<T> normal_x(const Step<T>& s, int q) const {
            return (load(s.sums_x + q * H + j, lanes) - x[q].mean) * x[q].rstd;
        }
        ALWAYS_INLINE Vector<T> normal_h(const Step<T>& s, int q) const {
            return (load(s.sums_h + q * H + j, lanes) - h[q].mean) * h[q].rstd;
        }
        ALWAYS_INLINE Vector<T> operator()(const Step<T>& s, int q) const {
            return normal_h(s, q) * gain_h[q] + (normal_x(s, q) * gain_x[q] + bias[q]);
        }
    };

    template <class Lanes> ALWAYS_INLINE Gates<Lanes> gates_at(int64_t j, Lanes lanes) const {
        Gates<Lanes> a;
        a.H = H, a.j = j, a.lanes = lanes;
        for (int q = 0; q < 4; q++) {
            a.gain_x[q] = load(p.gain_ih + q * H + j, lanes);
            a.gain_h[q] = load(p.gain_hh + q * H + j, lanes);
            a.bias[q] = load(bias + q * H + j, lanes);
        }
        return a;
    }

    // Step t of all its real cases, for the units of one thread.
    void forward(int64_t t, const std::vector<Step<T>>& cases, Share units) {
        const int64_t n = cases.size();
        sweep<T>(units.end - units.begin, [&](int64_t offset, auto lanes) {
            const int64_t j = units.begin + offset, g = t * G + j, u = t * H + j;
            auto a = gates_at(j, lanes);
            statistics<4>(n, p.mean_ih + g, p.var_ih + g, H, lanes, a.x,
                          [&](int64_t i, int q) { return load(cases[i].sums_x + q * H + j, lanes); });
            statistics<4>(n, p.mean_hh + g, p.var_hh + g, H, lanes, a.h,
                          [&](int64_t i, int q) { return load(cases[i].sums_h + q * H + j, lanes); });
            for (int64_t i = 0; i < n; i++) {
                const Step<T>& s = cases[i];
                const Vector<T> in = sigmoid<T>(a(s, 0)), forget = sigmoid<T>(a(s, 1)), candidate = tanh<T>(a(s, 2));
                store(s.c + j, forget * load(s.c_before + j, lanes) + in * candidate, lanes);
                store(held(i, 0), sigmoid<T>(a(s, 3)), Whole{});
            }
            Feature<T> c;
            statistics<1>(n, p.mean_c + u, p.var_c + u, 0, lanes, &c,
                          [&](int64_t i, int) { return load(cases[i].c + j, lanes); });
            const Vector<T> scale = c.rstd * load(p.gain_c + j, lanes), shift = load(p.bias_c + j, lanes);
            for (int64_t i = 0; i < n; i++) {
                const Vector<T> y = tanh<T>((load(cases[i].c + j, lanes) - c.mean) * scale + shift);
                store(cases[i].h + j, load(held(i, 0), Whole{}) * y, lanes);
            }
        });
    }

    void backward(int64_t t, const std::vector<Step<T>>& cases, Share units, ParameterGradients<T>& grad) {
        const int64_t n = cases.size();
        // What part of a feature's statistics one case makes up.
        const T share = p.population ? T(0) : T(1) / std::max<int64_t>(n, 1);
        sweep<T>(units.end - units.begin, [&](int64_t offset, auto lanes) {
            const int64_t j = units.begin + offset, g = t * G + j, u = t * H + j;
            const auto add = [&](T* to, Vector<T> x) { store(to + j, load(to + j, lanes) + x, lanes); };
            auto a = gates_at(j, lanes);
            Feature<T> c;
            read<4>(p.mean_ih + g, p.var_ih + g, H, lanes, a.x);
            read<4>(p.mean_hh + g, p.var_hh + g, H, lanes, a.h);
            read<1>(p.mean_c + u, p.var_c + u, 0, lanes, &c);
            const Vector<T> gain_c = load(p.gain_c + j, lanes), bias_c = load(p.bias_c + j, lanes);

            Vector<T> total{}, projected{};  // of dy, and of dy N(c')
            for (int64_t i = 0; i < n; i++) {
                const Step<T>& s = cases[i];
                for (int q = 0; q < 2; q++) store(held(i, q), sigmoid<T>(a(s, q)), Whole{});
                store(held(i, 2), tanh<T>(a(s, 2)), Whole{});
                const Vector<T> o = sigmoid<T>(a(s, 3)), normal = (load(s.c + j, lanes) - c.mean) * c.rstd;
                const Vector<T> y = tanh<T>(normal * gain_c + bias_c);
                Vector<T> dh = load(s.dh + j, lanes);
                if (s.dout) dh += load(s.dout + j, lanes);
                const Vector<T> dy = dh * o * (T(1) - y * y);
                store(held(i, 3), dh * y * (o - o * o), Whole{});
                store(held(i, 4), dy, Whole{});
                total += dy;
                projected += dy * normal;
            }
            add(grad.bias_c, total);
            add(grad.gain_c, projected);

            const Vector<T> mean_dy = total * share, slope_dy = projected * share, scale_c = c.rstd * gain_c;
            Vector<T> total_gate[4] = {}, projected_x[4] = {}, projected_h[4] = {};
            for (int64_t i = 0; i < n; i++) {
                const Step<T>& s = cases[i];
                const Vector<T> normal = (load(s.c + j, lanes) - c.mean) * c.rstd;
                const Vector<T> dy = load(held(i, 4), Whole{});
                const Vector<T> dc = scale_c * ((dy - mean_dy) - normal * slope_dy) + load(s.dc + j, lanes);
                const Vector<T> in = load(held(i, 0), Whole{}), forget = load(held(i, 1), Whole{});
                const Vector<T> candidate = load(held(i, 2), Whole{});
                const Vector<T> d[4] = {dc * candidate * (in - in * in),
                                        dc * load(s.c_before + j, lanes) * (forget - forget * forget),
                                        dc * in * (T(1) - candidate * candidate), load(held(i, 3), Whole{})};
                store(s.dc + j, dc * forget, lanes);
#pragma GCC unroll 4
                for (int q = 0; q < 4; q++) {
                    store(held(i, q), d[q], Whole{});
                    total_gate[q] += d[q];
                    projected_x[q] += d[q] * a.normal_x(s, q);
                    projected_h[q] += d[q] * a.normal_h(s, q);
                }
            }
            for (int q = 0; q < 4; q++) {
                add(grad.bias_ih + q * H, total_gate[q]);
                add(grad.gain_ih + q * H, projected_x[q]);
                add(grad.gain_hh + q * H, projected_h[q]);
                const Vector<T> mean = total_gate[q] * share;
                const Vector<T> slope_x = projected_x[q] * share, slope_h = projected_h[q] * share;
                const Vector<T> scale_x = a.x[q].rstd * a.gain_x[q], scale_h = a.h[q].rstd * a.gain_h[q];
                for (int64_t i = 0; i < n; i++) {
                    const Step<T>& s = cases[i];
                    const Vector<T> d = load(held(i, q), Whole{}) - mean;
                    store(s.dsums_x + q * H + j, scale_x * (d - a.normal_x(s, q) * slope_x), lanes);
                    store(s.dsums_h + q * H + j, scale_h * (d - a.normal_h(s, q) * slope_h), lanes);
                }
            }
        });
    }

    void finish(ParameterGradients<T>& grad) { std::copy(grad.bias_ih, grad.bias_ih + G, grad.bias_hh); }
};
