#include "runner/train/graph_session.h"

#include <array>
#include <utility>

namespace mayfly {
namespace {

using Value = OrtOwned<OrtValue>;

// One run: values made of our memory, and ours made of its values.
class Exchange {
 public:
  explicit Exchange(const OnnxRuntime& runtime) : runtime_(runtime), api_(runtime.api()) {}

  Result<Value> give(const GraphValues& values, std::size_t rows) const {
    if (const auto* floats = std::get_if<std::vector<float>>(&values))
      return give_plain(*floats, rows, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&values))
      return give_plain(*integers, rows, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
    return give_texts(std::get<std::vector<std::string>>(values));
  }

  Result<GraphOutput> take(const OrtValue& value) const {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    TRY(runtime_.check(api_.GetTensorTypeAndShape(&value, &raw)));
    const OrtOwned<OrtTensorTypeAndShapeInfo> info(raw, api_.ReleaseTensorTypeAndShapeInfo);
    std::size_t dimensions = 0;
    std::size_t elements = 0;
    ONNXTensorElementDataType type{};
    TRY(runtime_.check(api_.GetDimensionsCount(raw, &dimensions)));
    GraphOutput output{.values = {}, .shape = std::vector<std::int64_t>(dimensions)};
    TRY(runtime_.check(api_.GetDimensions(raw, output.shape.data(), dimensions)));
    TRY(runtime_.check(api_.GetTensorShapeElementCount(raw, &elements)));
    TRY(runtime_.check(api_.GetTensorElementType(raw, &type)));
    switch (type) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
        output.values = TRY(take_plain<float>(value, elements));
        return output;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
        output.values = TRY(take_plain<std::int64_t>(value, elements));
        return output;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING:
        output.values = TRY(take_texts(value, elements));
        return output;
      default:
        return fail(Code::Internal, "a graph gave a tensor of a type that none of ours has");
    }
  }

 private:
  template <typename T>
  Result<Value> give_plain(const std::vector<T>& values, std::size_t rows,
                           ONNXTensorElementDataType type) const {
    OrtMemoryInfo* raw_memory = nullptr;
    TRY(runtime_.check(
        api_.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &raw_memory)));
    const OrtOwned<OrtMemoryInfo> memory(raw_memory, api_.ReleaseMemoryInfo);
    const std::array<std::int64_t, 1> shape = {static_cast<std::int64_t>(rows)};
    OrtValue* raw = nullptr;
    // Inputs are only read.
    TRY(runtime_.check(api_.CreateTensorWithDataAsOrtValue(
        raw_memory, const_cast<T*>(values.data()), values.size() * sizeof(T), shape.data(),
        shape.size(), type, &raw)));
    return Value(raw, api_.ReleaseValue);
  }

  Result<Value> give_texts(const std::vector<std::string>& values) const {
    OrtAllocator* allocator = nullptr;
    TRY(runtime_.check(api_.GetAllocatorWithDefaultOptions(&allocator)));
    const std::array<std::int64_t, 1> shape = {std::ssize(values)};
    OrtValue* raw = nullptr;
    TRY(runtime_.check(api_.CreateTensorAsOrtValue(allocator, shape.data(), shape.size(),
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, &raw)));
    Value value(raw, api_.ReleaseValue);
    std::vector<const char*> texts;
    texts.reserve(values.size());
    for (const std::string& text : values) texts.push_back(text.c_str());
    TRY(runtime_.check(api_.FillStringTensor(raw, texts.data(), texts.size())));
    return value;
  }

  template <typename T>
  Result<std::vector<T>> take_plain(const OrtValue& value, std::size_t elements) const {
    void* data = nullptr;
    // The C API has one call for reading and writing.
    TRY(runtime_.check(api_.GetTensorMutableData(const_cast<OrtValue*>(&value), &data)));
    const T* first = static_cast<const T*>(data);
    return std::vector<T>(first, first + elements);
  }

  Result<std::vector<std::string>> take_texts(const OrtValue& value, std::size_t elements) const {
    std::size_t length = 0;
    TRY(runtime_.check(api_.GetStringTensorDataLength(&value, &length)));
    std::string all(length, '\0');
    std::vector<std::size_t> offsets(elements);
    TRY(runtime_.check(
        api_.GetStringTensorContent(&value, all.data(), length, offsets.data(), elements)));
    std::vector<std::string> texts;
    texts.reserve(elements);
    for (std::size_t i = 0; i < elements; ++i) {
      const std::size_t end = i + 1 < elements ? offsets[i + 1] : length;
      texts.push_back(all.substr(offsets[i], end - offsets[i]));
    }
    return texts;
  }

  const OnnxRuntime& runtime_;
  const OrtApi& api_;
};

}  // namespace

Result<GraphSession> GraphSession::open(const OnnxRuntime& runtime, std::string_view model,
                                        std::uint32_t threads) {
  const OrtApi& api = runtime.api();
  OrtSessionOptions* raw_options = nullptr;
  TRY(runtime.check(api.CreateSessionOptions(&raw_options)));
  const OrtOwned<OrtSessionOptions> options(raw_options, api.ReleaseSessionOptions);
  TRY(runtime.check(api.SetIntraOpNumThreads(raw_options, static_cast<int>(threads))));
  TRY(runtime.check(api.SetInterOpNumThreads(raw_options, 1)));
  // Threads that wait for work sleep: a guest's spinning would be paid by whoever it waits for.
  TRY(runtime.check(
      api.AddSessionConfigEntry(raw_options, "session.intra_op.allow_spinning", "0")));
  OrtSession* session = nullptr;
  TRY(runtime.check(api.CreateSessionFromArray(runtime.env(), model.data(), model.size(),
                                               raw_options, &session)));
  return GraphSession(runtime, {session, api.ReleaseSession});
}

Result<std::vector<GraphOutput>> GraphSession::run(const RowBatch& batch,
                                                   std::span<const std::string> outputs) const {
  const OrtApi& api = runtime_->api();
  const Exchange exchange(*runtime_);
  std::vector<Value> inputs;
  std::vector<const OrtValue*> given;
  std::vector<const char*> input_names;
  for (const RowBatch::Column& column : batch.columns) {
    inputs.push_back(TRY(exchange.give(column.values, batch.rows)));
    given.push_back(inputs.back().get());
    input_names.push_back(column.name.c_str());
  }
  std::vector<const char*> output_names;
  for (const std::string& name : outputs) output_names.push_back(name.c_str());
  std::vector<OrtValue*> raw(outputs.size(), nullptr);
  const Status ran =
      runtime_->check(api.Run(session_.get(), nullptr, input_names.data(), given.data(),
                              given.size(), output_names.data(), output_names.size(), raw.data()));
  std::vector<Value> results;
  for (OrtValue* value : raw) results.emplace_back(value, api.ReleaseValue);
  TRY(ran);
  std::vector<GraphOutput> taken;
  for (const Value& value : results) taken.push_back(TRY(exchange.take(*value)));
  return taken;
}

}  // namespace mayfly
