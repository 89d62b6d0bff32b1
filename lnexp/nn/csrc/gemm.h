// Matrix products for recurrent layers: a few rows times a weight matrix that is packed once and used at every step,
// and the sums over many cases that give the gradients of the weights.
//
// Rows are given as pointers, so that cases in any order, of any stride and any length need no copying.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include "simd.h"

// A register tile is `tile_rows` by `tile_vectors`: 24 sums in machines with 32 vector registers, 12 in those with 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr long tile_rows = 8;
#else
constexpr long tile_rows = 4;
#endif
constexpr long tile_vectors = 3;
template <class T> constexpr long tile_columns = tile_vectors * width<T>;
constexpr long inner_block = 512;  // of the inner length; the rows of a tile then stay in the first cache

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

// A matrix [inner, columns] in panels of `tile_columns` columns; within a panel, row after row. The last panel is
// padded with zeros to whole vectors.
template <class T> struct Panels {
    long inner, columns;
    Array<T> data;
    static long size(long inner, long columns) {
        return (columns + tile_columns<T> - 1) / tile_columns<T> * tile_columns<T> * inner;
    }
    explicit Panels(long inner, long columns, T* borrowed = nullptr)
        : inner(inner), columns(columns), data(size(inner, columns), borrowed) {}

    T* panel(long column) const { return data + column * inner; }
    static long panel_width(long left) {
        return std::min(tile_columns<T>, (left + width<T> - 1) / width<T> * width<T>);
    }

    // Pack this thread's share of a dense matrix [inner, columns].
    void pack(const T* from, int thread, int threads) {
        each_panel(thread, threads, [&](long j0, long wide, long real, T* to) {
            for (long k = 0; k < inner; k++)
                for (long j = 0; j < wide; j++) to[k * wide + j] = j < real ? from[k * columns + j0 + j] : 0;
        });
    }

    // The same for a dense matrix [columns, inner], to be packed as its transpose.
    void pack_transposed(const T* from, int thread, int threads) {
        constexpr long stripe = 64;  // inner rows at a time: what is written stays in the first cache
        each_panel(thread, threads, [&](long j0, long wide, long real, T* to) {
            for (long k0 = 0; k0 < inner; k0 += stripe) {
                const long k1 = std::min(inner, k0 + stripe);
                for (long j = 0; j < wide; j++)
                    for (long k = k0; k < k1; k++) to[k * wide + j] = j < real ? from[(j0 + j) * inner + k] : 0;
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

// The two forms of a left matrix: rows where they lie, or packed with the rows of a tile interleaved.
template <class T> struct RowsLeft {
    const T* const* rows;
    long offset;
    ALWAYS_INLINE T operator()(int row, long k) const { return rows[row][offset + k]; }
};
template <class T> struct PackedLeft {
    const T* data;
    ALWAYS_INLINE T operator()(int row, long k) const { return data[k * tile_rows + row]; }
};

// to[r][j0 + j] = start[r][j0 + j] + sum_k left(r, k) panel[k][j], for `rows` of R rows and `columns` columns of a
// panel V vectors wide; a null start means zero.
template <int R, int V, class T, class Left>
ALWAYS_INLINE void tile(long inner, Left left, const T* panel, const T* const* start, T* const* to, long rows, long j0,
                        long columns) {
    Vector<T> sums[R][V] = {};
    for (long k = 0; k < inner; k++) {
        Vector<T> right[V];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++) right[v] = *(const Vector<T>*)(panel + (k * V + v) * width<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const Vector<T> x = all<T>(left(r, k));
#pragma GCC unroll 3
            for (int v = 0; v < V; v++) sums[r][v] = fma(x, right[v], sums[r][v]);
        }
    }
    const auto put = [&](int r, int v, auto lanes) {
        const long j = j0 + v * width<T>;
        store(to[r] + j, start ? load(start[r] + j, lanes) + sums[r][v] : sums[r][v], lanes);
    };
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++) {
            const long left_over = columns - v * width<T>;
            if (r < rows && left_over >= width<T>) put(r, v, Whole{});
            else if (r < rows && left_over > 0) put(r, v, First{left_over});
        }
}

// The same for any width of panel.
template <int R, class T, class Left>
void tiles(long inner, Left left, const T* panel, const T* const* start, T* const* to, long rows, long j0,
           long columns) {
    if (columns > 2 * width<T>) tile<R, 3>(inner, left, panel, start, to, rows, j0, columns);
    else if (columns > width<T>) tile<R, 2>(inner, left, panel, start, to, rows, j0, columns);
    else tile<R, 1>(inner, left, panel, start, to, rows, j0, columns);
}

// to[i] = start[i] + rows[i] * right, for i < n and the columns of a share: by one thread. `start` may be null (zero) or
// equal `to` (accumulate). `backwards` takes the panels from the last to the first, which changes no sum: of a matrix as
// large as the cache, what was read last is then read first.
template <class T>
void multiply(const Panels<T>& right, long n, const T* const* rows, const T* const* start, T* const* to, Share share,
              bool backwards = false) {
    const long blocks = (right.inner + inner_block - 1) / inner_block;
    const long panels = (share.end - share.begin + tile_columns<T> - 1) / tile_columns<T>;
    const auto product = [&](long block, long number) {
        const long k0 = right.inner * block / blocks, inner = right.inner * (block + 1) / blocks - k0;
        const T* const* from = block == 0 ? start : to;
        const long j0 = share.begin + (backwards ? panels - 1 - number : number) * tile_columns<T>;
        const long columns = std::min(tile_columns<T>, right.columns - j0);
        const T* panel = right.panel(j0) + k0 * Panels<T>::panel_width(columns);
        long i = 0;
        const auto step = [&](auto rows_at_once) {
            constexpr int R = decltype(rows_at_once)::value;
            for (; i + R <= n; i += R) {
                const RowsLeft<T> left{rows + i, k0};
                tiles<R>(inner, left, panel, from ? from + i : from, to + i, R, j0, columns);
            }
        };
        step(std::integral_constant<int, tile_rows>{});
        step(std::integral_constant<int, 4>{});
        step(std::integral_constant<int, 2>{});
        step(std::integral_constant<int, 1>{});
    };
    if (n <= tile_rows) {  // all blocks of these rows stay in the first cache: every panel is read in one piece
        for (long number = 0; number < panels; number++)
            for (long block = 0; block < blocks; block++) product(block, number);
    } else {
        for (long block = 0; block < blocks; block++)
            for (long number = 0; number < panels; number++) product(block, number);
    }
}
template <class T>
void multiply(const Panels<T>& right, long n, const T* const* rows, const T* const* start, T* const* to) {
    multiply<T>(right, n, rows, start, to, Share(right.columns, tile_columns<T>, 0, 1));
}

// Weight gradients: to[g][j] += sum over cases of left[case][g] * right[case][j], for the rows g of one thread's share.
template <class T> struct OuterProduct {
    static constexpr long cases = inner_block;  // packed at a time
    Array<T> left, right;
    OuterProduct(Share share, long columns)
        : left((share.end - share.begin + tile_rows) * cases), right((columns + tile_columns<T>) * cases) {}

    void add(long n, const T* const* left_rows, const T* const* right_rows, Share share, long columns, T* to) {
        for (long i = 0; i < n; i += cases)
            add_block(std::min(cases, n - i), left_rows + i, right_rows + i, share, columns, to);
    }

  private:
    void add_block(long n, const T* const* left_rows, const T* const* right_rows, Share share, long columns, T* to) {
        if (share.begin == share.end) return;
        for (long g = share.begin; g < share.end; g += tile_rows) {
            T* packed = left + (g - share.begin) * n;
            const long real = std::min(tile_rows, share.end - g);
            if (real == tile_rows)
                for (long k = 0; k < n; k++) memcpy(packed + k * tile_rows, left_rows[k] + g, tile_rows * sizeof(T));
            else
                for (long k = 0; k < n; k++)
                    for (long r = 0; r < tile_rows; r++) packed[k * tile_rows + r] = r < real ? left_rows[k][g + r] : 0;
        }
        for (long j0 = 0; j0 < columns; j0 += tile_columns<T>) {
            const long real = std::min(tile_columns<T>, columns - j0), wide = Panels<T>::panel_width(real);
            for (long k = 0; k < n; k++) {
                T* row = right + k * wide;
                const T* from = right_rows[k] + j0;
                sweep<T>(real, [&](long j, auto lanes) { store(row + j, load(from + j, lanes), Whole{}); });
            }
            for (long g = share.begin; g < share.end; g += tile_rows) {
                T* rows[tile_rows];
                const long real_rows = std::min(tile_rows, share.end - g);
                for (long r = 0; r < tile_rows; r++) rows[r] = to + std::min(g + r, share.end - 1) * columns;
                const PackedLeft<T> packed{left + (g - share.begin) * n};
                tiles<tile_rows>(n, packed, (const T*)right, rows, rows, real_rows, j0, real);
            }
        }
    }
};
