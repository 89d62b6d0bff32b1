// DRAW over all glimpses: encoder and decoder LSTM, the two linear maps, and the windows between them.
//
//   r_t = read(image, image - sigmoid(canvas));  h_enc = LSTM([r_t, h_dec]);  [mu, log sigma] = W_p h_enc + b_p
//   z_t = mu + sigma noise;  h_dec = LSTM(z_t);  attention = W_a h_dec + b_a;  canvas += write(attention)
//
// A thread owns cases and runs all their glimpses; threads meet only where the gradients of the weights are summed.
//
// T glimpses, B cases, H units, Z latents, P = 2 Z, A numbers of the attention, U = 8 + H inputs of the encoder.
#pragma once
#include "attention.h"
#include "lstm.h"
#include "passes.h"

// Buffers of one LSTM. Row t of a state is the one before glimpse t.
template <class T> struct LstmBuffers {
    T *sums_x, *sums_h;  // [ring, B, 4 H]
    T* cells;            // [ring, B, H]
    Moments<T>* moments; // [ring, B, 9]
    T *dsums_x, *dsums_h;  // [T, B, 4 H]
    T *dweight_ih, *dweight_hh, *dparameters;
};

// Mirrored by `Draw` in ops/draw/cpu.py: same order, every field 8 bytes.
template <class T> struct Draw {
    int64_t threads, glimpses, cases, hidden, latents;
    int64_t ring;  // rows of the buffers over glimpses: T + 1 where the backward pass needs them, else 2
    const Call<T>*encoder, *decoder;  // norms, sizes and parameters
    const T *posterior_weight, *posterior_bias, *attention_weight, *attention_bias;
    const T *image, *noise;  // [B, 28, 32], [T, B, Z]
    LstmBuffers<T> of_encoder, of_decoder;
    T* inputs;     // [ring, B, U] what the encoder reads: r_t, h_dec
    T* h_enc;      // [ring, B, H]
    T* z;          // [ring, B, Z]
    T* attention;  // [ring, B, A]
    T* inked;      // [ring, B, 28, 32] sigmoid(canvas)
    T* canvas;     // [B, 28, 32]
    T* posterior;  // [T, B, P]
    T *dcanvas, *dposterior;  // [B, 28, 32], [T, B, P]: going in those of the results; both are overwritten
    T* dattention;            // [T + 1, B, A]
    T *dposterior_weight, *dposterior_bias, *dattention_weight, *dattention_bias;

    int64_t inputs_size() const { return inputs_seen + hidden; }
    T* at(T* buffer, int64_t size, int64_t t, int64_t b) const { return buffer + (t % ring * cases + b) * size; }
    T* inputs_row(int64_t t, int64_t b) const { return at(inputs, inputs_size(), t, b); }
    T* h_dec_row(int64_t t, int64_t b) const { return inputs_row(t, b) + inputs_seen; }
    T* h_enc_row(int64_t t, int64_t b) const { return at(h_enc, hidden, t, b); }
    T* z_row(int64_t t, int64_t b) const { return at(z, latents, t, b); }
    T* attention_row(int64_t t, int64_t b) const { return at(attention, attention_size, t, b); }
    T* dattention_row(int64_t t, int64_t b) const { return dattention + (t * cases + b) * attention_size; }
    T* inked_row(int64_t t, int64_t b) const { return at(inked, image_size, t, b); }
    T* posterior_row(T* all, int64_t t, int64_t b) const { return all + (t * cases + b) * 2 * latents; }

    Step<T> step(const LstmBuffers<T>& of, T* h, int64_t t, int64_t b) const {
        Step<T> s{};
        s.sums_x = at(of.sums_x, 4 * hidden, t, b);
        s.sums_h = of.sums_h ? at(of.sums_h, 4 * hidden, t, b) : nullptr;
        s.c_before = at(of.cells, hidden, t, b);
        s.c = at(of.cells, hidden, t + 1, b);
        s.h = h;
        if (of.moments) s.moments = of.moments + (t % ring * cases + b) * 9;
        s.dsums_x = of.dsums_x ? of.dsums_x + (t * cases + b) * 4 * hidden : nullptr;
        s.dsums_h = of.dsums_h ? of.dsums_h + (t * cases + b) * 4 * hidden : s.dsums_x;
        return s;
    }
};

// The columns of what is read, for the first glimpse, where all states are 0.
template <class T> std::vector<T> seen_columns(const Draw<T>& p, const T* weight_ih) {
    std::vector<T> columns(4 * p.hidden * inputs_seen);
    for (int64_t g = 0; g < 4 * p.hidden; g++)
        std::copy_n(weight_ih + g * p.inputs_size(), inputs_seen, columns.data() + g * inputs_seen);
    return columns;
}

// Row pointers of a thread's cases, and products with them.
template <class T> struct CaseRows {
    Rows<T> from, start, to;
    explicit CaseRows(int64_t n) : from(n), start(n), to(n) {}

    // to(b) = start(b) + from(b) * right for the cases of `mine`; a start of 0 is nullptr.
    template <class From, class Start, class To>
    void multiply(const Panels<T>& right, Share mine, From from_row, Start start_row, To to_row) {
        for (int64_t i = 0; i < (int64_t)from.size(); i++) {
            const int64_t b = mine.begin + i;
            from[i] = from_row(b), start[i] = start_row(b), to[i] = to_row(b);
        }
        const bool starts = !start.empty() && start[0];
        ::multiply<T>(right, from.size(), from.data(), starts ? start.data() : nullptr, writable<T>(to));
    }
};

template <class T> struct ForwardPanels {
    Panels<T> enc_ih, enc_hh, enc_seen, dec_ih, dec_hh, posterior, attention;
    explicit ForwardPanels(const Draw<T>& p)
        : enc_ih(p.inputs_size(), 4 * p.hidden), enc_hh(p.hidden, 4 * p.hidden), enc_seen(inputs_seen, 4 * p.hidden),
          dec_ih(p.latents, 4 * p.hidden), dec_hh(p.hidden, 4 * p.hidden), posterior(p.hidden, 2 * p.latents),
          attention(p.hidden, attention_size) {}
    void pack(const Draw<T>& p, int thread, int threads) {
        enc_ih.pack_transposed(p.encoder->weight_ih, thread, threads);
        enc_hh.pack_transposed(p.encoder->weight_hh, thread, threads);
        if (thread == 0) enc_seen.pack_transposed(seen_columns(p, p.encoder->weight_ih).data(), 0, 1);
        dec_ih.pack_transposed(p.decoder->weight_ih, thread, threads);
        dec_hh.pack_transposed(p.decoder->weight_hh, thread, threads);
        posterior.pack_transposed(p.posterior_weight, thread, threads);
        attention.pack_transposed(p.attention_weight, thread, threads);
    }
};

// What one thread does.
template <class T, class Cell> struct DrawForward {
    const Draw<T>& p;
    const ForwardPanels<T>& w;
    const Share mine;
    Cell encoder, decoder;
    CaseRows<T> rows;
    std::vector<Step<T>> steps;  // of one glimpse
    DrawForward(const Draw<T>& p, const ForwardPanels<T>& w, Share mine)
        : p(p), w(w), mine(mine), encoder(*p.encoder), decoder(*p.decoder), rows(mine.end - mine.begin) {}

    void run() {
        if (mine.begin == mine.end) return;
        for (int64_t b = mine.begin; b < mine.end; b++) {
            std::fill_n(p.canvas + b * image_size, image_size, T(0));
            std::fill_n(p.h_dec_row(0, b), p.hidden, T(0));
            std::fill_n(p.h_enc_row(0, b), p.hidden, T(0));
            std::fill_n(p.at(p.of_encoder.cells, p.hidden, 0, b), p.hidden, T(0));
            std::fill_n(p.at(p.of_decoder.cells, p.hidden, 0, b), p.hidden, T(0));
            std::copy_n(p.attention_bias, attention_size, p.attention_row(0, b));
        }
        for (int64_t t = 0; t < p.glimpses; t++) {
            for (int64_t b = mine.begin; b < mine.end; b++) {
                T* canvas = p.canvas + b * image_size;
                if (t) write_patch(p.attention_row(t, b), canvas);
                read_window(p.attention_row(t, b), p.image + b * image_size, canvas, p.inked_row(t, b), p.inputs_row(t, b));
            }
            const auto seen = [&](int64_t b) { return p.inputs_row(t, b); };
            step(encoder, p.of_encoder, t ? w.enc_ih : w.enc_seen, w.enc_hh, t, seen,
                 [&](int64_t s, int64_t b) { return p.h_enc_row(s, b); });
            rows.multiply(w.posterior, mine, [&](int64_t b) { return p.h_enc_row(t + 1, b); },
                          [&](int64_t) { return p.posterior_bias; },
                          [&](int64_t b) { return p.posterior_row(p.posterior, t, b); });
            for (int64_t b = mine.begin; b < mine.end; b++) sample(t, b);
            step(decoder, p.of_decoder, w.dec_ih, w.dec_hh, t, [&](int64_t b) { return p.z_row(t, b); },
                 [&](int64_t s, int64_t b) { return p.h_dec_row(s, b); });
            rows.multiply(w.attention, mine, [&](int64_t b) { return p.h_dec_row(t + 1, b); },
                          [&](int64_t) { return p.attention_bias; },
                          [&](int64_t b) { return p.attention_row(t + 1, b); });
        }
        for (int64_t b = mine.begin; b < mine.end; b++)
            write_patch(p.attention_row(p.glimpses, b), p.canvas + b * image_size);
    }

    void sample(int64_t t, int64_t b) {
        const T *mean = p.posterior_row(p.posterior, t, b), *log_sigma = mean + p.latents;
        const T* noise = p.noise + (t * p.cases + b) * p.latents;
        T* z = p.z_row(t, b);
        sweep<T>(p.latents, [&](long j, auto lanes) {
            const Vector<T> sigma = exponential<T>(load(log_sigma + j, lanes));
            store(z + j, load(mean + j, lanes) + sigma * load(noise + j, lanes), lanes);
        });
    }

    template <class Input, class State>
    void step(Cell& cell, const LstmBuffers<T>& of, const Panels<T>& ih, const Panels<T>& hh, int64_t t, Input input, State h) {
        const auto sums_x = [&](int64_t b) { return p.at(of.sums_x, 4 * p.hidden, t, b); };
        const auto sums_h = [&](int64_t b) { return p.at(of.sums_h, 4 * p.hidden, t, b); };
        const auto none = [](int64_t) { return (const T*)nullptr; };
        const auto before = [&](int64_t b) { return h(t, b); };
        rows.multiply(ih, mine, input, none, sums_x);
        if (t == 0) {
            if constexpr (!Cell::joint)
                for (int64_t b = mine.begin; b < mine.end; b++) std::fill_n(sums_h(b), 4 * p.hidden, T(0));
        } else if constexpr (Cell::joint) {
            rows.multiply(hh, mine, before, sums_x, sums_x);
        } else {
            rows.multiply(hh, mine, before, none, sums_h);
        }
        steps.clear();
        for (int64_t b = mine.begin; b < mine.end; b++) steps.push_back(p.step(of, h(t + 1, b), t, b));
        cell.forward(steps.data(), (int64_t)steps.size());
    }
};

template <class T, class Cell> void draw_forward(const Draw<T>& p) {
    ForwardPanels<T> panels(p);
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        const auto part = make_part<DrawForward<T, Cell>>(failed, p, panels, Share(p.cases, 1, thread, threads));
        panels.pack(p, thread, threads);
#pragma omp barrier
        if (!failed) part->run();
    }
    if (failed) throw std::bad_alloc();
}

template <class T> struct BackwardPanels {
    Panels<T> enc_ih, enc_hh, enc_seen, dec_ih, dec_hh, posterior, attention;
    explicit BackwardPanels(const Draw<T>& p)
        : enc_ih(4 * p.hidden, p.inputs_size()), enc_hh(4 * p.hidden, p.hidden), enc_seen(4 * p.hidden, inputs_seen),
          dec_ih(4 * p.hidden, p.latents), dec_hh(4 * p.hidden, p.hidden), posterior(2 * p.latents, p.hidden),
          attention(attention_size, p.hidden) {}
    void pack(const Draw<T>& p, int thread, int threads) {
        enc_ih.pack(p.encoder->weight_ih, thread, threads);
        enc_hh.pack(p.encoder->weight_hh, thread, threads);
        if (thread == 0) enc_seen.pack(seen_columns(p, p.encoder->weight_ih).data(), 0, 1);
        dec_ih.pack(p.decoder->weight_ih, thread, threads);
        dec_hh.pack(p.decoder->weight_hh, thread, threads);
        posterior.pack(p.posterior_weight, thread, threads);
        attention.pack(p.attention_weight, thread, threads);
    }
};

// What one thread does: all glimpses of its cases, last to first; then its rows of the gradients of the weights.
template <class T, class Cell> struct DrawBackward {
    const Draw<T>& p;
    const BackwardPanels<T>& w;
    const int thread, threads;
    const Share mine;
    Cell encoder, decoder;
    ParameterGradients<T> grad_enc, grad_dec;
    CaseRows<T> rows;
    std::vector<Step<T>> steps;  // of one glimpse
    Array<T> dinputs, dh_enc, dz, dc_enc, dc_dec;  // of this thread's cases
    OuterProduct<T> outer;

    DrawBackward(const Draw<T>& p, const BackwardPanels<T>& w, T* partial, int thread, int threads)
        : p(p), w(w), thread(thread), threads(threads), mine(p.cases, 1, thread, threads), encoder(*p.encoder),
          decoder(*p.decoder), grad_enc(partial, 4 * p.hidden, p.hidden),
          grad_dec(partial + ParameterGradients<T>::size(4 * p.hidden, p.hidden), 4 * p.hidden, p.hidden),
          rows(mine.end - mine.begin), dinputs(count() * p.inputs_size()), dh_enc(count() * p.hidden),
          dz(count() * p.latents), dc_enc(count() * p.hidden), dc_dec(count() * p.hidden),
          outer(Share(std::max(4 * p.hidden, 2 * p.latents), 1, 0, threads), std::max(p.inputs_size(), p.latents)) {}

    int64_t count() const { return std::max<int64_t>(1, mine.end - mine.begin); }
    T* mine_row(const Array<T>& rows_of, int64_t size, int64_t b) const { return rows_of + (b - mine.begin) * size; }

    void run() {
        std::fill_n(dc_enc.data.get(), count() * p.hidden, T(0));
        std::fill_n(dc_dec.data.get(), count() * p.hidden, T(0));
        if (mine.begin != mine.end)
            for (int64_t t = p.glimpses - 1; t >= 0; t--) glimpse(t);
        encoder.finish(grad_enc);
        decoder.finish(grad_dec);
    }

    void glimpse(int64_t t) {
        const bool last = t == p.glimpses - 1;
        const auto none = [](int64_t) { return (const T*)nullptr; };
        const auto dread = [&](int64_t b) { return mine_row(dinputs, p.inputs_size(), b); };
        const auto dh_dec = [&](int64_t b) { return dread(b) + inputs_seen; };
        const auto dh = [&](int64_t b) { return mine_row(dh_enc, p.hidden, b); };
        for (int64_t b = mine.begin; b < mine.end; b++) windows(t + 1, b, true, !last, dread(b));
        const auto dattention = [&](int64_t b) { return p.dattention_row(t + 1, b); };
        if (last) rows.multiply(w.attention, mine, dattention, none, dh_dec);
        else rows.multiply(w.attention, mine, dattention, dh_dec, dh_dec);
        steps.clear();
        for (int64_t b = mine.begin; b < mine.end; b++) {
            Step<T>& s = steps.emplace_back(p.step(p.of_decoder, p.h_dec_row(t + 1, b), t, b));
            s.dh = dh_dec(b), s.dc = mine_row(dc_dec, p.hidden, b);
        }
        decoder.backward(steps.data(), (int64_t)steps.size(), grad_dec);
        const auto dsums_dec = [&](int64_t b) { return p.of_decoder.dsums_x + (t * p.cases + b) * 4 * p.hidden; };
        rows.multiply(w.dec_ih, mine, dsums_dec, none, [&](int64_t b) { return mine_row(dz, p.latents, b); });
        for (int64_t b = mine.begin; b < mine.end; b++) sample_backward(t, b, mine_row(dz, p.latents, b));
        const auto dposterior = [&](int64_t b) { return p.posterior_row(p.dposterior, t, b); };
        if (last) rows.multiply(w.posterior, mine, dposterior, none, dh);
        else rows.multiply(w.posterior, mine, dposterior, dh, dh);
        steps.clear();
        for (int64_t b = mine.begin; b < mine.end; b++) {
            Step<T>& s = steps.emplace_back(p.step(p.of_encoder, p.h_enc_row(t + 1, b), t, b));
            s.dh = dh(b), s.dc = mine_row(dc_enc, p.hidden, b);
        }
        encoder.backward(steps.data(), (int64_t)steps.size(), grad_enc);
        const auto hidden_sums = [&](const LstmBuffers<T>& of) {
            const T* first = (of.dsums_h ? of.dsums_h : of.dsums_x) + t * p.cases * 4 * p.hidden;
            return [first, size = 4 * p.hidden](int64_t b) { return first + b * size; };
        };
        const auto dsums_enc = [&](int64_t b) { return p.of_encoder.dsums_x + (t * p.cases + b) * 4 * p.hidden; };
        if (t) {
            rows.multiply(w.enc_ih, mine, dsums_enc, none, dread);
            rows.multiply(w.dec_hh, mine, hidden_sums(p.of_decoder), dh_dec, dh_dec);
            rows.multiply(w.enc_hh, mine, hidden_sums(p.of_encoder), none, dh);
        } else {
            rows.multiply(w.enc_seen, mine, dsums_enc, none, dread);
            for (int64_t b = mine.begin; b < mine.end; b++) windows(0, b, false, true, dread(b));
        }
    }

    // The gradients of attention row t: of what was written with it, and of what was read with it afterwards.
    void windows(int64_t t, int64_t b, bool writes, bool reads, const T* dread) {
        T *dattention = p.dattention_row(t, b), *dcanvas = p.dcanvas + b * image_size;
        std::fill_n(dattention, attention_size, T(0));
        const T* attention = p.attention_row(t, b);
        if (reads) read_backward(attention, p.image + b * image_size, p.inked_row(t, b), dread, dcanvas, dattention);
        if (writes) write_backward(attention, dcanvas, dattention);
    }

    void sample_backward(int64_t t, int64_t b, const T* dz_row) {
        const T* log_sigma = p.posterior_row(p.posterior, t, b) + p.latents;
        const T* noise = p.noise + (t * p.cases + b) * p.latents;
        T *dmean = p.posterior_row(p.dposterior, t, b), *dlog_sigma = dmean + p.latents;
        sweep<T>(p.latents, [&](long j, auto lanes) {
            const Vector<T> d = load(dz_row + j, lanes), sigma = exponential<T>(load(log_sigma + j, lanes));
            store(dmean + j, load(dmean + j, lanes) + d, lanes);
            store(dlog_sigma + j, load(dlog_sigma + j, lanes) + d * load(noise + j, lanes) * sigma, lanes);
        });
    }

    // This thread's rows of to[g][j] = sum of left(t, b)[g] * right(t, b)[j] over all cases and the glimpses from `first` on.
    template <class Left, class Right>
    void sum_products(int64_t first, int64_t left_size, int64_t right_size, Left left, Right right, T* to) {
        const Share share(left_size, tile_rows, thread, threads);
        std::fill(to + share.begin * right_size, to + share.end * right_size, T(0));
        Rows<T> left_rows, right_rows;
        for (int64_t t = first; t < p.glimpses; t++)
            for (int64_t b = 0; b < p.cases; b++) {
                left_rows.push_back(left(t, b));
                right_rows.push_back(right(t, b));
            }
        outer.add(left_rows.size(), left_rows.data(), right_rows.data(), share, right_size, to);
    }

    void weight_gradients() {
        const int64_t H = p.hidden, B = p.cases;
        const auto rows_of = [&](const T* at) { return [=](int64_t t, int64_t b) { return at + (t * B + b) * 4 * H; }; };
        const auto lstm = [&](const LstmBuffers<T>& of, int64_t inputs, auto input, auto h) {
            sum_products(0, 4 * H, inputs, rows_of(of.dsums_x), input, of.dweight_ih);
            sum_products(1, 4 * H, H, rows_of(of.dsums_h ? of.dsums_h : of.dsums_x), h, of.dweight_hh);
        };
        const auto h_enc = [&](int64_t t, int64_t b) { return p.h_enc_row(t, b); };
        const auto h_dec = [&](int64_t t, int64_t b) { return p.h_dec_row(t, b); };
        const auto z = [&](int64_t t, int64_t b) { return p.z_row(t, b); };
        lstm(p.of_encoder, p.inputs_size(), [&](int64_t t, int64_t b) { return p.inputs_row(t, b); }, h_enc);
        lstm(p.of_decoder, p.latents, z, h_dec);
        sum_products(0, 2 * p.latents, H, [&](int64_t t, int64_t b) { return p.posterior_row(p.dposterior, t, b); },
                     [&](int64_t t, int64_t b) { return p.h_enc_row(t + 1, b); }, p.dposterior_weight);
        sum_products(0, attention_size, H, [&](int64_t t, int64_t b) { return p.dattention_row(t + 1, b); },
                     [&](int64_t t, int64_t b) { return p.h_dec_row(t + 1, b); }, p.dattention_weight);
    }
};

// The sum of n rows.
template <class T> void sum_rows(int64_t n, int64_t size, const T* rows, T* to) {
    std::fill_n(to, size, T(0));
    for (int64_t r = 0; r < n; r++)
        sweep<T>(size, [&](long j, auto lanes) { store(to + j, load(to + j, lanes) + load(rows + r * size + j, lanes), lanes); });
}

template <class T, class Cell> void draw_backward(const Draw<T>& p) {
    const int64_t size = ParameterGradients<T>::size(4 * p.hidden, p.hidden);
    BackwardPanels<T> panels(p);
    Array<T> partial(2 * size * p.threads);
    int count = 1;  // of threads
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(p.threads)
    {
        const int thread = thread_number(), threads = thread_count();
        if (thread == 0) count = threads;
        const auto part = make_part<DrawBackward<T, Cell>>(failed, p, panels, partial + 2 * size * thread, thread, threads);
        panels.pack(p, thread, threads);
#pragma omp barrier
        if (!failed) part->run();
#pragma omp barrier
        if (!failed) part->weight_gradients();
    }
    if (failed) throw std::bad_alloc();
    sum_rows(p.glimpses * p.cases, 2 * p.latents, (const T*)p.dposterior, p.dposterior_bias);
    sum_rows((p.glimpses + 1) * p.cases, attention_size, (const T*)p.dattention, p.dattention_bias);
    for (int lstm = 0; lstm < 2; lstm++) {
        T* to = (lstm ? p.of_decoder : p.of_encoder).dparameters;
        std::fill_n(to, size, T(0));
        for (int thread = 0; thread < count; thread++)
            for (int64_t j = 0; j < size; j++) to[j] += partial[(2 * thread + lstm) * size + j];
    }
}

template <class T, class Body> void dispatch_draw(const Draw<T>& p, Body body) {
    if (p.encoder->norm == Norm::none) body(static_cast<Lstm<T, false>*>(nullptr));
    else body(static_cast<Lstm<T, true>*>(nullptr));
}
