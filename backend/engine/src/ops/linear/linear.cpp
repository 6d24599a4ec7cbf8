// A linear layer with GELU as one matrix product, which the Rust bindings of libtorch cannot ask
// for: theirs hands the wish for GELU over in the place of a factor.

#include "../../cuda/guarded.h"

#include <ATen/ops/_addmm_activation.h>

/// GELU by its tanh formula of `x` · `weight`ᵀ + `bias`, `x` being [n, from] and `weight` [to,
/// from]: a new tensor in `out`.
extern "C" const char *var_dd_linear_gelu(const void *x, const void *weight, const void *bias,
                                          void **out)
{
    const auto tensor = [](const void *pointer) -> const at::Tensor & {
        return *static_cast<const at::Tensor *>(pointer);
    };
    return guarded([&] {
        *out = new at::Tensor(
            at::_addmm_activation(tensor(bias), tensor(x), tensor(weight).t(), 1, 1, true));
    });
}
