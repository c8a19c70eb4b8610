// Evidence inside larger JSON. Internal to this folder; others use to_json and parse_evidence.
#pragma once

#include "core/json_reader.h"
#include "rollout/evidence.h"

namespace mayfly::rollout {

Json evidence_json(const Evidence& evidence);
Result<Evidence> read_evidence(const Json& json);

}  // namespace mayfly::rollout
