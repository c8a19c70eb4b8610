#include "runner/onnx_session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::array kOrtLevels = {ORT_DISABLE_ALL, ORT_ENABLE_BASIC, ORT_ENABLE_EXTENDED,
                                   ORT_ENABLE_ALL};

Result<LoadPlan> read_load_plan(const Path& artifact) {
  const std::string text = TRY(read_file(artifact / "load.json"));
  return parse_load_plan(text);
}

// A file mapped read-only.
class Mapping {
 public:
  Mapping() = default;
  static Result<Mapping> map(const Path& path) {
    const Fd file = TRY(open_file(path, O_RDONLY));
    const std::uint64_t size = TRY(mayfly::file_size(path));
    if (size == 0)
      return fail(Code::DataLoss, fmt::format("{} is empty", path.native()), reason::kInvalidModel);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (data == MAP_FAILED) return fail_errno(fmt::format("map {}", path.native()));
    return Mapping({static_cast<std::byte*>(data), size});
  }
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

using Options = OrtOwned<OrtSessionOptions>;

// The settings that are plain key and value.
Status add_entries(const OnnxRuntime& runtime, OrtSessionOptions* raw,
                   const SessionOptions& options) {
  const auto entry = [&](const char* key, const char* value) {
    return runtime.check(runtime.api().AddSessionConfigEntry(raw, key, value));
  };
  // A spinning pool would burn CPU time that somebody is billed for.
  TRY(entry("session.intra_op.allow_spinning", "0"));
  TRY(entry("session.inter_op.allow_spinning", "0"));
  if (!options.prepack) TRY(entry("session.disable_prepacking", "1"));
  // For models in ORT format that are in memory: used there, not copied. Others ignore them.
  TRY(entry("session.use_ort_model_bytes_directly", "1"));
  TRY(entry("session.use_ort_model_bytes_for_initializers", "1"));
  if (!options.weights_folder.empty()) {
    TRY(entry("session.model_external_initializers_file_folder_path",
              options.weights_folder.c_str()));
  }
  if (options.save_as.empty()) return {};
  TRY(runtime.check(runtime.api().SetOptimizedModelFilePath(raw, options.save_as.c_str())));
  if (options.save_as.extension() == ".ort") return entry("session.save_model_format", "ORT");
  if (options.weights_name.empty()) return {};
  TRY(entry("session.optimized_model_external_initializers_file_name",
            options.weights_name.c_str()));
  return entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024");
}

Result<Options> make_options(const OnnxRuntime& runtime, const SessionOptions& options) {
  const OrtApi& api = runtime.api();
  OrtSessionOptions* raw = nullptr;
  TRY(runtime.check(api.CreateSessionOptions(&raw)));
  Options made(raw, api.ReleaseSessionOptions);
  TRY(runtime.check(api.SetIntraOpNumThreads(raw, static_cast<int>(options.threads))));
  TRY(runtime.check(api.SetInterOpNumThreads(raw, 1)));
  TRY(runtime.check(api.SetSessionExecutionMode(raw, ORT_SEQUENTIAL)));
  const auto level = kOrtLevels.at(static_cast<std::size_t>(options.optimise));
  TRY(runtime.check(api.SetSessionGraphOptimizationLevel(raw, level)));
  TRY(runtime.check(api.SetSessionLogSeverityLevel(raw, ORT_LOGGING_LEVEL_ERROR)));
  TRY(add_entries(runtime, raw, options));
  return made;
}

Result<TensorSpec> tensor_spec(const OnnxRuntime& runtime, std::string name, OrtTypeInfo* type) {
  const OrtApi& api = runtime.api();
  const OrtOwned<OrtTypeInfo> owned(type, api.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  TRY(runtime.check(api.CastTypeInfoToTensorInfo(type, &info)));
  if (info == nullptr) {
    return refuse(
        reason::kUnsupported,
        fmt::format("'{}' is a sequence, map or optional; only tensors can be served", name));
  }
  ONNXTensorElementDataType element{};
  std::size_t rank = 0;
  TRY(runtime.check(api.GetTensorElementType(info, &element)));
  TRY(runtime.check(api.GetDimensionsCount(info, &rank)));
  if (rank > kMaxRank) {
    return refuse(reason::kUnsupported,
                  fmt::format("'{}' has {} dimensions; {} can be served", name, rank, kMaxRank));
  }
  TensorSpec spec{.name = std::move(name), .type = {}, .shape = Shape(rank)};
  auto known = data_type(element);
  if (!known) return std::unexpected(std::move(known).error().in(fmt::format("'{}'", spec.name)));
  spec.type = *known;
  TRY(runtime.check(api.GetDimensions(info, spec.shape.data(), rank)));
  for (std::int64_t& dimension : spec.shape) dimension = std::max<std::int64_t>(dimension, -1);
  return spec;
}

using GetCount = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t*) noexcept;
using GetName = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtAllocator*,
                                          char**) noexcept;
using GetType = OrtStatus*(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtTypeInfo**) noexcept;
struct Side {
  GetCount count;
  GetName name;
  GetType type;
};

Result<std::vector<TensorSpec>> read_side(const OnnxRuntime& runtime, const OrtSession* session,
                                          const Side& side) {
  const OrtApi& api = runtime.api();
  OrtAllocator* allocator = nullptr;
  TRY(runtime.check(api.GetAllocatorWithDefaultOptions(&allocator)));
  std::size_t count = 0;
  TRY(runtime.check(side.count(session, &count)));
  std::vector<TensorSpec> specs;
  for (std::size_t i = 0; i < count; ++i) {
    char* raw = nullptr;
    TRY(runtime.check(side.name(session, i, allocator, &raw)));
    std::string name = raw;
    TRY(runtime.check(api.AllocatorFree(allocator, raw)));
    OrtTypeInfo* type = nullptr;
    TRY(runtime.check(side.type(session, i, &type)));
    specs.push_back(TRY(tensor_spec(runtime, std::move(name), type)));
  }
  return specs;
}

Result<Signature> read_signature(const OnnxRuntime& runtime, const OrtSession* session) {
  const OrtApi& api = runtime.api();
  Signature signature;
  signature.inputs = TRY(
      read_side(runtime, session,
                {api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo}));
  signature.outputs = TRY(read_side(
      runtime, session,
      {api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo}));
  return signature;
}

}  // namespace

// Pinned: the invoker points into the signature. Members are destroyed in reverse: the session
// before the bytes it uses.
struct OnnxSession::State {
  Mapping mapping;
  std::span<const std::byte> bytes;  // a model in memory: mapped, or the caller's
  OrtOwned<OrtSession> session{nullptr, nullptr};
  Signature signature;
  std::optional<OnnxInvoker> invoker;
};

OnnxSession::OnnxSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
OnnxSession::OnnxSession(OnnxSession&&) noexcept = default;
OnnxSession& OnnxSession::operator=(OnnxSession&&) noexcept = default;
OnnxSession::~OnnxSession() = default;

const Signature& OnnxSession::signature() const { return state_->signature; }

Result<const RunResults*> OnnxSession::run(const RequestView& request, RequestSpan memory,
                                           std::uint64_t outputs_begin) {
  return state_->invoker->run(request, memory, outputs_begin);
}

Status OnnxSession::copy_results(const OutputPlacement& placement, RequestSpan target) const {
  return state_->invoker->copy_results(placement, target);
}

void OnnxSession::release_results() { state_->invoker->release_results(); }

Result<OnnxSession> OnnxSession::build(const OnnxRuntime& runtime, std::unique_ptr<State> state,
                                       const Path& model, const SessionOptions& options) {
  const OrtApi& api = runtime.api();
  const Options made = TRY(make_options(runtime, options));
  OrtSession* session = nullptr;
  TRY(runtime.check(state->bytes.empty()
                        ? api.CreateSession(runtime.env(), model.c_str(), made.get(), &session)
                        : api.CreateSessionFromArray(runtime.env(), state->bytes.data(),
                                                     state->bytes.size(), made.get(), &session)));
  state->session = OrtOwned<OrtSession>(session, api.ReleaseSession);
  if (state->signature.outputs.empty()) state->signature = TRY(read_signature(runtime, session));
  state->invoker.emplace(TRY(OnnxInvoker::create(runtime, *session, state->signature)));
  return OnnxSession(std::move(state));
}

Result<OnnxSession> OnnxSession::open(const OnnxRuntime& runtime, const Path& model, ModelForm form,
                                      const SessionOptions& options) {
  auto state = std::make_unique<State>();
  if (form == ModelForm::Ort) {
    state->mapping = TRY(Mapping::map(model));
    state->bytes = state->mapping.bytes();
  }
  return build(runtime, std::move(state), model, options);
}

Result<OnnxSession> OnnxSession::open(const OnnxRuntime& runtime, std::span<const std::byte> model,
                                      const SessionOptions& options) {
  auto state = std::make_unique<State>();
  state->bytes = model;
  return build(runtime, std::move(state), {}, options);
}

Result<OnnxSession> OnnxSession::load(const OnnxRuntime& runtime, const Path& artifact,
                                      std::uint32_t threads) {
  LoadPlan plan = TRY(read_load_plan(artifact));
  const SessionOptions options{
      .threads = threads, .prepack = plan.prepack, .optimise = plan.optimise};
  auto state = std::make_unique<State>();
  state->signature = std::move(plan.signature);
  const Path model = artifact / plan.model;
  if (plan.form == ModelForm::Ort) {
    state->mapping = TRY(Mapping::map(model));
    state->bytes = state->mapping.bytes();
  }
  return build(runtime, std::move(state), model, options);
}

Status populate_weights(const Path& artifact) {
  const LoadPlan plan = TRY(read_load_plan(artifact));
  const std::string& name = plan.weights.empty() ? plan.model : plan.weights;
  const Mapping weights = TRY(Mapping::map(artifact / name));
  // In pieces, so that pages read first are not under reclaim while the last are being read.
  constexpr std::size_t kPiece = std::size_t{16} << 20;
  for (std::span<std::byte> rest = weights.bytes(); !rest.empty();) {
    const std::span<std::byte> piece = rest.first(std::min(kPiece, rest.size()));
    if (::madvise(piece.data(), piece.size(), MADV_POPULATE_READ) != 0 && errno != EINVAL) {
      return fail_errno(fmt::format("read {}", name));
    }
    rest = rest.subspan(piece.size());
  }
  return {};
}

}  // namespace mayfly
