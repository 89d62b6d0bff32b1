// Both weight matrices as the passes multiply with them, and the rows that they multiply.
#pragma once
#include "input.h"

// Both weights as `forward` wants them.
template <class T, class Item, class Cell> struct Packed {
    InputWeights<T, Item> ih;
    Panels<T, Item> hh;
    static int64_t size(const Call<T>& p) {
        const int64_t G = Cell::gates * p.hidden;
        return InputWeights<T, Item>::size(p.inputs, G) + Panels<T, Item>::size(p.hidden, G);
    }
    Packed(const Call<T>& p, int64_t G)
        : ih(p.inputs, G, p.packed),
          hh(p.hidden, G, p.packed ? (Item*)p.packed + InputWeights<T, Item>::size(p.inputs, G) : nullptr) {}
    void pack(const Call<T>& p, int64_t G, int thread, int threads) {
        ih.pack(p.weight_ih, p.inputs, G, thread, threads);
        hh.pack_transposed(p.weight_hh, thread, threads);
    }
};

// The items of the rows that a thread multiplies with: those of a step, and those of a chunk of inputs.
template <class T, class Item> struct Factors {
    RowItems<T, Item> step, input;
    Factors(const Call<T>& p, long step_numbers, long input_numbers)
        : step(p.cases, step_numbers), input(p.chunk * p.cases, input_numbers) {}
};

// Both weights as `backward` wants them.
template <class T, class Item> struct BackwardWeights {
    InputWeights<T, Item> ih;      // for W_ih x, where it is computed again, and for few inputs
    Panels<T, Item> hh, ih_back;
    BackwardWeights(const Call<T>& p, int64_t G)
        : ih(p.inputs, G), hh(G, p.hidden), ih_back(G, p.dx && !ih.few ? p.inputs : 0) {}
    void pack(const Call<T>& p, int64_t G, int thread, int threads) {
        if (p.recompute || ih.few) ih.pack(p.weight_ih, p.inputs, G, thread, threads);
        hh.pack(p.weight_hh, thread, threads);
        if (p.dx && !ih.few) ih_back.pack(p.weight_ih, thread, threads);
    }
};
