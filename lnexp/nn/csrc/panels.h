// What matrix products read: a weight matrix packed once, in panels of columns, and rows; as numbers, or rounded to bfloat16.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>
#include "simd.h"

// A register tile is `tile_rows` by `tile_vectors`: 24 sums in machines with 32 vector registers, 12 in those with 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr long tile_rows = 8;
#else
constexpr long tile_rows = 4;
#endif
constexpr long tile_vectors = 3;
template <class T> constexpr long tile_columns = tile_vectors * width<T>;

// Uninitialised memory, aligned to a cache line; or a view of memory that somebody else owns. Throws std::bad_alloc.
template <class T> struct Array {
    std::unique_ptr<T[], void (*)(void*)> data{nullptr, &free};
    explicit Array(long n, T* borrowed = nullptr) {
        if (borrowed) data = {borrowed, [](void*) {}};
        else data.reset((T*)aligned_alloc(64, (n * sizeof(T) + 127) / 64 * 64));
        if (!data) throw std::bad_alloc();
    }
    operator T*() const { return data.get(); }
};

// The part of n items, in units of `unit`, that belongs to one of `threads` threads.
struct Share {
    long begin, end;
    Share(long n, long unit, int thread, int threads) {
        const long units = (n + unit - 1) / unit;
        begin = std::min(n, units * thread / threads * unit);
        end = std::min(n, units * (thread + 1) / threads * unit);
    }
};

// What products read: numbers as they are, or pairs of them along the inner dimension, rounded to bfloat16.
template <class T, class Item> constexpr long item_numbers = std::is_same_v<T, Item> ? 1 : 2;
template <class T, class Item> constexpr long items(long numbers) {
    return (numbers + item_numbers<T, Item> - 1) / item_numbers<T, Item>;
}

// A matrix [inner, columns] of items in panels of `tile_columns` columns; within a panel, row after row. The last panel is
// padded with zeros to whole vectors.
template <class T, class Item = T> struct Panels {
    long numbers, inner, columns;  // numbers: the inner length of the matrix; inner: in items
    Array<Item> data;
    static long size(long numbers, long columns) {
        return (columns + tile_columns<T> - 1) / tile_columns<T> * tile_columns<T> * items<T, Item>(numbers);
    }
    explicit Panels(long numbers, long columns, Item* borrowed = nullptr)
        : numbers(numbers), inner(items<T, Item>(numbers)), columns(columns), data(size(numbers, columns), borrowed) {}

    Item* panel(long column) const { return data + column * inner; }
    static long panel_width(long left) {
        return std::min(tile_columns<T>, (left + width<T> - 1) / width<T> * width<T>);
    }

    // Pack this thread's share of a dense matrix [numbers, columns].
    void pack(const T* from, int thread, int threads) {
        each_panel(thread, threads, [&](long j0, long wide, long real, Item* to) {
            for (long k = 0; k < inner; k++) {
                if constexpr (std::is_same_v<T, Item>) {
                    for (long j = 0; j < wide; j++) to[k * wide + j] = j < real ? from[k * columns + j0 + j] : 0;
                } else if constexpr (has_bfloat16) {
                    const T *first = from + 2 * k * columns + j0, *second = first + columns;
                    sweep<T>(real, [&](long j, auto lanes) {
                        const Vector<T> below = 2 * k + 1 < numbers ? load(second + j, lanes) : Vector<T>{};
                        *(Vector<Pair>*)(to + k * wide + j) = pairs(load(first + j, lanes), below);
                    });
                }
            }
        });
    }

    // The same for a dense matrix [columns, numbers], to be packed as its transpose.
    void pack_transposed(const T* from, int thread, int threads) {
        constexpr long stripe = 64;  // inner rows at a time: what is written stays in the first cache
        each_panel(thread, threads, [&](long j0, long wide, long real, Item* to) {
            for (long k0 = 0; k0 < inner; k0 += stripe) {
                const long k1 = std::min(inner, k0 + stripe);
                for (long j = 0; j < wide; j++) {
                    if constexpr (std::is_same_v<T, Item>) {
                        for (long k = k0; k < k1; k++) to[k * wide + j] = j < real ? from[(j0 + j) * inner + k] : 0;
                    } else if constexpr (has_bfloat16) {
                        Pair rounded[stripe + 8] = {};
                        const long left = std::min(2 * stripe, numbers - 2 * k0);
                        if (j < real) round_row(from + (j0 + j) * numbers + 2 * k0, left, rounded);
                        for (long k = k0; k < k1; k++) to[k * wide + j] = rounded[k - k0];
                    }
                }
            }
        });
    }

  private:
    template <class Body> void each_panel(int thread, int threads, Body body) {
        const Share share(columns, tile_columns<T>, thread, threads);
        for (long j0 = share.begin; j0 < share.end; j0 += tile_columns<T>) {
            const long wide = panel_width(columns - j0);
            body(j0, wide, std::min(wide, columns - j0), panel(j0));
        }
    }
};

// Rows of up to `numbers` numbers as items: themselves, or rounded copies.
template <class T, class Item> struct RowItems {
    long apart;
    Array<Item> copies;
    std::vector<const Item*> rows;
    RowItems(long most, long numbers)
        : apart(std::is_same_v<T, Item> ? 0 : items<T, Item>(numbers) + 8), copies(most * apart), rows(apart ? most : 0) {}
    const Item* const* operator()(long n, const T* const* from, long numbers) {
        if constexpr (std::is_same_v<T, Item>) {
            return from;
        } else {
            for (long i = 0; i < n; i++) {
                if constexpr (has_bfloat16) round_row(from[i], numbers, copies + i * apart);
                rows[i] = copies + i * apart;
            }
            return rows.data();
        }
    }
};
