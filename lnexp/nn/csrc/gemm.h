// Matrix products for recurrent layers: a few rows times a weight matrix that is packed once and used at every step,
// and the sums over many cases that give the gradients of the weights.
//
// Rows are given as pointers, so that cases in any order, of any stride and any length need no copying.
#pragma once
#include "panels.h"

constexpr long inner_block = 512;  // of the inner length; the rows of a tile then stay in the first cache

// The two forms of a left matrix: rows where they lie, or packed with the rows of a tile interleaved.
template <class Item> struct RowsLeft {
    const Item* const* rows;
    long offset;
    ALWAYS_INLINE Item operator()(int row, long k) const { return rows[row][offset + k]; }
};
template <class Item> struct PackedLeft {
    const Item* data;
    ALWAYS_INLINE Item operator()(int row, long k) const { return data[k * tile_rows + row]; }
};

// to[r][j0 + j] = start[r][j0 + j] + sum_k left(r, k) panel[k][j], for `rows` of R rows and `columns` columns of a
// panel V vectors wide; a null start means zero.
template <int R, int V, class T, class Item, class Left>
ALWAYS_INLINE void tile(long inner, Left left, const Item* panel, const T* const* start, T* const* to, long rows, long j0,
                        long columns) {
    Vector<T> sums[R][V] = {};
    for (long k = 0; k < inner; k++) {
        Vector<Item> right[V];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++) right[v] = *(const Vector<Item>*)(panel + (k * V + v) * width<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const Vector<Item> x = left(r, k) - Vector<Item>{};
#pragma GCC unroll 3
            for (int v = 0; v < V; v++) sums[r][v] = multiply_add(x, right[v], sums[r][v]);
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
template <int R, class T, class Item, class Left>
void tiles(long inner, Left left, const Item* panel, const T* const* start, T* const* to, long rows, long j0,
           long columns) {
    if (columns > 2 * width<T>) tile<R, 3, T>(inner, left, panel, start, to, rows, j0, columns);
    else if (columns > width<T>) tile<R, 2, T>(inner, left, panel, start, to, rows, j0, columns);
    else tile<R, 1, T>(inner, left, panel, start, to, rows, j0, columns);
}

// to[i] = start[i] + rows[i] * right, for i < n and the columns of a share: by one thread. `start` may be null (zero) or
// equal `to` (accumulate). `backwards` takes the panels from the last to the first, which changes no sum: of a matrix as
// large as the cache, what was read last is then read first.
template <class T, class Item = T>
void multiply(const Panels<T, Item>& right, long n, const Item* const* rows, const T* const* start, T* const* to, Share share,
              bool backwards = false) {
    const long blocks = (right.inner + inner_block - 1) / inner_block;
    const long panels = (share.end - share.begin + tile_columns<T> - 1) / tile_columns<T>;
    const auto product = [&](long block, long number) {
        const long k0 = right.inner * block / blocks, inner = right.inner * (block + 1) / blocks - k0;
        const T* const* from = block == 0 ? start : to;
        const long j0 = share.begin + (backwards ? panels - 1 - number : number) * tile_columns<T>;
        const long columns = std::min(tile_columns<T>, right.columns - j0);
        const Item* panel = right.panel(j0) + k0 * Panels<T, Item>::panel_width(columns);
        long i = 0;
        const auto step = [&](auto rows_at_once) {
            constexpr int R = decltype(rows_at_once)::value;
            for (; i + R <= n; i += R) {
                const RowsLeft<Item> left{rows + i, k0};
                tiles<R, T>(inner, left, panel, from ? from + i : from, to + i, R, j0, columns);
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
template <class T, class Item = T>
void multiply(const Panels<T, Item>& right, long n, const Item* const* rows, const T* const* start, T* const* to) {
    multiply<T, Item>(right, n, rows, start, to, Share(right.columns, tile_columns<T>, 0, 1));
}

// Weight gradients: to[g][j] += sum over cases of left[case][g] * right[case][j], for the rows g of one thread's share.
template <class T, class Item = T> struct OuterProduct {
    static constexpr long cases = inner_block;  // packed at a time
    Array<Item> left, right;
    OuterProduct(Share share, long columns)
        : left((share.end - share.begin + tile_rows) * cases), right((columns + tile_columns<T>) * cases) {}

    void add(long n, const T* const* left_rows, const T* const* right_rows, Share share, long columns, T* to) {
        for (long i = 0; i < n; i += cases)
            add_block(std::min(cases, n - i), left_rows + i, right_rows + i, share, columns, to);
    }

  private:
    void add_block(long n, const T* const* left_rows, const T* const* right_rows, Share share, long columns, T* to) {
        if (share.begin == share.end) return;
        const long inner = items<T, Item>(n);
        for (long g = share.begin; g < share.end; g += tile_rows)
            pack_left(n, left_rows, g, std::min(tile_rows, share.end - g), left + (g - share.begin) * inner);
        for (long j0 = 0; j0 < columns; j0 += tile_columns<T>) {
            const long real = std::min(tile_columns<T>, columns - j0);
            pack_right(n, right_rows, j0, real);
            for (long g = share.begin; g < share.end; g += tile_rows) {
                T* rows[tile_rows];
                const long real_rows = std::min(tile_rows, share.end - g);
                for (long r = 0; r < tile_rows; r++) rows[r] = to + std::min(g + r, share.end - 1) * columns;
                const PackedLeft<Item> packed{left + (g - share.begin) * inner};
                tiles<tile_rows, T>(inner, packed, (const Item*)right, rows, rows, real_rows, j0, real);
            }
        }
    }

    void pack_left(long n, const T* const* rows, long g, long real, Item* to) const {
        if constexpr (!std::is_same_v<T, Item>) {
            if constexpr (has_bfloat16)
                for (long k = 0; k < n; k += 2) {
                    const First lanes{real};
                    const Vector<T> second = k + 1 < n ? load(rows[k + 1] + g, lanes) : Vector<T>{};
                    const Vector<Pair> both = pairs(load(rows[k] + g, lanes), second);
                    memcpy(to + k / 2 * tile_rows, &both, tile_rows * sizeof(Pair));
                }
        } else if (real == tile_rows) {
            for (long k = 0; k < n; k++) memcpy(to + k * tile_rows, rows[k] + g, tile_rows * sizeof(T));
        } else {
            for (long k = 0; k < n; k++)
                for (long r = 0; r < tile_rows; r++) to[k * tile_rows + r] = r < real ? rows[k][g + r] : 0;
        }
    }

    void pack_right(long n, const T* const* rows, long j0, long real) const {
        const long wide = Panels<T, Item>::panel_width(real);
        for (long k = 0; k < n; k += item_numbers<T, Item>) {
            Item* row = right + k / item_numbers<T, Item> * wide;
            const T* from = rows[k] + j0;
            if constexpr (std::is_same_v<T, Item>) {
                sweep<T>(real, [&](long j, auto lanes) { store(row + j, load(from + j, lanes), Whole{}); });
            } else if constexpr (has_bfloat16) {
                const T* next = k + 1 < n ? rows[k + 1] + j0 : nullptr;
                sweep<T>(real, [&](long j, auto lanes) {
                    *(Vector<Pair>*)(row + j) = pairs(load(from + j, lanes), next ? load(next + j, lanes) : Vector<T>{});
                });
            }
        }
    }
};
