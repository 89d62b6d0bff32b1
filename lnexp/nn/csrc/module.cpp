// The functions that Python calls. One library, plain C names, nothing of torch's: cpu_call.py and
// order_violations_cpu.py hand over the addresses.
#include "batch_lstm.h"
#include "draw.h"
#include "density.h"
#include "gru.h"
#include "lstm.h"
#include "order.h"
#include "rnn.h"
#include "step.h"
#include "window.h"

template <class T, class Body> void dispatch(const Call<T>& call, Body body) {
    const bool normed = call.norm != Norm::none;
    if (call.kind == Kind::rnn) body(static_cast<Rnn<T>*>(nullptr));
    else if (call.kind == Kind::gru && normed) body(static_cast<Gru<T, true>*>(nullptr));
    else if (call.kind == Kind::gru) body(static_cast<Gru<T, false>*>(nullptr));
    else if (call.norm == Norm::bn) body(static_cast<BatchLstm<T>*>(nullptr));
    else if (normed) body(static_cast<Lstm<T, true>*>(nullptr));
    else body(static_cast<Lstm<T, false>*>(nullptr));
}

// A function of the cell that the call names. Returns 0, or 1 where there is no memory left.
#define PASS(name)                                                                                          \
    template <class T> int name##_call(const Call<T>* call) {                                               \
        try {                                                                                               \
            dispatch(*call, [&](auto* cell) { name<T, std::remove_pointer_t<decltype(cell)>>(*call); });    \
            return 0;                                                                                       \
        } catch (const std::bad_alloc&) {                                                                   \
            return 1;                                                                                       \
        }                                                                                                   \
    }                                                                                                       \
    extern "C" int name##_float32(const Call<float>* call) { return name##_call(call); }                    \
    extern "C" int name##_float64(const Call<double>* call) { return name##_call(call); }

PASS(forward)
PASS(backward)
PASS(pack)
PASS(step_forward)
PASS(step_backward)

template <class T> int64_t packed_size(const Call<T>& call) {
    int64_t size = 0;
    dispatch(call, [&](auto* cell) { size = Packed<T, T, std::remove_pointer_t<decltype(cell)>>::size(call); });
    return size;
}

#define DRAW_PASS(name)                                                                                       \
    template <class T> int name##_call(const Draw<T>* call) {                                               \
        try {                                                                                               \
            dispatch_draw(*call, [&](auto* cell) { name<T, std::remove_pointer_t<decltype(cell)>>(*call); }); \
            return 0;                                                                                       \
        } catch (const std::bad_alloc&) {                                                                   \
            return 1;                                                                                       \
        }                                                                                                   \
    }                                                                                                       \
    extern "C" int name##_float32(const Draw<float>* call) { return name##_call(call); }                    \
    extern "C" int name##_float64(const Draw<double>* call) { return name##_call(call); }

DRAW_PASS(draw_forward)
DRAW_PASS(draw_backward)

extern "C" {
int has_bfloat16_products() { return has_bfloat16; }
int64_t packed_size_float32(const Call<float>* call) { return packed_size(*call); }
int64_t packed_size_float64(const Call<double>* call) { return packed_size(*call); }
void order_forward_float32(const Order<float>* call) { order_forward(*call); }
void order_forward_float64(const Order<double>* call) { order_forward(*call); }
void order_backward_float32(const Order<float>* call) { order_backward(*call); }
void order_backward_float64(const Order<double>* call) { order_backward(*call); }
}

// The same for an LSTM with a window on a text.
#define WINDOW_PASS(name)                                                                                                \
    template <class T> int name##_call(const TextWindow<T>* call) {                                                          \
        try {                                                                                                            \
            const Call<T>& layer = call->layer;                                                                          \
            if (layer.norm == Norm::bn) name<T, BatchLstm<T>>(*call);                                                    \
            else if (layer.norm != Norm::none) name<T, Lstm<T, true>>(*call);                                            \
            else name<T, Lstm<T, false>>(*call);                                                                         \
            return 0;                                                                                                    \
        } catch (const std::bad_alloc&) {                                                                                \
            return 1;                                                                                                    \
        }                                                                                                                \
    }                                                                                                                    \
    extern "C" int name##_float32(const TextWindow<float>* call) { return name##_call(call); }                               \
    extern "C" int name##_float64(const TextWindow<double>* call) { return name##_call(call); }

WINDOW_PASS(window_forward)
WINDOW_PASS(window_backward)

extern "C" {
void density_float32(const Density<float>* call) { density(*call); }
void density_float64(const Density<double>* call) { density(*call); }
}
