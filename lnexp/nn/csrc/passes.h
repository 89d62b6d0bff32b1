// The two passes over a sequence: one parallel region each. A thread owns cases and runs their whole sequence; threads
// meet only where the weight gradients of a chunk of steps are summed, and at every step if a norm looks at all cases.
#pragma once
#include "input.h"

// The real cases of step t.
template <class T, class StepOf> std::vector<Step<T>> all_of(const Cases<T>& cases, int64_t t, StepOf step) {
    std::vector<Step<T>> steps;
    for (int64_t i = 0, n = cases.real(t); i < n; i++) steps.push_back(step(cases.index[i]));
    return steps;
}

template <class T, class Cell> void forward(const Call<T>& p) {
    const int64_t H = p.hidden, G = Cell::gates * H, I = p.inputs;
    InputWeights<T> weight_ih(I, G);
    Panels<T> weight_hh(H, G);
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        weight_ih.pack(p.weight_ih, I, G, thread, threads);
        weight_hh.pack_transposed(p.weight_hh, thread, threads);
#pragma omp barrier
        const Cases<T> mine(p, thread, threads), everyone(p, 0, 1);
        const Share units(H, width<T>, thread, threads);
        Cell cell(p);
        std::vector<Step<T>> steps(mine.index.size());
        Rows<T> h(steps.size()), sums(steps.size());
        for (int64_t t = 0; t < p.steps; t++) {
            if (t % p.chunk == 0) input_sums<T, Cell>(p, mine, weight_ih, t, std::min(p.steps, t + p.chunk));
            const int64_t n = mine.real(t);
            for (int64_t i = 0; i < n; i++) {
                steps[i] = step_of<T, Cell>(p, t, mine.index[i]);
                h[i] = steps[i].h_before;
                sums[i] = Cell::joint ? steps[i].sums_x : steps[i].sums_h;
            }
            multiply<T>(weight_hh, n, h.data(), Cell::joint ? sums.data() : nullptr, writable<T>(sums));
            if constexpr (Cell::over_cases) {
#pragma omp barrier
                cell.forward(t, all_of(everyone, t, [&](int64_t b) { return step_of<T, Cell>(p, t, b); }), units);
#pragma omp barrier
            } else {
                for (int64_t i = 0; i < n; i++) cell.forward(steps[i]);
            }
        }
        for (const int64_t b : mine.index) {
            const int64_t length = p.length(b);
            std::copy_n(p.h_before(length, b), H, p.h_n + b * H);
            if (p.cells) std::copy_n(p.c_before(length, b), H, p.c_n + b * H);
            for (int64_t t = length; t < p.steps; t++) std::fill_n(p.out_row(t, b), H, T(0));
        }
    }
}

template <class T, class Cell> void backward(const Call<T>& p) {
    const int64_t B = p.cases, H = p.hidden, G = Cell::gates * H, I = p.inputs;
    InputWeights<T> weight_ih(I, G);
    const bool few = weight_ih.few;
    Panels<T> weight_hh(G, H), weight_ih_back(G, p.dx && !few ? I : 0);
    const int64_t parameters = ParameterGradients<T>::size(G, H), input_weights = few ? I * G : 0;
    Array<T> partial(parameters * p.threads), dcolumns(input_weights * p.threads);
    std::fill_n(dcolumns.data.get(), input_weights * p.threads, T(0));
    std::fill_n(p.dweight_ih, G * I, T(0));
    std::fill_n(p.dweight_hh, G * H, T(0));
    int team = 1;
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        if (thread == 0) team = threads;
        if (p.recompute || few) weight_ih.pack(p.weight_ih, I, G, thread, threads);
        weight_hh.pack(p.weight_hh, thread, threads);
        if (p.dx && !few) weight_ih_back.pack(p.weight_ih, thread, threads);
#pragma omp barrier
        const Cases<T> mine(p, thread, threads), everyone(p, 0, 1);
        Cell cell(p);
        ParameterGradients<T> grad(partial + parameters * thread, G, H);
        const Share units(H, width<T>, thread, threads), share(G, tile_rows, thread, threads);
        OuterProduct<T> outer(share, std::max(H, I));
        std::vector<Step<T>> steps(mine.index.size());
        Rows<T> dsums(steps.size()), dh(steps.size()), left_x, left_h, right_x, right_h;

        const auto gradients_of = [&](int64_t t, int64_t b) {
            Step<T> s = step_of<T, Cell>(p, t, b);
            s.dsums_x = p.dsums_x + (t % p.chunk * B + b) * G;
            s.dsums_h = Cell::joint ? s.dsums_x : p.dsums_h + (t % p.chunk * B + b) * G;
            s.dout = p.dout ? p.dout + t * p.dout_step + b * p.dout_case : nullptr;
            s.dh = p.dh + b * H;
            s.dc = p.dc + b * H;
            return s;
        };

        for (int64_t t0 = (p.steps - 1) / p.chunk * p.chunk; t0 >= 0; t0 -= p.chunk) {
            const int64_t t1 = std::min(p.steps, t0 + p.chunk);
            if (p.recompute) {
                input_sums<T, Cell>(p, mine, weight_ih, t0, t1);
                if constexpr (Cell::over_cases) {
#pragma omp barrier
                }
            }
            for (int64_t t = t1 - 1; t >= t0; t--) {
                const int64_t n = mine.real(t);
                if constexpr (Cell::over_cases) {
                    cell.backward(t, all_of(everyone, t, [&](int64_t b) { return gradients_of(t, b); }), units, grad);
#pragma omp barrier
                }
                for (int64_t i = 0; i < n; i++) {
                    steps[i] = gradients_of(t, mine.index[i]);
                    if constexpr (!Cell::over_cases) cell.backward(steps[i], grad);
                    dsums[i] = steps[i].dsums_h;
                    dh[i] = steps[i].dh;
                    if (few) {
                        const int64_t b = mine.index[i];
                        T* dx = p.dx ? p.dx + (t * B + b) * I : nullptr;
                        few_inputs_backward<T>(G, I, steps[i].dsums_x, p.x_row(t, b), weight_ih.columns,
                                               dcolumns + input_weights * thread, dx);
                    }
                    if (p.bias_in) for (int64_t j = 0; j < G; j++) grad.bias_in[j] += steps[i].dsums_x[j];
                }
                multiply<T>(weight_hh, n, dsums.data(), Cell::carries_h ? dh.data() : nullptr, writable<T>(dh));
                if constexpr (Cell::over_cases) {
#pragma omp barrier
                }
            }
            if (p.dx && !few) {
                Rows<T> dx;
                dsums.clear();
                for (int64_t t = t0; t < t1; t++)
                    for (int64_t i = 0, n = mine.real(t); i < n; i++) {
                        dsums.push_back(gradients_of(t, mine.index[i]).dsums_x);
                        dx.push_back(p.dx + (t * B + mine.index[i]) * I);
                    }
                multiply<T>(weight_ih_back, dx.size(), dsums.data(), nullptr, writable<T>(dx));
            }
            left_x.clear(), left_h.clear(), right_x.clear(), right_h.clear();
            for (int64_t t = t0; t < t1; t++)
                for (int64_t i = 0, n = everyone.real(t); i < n; i++) {
                    const Step<T> s = gradients_of(t, everyone.index[i]);
                    left_x.push_back(s.dsums_x);
                    left_h.push_back(s.dsums_h);
                    right_x.push_back(p.x_row(t, everyone.index[i]));
                    right_h.push_back(s.h_before);
                }
#pragma omp barrier
            outer.add(left_h.size(), left_h.data(), right_h.data(), share, H, p.dweight_hh);
            if (!few) outer.add(left_x.size(), left_x.data(), right_x.data(), share, I, p.dweight_ih);
#pragma omp barrier
            dsums.resize(steps.size());
        }
        if (p.dx)
            for (const int64_t b : mine.index)
                for (int64_t t = p.length(b); t < p.steps; t++) std::fill_n(p.dx + (t * B + b) * I, I, T(0));
        cell.finish(grad);
    }
    std::fill_n(p.dparameters, parameters, T(0));
    for (int thread = 0; thread < team; thread++)
        for (int64_t j = 0; j < parameters; j++) p.dparameters[j] += partial[parameters * thread + j];
    for (int thread = 0; thread < team; thread++)
        for (int64_t k = 0; k < input_weights; k++)
            p.dweight_ih[k] += dcolumns[input_weights * thread + k % I * G + k / I];
}
