#include "runner/publish_trial.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "core/reason.h"
#include "runner/warmup.h"
#include "sandbox/channel.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMaxGenerated = 64 * 1024 * 1024;  // bytes of one generated set

// ---- Generated inputs ---------------------------------------------------------------------------

template <typename T>
void fill(std::vector<std::byte>& bytes, const auto& value_at) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    const T value = value_at(i);
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof value);
  }
}

double spread(std::size_t i) { return static_cast<double>(i * 37 % 101) / 101.0; }

std::uint16_t bf16_of(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U);
}

std::vector<std::byte> generated_texts(std::uint64_t count) {
  std::vector<std::byte> bytes;
  constexpr std::array text = {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{0},
                               std::byte{'a'}};
  for (std::uint64_t i = 0; i < count; ++i) bytes.insert(bytes.end(), text.begin(), text.end());
  return bytes;
}

void fill_numbers(DataType type, std::vector<std::byte>& bytes) {
  switch (type) {
    case DataType::Fp32:
      return fill<float>(bytes, [](std::size_t i) { return static_cast<float>(spread(i)); });
    case DataType::Fp64:
      return fill<double>(bytes, spread);
    case DataType::Fp16:
      return fill<_Float16>(bytes, [](std::size_t i) { return static_cast<_Float16>(spread(i)); });
    case DataType::Bf16:
      return fill<std::uint16_t>(
          bytes, [](std::size_t i) { return bf16_of(static_cast<float>(spread(i))); });
    default:
      break;
  }
  // Little-endian integers 0, 1, 0, 1…, of whatever width.
  const std::size_t width = element_size(type);
  for (std::size_t i = 0; i < bytes.size() / width; ++i) bytes[i * width] = std::byte(i % 2);
}

// A set with each free dimension at `size`, those after the first at `inner`; nullopt when too
// large.
std::optional<TrialTensors> generate(const GraphSignature& graph, std::int64_t size,
                                     std::int64_t inner) {
  TrialTensors tensors;
  std::map<std::string, std::int64_t> named;
  for (std::size_t i = 0; i < graph.signature.inputs.size(); ++i) {
    const TensorSpec& spec = graph.signature.inputs[i];
    TrialTensor tensor{static_cast<std::uint32_t>(i), spec.type, spec.shape, {}};
    for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
      if (tensor.shape[d] >= 0) continue;
      tensor.shape[d] = d == 0 ? size : inner;
      const std::string& symbol = graph.symbols[i][d];
      if (!symbol.empty())
        tensor.shape[d] = named.try_emplace(symbol, tensor.shape[d]).first->second;
    }
    const auto count = element_count(tensor.shape);
    if (!count || *count > kMaxGenerated / 8) return std::nullopt;
    if (spec.type == DataType::Bytes) {
      tensor.bytes = generated_texts(*count);
    } else {
      tensor.bytes.resize(*count * element_size(spec.type));
      fill_numbers(spec.type, tensor.bytes);
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// ---- Comparison ---------------------------------------------------------------------------------

struct Tolerance {
  double relative;
  double scaled;
};

Tolerance tolerance_of(DataType type) {
  switch (type) {
    case DataType::Fp64:
      return {1e-6, 1e-7};
    case DataType::Fp16:
      return {1e-2, 1e-2};
    case DataType::Bf16:
      return {5e-2, 5e-2};
    default:
      return {1e-3, 1e-4};
  }
}

double float_at(const TrialTensor& tensor, std::size_t i) {
  const auto read = [&]<typename T>(T number) {
    std::memcpy(&number, tensor.bytes.data() + i * sizeof number, sizeof number);
    return number;
  };
  switch (tensor.type) {
    case DataType::Fp64:
      return read(double{});
    case DataType::Fp16:
      return static_cast<double>(read(_Float16{}));
    case DataType::Bf16:
      return std::bit_cast<float>(static_cast<std::uint32_t>(read(std::uint16_t{})) << 16U);
    default:
      return static_cast<double>(read(float{}));
  }
}

bool is_float(DataType type) {
  return type == DataType::Fp16 || type == DataType::Bf16 || type == DataType::Fp32 ||
         type == DataType::Fp64;
}

// The first element that differs too much.
std::optional<std::string> difference(const TrialTensor& got, const TrialTensor& expected) {
  if (!is_float(got.type)) {
    if (got.bytes == expected.bytes) return std::nullopt;
    return "values that must be equal differ";
  }
  const std::size_t count = got.bytes.size() / element_size(got.type);
  double largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double value = std::fabs(float_at(expected, i));
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  const Tolerance tolerance = tolerance_of(got.type);
  for (std::size_t i = 0; i < count; ++i) {
    const double a = float_at(got, i);
    const double b = float_at(expected, i);
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    const double limit = tolerance.relative * std::fabs(b) + tolerance.scaled * largest + 1e-9;
    if (!(std::fabs(a - b) <= limit)) return fmt::format("element {} is {} instead of {}", i, a, b);
  }
  return std::nullopt;
}

// ---- Encoding -----------------------------------------------------------------------------------

void put(std::string& out, std::uint64_t number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  Result<std::uint64_t> number() {
    std::uint64_t value = 0;
    const std::string_view raw = TRY(take(sizeof value));
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  Result<std::string_view> take(std::uint64_t size) {
    if (size > rest_.size()) return refuse(reason::kPublishFailed, "a trial's file is cut short");
    const std::string_view piece = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return piece;
  }

 private:
  std::string_view rest_;
};

Result<TrialTensor> decode_tensor(Reader& reader) {
  TrialTensor tensor;
  tensor.index = static_cast<std::uint32_t>(TRY(reader.number()));
  tensor.type = static_cast<DataType>(TRY(reader.number()));
  const std::uint64_t rank = TRY(reader.number());
  if (rank > kMaxRank || !is_known(static_cast<std::uint8_t>(tensor.type))) {
    return refuse(reason::kPublishFailed, "a trial's file is damaged");
  }
  for (std::uint64_t i = 0; i < rank; ++i) {
    tensor.shape.push_back(static_cast<std::int64_t>(TRY(reader.number())));
  }
  const std::uint64_t size = TRY(reader.number());
  const std::string_view raw = TRY(reader.take(size));
  const auto* data = reinterpret_cast<const std::byte*>(raw.data());
  tensor.bytes.assign(data, data + raw.size());
  return tensor;
}

constexpr std::size_t kMaxWarmup = 16 << 20;  // bytes of a warmup.bin

}  // namespace

std::vector<TrialTensors> generate_inputs(const GraphSignature& graph) {
  // Small sizes first: many models fix the rest by arithmetic; the last ones are for images and
  // sequences that are pooled several times.
  constexpr std::array<std::pair<std::int64_t, std::int64_t>, 7> kSizes = {
      {{1, 1}, {2, 2}, {3, 3}, {1, 8}, {1, 32}, {1, 64}, {1, 224}}};
  std::vector<TrialTensors> sets;
  for (const auto& [size, inner] : kSizes) {
    auto set = generate(graph, size, inner);
    if (!set || std::ranges::find(sets, *set) != sets.end()) continue;
    sets.push_back(*std::move(set));
  }
  return sets;
}

RequestView request_of(const TrialTensors& inputs, const Signature& signature) {
  RequestView request;
  for (const TrialTensor& input : inputs) {
    // The invoker reads inputs only; the span is writable because invocation memory is.
    request.inputs.push_back({input.index,
                              input.type,
                              input.shape,
                              {const_cast<std::byte*>(input.bytes.data()), input.bytes.size()}});
  }
  request.outputs.resize(signature.outputs.size());
  std::iota(request.outputs.begin(), request.outputs.end(), 0U);
  return request;
}

namespace {

// The rest of a stream: none of it is kept.
Status drain(Backend& backend) {
  for (int i = 1; i < kTrialChunks; ++i) {
    if (TRY(backend.next_chunk()) == nullptr) return {};
  }
  backend.close_stream();
  return {};
}

}  // namespace

Result<TrialTensors> run_trial(Backend& backend, const Signature& signature,
                               const TrialTensors& inputs) {
  const RequestView request = request_of(inputs, signature);
  const RunResults* results = TRY(backend.run(request, {}, 0));
  if (results == nullptr) return TrialTensors{};  // a stream without a chunk
  const std::vector<OutputPlan> plans = results->plans;
  const OutputPlacement placement = place_outputs(plans, 0, kMaxTrialOutput);
  if (placement.offsets.size() != plans.size()) {
    return refuse(reason::kTooLarge, fmt::format("its outputs need {} bytes", placement.end));
  }
  std::vector<std::byte> memory(placement.end);
  TRY(backend.copy_results(placement, memory));
  if (backend.streams()) TRY(drain(backend));
  backend.release_results();
  TrialTensors outputs;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto* begin = memory.data() + placement.offsets[i];
    outputs.push_back({static_cast<std::uint32_t>(i),
                       plans[i].type,
                       plans[i].shape,
                       {begin, begin + plans[i].bytes}});
  }
  return outputs;
}

Status agree(const TrialTensors& got, const TrialTensors& expected, const Signature& signature) {
  if (got.size() != expected.size()) return fail(Code::Internal, "another number of outputs");
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::string name = shown(signature.outputs.at(got[i].index).name);
    if (got[i].type != expected[i].type || got[i].shape != expected[i].shape ||
        (is_float(got[i].type) && got[i].bytes.size() != expected[i].bytes.size())) {
      return fail(Code::Internal, fmt::format("output '{}' has another type or shape", name));
    }
    if (const auto where = difference(got[i], expected[i])) {
      return fail(Code::Internal, fmt::format("output '{}': {}", name, *where));
    }
  }
  return {};
}

Status write_file(const Path& path, std::string_view bytes) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return write_all(file.get(), bytes);
}

Status write_warmup(const TrialTensors& inputs, const Signature& signature, const Path& folder) {
  std::vector<InputPlan> plans;
  for (const TrialTensor& input : inputs) {
    plans.push_back({input.index, input.type, input.shape, input.bytes.size()});
  }
  std::vector<std::uint32_t> outputs;
  for (std::size_t i = 0; i < signature.outputs.size(); ++i) {
    outputs.push_back(static_cast<std::uint32_t>(i));
  }
  const RequestLayout layout = TRY(RequestLayout::plan(std::move(plans), std::move(outputs)));
  if (layout.request_bytes() > kMaxWarmup) return {};
  std::vector<std::byte> image = make_request_image(layout);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::ranges::copy(inputs[i].bytes,
                      image.begin() + static_cast<std::ptrdiff_t>(layout.input_offset(i)));
  }
  return write_file(folder / "warmup.bin",
                    {reinterpret_cast<const char*>(image.data()), image.size()});
}

std::string encode(const TrialTensors& tensors) {
  std::string out;
  put(out, tensors.size());
  for (const TrialTensor& tensor : tensors) {
    put(out, tensor.index);
    put(out, static_cast<std::uint64_t>(tensor.type));
    put(out, tensor.shape.size());
    for (const std::int64_t dim : tensor.shape) put(out, static_cast<std::uint64_t>(dim));
    put(out, tensor.bytes.size());
    out.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return out;
}

Result<TrialTensors> decode_tensors(std::string_view bytes) {
  Reader reader(bytes);
  const std::uint64_t count = TRY(reader.number());
  if (count > kMaxTensors) return refuse(reason::kPublishFailed, "a trial's file is damaged");
  TrialTensors tensors;
  for (std::uint64_t i = 0; i < count; ++i) tensors.push_back(TRY(decode_tensor(reader)));
  return tensors;
}

}  // namespace mayfly
