// DRAW's windows on images of 28 x 28 pixels: reading, writing, and their gradients, one case at a time.
//
//   F[n, i] = exp(-(i - mu_n)^2 / (2 sigma^2)) / (their sum over i + 1e-4),   mu_n = (v + 1) / 2 * 28 + (n - N / 2 + 1/2) delta
//   read:   r = gamma F_y [image] F_x^T, of the image and of image - sigmoid(canvas)
//   write:  canvas += F_y^T [patch] F_x / gamma
//
// Rows of images are padded with zeros to whole vectors.
#pragma once
#include "simd.h"

constexpr long side = 28, image_row = 32, image_size = side * image_row;
constexpr long read_side = 2, write_side = 5, filter_numbers = 5;
constexpr long inputs_seen = 2 * read_side * read_side;
constexpr long patch_at = filter_numbers, read_at = patch_at + write_side * write_side;
constexpr long attention_size = read_at + filter_numbers;
template <class T> constexpr int image_vectors = image_row / width<T>;

// The N filters of one axis.
template <class T, int N> struct Filters {
    alignas(64) T f[N][image_row];
    T mean[N];

    static Vector<T> pixels(int v) {
        Vector<T> at;
        for (int i = 0; i < width<T>; i++) at[i] = v * width<T> + i;
        return at;
    }
    void make(T centre, T delta, T half_precision) {
        for (int n = 0; n < N; n++) {
            mean[n] = centre + delta * (n - N / T(2) + T(0.5));
            Vector<T> e[image_vectors<T>], total{};
            for (int v = 0; v < image_vectors<T>; v++) {
                const Vector<T> at = pixels(v), d = at - mean[n];
                e[v] = exponential<T>(-(d * d) * half_precision);
                // Smaller values would make products subnormal, which is slow, and change no sum.
                e[v] = at > all<T>(side - T(0.5)) || e[v] < all<T>(T(1e-30)) ? Vector<T>{} : e[v];
                total += e[v];
            }
            const T scale = 1 / (sum(total) + T(1e-4));
            for (int v = 0; v < image_vectors<T>; v++) store(f[n] + v * width<T>, e[v] * scale, Whole{});
        }
    }
    // Adds to the gradients of centre, delta and log sigma^2 what comes from df.
    void backward(const T (*df)[image_row], T half_precision, T& dcentre, T& ddelta, T& dlog_sigma2) const {
        for (int n = 0; n < N; n++) {
            Vector<T> s{}, first{}, second{};
            for (int v = 0; v < image_vectors<T>; v++) s += at(df[n], v) * at(f[n], v);
            const T projected = sum(s);
            for (int v = 0; v < image_vectors<T>; v++) {
                const Vector<T> d = pixels(v) - mean[n], w = at(f[n], v) * (at(df[n], v) - projected) * d;
                first += w;
                second += w * d;
            }
            const T dmean = 2 * half_precision * sum(first);
            dcentre += dmean;
            ddelta += dmean * (n - N / T(2) + T(0.5));
            dlog_sigma2 += half_precision * sum(second);
        }
    }
    static ALWAYS_INLINE Vector<T> at(const T* row, int v) { return load(row + v * width<T>, Whole{}); }
};

// A window, from its five numbers: centre y, centre x, log delta, log sigma^2, log gamma.
template <class T, int N> struct Window {
    Filters<T, N> y, x;
    T delta, half_precision, gamma;
    explicit Window(const T* numbers)
        : delta((side - 1) / (N - T(1)) * std::exp(numbers[2])), half_precision(T(0.5) * std::exp(-numbers[3])),
          gamma(std::exp(numbers[4])) {
        y.make((numbers[0] + 1) / 2 * side, delta, half_precision);
        x.make((numbers[1] + 1) / 2 * side, delta, half_precision);
    }
    // The gradients of the first four numbers.
    void backward(const T (*dy)[image_row], const T (*dx)[image_row], T* dnumbers) const {
        T dcy = 0, dcx = 0, dd = 0, dv = 0;
        y.backward(dy, half_precision, dcy, dd, dv);
        x.backward(dx, half_precision, dcx, dd, dv);
        dnumbers[0] = dcy * side / 2, dnumbers[1] = dcx * side / 2, dnumbers[2] = dd * delta, dnumbers[3] = dv;
    }
};

template <class T> ALWAYS_INLINE Vector<T> pixels_at(const T* image, long row, int v) {
    return load(image + row * image_row + v * width<T>, Whole{});
}

template <class T> void write_patch(const T* attention, T* canvas) {
    constexpr int N = write_side, V = image_vectors<T>;
    const Window<T, N> w(attention);
    const T* patch = attention + patch_at;
    Vector<T> rows[N][V];  // [patch] F_x / gamma
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++) {
            Vector<T> t{};
            for (int m = 0; m < N; m++) t += patch[n * N + m] * w.x.at(w.x.f[m], v);
            rows[n][v] = t / w.gamma;
        }
    for (long i = 0; i < side; i++)
        for (int v = 0; v < V; v++) {
            Vector<T> t = pixels_at(canvas, i, v);
            for (int n = 0; n < N; n++) t += w.y.f[n][i] * rows[n][v];
            store(canvas + i * image_row + v * width<T>, t, Whole{});
        }
}

// Given dcanvas, the gradient of the canvas: those of the window's numbers and of the patch.
template <class T> void write_backward(const T* attention, const T* dcanvas, T* dattention) {
    constexpr int N = write_side, V = image_vectors<T>;
    const Window<T, N> w(attention);
    const T *patch = attention + patch_at, inverse = 1 / w.gamma;
    Vector<T> rows[N][V] = {}, drows[N][V] = {};
    for (int n = 0; n < N; n++)
        for (int m = 0; m < N; m++)
            for (int v = 0; v < V; v++) rows[n][v] += patch[n * N + m] * inverse * w.x.at(w.x.f[m], v);
    alignas(64) T dy[N][image_row] = {}, dx[N][image_row] = {};
    for (long i = 0; i < side; i++) {
        Vector<T> t[N] = {};
        for (int v = 0; v < V; v++) {
            const Vector<T> d = pixels_at(dcanvas, i, v);
            for (int n = 0; n < N; n++) t[n] += rows[n][v] * d, drows[n][v] += w.y.f[n][i] * d;
        }
        for (int n = 0; n < N; n++) dy[n][i] = sum(t[n]);
    }
    Vector<T> dgamma{};
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < V; v++) dgamma += drows[n][v] * rows[n][v];
        for (int m = 0; m < N; m++) {
            Vector<T> t{};
            for (int v = 0; v < V; v++) {
                t += drows[n][v] * w.x.at(w.x.f[m], v);
                const Vector<T> old = w.x.at(dx[m], v);
                store(dx[m] + v * width<T>, old + patch[n * N + m] * inverse * drows[n][v], Whole{});
            }
            dattention[patch_at + n * N + m] = sum(t) * inverse;
        }
    }
    w.backward(dy, dx, dattention);
    dattention[4] = -sum(dgamma);
}

// seen = what is read of the image and of what the canvas lacks; inked = sigmoid(canvas), for the gradient.
template <class T> void read_window(const T* attention, const T* image, const T* canvas, T* inked, T* seen) {
    constexpr int N = read_side, V = image_vectors<T>;
    const Window<T, N> w(attention + read_at);
    Vector<T> of_image[N][V] = {}, of_rest[N][V] = {};  // F_y [image]
    for (long i = 0; i < side; i++)
        for (int v = 0; v < V; v++) {
            const Vector<T> pixel = pixels_at(image, i, v), ink = sigmoid<T>(pixels_at(canvas, i, v)), rest = pixel - ink;
            store(inked + i * image_row + v * width<T>, ink, Whole{});
            for (int n = 0; n < N; n++) of_image[n][v] += w.y.f[n][i] * pixel, of_rest[n][v] += w.y.f[n][i] * rest;
        }
    for (int n = 0; n < N; n++)
        for (int m = 0; m < N; m++) {
            Vector<T> t{}, u{};
            for (int v = 0; v < V; v++) t += of_image[n][v] * w.x.at(w.x.f[m], v), u += of_rest[n][v] * w.x.at(w.x.f[m], v);
            seen[n * N + m] = w.gamma * sum(t);
            seen[N * N + n * N + m] = w.gamma * sum(u);
        }
}

// Given dseen: the gradients of the window's numbers; adds to dcanvas.
template <class T>
void read_backward(const T* attention, const T* image, const T* inked, const T* dseen, T* dcanvas, T* dattention) {
    constexpr int N = read_side, V = image_vectors<T>;
    const Window<T, N> w(attention + read_at);
    const T *dimage_part = dseen, *drest_part = dseen + N * N;
    Vector<T> back_image[N][V] = {}, back_rest[N][V] = {}, of_image[N][V] = {}, of_rest[N][V] = {};
    for (int n = 0; n < N; n++)
        for (int m = 0; m < N; m++)
            for (int v = 0; v < V; v++) {
                back_image[n][v] += w.gamma * dimage_part[n * N + m] * w.x.at(w.x.f[m], v);
                back_rest[n][v] += w.gamma * drest_part[n * N + m] * w.x.at(w.x.f[m], v);
            }
    alignas(64) T dy[N][image_row] = {}, dx[N][image_row] = {};
    for (long i = 0; i < side; i++) {
        Vector<T> t[N] = {};
        for (int v = 0; v < V; v++) {
            const Vector<T> pixel = pixels_at(image, i, v), ink = pixels_at(inked, i, v), rest = pixel - ink;
            Vector<T> drest{};
            for (int n = 0; n < N; n++) {
                const T f = w.y.f[n][i];
                of_image[n][v] += f * pixel, of_rest[n][v] += f * rest;
                t[n] += back_image[n][v] * pixel + back_rest[n][v] * rest;
                drest += f * back_rest[n][v];
            }
            const Vector<T> old = pixels_at(dcanvas, i, v);
            store(dcanvas + i * image_row + v * width<T>, old - drest * (ink - ink * ink), Whole{});
        }
        for (int n = 0; n < N; n++) dy[n][i] = sum(t[n]);
    }
    Vector<T> dgamma{};
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++) {
            dgamma += back_image[n][v] * of_image[n][v] + back_rest[n][v] * of_rest[n][v];
            for (int m = 0; m < N; m++) {
                const Vector<T> d = dimage_part[n * N + m] * of_image[n][v] + drest_part[n * N + m] * of_rest[n][v];
                store(dx[m] + v * width<T>, w.x.at(dx[m], v) + w.gamma * d, Whole{});
            }
        }
    w.backward(dy, dx, dattention + read_at);
    dattention[read_at + 4] = sum(dgamma);
}
