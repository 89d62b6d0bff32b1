// The input's side of a layer: W_ih x for many cases and steps at once, and where the sums of a case lie.
#pragma once
#include "layer.h"

// Case b at step t, without gradients.
template <class T, class Cell> Step<T> step_of(const Call<T>& p, int64_t t, int64_t b) {
    const int64_t B = p.cases, H = p.hidden, G = Cell::gates * H;
    Step<T> s{};
    s.sums_x = p.sums_x + (t % p.sums_x_ring * B + b) * G;
    s.sums_h = Cell::joint ? nullptr : p.sums_h + (t % p.sums_h_ring * B + b) * G;
    s.h_before = p.h_before(t, b);
    s.h = p.out_row(t, b);
    if (p.cells) {
        s.c_before = p.c_before(t, b);
        s.c = p.cell_row(t, b);
    }
    if (p.moments) s.moments = p.moments + (t % p.moments_ring * B + b) * (2 * Cell::gates + 1);
    return s;
}

// Row pointers for the matrix products.
template <class T> using Rows = std::vector<const T*>;
template <class T> T* const* writable(const Rows<T>& rows) { return const_cast<T* const*>(rows.data()); }

constexpr int64_t few_inputs = 4;  // up to here, products with W_ih would be nearly empty: they are done case by case

// W_ih, packed for matrix products or, for few inputs, column by column.
template <class T, class Item> struct InputWeights {
    const bool few;
    Panels<T, Item> panels;
    Array<T> columns;
    static bool are_few(int64_t I) { return std::is_same_v<T, Item> && I <= few_inputs; }
    // Whole cache lines, so that what follows it in the same memory is aligned, too.
    static int64_t size(int64_t I, int64_t G) {
        return are_few(I) ? (I * G + 63) / 64 * 64 : Panels<T, Item>::size(I, G);
    }
    InputWeights(int64_t I, int64_t G, T* borrowed = nullptr)
        : few(are_few(I)), panels(I, few ? 0 : G, few ? nullptr : (Item*)borrowed),
          columns(few ? I * G : 0, few ? borrowed : nullptr) {}

    // This thread's share.
    void pack(const T* weight_ih, int64_t I, int64_t G, int thread, int threads) {
        if (!few) return panels.pack_transposed(weight_ih, thread, threads);
        const Share share(G, 1, thread, threads);
        for (int64_t g = share.begin; g < share.end; g++)
            for (int64_t i = 0; i < I; i++) columns[i * G + g] = weight_ih[g * I + i];
    }
};

template <class T>
void few_inputs_forward(int64_t G, int64_t I, const T* x, const T* columns, const T* bias, T* sums) {
    sweep<T>(G, [&](int64_t j, auto lanes) {
        Vector<T> a = bias ? load(bias + j, lanes) : Vector<T>{};
        for (int64_t i = 0; i < I; i++) a += x[i] * load(columns + i * G + j, lanes);
        store(sums + j, a, lanes);
    });
}

// From the gradient d of a case's input sums that of x, and its part in that of W_ih, added column by column.
template <class T>
void few_inputs_backward(int64_t G, int64_t I, const T* d, const T* x, const T* columns, T* dcolumns, T* dx) {
    for (int64_t i = 0; i < I; i++) {
        Vector<T> product{};
        sweep<T>(G, [&](int64_t j, auto lanes) {
            const Vector<T> dj = load(d + j, lanes);
            store(dcolumns + i * G + j, load(dcolumns + i * G + j, lanes) + dj * x[i], lanes);
            product += dj * load(columns + i * G + j, lanes);
        });
        if (dx) dx[i] = sum(product);
    }
}

// The input sums W_ih x + bias_in of a thread's cases, for the steps from t0 to t1.
template <class T, class Item, class Cell>
void input_sums(const Call<T>& p, const Cases<T>& mine, const InputWeights<T, Item>& weight_ih, RowItems<T, Item>& rounded, int64_t t0, int64_t t1) {
    Rows<T> x, sums;
    for (int64_t t = t0; t < t1; t++)
        for (int64_t i = 0, n = mine.real(t); i < n; i++) {
            x.push_back(p.x_row(t, mine.index[i]));
            sums.push_back(step_of<T, Cell>(p, t, mine.index[i]).sums_x);
        }
    if (weight_ih.few) {
        for (size_t i = 0; i < x.size(); i++)
            few_inputs_forward<T>(Cell::gates * p.hidden, p.inputs, x[i], weight_ih.columns, p.bias_in,
                                  writable<T>(sums)[i]);
        return;
    }
    const Rows<T> bias(p.bias_in ? x.size() : 0, p.bias_in);
    const int64_t n = x.size();
    multiply<T, Item>(weight_ih.panels, n, rounded(n, x.data(), p.inputs), p.bias_in ? bias.data() : nullptr, writable<T>(sums));
}
