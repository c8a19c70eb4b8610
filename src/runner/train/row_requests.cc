#include "runner/train/row_requests.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/json_reader.h"
#include "core/wire/tensor_to_json.h"
#include "runner/report/score_job.h"

namespace mayfly {
namespace {

constexpr SizeLimit kRowLimit{.bytes = kMostRowRequest, .setting = "of a row's request"};

// {"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [31]}, …]}
Result<std::string> request_of_row(const ColumnModel& model, const TrainTable& table,
                                   std::uint32_t row) {
  const TrialTensors tensors = TRY(model.inputs(table, std::array{row}));
  std::string text = R"({"inputs":[)";
  for (const TrialTensor& tensor : tensors) {
    const TensorSpec& spec = model.signature().inputs.at(tensor.index);
    if (&tensor != &tensors.front()) text += ",";
    text += R"({"name":)" + Json(spec.name).dump(-1, ' ', false, Json::error_handler_t::replace);
    text += R"(,"shape":)" + Json(tensor.shape).dump();
    text += R"(,"datatype":")" + std::string(to_string(tensor.type)) + R"(","data":)";
    TRY(append_json_tensor(text,
                           {.type = tensor.type,
                            .shape = tensor.shape,
                            .bytes = tensor.bytes,
                            .nesting = JsonNesting::Flat},
                           kRowLimit));
    text += "}";
  }
  return text + "]}\n";
}

}  // namespace

Result<std::uint64_t> write_row_requests(const ColumnModel& model, const TrainTable& table,
                                         std::uint64_t most, const Path& path) {
  const std::uint64_t rows = table.rows();
  const std::uint64_t wanted = std::min<std::uint64_t>(most, rows);
  std::string text;
  std::uint64_t written = 0;
  for (std::uint64_t i = 0; i < wanted; ++i) {
    const auto request =
        request_of_row(model, table, static_cast<std::uint32_t>(i * rows / wanted));
    if (!request || request->size() > kMostRowRequest) continue;
    if (text.size() + request->size() > kMostRequestsFile) break;
    text += *request;
    ++written;
  }
  TRY(write_file(path, text));
  return written;
}

}  // namespace mayfly
