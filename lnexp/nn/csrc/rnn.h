// One step of the plain recurrent layer, equation (4): one normalisation of the whole sum.
//
//   h' = f(gain_hh N(W_ih x + bias_in + W_hh h) + bias_ih + bias_hh),   f = tanh or relu
#pragma once
#include "layer.h"

template <class T> struct Rnn {
    static constexpr int gates = 1;
    static constexpr bool joint = true;
    static constexpr bool carries_h = false;
    static constexpr bool over_cases = false;

    const Call<T>& p;
    const int64_t H;
    Array<T> bias, dsum;

    explicit Rnn(const Call<T>& p) : p(p), H(p.hidden), bias(H), dsum(H) {
        for (int64_t j = 0; j < H; j++) bias[j] = p.bias_ih[j] + p.bias_hh[j];
    }

    void forward(const Step<T>* steps, int64_t n) {
        for (int64_t i = 0; i < n; i++) forward_one(steps[i]);
    }

    void backward(const Step<T>* steps, int64_t n, ParameterGradients<T>& grad) {
        for (int64_t i = 0; i < n; i++) backward_one(steps[i], grad);
    }

    void finish(ParameterGradients<T>& grad) { std::copy(grad.bias_ih, grad.bias_ih + H, grad.bias_hh); }

  private:
    void forward_one(const Step<T>& s) {
        const bool normed = p.norm != Norm::none;
        const Moments<T> m = moments<T>(p.norm, s.sums_x, H, p.eps);
        if (normed) s.moments[0] = m;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            Vector<T> a = load(s.sums_x + j, lanes);
            if (normed) a = (a - m.mean) * m.rstd * load(p.gain_hh + j, lanes);
            a += load(bias + j, lanes);
            const Vector<T> zero{};
            store(s.h + j, p.relu ? (a < zero ? zero : a) : tanh<T>(a), lanes);  // a NaN is not < 0, and stays
        });
    }

    void backward_one(const Step<T>& s, ParameterGradients<T>& grad) {
        const bool normed = p.norm != Norm::none;
        T* d = normed ? (T*)dsum : s.dsums_x;
        sweep<T>(H, [&](int64_t j, auto lanes) {
            const Vector<T> h = load(s.h + j, lanes);
            Vector<T> dh = load(s.dh + j, lanes);
            if (s.dout) dh += load(s.dout + j, lanes);
            const Vector<T> da = p.relu ? (h > Vector<T>{} ? dh : Vector<T>{}) : dh * (T(1) - h * h);
            store(d + j, da, lanes);
            store(grad.bias_ih + j, load(grad.bias_ih + j, lanes) + da, lanes);
        });
        const T* sums = s.sums_x;
        const T* d_in = d;
        T* da = s.dsums_x;
        if (normed) norm_backward<1, T>(p.norm, &d_in, &sums, s.moments, p.gain_hh, grad.gain_hh, nullptr, &da, H);
    }
};
