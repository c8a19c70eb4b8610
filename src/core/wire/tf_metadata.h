// The JSON bodies of TensorFlow Serving's other calls: a model's versions, and its signature.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/names.h"
#include "core/tensor.h"

namespace mayfly {

// GET /v1/models/NAME: every version given is available, also from zero; the newest stands first.
std::string tf_model_status_json(std::span<const VersionNumber> versions);

struct TfModelDescription {
  std::string_view name;
  VersionNumber version;
  const Signature& signature;
};
// GET /v1/models/NAME/metadata: the signature under the name "serving_default".
std::string tf_model_metadata_json(const TfModelDescription& model);

}  // namespace mayfly
