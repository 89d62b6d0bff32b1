// The two passes over a sequence: one parallel region each. A thread owns cases and runs their whole sequence; threads
// meet only where the weight gradients of a chunk of steps are summed, and at every step if a norm looks at all cases.
#pragma once
#include <atomic>
#include "weights.h"

// One thread's part of the work. Out of memory: null, and `failed` is set, as no exception may leave a parallel region.
template <class Part, class... Arguments>
std::unique_ptr<Part> make_part(std::atomic<bool>& failed, const Arguments&... arguments) {
    try {
        return std::make_unique<Part>(arguments...);
    } catch (const std::bad_alloc&) {
        failed = true;
        return nullptr;
    }
}

// The real cases of step t.
template <class T, class StepOf> std::vector<Step<T>> all_of(const Cases<T>& cases, int64_t t, StepOf step) {
    std::vector<Step<T>> steps;
    for (int64_t i = 0, n = cases.real(t); i < n; i++) steps.push_back(step(cases.index[i]));
    return steps;
}

template <class T, class Cell> void pack(const Call<T>& p) {
    const int64_t G = Cell::gates * p.hidden;
    Packed<T, T, Cell>(p, G).pack(p, G, 0, 1);
}

// Whether threads share out the columns of the recurrent weights instead of the cases, and meet twice a step: where a
// thread's own cases would not fill a register tile, and the weights are large enough to be worth it.
template <class T, class Cell> bool splits_columns(const Call<T>& p, int threads) {
    return threads > 1 && p.cases < tile_rows * threads && Cell::gates * p.hidden * p.hidden >= 1 << 17;
}

// What one thread does.
template <class T, class Item, class Cell>
void forward_steps(const Call<T>& p, Cell& cell, const Packed<T, Item, Cell>& weights, Factors<T, Item>& factors, int thread,
                   int threads) {
    const int64_t H = p.hidden, G = Cell::gates * H;
    const Cases<T> mine(p, thread, threads), everyone(p, 0, 1);
    const bool by_columns = splits_columns<T, Cell>(p, threads), meets = by_columns || Cell::over_cases;
    const Cases<T>& multiplied = by_columns ? everyone : mine;
    const Share units(H, width<T>, thread, threads), columns = by_columns ? Share(G, tile_columns<T>, thread, threads)
                                                                          : Share(G, tile_columns<T>, 0, 1);
    std::vector<Step<T>> steps(mine.index.size());
    Rows<T> h(multiplied.index.size()), sums(multiplied.index.size());
    for (int64_t t = 0; t < p.steps; t++) {
        if (t % p.chunk == 0) 
            input_sums<T, Item, Cell>(p, mine, weights.ih, factors.input, t, std::min(p.steps, t + p.chunk));
        const int64_t n = multiplied.real(t);
        for (int64_t i = 0; i < n; i++) {
            const Step<T> s = step_of<T, Cell>(p, t, multiplied.index[i]);
            h[i] = s.h_before;
            sums[i] = Cell::joint ? s.sums_x : s.sums_h;
        }
        if (meets) {
#pragma omp barrier
        }
        multiply<T, Item>(weights.hh, n, factors.step(n, h.data(), H), Cell::joint ? sums.data() : nullptr, writable<T>(sums),
                          columns, (t + p.turn) % 2);
        if (meets) {
#pragma omp barrier
        }
        if constexpr (Cell::over_cases)
            cell.forward(t, all_of(everyone, t, [&](int64_t b) { return step_of<T, Cell>(p, t, b); }), units);
        else {
            const int64_t own = mine.real(t);
            for (int64_t i = 0; i < own; i++) steps[i] = step_of<T, Cell>(p, t, mine.index[i]);
            cell.forward(steps.data(), own);
        }
    }
    if (Cell::over_cases) {
#pragma omp barrier
    }
    for (const int64_t b : mine.index) {
        const int64_t length = p.length(b);
        std::copy_n(p.h_before(length, b), H, p.h_n + b * H);
        if (p.cells) std::copy_n(p.c_before(length, b), H, p.c_n + b * H);
        for (int64_t t = length; t < p.steps; t++) std::fill_n(p.out_row(t, b), H, T(0));
    }
}

template <class T, class Item, class Cell> void forward_with(const Call<T>& p) {
    const int64_t G = Cell::gates * p.hidden;
    Packed<T, Item, Cell> weights(p, G);
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        const auto cell = make_part<Cell>(failed, p);
        const auto factors = make_part<Factors<T, Item>>(failed, p, p.hidden, p.inputs);
        if (!p.packed) weights.pack(p, G, thread, threads);
#pragma omp barrier
        if (!failed) forward_steps<T, Item, Cell>(p, *cell, weights, *factors, thread, threads);
    }
    if (failed) throw std::bad_alloc();
}

template <class T, class Cell> void forward(const Call<T>& p) {
    if constexpr (std::is_same_v<T, float> && has_bfloat16)
        if (p.bfloat16) return forward_with<T, Pair, Cell>(p);
    forward_with<T, T, Cell>(p);
}

// Case b at step t, with gradients.
template <class T, class Cell> Step<T> gradients_of(const Call<T>& p, int64_t t, int64_t b) {
    const int64_t row = t % p.chunk * p.cases + b, G = Cell::gates * p.hidden;
    Step<T> s = step_of<T, Cell>(p, t, b);
    s.dsums_x = p.dsums_x + row * G;
    s.dsums_h = Cell::joint ? s.dsums_x : p.dsums_h + row * G;
    s.dout = p.dout ? p.dout + t * p.dout_step + b * p.dout_case : nullptr;
    s.dh = p.dh + b * p.hidden;
    s.dc = p.dc + b * p.hidden;
    return s;
}

// What one thread does. `dcolumns` is its part of the gradient of W_ih where there are few inputs.
template <class T, class Item, class Cell>
void backward_steps(const Call<T>& p, Cell& cell, const BackwardWeights<T, Item>& weights, OuterProduct<T, Item>& outer,
                    Factors<T, Item>& factors, Share share, ParameterGradients<T>& grad, T* dcolumns, int thread,
                    int threads) {
    const int64_t B = p.cases, H = p.hidden, G = Cell::gates * H, I = p.inputs;
    const bool few = weights.ih.few;
    const Cases<T> mine(p, thread, threads), everyone(p, 0, 1);
    const bool by_columns = splits_columns<T, Cell>(p, threads);
    const Cases<T>& multiplied = by_columns ? everyone : mine;
    const Share units(H, width<T>, thread, threads), columns = by_columns ? Share(H, tile_columns<T>, thread, threads)
                                                                          : Share(H, tile_columns<T>, 0, 1);
    std::vector<Step<T>> steps(mine.index.size());
    Rows<T> dsums, dh(multiplied.index.size()), left_x, left_h, right_x, right_h;

    for (int64_t t0 = (p.steps - 1) / p.chunk * p.chunk; t0 >= 0; t0 -= p.chunk) {
        const int64_t t1 = std::min(p.steps, t0 + p.chunk);
        if (p.recompute) {
            input_sums<T, Item, Cell>(p, mine, weights.ih, factors.input, t0, t1);
            if constexpr (Cell::over_cases) {
#pragma omp barrier
            }
        }
        dsums.resize(multiplied.index.size());
        for (int64_t t = t1 - 1; t >= t0; t--) {
            const int64_t own = mine.real(t), n = multiplied.real(t);
            for (int64_t i = 0; i < own; i++) steps[i] = gradients_of<T, Cell>(p, t, mine.index[i]);
            if constexpr (Cell::over_cases) {
                cell.backward(t, all_of(everyone, t, [&](int64_t b) { return gradients_of<T, Cell>(p, t, b); }), units, grad);
#pragma omp barrier
            } else {
                cell.backward(steps.data(), own, grad);
                if (by_columns) {
#pragma omp barrier
                }
            }
            for (int64_t i = 0; i < own; i++) {
                const T *d = steps[i].dsums_x, *x = p.x_row(t, mine.index[i]);
                T* dx = p.dx ? p.dx + (t * B + mine.index[i]) * I : nullptr;
                if (few) few_inputs_backward<T>(G, I, d, x, weights.ih.columns, dcolumns, dx);
                if (p.bias_in) for (int64_t j = 0; j < G; j++) grad.bias_in[j] += d[j];
            }
            for (int64_t i = 0; i < n; i++) {
                const Step<T> s = gradients_of<T, Cell>(p, t, multiplied.index[i]);
                dsums[i] = s.dsums_h;
                dh[i] = s.dh;
            }
            multiply<T, Item>(weights.hh, n, factors.step(n, dsums.data(), G), Cell::carries_h ? dh.data() : nullptr,
                              writable<T>(dh), columns, t % 2);
            if (by_columns || Cell::over_cases) {
#pragma omp barrier
            }
        }
        if (p.dx && !few) {
            Rows<T> dx;
            dsums.clear();
            for (int64_t t = t0; t < t1; t++)
                for (int64_t i = 0, n = mine.real(t); i < n; i++) {
                    dsums.push_back(gradients_of<T, Cell>(p, t, mine.index[i]).dsums_x);
                    dx.push_back(p.dx + (t * B + mine.index[i]) * I);
                }
            const int64_t n = dx.size();
            multiply<T, Item>(weights.ih_back, n, factors.input(n, dsums.data(), G), nullptr, writable<T>(dx));
        }
        left_x.clear(), left_h.clear(), right_x.clear(), right_h.clear();
        for (int64_t t = t0; t < t1; t++)
            for (int64_t i = 0, n = everyone.real(t); i < n; i++) {
                const Step<T> s = gradients_of<T, Cell>(p, t, everyone.index[i]);
                left_x.push_back(s.dsums_x);
                left_h.push_back(s.dsums_h);
                right_x.push_back(p.x_row(t, everyone.index[i]));
                right_h.push_back(s.h_before);
            }
#pragma omp barrier
        outer.add(left_h.size(), left_h.data(), right_h.data(), share, H, p.dweight_hh);
        if (!few) outer.add(left_x.size(), left_x.data(), right_x.data(), share, I, p.dweight_ih);
#pragma omp barrier
    }
    if (p.dx)
        for (const int64_t b : mine.index)
            for (int64_t t = p.length(b); t < p.steps; t++) std::fill_n(p.dx + (t * B + b) * I, I, T(0));
    cell.finish(grad);
}

template <class T, class Item, class Cell> void backward_with(const Call<T>& p) {
    const int64_t H = p.hidden, G = Cell::gates * H, I = p.inputs;
    BackwardWeights<T, Item> weights(p, G);
    const int64_t parameters = ParameterGradients<T>::size(G, H), input_weights = weights.ih.few ? I * G : 0;
    Array<T> partial(parameters * p.threads), dcolumns(input_weights * p.threads);
    std::fill_n(dcolumns.data.get(), input_weights * p.threads, T(0));
    std::fill_n(p.dweight_ih, G * I, T(0));
    std::fill_n(p.dweight_hh, G * H, T(0));
    int count = 1;  // of threads
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        if (thread == 0) count = threads;
        const Share share(G, tile_rows, thread, threads);
        const auto cell = make_part<Cell>(failed, p);
        const auto outer = make_part<OuterProduct<T, Item>>(failed, share, std::max(H, I));
        const auto factors = make_part<Factors<T, Item>>(failed, p, G, std::max(G, I));
        ParameterGradients<T> grad(partial + parameters * thread, G, H);
        weights.pack(p, G, thread, threads);
#pragma omp barrier
        if (!failed)
            backward_steps<T, Item, Cell>(p, *cell, weights, *outer, *factors, share, grad, dcolumns + input_weights * thread,
                                          thread, threads);
    }
    if (failed) throw std::bad_alloc();
    std::fill_n(p.dparameters, parameters, T(0));
    for (int thread = 0; thread < count; thread++)
        for (int64_t j = 0; j < parameters; j++) p.dparameters[j] += partial[parameters * thread + j];
    for (int thread = 0; thread < count; thread++)
        for (int64_t k = 0; k < input_weights; k++)
            p.dweight_ih[k] += dcolumns[input_weights * thread + k % I * G + k / I];
}

template <class T, class Cell> void backward(const Call<T>& p) {
    if constexpr (std::is_same_v<T, float> && has_bfloat16)
        if (p.bfloat16) return backward_with<T, Pair, Cell>(p);
    backward_with<T, T, Cell>(p);
}
