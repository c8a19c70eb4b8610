#include "runner/train/onnx_graph.h"

#include <fmt/format.h>

#include <utility>

namespace mayfly {
namespace {

constexpr std::string_view kReserved = "mayfly:";
constexpr std::int64_t kIrVersion = 9;
constexpr std::int64_t kOpset = 20;  // StringSplit
constexpr std::int64_t kMlOpset = 3;
constexpr std::size_t kMostBytes = (std::size_t{1} << 31) - 1;

void describe(onnx::ValueInfoProto& value, const std::string& name,
              onnx::TensorProto::DataType type, std::span<const std::int64_t> shape) {
  value.set_name(name);
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  auto& dimensions = *tensor.mutable_shape();
  for (const std::int64_t size : shape) {
    auto& dimension = *dimensions.add_dim();
    if (size >= 0) dimension.set_dim_value(size);
  }
}

onnx::AttributeProto& attribute(onnx::NodeProto& node, std::string_view name,
                                onnx::AttributeProto::AttributeType type) {
  auto& added = *node.add_attribute();
  added.set_name(std::string(name));
  added.set_type(type);
  return added;
}

void set_shape(onnx::TensorProto& tensor, std::span<const std::int64_t> shape) {
  tensor.mutable_dims()->Add(shape.begin(), shape.end());
}

}  // namespace

OnnxGraph::OnnxGraph(std::string_view name) {
  model_.set_ir_version(kIrVersion);
  model_.set_producer_name("mayfly");
  auto& opset = *model_.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
  auto& ml = *model_.add_opset_import();
  ml.set_domain(std::string(kOnnxMl));
  ml.set_version(kMlOpset);
  model_.mutable_graph()->set_name(std::string(name));
}

std::string OnnxGraph::fresh(std::string_view base) {
  return fmt::format("{}{}_{}", kReserved, base, names_++);
}
bool OnnxGraph::is_reserved(std::string_view name) { return name.starts_with(kReserved); }

void OnnxGraph::add_input(const std::string& name, onnx::TensorProto::DataType type,
                          std::span<const std::int64_t> shape) {
  describe(*model_.mutable_graph()->add_input(), name, type, shape);
}

void OnnxGraph::add_output(const std::string& name, onnx::TensorProto::DataType type,
                           std::span<const std::int64_t> shape) {
  describe(*model_.mutable_graph()->add_output(), name, type, shape);
}

std::string OnnxGraph::add_floats(std::string_view base, std::span<const float> values,
                                  std::span<const std::int64_t> shape) {
  auto& tensor = *model_.mutable_graph()->add_initializer();
  tensor.set_name(fresh(base));
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.mutable_float_data()->Add(values.begin(), values.end());
  set_shape(tensor, shape);
  return tensor.name();
}

std::string OnnxGraph::add_doubles(std::string_view base, std::span<const double> values,
                                   std::span<const std::int64_t> shape) {
  auto& tensor = *model_.mutable_graph()->add_initializer();
  tensor.set_name(fresh(base));
  tensor.set_data_type(onnx::TensorProto::DOUBLE);
  tensor.mutable_double_data()->Add(values.begin(), values.end());
  set_shape(tensor, shape);
  return tensor.name();
}

std::string OnnxGraph::add_integers(std::string_view base, std::span<const std::int64_t> values,
                                    std::span<const std::int64_t> shape) {
  auto& tensor = *model_.mutable_graph()->add_initializer();
  tensor.set_name(fresh(base));
  tensor.set_data_type(onnx::TensorProto::INT64);
  tensor.mutable_int64_data()->Add(values.begin(), values.end());
  set_shape(tensor, shape);
  return tensor.name();
}

std::string OnnxGraph::add_texts(std::string_view base, std::span<const std::string> values,
                                 std::span<const std::int64_t> shape) {
  auto& tensor = *model_.mutable_graph()->add_initializer();
  tensor.set_name(fresh(base));
  tensor.set_data_type(onnx::TensorProto::STRING);
  for (const std::string& value : values) tensor.add_string_data(value);
  set_shape(tensor, shape);
  return tensor.name();
}

std::string OnnxGraph::add(std::string_view operation, std::vector<std::string> inputs,
                           std::string_view domain, std::string output) {
  auto& node = *model_.mutable_graph()->add_node();
  node.set_op_type(std::string(operation));
  if (!domain.empty()) node.set_domain(std::string(domain));
  for (std::string& input : inputs) node.add_input(std::move(input));
  if (output.empty()) output = fresh(operation);
  node.set_name(output);
  node.add_output(output);
  return output;
}

onnx::NodeProto& OnnxGraph::last() {
  auto& nodes = *model_.mutable_graph()->mutable_node();
  return nodes.at(nodes.size() - 1);
}

Result<std::string> OnnxGraph::serialize() const {
  std::string bytes;
  if (model_.ByteSizeLong() > kMostBytes || !model_.SerializeToString(&bytes))
    return fail(Code::Internal, "the model is larger than the 2 GiB that an ONNX file can hold");
  return bytes;
}

void set_attribute(onnx::NodeProto& node, std::string_view name, std::int64_t value) {
  attribute(node, name, onnx::AttributeProto::INT).set_i(value);
}

void set_attribute(onnx::NodeProto& node, std::string_view name, float value) {
  attribute(node, name, onnx::AttributeProto::FLOAT).set_f(value);
}

void set_attribute(onnx::NodeProto& node, std::string_view name, std::string_view value) {
  attribute(node, name, onnx::AttributeProto::STRING).set_s(std::string(value));
}

void set_attribute(onnx::NodeProto& node, std::string_view name,
                   std::span<const std::int64_t> values) {
  attribute(node, name, onnx::AttributeProto::INTS)
      .mutable_ints()
      ->Add(values.begin(), values.end());
}

void set_attribute(onnx::NodeProto& node, std::string_view name, std::span<const float> values) {
  attribute(node, name, onnx::AttributeProto::FLOATS)
      .mutable_floats()
      ->Add(values.begin(), values.end());
}

void set_attribute(onnx::NodeProto& node, std::string_view name,
                   std::span<const std::string> values) {
  auto& added = attribute(node, name, onnx::AttributeProto::STRINGS);
  for (const std::string& value : values) added.add_strings(value);
}

}  // namespace mayfly
