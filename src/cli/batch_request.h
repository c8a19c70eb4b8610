// What `mayfly batch` and schedules of batches ask for, with the file's upload.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/node_client.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace mayfly {

struct BatchOptions {
  std::string input;
  std::string format;
  std::string output_format;
  std::vector<std::string> columns;  // X=a,b,c
  std::string keep;
  std::optional<std::uint32_t> chunk_rows;
  std::optional<std::uint64_t> max_errors;
};

// --input, which is returned, --format … --max-errors; `options` outlives the verb.
CLI::Option* add_batch_options(CLI::App& verb, BatchOptions& options);
// The request of a batch job, when its input has been uploaded. `output` is where the predictions
// are to go, for its name's sake; empty: as the input.
Result<CliJson> batch_request(NodeClient& node, const BatchOptions& options,
                              const std::string& output);

}  // namespace mayfly
