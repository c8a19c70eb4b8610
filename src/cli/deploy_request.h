// A deploy on its way to a node: the files that the node lacks, then what is to become of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/local_file.h"
#include "cli/node_client.h"
#include "cli/verbs.h"

namespace mayfly {

struct DeployRequest {
  std::string function;
  std::vector<LocalFile> files;
  CliJson body;  // all but the files
};

// Uploads, publishes, and shows what was measured.
Status send_deploy(DeployRequest request, const CliContext& context);

}  // namespace mayfly
