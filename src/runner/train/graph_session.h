// A graph of ours as ONNX Runtime runs it, on rows of columns in memory.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "runner/onnx_runtime.h"

namespace mayfly {

using GraphValues =
    std::variant<std::vector<float>, std::vector<std::int64_t>, std::vector<std::string>>;

// Rows as a graph takes them: an input [rows] each.
struct RowBatch {
  struct Column {
    std::string name;
    GraphValues values;
  };
  std::size_t rows = 0;
  std::vector<Column> columns;
};

struct GraphOutput {
  GraphValues values;
  std::vector<std::int64_t> shape;
};

class GraphSession {
 public:
  // `runtime` outlives the session. Fails where ONNX Runtime refuses the graph.
  static Result<GraphSession> open(const OnnxRuntime& runtime, std::string_view model,
                                   std::uint32_t threads);

  // The outputs by those names, in their order.
  Result<std::vector<GraphOutput>> run(const RowBatch& batch,
                                       std::span<const std::string> outputs) const;

 private:
  GraphSession(const OnnxRuntime& runtime, OrtOwned<OrtSession> session)
      : runtime_(&runtime), session_(std::move(session)) {}
  const OnnxRuntime* runtime_;
  OrtOwned<OrtSession> session_;
};

}  // namespace mayfly
