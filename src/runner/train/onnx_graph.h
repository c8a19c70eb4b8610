// Writes ONNX graphs: nodes, constants, inputs and outputs with a free first dimension. Operators
// of ai.onnx 17 and ai.onnx.ml 3, which every ONNX Runtime since 1.12 knows.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

inline constexpr std::string_view kOnnxMl = "ai.onnx.ml";

class OnnxGraph {
 public:
  explicit OnnxGraph(std::string_view name);

  // A name that nothing has yet, with `base` in it, and that inputs and outputs must not have.
  std::string fresh(std::string_view base);
  static bool is_reserved(std::string_view name);

  // Dimensions: -1 is free.
  void add_input(const std::string& name, onnx::TensorProto::DataType type,
                 std::span<const std::int64_t> shape);
  void add_output(const std::string& name, onnx::TensorProto::DataType type,
                  std::span<const std::int64_t> shape);

  // Constants; each returns its name. `shape`: empty for a scalar.
  std::string add_floats(std::string_view base, std::span<const float> values,
                         std::span<const std::int64_t> shape);
  std::string add_doubles(std::string_view base, std::span<const double> values,
                          std::span<const std::int64_t> shape);
  std::string add_integers(std::string_view base, std::span<const std::int64_t> values,
                           std::span<const std::int64_t> shape);
  std::string add_texts(std::string_view base, std::span<const std::string> values,
                        std::span<const std::int64_t> shape);

  // With one output, whose name is returned; `output`: that name, else a fresh one.
  std::string add(std::string_view operation, std::vector<std::string> inputs,
                  std::string_view domain = "", std::string output = {});
  // The node that was added last, for its attributes and further outputs. Valid until the next.
  onnx::NodeProto& last();

  // Internal: more than 2 GiB, which protobuf cannot hold.
  Result<std::string> serialize() const;

 private:
  onnx::ModelProto model_;
  std::uint64_t names_ = 0;
};

void set_attribute(onnx::NodeProto& node, std::string_view name, std::int64_t value);
void set_attribute(onnx::NodeProto& node, std::string_view name, float value);
void set_attribute(onnx::NodeProto& node, std::string_view name, std::string_view value);
void set_attribute(onnx::NodeProto& node, std::string_view name,
                   std::span<const std::int64_t> values);
void set_attribute(onnx::NodeProto& node, std::string_view name, std::span<const float> values);
void set_attribute(onnx::NodeProto& node, std::string_view name,
                   std::span<const std::string> values);

}  // namespace mayfly
