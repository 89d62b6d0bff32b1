// One step whose products with the weights the caller takes: from the summed inputs to the new states, and back to the
// gradients of the summed inputs. Here T = 1, and all rings and the chunk hold one step.
#pragma once
#include "passes.h"

// In: sums_x, sums_h, h0, c0. Out: out (the new h), cells (the new c), moments.
template <class T, class Cell> void step_forward(const Call<T>& p) {
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        const auto cell = make_part<Cell>(failed, p);
        const auto at = [&](int64_t b) { return step_of<T, Cell>(p, 0, b); };
        if (!cell) {
        } else if constexpr (Cell::over_cases) {
            cell->forward(0, all_of(Cases<T>(p, 0, 1), 0, at), Share(p.hidden, width<T>, thread, threads));
        } else {
            const auto steps = all_of(Cases<T>(p, thread, threads), 0, at);
            cell->forward(steps.data(), steps.size());
        }
    }
    if (failed) throw std::bad_alloc();
}

// In: also dh, dc, the gradients of the new states. Out: dsums_x, dsums_h, dparameters; dc, that of the state before; and,
// where a cell carries h on, its part of that in dh.
template <class T, class Cell> void step_backward(const Call<T>& p) {
    const int64_t G = Cell::gates * p.hidden, size = ParameterGradients<T>::size(G, p.hidden);
    Array<T> partial(size * p.threads);
    int count = 1;  // of threads
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        if (thread == 0) count = threads;
        const auto cell = make_part<Cell>(failed, p);
        ParameterGradients<T> grad(partial + size * thread, G, p.hidden);
        const auto at = [&](int64_t b) { return gradients_of<T, Cell>(p, 0, b); };
        if (!cell) {
        } else if constexpr (Cell::over_cases) {
            const Share units(p.hidden, width<T>, thread, threads);
            cell->backward(0, all_of(Cases<T>(p, 0, 1), 0, at), units, grad);
        } else {
            const auto steps = all_of(Cases<T>(p, thread, threads), 0, at);
            cell->backward(steps.data(), steps.size(), grad);
        }
        if (cell) cell->finish(grad);
    }
    if (failed) throw std::bad_alloc();
    std::copy_n(partial.data.get(), size, p.dparameters);
    for (int thread = 1; thread < count; thread++)
        for (int64_t j = 0; j < size; j++) p.dparameters[j] += partial[size * thread + j];
}
