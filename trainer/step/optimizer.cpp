#include "trainer/step/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace tessera {

AdamW::AdamW(const at::Tensor& parameters, const at::Tensor& gradients, const AdamWOptions& options)
    : options_(options),
      parameters_(parameters),
      gradients_(gradients),
      exp_avg_(at::zeros_like(parameters)),
      exp_avg_sq_(at::zeros_like(parameters)),
      num_steps_(at::zeros({}, parameters.options().dtype(at::kFloat))) {
  TORCH_CHECK(parameters.sizes() == gradients.sizes() &&
                  parameters.scalar_type() == gradients.scalar_type(),
              "AdamW: parameters are ", parameters.scalar_type(), " ", parameters.sizes(),
              ", gradients ", gradients.scalar_type(), " ", gradients.sizes(),
              "; expected the same");
}

void AdamW::step(double lr) {
  num_steps_ += 1;
  at::_fused_adamw_({parameters_}, {gradients_}, {exp_avg_}, {exp_avg_sq_}, /*max_exp_avg_sqs=*/{},
                    {num_steps_}, lr, options_.beta1, options_.beta2, options_.weight_decay,
                    options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace tessera
