#include "runner/publish_graph.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "core/reason.h"

namespace mayfly {
namespace {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;

constexpr int kMaxDepth = 32;  // of subgraphs

std::unexpected<Error> invalid(std::string message) {
  return refuse(reason::kInvalidModel, std::move(message));
}

bool is_onnx_domain(std::string_view domain) { return domain.empty() || domain == "ai.onnx"; }

std::string describe(const NodeProto& node) {
  if (node.name().empty()) return fmt::format("a {} node", shown(node.op_type()));
  return fmt::format("node '{}' ({})", shown(node.name()), shown(node.op_type()));
}

template <typename Visit>
Status for_each_subgraph(const NodeProto& node, const Visit& visit) {
  for (const AttributeProto& attribute : node.attribute()) {
    if (attribute.has_g()) TRY(visit(attribute.g()));
    for (const GraphProto& graph : attribute.graphs()) TRY(visit(graph));
  }
  return {};
}

// ---- Operators ----------------------------------------------------------------------------------

// Domains whose operators ONNX Runtime carries itself.
constexpr std::array<std::string_view, 6> kDomains = {"",
                                                      "ai.onnx",
                                                      "ai.onnx.ml",
                                                      "com.microsoft",
                                                      "com.microsoft.nchwc",
                                                      "ai.onnx.preview.training"};

class OperatorCheck {
 public:
  explicit OperatorCheck(const ModelProto& model) {
    for (const auto& function : model.functions()) {
      local_.emplace(function.domain(), function.name());
    }
  }

  Status nodes(const auto& list, int depth) const {
    if (depth > kMaxDepth) {
      return invalid(fmt::format("subgraphs are nested more than {} deep", kMaxDepth));
    }
    for (const NodeProto& node : list) {
      TRY(node_is_known(node));
      TRY(for_each_subgraph(
          node, [&](const GraphProto& graph) { return nodes(graph.node(), depth + 1); }));
    }
    return {};
  }

 private:
  Status node_is_known(const NodeProto& node) const {
    if (std::ranges::find(kDomains, node.domain()) != kDomains.end()) return {};
    if (local_.contains({node.domain(), node.op_type()})) return {};
    return invalid(fmt::format(
        "{}: '{}' of domain '{}' is a custom operator, and only ONNX's own and ONNX Runtime's "
        "operators are available; express it with those and export again",
        describe(node), shown(node.op_type()), shown(node.domain())));
  }

  std::set<std::pair<std::string, std::string>> local_;
};

// ---- Names --------------------------------------------------------------------------------------

struct Scope {
  const Scope* outer = nullptr;
  std::unordered_set<std::string_view> names;

  bool knows(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer) {
      if (scope->names.contains(name)) return true;
    }
    return false;
  }
};

Status define(Scope& scope, std::string_view name, std::string_view by) {
  if (name.empty() || scope.names.insert(name).second) return {};
  return invalid(fmt::format("{} defines '{}', which is already defined", by, shown(name)));
}

Status define_all(Scope& scope, const GraphProto& graph) {
  for (const auto& input : graph.input()) TRY(define(scope, input.name(), "an input"));
  // An initialiser may be the default of an input of the same name.
  for (const auto& tensor : graph.initializer()) scope.names.insert(tensor.name());
  for (const auto& tensor : graph.sparse_initializer()) scope.names.insert(tensor.values().name());
  for (const NodeProto& node : graph.node()) {
    for (const std::string& output : node.output()) TRY(define(scope, output, describe(node)));
  }
  return {};
}

Status check_names(const GraphProto& graph, const Scope* outer) {
  Scope scope{.outer = outer, .names = {}};
  TRY(define_all(scope, graph));
  for (const NodeProto& node : graph.node()) {
    for (const std::string& input : node.input()) {
      if (input.empty() || scope.knows(input)) continue;
      return invalid(
          fmt::format("{} reads '{}', which nothing produces", describe(node), shown(input)));
    }
    TRY(for_each_subgraph(node, [&](const GraphProto& body) { return check_names(body, &scope); }));
  }
  for (const auto& output : graph.output()) {
    if (scope.knows(output.name())) continue;
    return invalid(fmt::format("output '{}' is produced by nothing", shown(output.name())));
  }
  return {};
}

// ---- Cycles -------------------------------------------------------------------------------------

// What a node waits for: its inputs, and what its subgraphs read from outside.
void collect_reads(const NodeProto& node, std::vector<std::string_view>& reads) {
  for (const std::string& input : node.input()) reads.push_back(input);
  (void)for_each_subgraph(node, [&](const GraphProto& graph) -> Status {
    for (const NodeProto& inner : graph.node()) collect_reads(inner, reads);
    for (const auto& output : graph.output()) reads.push_back(output.name());
    return {};
  });
}

// For each node, those that read its outputs, once for each reading, and how often it reads
// others'.
struct Order {
  std::vector<std::vector<int>> followers;
  std::vector<int> waits;
};

Order order_of(const GraphProto& graph) {
  std::unordered_map<std::string_view, int> producer;
  for (int i = 0; i < graph.node_size(); ++i) {
    for (const std::string& output : graph.node(i).output()) producer[output] = i;
  }
  const auto size = static_cast<std::size_t>(graph.node_size());
  Order order{std::vector<std::vector<int>>(size), std::vector<int>(size, 0)};
  std::vector<std::string_view> reads;
  for (int i = 0; i < graph.node_size(); ++i) {
    reads.clear();
    collect_reads(graph.node(i), reads);
    for (const std::string_view name : reads) {
      const auto found = name.empty() ? producer.end() : producer.find(name);
      if (found == producer.end()) continue;
      order.followers[static_cast<std::size_t>(found->second)].push_back(i);
      ++order.waits[static_cast<std::size_t>(i)];
    }
  }
  return order;
}

// Kahn's algorithm: what is never ready lies on a cycle or behind one.
std::vector<int> never_ready(const GraphProto& graph) {
  auto [followers, waits] = order_of(graph);
  std::vector<int> ready;
  for (std::size_t i = 0; i < waits.size(); ++i) {
    if (waits[i] == 0) ready.push_back(static_cast<int>(i));
  }
  while (!ready.empty()) {
    const auto node = static_cast<std::size_t>(ready.back());
    ready.pop_back();
    for (const int follower : followers[node]) {
      if (--waits[static_cast<std::size_t>(follower)] == 0) ready.push_back(follower);
    }
  }
  std::vector<int> stuck;
  for (std::size_t i = 0; i < waits.size(); ++i) {
    if (waits[i] > 0) stuck.push_back(static_cast<int>(i));
  }
  return stuck;
}

Status check_cycles(const GraphProto& graph) {
  const std::vector<int> stuck = never_ready(graph);
  if (!stuck.empty()) {
    std::vector<std::string> names;
    for (const int i : stuck) {
      const NodeProto& node = graph.node(i);
      names.push_back(fmt::format(
          "{} ({})",
          shown(node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name()),
          shown(node.op_type())));
      if (names.size() == 4) break;
    }
    return invalid(
        fmt::format("the graph has a cycle, among the nodes {}", fmt::join(names, ", ")));
  }
  for (const NodeProto& node : graph.node()) {
    TRY(for_each_subgraph(node, [](const GraphProto& body) { return check_cycles(body); }));
  }
  return {};
}

// ---- Random operators ---------------------------------------------------------------------------

constexpr std::array<std::string_view, 6> kRandom = {"RandomNormal",  "RandomNormalLike",
                                                     "RandomUniform", "RandomUniformLike",
                                                     "Multinomial",   "Bernoulli"};

bool draws_unseeded(const NodeProto& node) {
  const bool random = std::ranges::find(kRandom, node.op_type()) != kRandom.end();
  // Dropout draws only when its third input, training_mode, may be true.
  const bool dropout = node.op_type().find("Dropout") != std::string::npos &&
                       node.input_size() > 2 && !node.input(node.input_size() - 1).empty();
  if (!random && !dropout) return false;
  return std::ranges::none_of(
      node.attribute(), [](const AttributeProto& attribute) { return attribute.name() == "seed"; });
}

bool any_unseeded(const auto& nodes) {
  return std::ranges::any_of(nodes, [](const NodeProto& node) {
    if (draws_unseeded(node)) return true;
    return !for_each_subgraph(node, [](const GraphProto& graph) -> Status {
              if (any_unseeded(graph.node())) return fail(Code::Aborted, "found");
              return {};
            }).has_value();
  });
}

// ---- ZipMap -------------------------------------------------------------------------------------

std::string class_labels(const NodeProto& zipmap, int& count) {
  std::vector<std::string> labels;
  for (const AttributeProto& attribute : zipmap.attribute()) {
    for (const auto number : attribute.ints()) labels.push_back(std::to_string(number));
    for (const std::string& text : attribute.strings()) labels.push_back(shown(text));
  }
  count = static_cast<int>(labels.size());
  if (labels.size() > 20) {
    labels.resize(20);
    labels.emplace_back("…");
  }
  return fmt::format("{}", fmt::join(labels, ", "));
}

void rename(GraphProto& graph, const std::string& from, const std::string& to) {
  const auto in = [&](auto* list) {
    for (std::string& name : *list) {
      if (name == from) name = to;
    }
  };
  for (NodeProto& node : *graph.mutable_node()) {
    in(node.mutable_input());
    in(node.mutable_output());
    for (AttributeProto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) rename(*attribute.mutable_g(), from, to);
      for (GraphProto& body : *attribute.mutable_graphs()) rename(body, from, to);
    }
  }
}

onnx::ValueInfoProto* find_output(GraphProto& graph, const std::string& name) {
  for (auto& output : *graph.mutable_output()) {
    if (output.name() == name) return &output;
  }
  return nullptr;
}

bool is_produced(const GraphProto& graph, const std::string& name) {
  return std::ranges::any_of(graph.node(), [&](const NodeProto& node) {
    return std::ranges::find(node.output(), name) != node.output().end();
  });
}

void set_matrix_type(onnx::ValueInfoProto& output, int columns) {
  auto& type = *output.mutable_type()->mutable_tensor_type();  // drops the sequence of maps
  type.Clear();
  type.set_elem_type(onnx::TensorProto::FLOAT);
  type.mutable_shape()->add_dim();
  auto* width = type.mutable_shape()->add_dim();
  if (columns > 0) width->set_dim_value(columns);
}

void make_identity(ModelProto& model, NodeProto& node) {
  node.set_op_type("Identity");
  node.clear_domain();
  node.clear_attribute();
  const bool has_opset = std::ranges::any_of(
      model.opset_import(), [](const auto& opset) { return is_onnx_domain(opset.domain()); });
  if (!has_opset) model.add_opset_import()->set_version(13);
}

// ---- Signature ----------------------------------------------------------------------------------

std::optional<DataType> data_type_of(int element) {
  switch (element) {
    case onnx::TensorProto::BOOL:
      return DataType::Bool;
    case onnx::TensorProto::UINT8:
      return DataType::Uint8;
    case onnx::TensorProto::UINT16:
      return DataType::Uint16;
    case onnx::TensorProto::UINT32:
      return DataType::Uint32;
    case onnx::TensorProto::UINT64:
      return DataType::Uint64;
    case onnx::TensorProto::INT8:
      return DataType::Int8;
    case onnx::TensorProto::INT16:
      return DataType::Int16;
    case onnx::TensorProto::INT32:
      return DataType::Int32;
    case onnx::TensorProto::INT64:
      return DataType::Int64;
    case onnx::TensorProto::FLOAT16:
      return DataType::Fp16;
    case onnx::TensorProto::FLOAT:
      return DataType::Fp32;
    case onnx::TensorProto::DOUBLE:
      return DataType::Fp64;
    case onnx::TensorProto::STRING:
      return DataType::Bytes;
    case onnx::TensorProto::BFLOAT16:
      return DataType::Bf16;
    default:
      return std::nullopt;
  }
}

std::string_view kind_of(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kSequenceType:
      return "a sequence";
    case onnx::TypeProto::kMapType:
      return "a map";
    case onnx::TypeProto::kOptionalType:
      return "an optional";
    case onnx::TypeProto::kSparseTensorType:
      return "a sparse tensor";
    default:
      return "of no declared type";
  }
}

Result<TensorSpec> read_spec(const onnx::ValueInfoProto& value, std::string_view role) {
  const onnx::TypeProto& type = value.type();
  if (!type.has_tensor_type()) {
    return invalid(fmt::format("{} '{}' is {}; a function's inputs and outputs must be tensors",
                               role, shown(value.name()), kind_of(type)));
  }
  if (value.name().empty() || value.name().size() > 1024) {
    return invalid(fmt::format("an {} has no name, or one longer than 1024 bytes", role));
  }
  const auto known = data_type_of(type.tensor_type().elem_type());
  if (!known) {
    return invalid(
        fmt::format("{} '{}' has element type {} of ONNX, which the protocol cannot carry", role,
                    shown(value.name()), type.tensor_type().elem_type()));
  }
  TensorSpec spec{value.name(), *known, {}};
  const auto& shape = type.tensor_type().shape();
  if (shape.dim_size() > static_cast<int>(kMaxRank)) {
    return invalid(
        fmt::format("{} '{}' has more than {} dimensions", role, shown(value.name()), kMaxRank));
  }
  for (const auto& dim : shape.dim()) {
    const bool fixed = dim.has_dim_value() && dim.dim_value() >= 0;
    spec.shape.push_back(fixed ? dim.dim_value() : -1);
  }
  return spec;
}

std::vector<std::string> symbols_of(const onnx::ValueInfoProto& value) {
  std::vector<std::string> symbols;
  for (const auto& dim : value.type().tensor_type().shape().dim()) {
    symbols.push_back(dim.has_dim_param() ? dim.dim_param() : std::string());
  }
  return symbols;
}

// ---- Tensors ------------------------------------------------------------------------------------

Status visit_nodes(const auto& nodes, const TensorVisitor& visit);

Status visit_graph(const GraphProto& graph, const TensorVisitor& visit) {
  for (const auto& tensor : graph.initializer()) TRY(visit(tensor));
  for (const auto& sparse : graph.sparse_initializer()) {
    TRY(visit(sparse.values()));
    TRY(visit(sparse.indices()));
  }
  return visit_nodes(graph.node(), visit);
}

Status visit_nodes(const auto& nodes, const TensorVisitor& visit) {
  for (const NodeProto& node : nodes) {
    for (const AttributeProto& attribute : node.attribute()) {
      if (attribute.has_t()) TRY(visit(attribute.t()));
      for (const auto& tensor : attribute.tensors()) TRY(visit(tensor));
    }
    TRY(for_each_subgraph(node,
                          [&](const GraphProto& graph) { return visit_graph(graph, visit); }));
  }
  return {};
}

}  // namespace

std::string shown(std::string_view name) {
  std::string clean;
  for (const char c : name.substr(0, 200)) {
    clean.push_back(static_cast<unsigned char>(c) < ' ' || c == 127 ? '?' : c);
  }
  if (name.size() > 200) clean += "…";
  return clean;
}

Status check_graph(const ModelProto& model) {
  const OperatorCheck operators(model);
  TRY(operators.nodes(model.graph().node(), 0));
  for (const auto& function : model.functions()) TRY(operators.nodes(function.node(), 0));
  if (model.graph().output_size() == 0) return invalid("the graph has no outputs");
  TRY(check_names(model.graph(), nullptr));
  return check_cycles(model.graph());
}

std::vector<std::string> replace_zipmaps(ModelProto& model) {
  std::vector<std::string> notes;
  GraphProto& graph = *model.mutable_graph();
  for (int i = 0; i < graph.node_size();) {
    NodeProto& node = *graph.mutable_node(i);
    auto* output = node.op_type() == "ZipMap" && node.input_size() == 1 && node.output_size() == 1
                       ? find_output(graph, node.output(0))
                       : nullptr;
    if (output == nullptr) {
      ++i;
      continue;
    }
    int columns = 0;
    const std::string labels = class_labels(node, columns);
    notes.push_back(
        fmt::format("output '{}' is the tensor of probabilities that ZipMap made maps of; "
                    "its columns are: {}",
                    shown(output->name()), labels));
    set_matrix_type(*output, columns);
    const std::string tensor = node.input(0);
    if (find_output(graph, tensor) != nullptr || !is_produced(graph, tensor)) {
      make_identity(model, node);
      ++i;
      continue;
    }
    const std::string name = output->name();
    graph.mutable_node()->DeleteSubrange(i, 1);
    rename(graph, tensor, name);
  }
  return notes;
}

bool has_unseeded_random(const ModelProto& model) {
  return any_unseeded(model.graph().node()) ||
         std::ranges::any_of(model.functions(),
                             [](const auto& function) { return any_unseeded(function.node()); });
}

Result<GraphSignature> read_signature(const ModelProto& model) {
  const GraphProto& graph = model.graph();
  std::unordered_set<std::string_view> constants;
  for (const auto& tensor : graph.initializer()) constants.insert(tensor.name());
  for (const auto& tensor : graph.sparse_initializer()) constants.insert(tensor.values().name());
  GraphSignature result;
  for (const auto& input : graph.input()) {
    if (constants.contains(input.name())) continue;
    result.signature.inputs.push_back(TRY(read_spec(input, "input")));
    result.symbols.push_back(symbols_of(input));
    if (!input.type().tensor_type().has_shape()) {
      return invalid(
          fmt::format("input '{}' declares no shape; give its rank, with free dimensions "
                      "where sizes vary",
                      shown(input.name())));
    }
  }
  for (const auto& output : graph.output()) {
    if (!output.type().tensor_type().has_shape()) {
      result.rank_unknown.push_back(result.signature.outputs.size());
    }
    result.signature.outputs.push_back(TRY(read_spec(output, "output")));
  }
  if (result.signature.inputs.size() > kMaxTensors ||
      result.signature.outputs.size() > kMaxTensors) {
    return invalid(fmt::format("more than {} inputs or outputs", kMaxTensors));
  }
  return result;
}

Status visit_tensors(const ModelProto& model, const TensorVisitor& visit) {
  TRY(visit_graph(model.graph(), visit));
  for (const auto& function : model.functions()) TRY(visit_nodes(function.node(), visit));
  return {};
}

}  // namespace mayfly
