// A linear layer with GELU as one matrix product, which the Rust bindings of libtorch cannot ask for: theirs hands the
// wish for GELU over in the place of a factor.

#include <exception>
#include <string>

#include <ATen/ops/_addmm_activation.h>

/// GELU by its tanh formula of `x` · `weight`ᵀ + `bias`, `x` being [n, from] and `weight` [to, from]: a new tensor in
/// `out`. Gives null, or why it failed in a text that lasts until the thread's next call.
extern "C" const char* var_dd_linear_gelu(const void* x, const void* weight, const void* bias, void** out) {
  thread_local std::string reason;
  const auto tensor = [](const void* pointer) -> const at::Tensor& { return *static_cast<const at::Tensor*>(pointer); };
  try {
    try {
      *out = new at::Tensor(at::_addmm_activation(tensor(bias), tensor(x), tensor(weight).t(), 1, 1, true));
      return nullptr;
    } catch (const c10::Error& error) {
      reason = error.what_without_backtrace();
    } catch (const std::exception& error) {
      reason = error.what();
    }
    return reason.c_str();
  } catch (...) {
    return "no memory, or an exception of an unknown kind";
  }
}
