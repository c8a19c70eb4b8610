#include "runner/onnx_invoke.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {
namespace {

// In the order of DataType, which counts from 1.
constexpr std::array kOrtTypes = {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,  ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16};

constexpr std::size_t kLengthPrefix = sizeof(std::uint32_t);

std::unexpected<Error> bad_strings() {
  return refuse(reason::kInvalidInput, "a BYTES tensor's lengths and size disagree");
}

// The next element of a BYTES tensor, taken from the front of `rest`.
Result<std::string_view> take_string(std::span<const std::byte>& rest) {
  std::uint32_t length = 0;
  if (rest.size() < kLengthPrefix) return bad_strings();
  std::memcpy(&length, rest.data(), kLengthPrefix);
  rest = rest.subspan(kLengthPrefix);
  if (rest.size() < length) return bad_strings();
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), length);
  rest = rest.subspan(length);
  return text;
}

}  // namespace

ONNXTensorElementDataType ort_type(DataType type) {
  return kOrtTypes.at(static_cast<std::size_t>(type) - 1);
}

Result<DataType> data_type(ONNXTensorElementDataType type) {
  const auto* found = std::ranges::find(kOrtTypes, type);
  if (found == kOrtTypes.end()) {
    return fail(
        Code::Unimplemented,
        fmt::format("ONNX element type {} has no datatype in the protocol", static_cast<int>(type)),
        reason::kUnsupported);
  }
  return static_cast<DataType>(found - kOrtTypes.begin() + 1);
}

bool OnnxInvoker::Lesson::matches(const RequestView& request) const {
  if (outputs != request.outputs || inputs.size() != request.inputs.size()) return false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] != request.inputs[i].index || shapes[i] != request.inputs[i].shape) return false;
  }
  return !outputs.empty();
}

OnnxInvoker::OnnxInvoker(const OnnxRuntime& runtime, OrtSession& session,
                         const Signature& signature)
    : runtime_(&runtime),
      session_(&session),
      signature_(&signature),
      memory_info_(nullptr, runtime.api().ReleaseMemoryInfo) {}

Result<OnnxInvoker> OnnxInvoker::create(const OnnxRuntime& runtime, OrtSession& session,
                                        const Signature& signature) {
  OnnxInvoker invoker(runtime, session, signature);
  OrtMemoryInfo* info = nullptr;
  TRY(runtime.check(
      runtime.api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info)));
  invoker.memory_info_.reset(info);
  TRY(runtime.check(runtime.api().GetAllocatorWithDefaultOptions(&invoker.allocator_)));
  return invoker;
}

Status OnnxInvoker::check_indices(const RequestView& request) const {
  const bool known = std::ranges::all_of(
                         request.inputs,
                         [&](const InputView& i) { return i.index < signature_->inputs.size(); }) &&
                     std::ranges::all_of(request.outputs, [&](std::uint32_t o) {
                       return o < signature_->outputs.size();
                     });
  if (!known)
    return fail(Code::Internal, "the request names a tensor that the model does not have",
                reason::kInternal);
  return {};
}

Status OnnxInvoker::bind(Bound& bound, DataType type, const Shape& shape,
                         std::span<std::byte> memory) {
  if (bound.is(type, shape, memory)) return {};
  bound.value.reset();
  OrtValue* value = nullptr;
  TRY(runtime_->check(runtime_->api().CreateTensorWithDataAsOrtValue(
      memory_info_.get(), memory.data(), memory.size(), shape.data(), shape.size(), ort_type(type),
      &value)));
  bound.value.reset(value);
  bound.data = memory.data();
  bound.bytes = memory.size();
  bound.type = type;
  bound.shape = shape;
  return {};
}

Status OnnxInvoker::bind_strings(Bound& bound, const Shape& shape,
                                 std::span<const std::byte> bytes) {
  const OrtApi& api = runtime_->api();
  bound = Bound{.value = no_value(), .shape = {}};  // strings are copied: nothing to keep
  const std::uint64_t count = TRY(element_count(shape));
  if (count > bytes.size() / kLengthPrefix) return bad_strings();
  OrtValue* value = nullptr;
  TRY(runtime_->check(api.CreateTensorAsOrtValue(allocator_, shape.data(), shape.size(),
                                                 ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, &value)));
  bound.value.reset(value);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view text = TRY(take_string(bytes));
    char* buffer = nullptr;
    TRY(runtime_->check(api.GetResizedStringTensorElementBuffer(value, i, text.size(), &buffer)));
    std::ranges::copy(text, buffer);
  }
  if (!bytes.empty()) return bad_strings();
  return {};
}

OnnxInvoker::Binding& OnnxInvoker::binding_of(const std::byte* place) {
  const auto found = std::ranges::find(bindings_, place, &Binding::place);
  if (found != bindings_.end()) return *found;
  // Beyond the lanes these are regions that hold one request only.
  if (bindings_.size() > kLanes) bindings_.pop_back();
  return bindings_.emplace_back(Binding{.place = place, .inputs = {}, .outputs = {}});
}

Status OnnxInvoker::bind_inputs(const RequestView& request) {
  std::vector<Bound>& inputs = bound_->inputs;
  while (inputs.size() < request.inputs.size())
    inputs.push_back(Bound{.value = no_value(), .shape = {}});
  input_names_.clear();
  input_values_.clear();
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const InputView& input = request.inputs[i];
    TRY(input.type == DataType::Bytes ? bind_strings(inputs[i], input.shape, input.bytes)
                                      : bind(inputs[i], input.type, input.shape, input.bytes));
    input_names_.push_back(signature_->inputs[input.index].name.c_str());
    input_values_.push_back(inputs[i].value.get());
  }
  return {};
}

void OnnxInvoker::clear_outputs() {
  owned_outputs_.clear();
  outputs_.clear();
  results_.in_place.reset();
}

void OnnxInvoker::release_results() { owned_outputs_.clear(); }

// Makes values for the outputs over the region where the last run's plans put them. Leaves all to
// ONNX Runtime when one is of strings, or they do not fit.
Status OnnxInvoker::bind_outputs(std::span<std::byte> region, std::uint64_t outputs_begin) {
  const std::vector<OutputPlan>& plans = results_.plans;
  if (std::ranges::count(plans, DataType::Bytes, &OutputPlan::type) > 0) return {};
  OutputPlacement placement = place_outputs(plans, outputs_begin, region.size());
  if (placement.offsets.size() != plans.size()) return {};
  std::vector<Bound>& outputs = bound_->outputs;
  while (outputs.size() < plans.size()) outputs.push_back(Bound{.value = no_value(), .shape = {}});
  for (std::size_t i = 0; i < plans.size(); ++i) {
    TRY(bind(outputs[i], plans[i].type, plans[i].shape,
             region.subspan(placement.offsets[i], plans[i].bytes)));
    outputs_[i] = outputs[i].value.get();
  }
  results_.in_place = std::move(placement);
  return {};
}

Status OnnxInvoker::run_bound(const RequestView& request) {
  output_names_.clear();
  for (const std::uint32_t output : request.outputs) {
    output_names_.push_back(signature_->outputs[output].name.c_str());
  }
  Status done = runtime_->check(runtime_->api().Run(
      session_, nullptr, input_names_.data(), input_values_.data(), input_values_.size(),
      output_names_.data(), output_names_.size(), outputs_.data()));
  if (results_.in_place) return done;
  for (OrtValue* output : outputs_)
    owned_outputs_.emplace_back(output, runtime_->api().ReleaseValue);
  return done;
}

Result<OutputPlan> OnnxInvoker::describe(OrtValue* value, std::uint32_t output) const {
  const OrtApi& api = runtime_->api();
  int is_tensor = 0;
  if (value != nullptr) TRY(runtime_->check(api.IsTensor(value, &is_tensor)));
  if (is_tensor == 0) {
    return refuse(reason::kModelError,
                  fmt::format("output '{}' is not a tensor", signature_->outputs[output].name));
  }
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  TRY(runtime_->check(api.GetTensorTypeAndShape(value, &raw)));
  const OrtOwned<OrtTensorTypeAndShapeInfo> info(raw, api.ReleaseTensorTypeAndShapeInfo);
  ONNXTensorElementDataType type{};
  std::size_t rank = 0;
  TRY(runtime_->check(api.GetTensorElementType(raw, &type)));
  TRY(runtime_->check(api.GetDimensionsCount(raw, &rank)));
  if (rank > kMaxRank)
    return refuse(reason::kModelError,
                  fmt::format("an output has more than {} dimensions", kMaxRank));
  OutputPlan plan{.type = TRY(data_type(type)), .shape = Shape(rank)};
  TRY(runtime_->check(api.GetDimensions(raw, plan.shape.data(), rank)));
  if (plan.type != DataType::Bytes) {
    plan.bytes = TRY(byte_count(plan.type, plan.shape));
    return plan;
  }
  std::size_t length = 0;
  TRY(runtime_->check(api.GetStringTensorDataLength(value, &length)));
  plan.bytes = length + TRY(element_count(plan.shape)) * kLengthPrefix;
  return plan;
}

Status OnnxInvoker::learn(const RequestView& request) {
  std::vector<OutputPlan> plans;
  plans.reserve(outputs_.size());
  for (std::size_t i = 0; i < outputs_.size(); ++i)
    plans.push_back(TRY(describe(outputs_[i], request.outputs[i])));
  lesson_.inputs.clear();
  lesson_.shapes.clear();
  for (const InputView& input : request.inputs) {
    lesson_.inputs.push_back(input.index);
    lesson_.shapes.push_back(input.shape);
  }
  lesson_.outputs = request.outputs;
  results_.plans = std::move(plans);
  return {};
}

Result<const RunResults*> OnnxInvoker::run(const RequestView& request, std::span<std::byte> region,
                                           std::uint64_t outputs_begin) {
  clear_outputs();
  TRY(check_indices(request));
  bound_ = &binding_of(region.data());
  TRY(bind_inputs(request));
  outputs_.assign(request.outputs.size(), nullptr);
  const bool known = !shapes_vary_ && lesson_.matches(request);
  if (known) TRY(bind_outputs(region, outputs_begin));
  if (results_.in_place) {
    if (run_bound(request)) return &results_;
    // Either the model complains of its input, which it will do again, or the shapes depend on the
    // data, which ONNX Runtime notices before it writes to a value of another shape.
    clear_outputs();
    outputs_.assign(request.outputs.size(), nullptr);
    TRY(run_bound(request));
    shapes_vary_ = true;
  } else {
    TRY(run_bound(request));
  }
  TRY(learn(request));
  return &results_;
}

Status OnnxInvoker::copy_strings(OrtValue* value, std::uint64_t elements,
                                 std::span<std::byte> target) const {
  const OrtApi& api = runtime_->api();
  std::vector<std::size_t> offsets(elements);
  std::string text(target.size() - elements * kLengthPrefix, '\0');
  TRY(runtime_->check(
      api.GetStringTensorContent(value, text.data(), text.size(), offsets.data(), elements)));
  std::byte* out = target.data();
  for (std::uint64_t i = 0; i < elements; ++i) {
    const std::size_t end = i + 1 < elements ? offsets[i + 1] : text.size();
    const auto length = static_cast<std::uint32_t>(end - offsets[i]);
    std::memcpy(out, &length, kLengthPrefix);
    std::memcpy(out + kLengthPrefix, text.data() + offsets[i], length);
    out += kLengthPrefix + length;
  }
  return {};
}

Status OnnxInvoker::copy_results(const OutputPlacement& placement,
                                 std::span<std::byte> target) const {
  CHECK(placement.offsets.size() == owned_outputs_.size());
  for (std::size_t i = 0; i < owned_outputs_.size(); ++i) {
    const OutputPlan& plan = results_.plans[i];
    const std::span<std::byte> place = target.subspan(placement.offsets[i], plan.bytes);
    if (plan.type == DataType::Bytes) {
      const std::uint64_t elements = TRY(element_count(plan.shape));
      TRY(copy_strings(owned_outputs_[i].get(), elements, place));
      continue;
    }
    void* data = nullptr;
    TRY(runtime_->check(runtime_->api().GetTensorMutableData(owned_outputs_[i].get(), &data)));
    if (plan.bytes > 0) std::memcpy(place.data(), data, plan.bytes);
  }
  return {};
}

}  // namespace mayfly
