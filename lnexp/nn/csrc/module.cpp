// The functions that Python calls. One library, plain C names, nothing of torch's: call.py and order.py hand over the
// addresses.
#include "batch_lstm.h"
#include "gru.h"
#include "lstm.h"
#include "order.h"
#include "passes.h"
#include "rnn.h"

template <class T, class Body> void dispatch(const Call<T>& call, Body body) {
    const bool normed = call.norm != Norm::none;
    if (call.kind == Kind::rnn) body(static_cast<Rnn<T>*>(nullptr));
    else if (call.kind == Kind::gru && normed) body(static_cast<Gru<T, true>*>(nullptr));
    else if (call.kind == Kind::gru) body(static_cast<Gru<T, false>*>(nullptr));
    else if (call.norm == Norm::bn) body(static_cast<BatchLstm<T>*>(nullptr));
    else if (normed) body(static_cast<Lstm<T, true>*>(nullptr));
    else body(static_cast<Lstm<T, false>*>(nullptr));
}

template <class T> void forward_call(const Call<T>* call) {
    dispatch(*call, [&](auto* cell) { forward<T, std::remove_pointer_t<decltype(cell)>>(*call); });
}
template <class T> void backward_call(const Call<T>* call) {
    dispatch(*call, [&](auto* cell) { backward<T, std::remove_pointer_t<decltype(cell)>>(*call); });
}

extern "C" {
void forward_float32(const Call<float>* call) { forward_call(call); }
void forward_float64(const Call<double>* call) { forward_call(call); }
void backward_float32(const Call<float>* call) { backward_call(call); }
void backward_float64(const Call<double>* call) { backward_call(call); }
void order_forward_float32(const Order<float>* call) { order_forward(*call); }
void order_forward_float64(const Order<double>* call) { order_forward(*call); }
void order_backward_float32(const Order<float>* call) { order_backward(*call); }
void order_backward_float64(const Order<double>* call) { order_backward(*call); }
}
