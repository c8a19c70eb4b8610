#include "runner/publish_model.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <filesystem>
#include <optional>
#include <span>

#include "core/manifest.h"
#include "core/reason.h"
#include "runner/publish_sniff.h"

namespace mayfly {
namespace {

using onnx::ModelProto;
using onnx::TensorProto;

// Beside the parsed graph: the process, ONNX Runtime, room to work.
constexpr Bytes kWorkingRoom = mib(128);
constexpr std::size_t kWeightAlignment = 4096;  // a page, so that tensors are mapped aligned

std::unexpected<Error> invalid_model(std::string message) {
  return refuse(reason::kInvalidModel, std::move(message));
}

// A file mapped read-only.
class FileView {
 public:
  static Result<FileView> open(const Path& path) {
    const Fd file = TRY(open_file(path, O_RDONLY | O_NOFOLLOW));
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno("fstat");
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size == 0) return FileView(nullptr, 0);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (data == MAP_FAILED) return fail_errno("mmap the model");
    return FileView(data, size);
  }
  FileView(FileView&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  FileView& operator=(FileView&&) = delete;
  ~FileView() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  FileView(void* data, std::size_t size) : data_(data), size_(size) {}
  void* data_;
  std::size_t size_;
};

Status parse(const std::string& name, std::span<const std::byte> bytes, ModelProto& model) {
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetTotalBytesLimit(INT_MAX);
  const bool parsed = model.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage();
  if (!parsed) {
    return invalid_model(fmt::format(
        "{} is no whole ONNX model: the file is damaged, truncated or of another kind", name));
  }
  if (!model.has_graph() || model.ir_version() <= 0 || model.opset_import_size() == 0) {
    return invalid_model(
        fmt::format("{} is not an ONNX model: it has no graph or no operator sets", name));
  }
  return {};
}

// ---- External data ------------------------------------------------------------------------------

struct ExternalData {
  std::string location;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Result<std::uint64_t> read_number(const TensorProto& tensor, const std::string& text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && stop == end && number <= INT64_MAX) return number;
  return invalid_model(fmt::format("tensor '{}': its external data has offset or length '{}'",
                                   shown(tensor.name()), shown(text)));
}

Result<ExternalData> read_external(const TensorProto& tensor) {
  ExternalData data;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") data.location = entry.value();
    if (entry.key() == "offset") data.offset = TRY(read_number(tensor, entry.value()));
    if (entry.key() == "length") data.length = TRY(read_number(tensor, entry.value()));
  }
  return data;
}

std::unexpected<Error> bad_external(const TensorProto& tensor, const ExternalData& data,
                                    std::string_view why) {
  return invalid_model(fmt::format("tensor '{}': its external data file '{}' {}",
                                   shown(tensor.name()), shown(data.location), why));
}

// "./w.bin" is common and harmless.
Result<std::string> location_inside(const TensorProto& tensor, const ExternalData& data) {
  std::string_view path = data.location;
  while (path.starts_with("./")) path.remove_prefix(2);
  if (!check_artifact_path(path)) {
    return bad_external(tensor, data,
                        "lies outside the model's folder; only files in it can be deployed");
  }
  return std::string(path);
}

// The size of a regular file that is reached without following a link.
Result<std::uint64_t> linkless_size(const TensorProto& tensor, const ExternalData& data,
                                    const Path& folder, const Path& inside) {
  Path path = folder;
  std::error_code error;
  for (const Path& component : inside) {
    path /= component;
    const auto status = std::filesystem::symlink_status(path, error);
    if (status.type() == std::filesystem::file_type::symlink) {
      return bad_external(tensor, data,
                          "is reached through a symbolic link; deploy the file itself");
    }
  }
  if (std::filesystem::symlink_status(path, error).type() != std::filesystem::file_type::regular) {
    return bad_external(tensor, data, "is not among the deployed files");
  }
  return mayfly::file_size(path);
}

std::optional<std::uint64_t> bits_per_element(int type) {
  switch (type) {
    case TensorProto::FLOAT:
    case TensorProto::INT32:
    case TensorProto::UINT32:
      return 32;
    case TensorProto::UINT8:
    case TensorProto::INT8:
    case TensorProto::BOOL:
      return 8;
    case TensorProto::UINT16:
    case TensorProto::INT16:
    case TensorProto::FLOAT16:
    case TensorProto::BFLOAT16:
      return 16;
    case TensorProto::INT64:
    case TensorProto::UINT64:
    case TensorProto::DOUBLE:
    case TensorProto::COMPLEX64:
      return 64;
    default:
      return std::nullopt;  // strings cannot be external; newer types are ONNX Runtime's to judge
  }
}

Status check_extent(const TensorProto& tensor, const ExternalData& data, std::uint64_t size) {
  const auto elements =
      element_count(std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size())));
  if (!elements) return bad_external(tensor, data, "belongs to a tensor of impossible shape");
  std::uint64_t needed = data.length.value_or(0);
  if (const auto bits = bits_per_element(tensor.data_type())) {
    std::uint64_t expected = 0;
    if (__builtin_mul_overflow(*elements, *bits / 8, &expected)) {
      return bad_external(tensor, data, "belongs to a tensor of impossible shape");
    }
    if (data.length && *data.length != expected) {
      return bad_external(tensor, data,
                          fmt::format("is said to hold {} bytes of it, but its shape needs {}",
                                      *data.length, expected));
    }
    needed = expected;
  }
  if (data.offset > size || needed > size - data.offset) {
    return bad_external(tensor, data,
                        fmt::format("has {} bytes, but bytes {} to {} are needed", size,
                                    data.offset, data.offset + needed));
  }
  return {};
}

Status check_tensor(const TensorProto& tensor, const Path& folder) {
  if (tensor.data_location() != TensorProto::EXTERNAL) return {};
  const ExternalData data = TRY(read_external(tensor));
  const std::string inside = TRY(location_inside(tensor, data));
  return check_extent(tensor, data, TRY(linkless_size(tensor, data, folder, inside)));
}

// ---- Weights ------------------------------------------------------------------------------------

std::uint64_t inline_bytes(const TensorProto& tensor) {
  return tensor.raw_data().size() + 4 * static_cast<std::uint64_t>(tensor.float_data_size()) +
         8 * static_cast<std::uint64_t>(tensor.double_data_size()) +
         8 * static_cast<std::uint64_t>(tensor.int64_data_size());
}

std::uint64_t tensor_bytes(const TensorProto& tensor) {
  if (tensor.data_location() != TensorProto::EXTERNAL) return inline_bytes(tensor);
  const auto elements =
      element_count(std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size())));
  return elements.value_or(0) * bits_per_element(tensor.data_type()).value_or(8) / 8;
}

template <typename T>
std::span<const std::byte> bytes_of(const google::protobuf::RepeatedField<T>& values) {
  return std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size())));
}

// Where moved weights go, one file, each tensor on a page of its own.
class WeightsFile {
 public:
  static Result<WeightsFile> create(const Path& folder) {
    return WeightsFile(TRY(open_file(folder / kName, O_WRONLY | O_CREAT | O_EXCL, 0644)));
  }

  // Moves the tensor's bytes out of the graph.
  Status move(TensorProto& tensor) {
    if (tensor.float_data_size() > 0) {
      TRY(append(bytes_of(tensor.float_data())));
    } else if (tensor.double_data_size() > 0) {
      TRY(append(bytes_of(tensor.double_data())));
    } else if (tensor.int64_data_size() > 0) {
      TRY(append(bytes_of(tensor.int64_data())));
    } else {
      TRY(append(std::as_bytes(std::span(tensor.raw_data()))));
    }
    return point(tensor);
  }

  // Copies external bytes, a piece at a time.
  Status copy(TensorProto& tensor, const Path& folder) {
    const ExternalData data = TRY(read_external(tensor));
    const Path inside(TRY(location_inside(tensor, data)));
    const FileView view = TRY(FileView::open(folder / inside));
    TRY(append(view.bytes().subspan(data.offset, tensor_bytes(tensor))));
    return point(tensor);
  }

  static constexpr const char* kName = "moved.bin";

 private:
  explicit WeightsFile(Fd file) : file_(std::move(file)) {}

  Status append(std::span<const std::byte> bytes) {
    const std::uint64_t begin = (end_ + kWeightAlignment - 1) / kWeightAlignment * kWeightAlignment;
    const std::string padding(begin - end_, '\0');
    TRY(write_all(file_.get(), padding));
    TRY(write_all(file_.get(), bytes));
    begin_ = begin;
    end_ = begin + bytes.size();
    return {};
  }

  Status point(TensorProto& tensor) {
    // swap, not clear: clearing keeps the memory.
    TensorProto bare;
    bare.mutable_dims()->Swap(tensor.mutable_dims());
    bare.set_data_type(tensor.data_type());
    bare.set_name(tensor.name());
    bare.set_data_location(TensorProto::EXTERNAL);
    const std::array entries = {std::pair("location", std::string(kName)),
                                std::pair("offset", std::to_string(begin_)),
                                std::pair("length", std::to_string(end_ - begin_))};
    for (const auto& [key, value] : entries) {
      auto* entry = bare.add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
    tensor.Swap(&bare);
    return {};
  }

  Fd file_;
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
};

// Small tensors stay: shapes and indices must be known while the graph is optimised.
constexpr std::uint64_t kMovedFrom = 1024;

Status move_weights(ModelProto& model, const Path& folder, const Path& scratch) {
  WeightsFile file = TRY(WeightsFile::create(scratch));
  for (TensorProto& tensor : *model.mutable_graph()->mutable_initializer()) {
    if (tensor.data_location() == TensorProto::EXTERNAL) {
      TRY(file.copy(tensor, folder));
    } else if (inline_bytes(tensor) >= kMovedFrom) {
      TRY(file.move(tensor));
    }
  }
  return {};
}

Status check_size(const std::string& file, std::uint64_t size, Bytes memory) {
  if (size > INT_MAX) {
    return invalid_model(
        fmt::format("{} has {} bytes and ONNX files end at 2 GiB; save it with its weights "
                    "outside: onnx.save(model, path, save_as_external_data=True)",
                    file, size));
  }
  if (size + kWorkingRoom.count > memory.count) {
    return refuse(
        reason::kPublishFailed,
        fmt::format("{} has {} MiB inside the model file, more than publish_memory ({} MiB) "
                    "holds; raise it, or save the weights outside: onnx.save(model, path, "
                    "save_as_external_data=True)",
                    file, size >> 20U, memory.count >> 20U));
  }
  return {};
}

struct WeightCount {
  std::uint64_t all = 0;
  std::uint64_t inlined = 0;
};

WeightCount count_weights(const ModelProto& model) {
  WeightCount count;
  for (const TensorProto& tensor : model.graph().initializer()) {
    count.all += tensor_bytes(tensor);
    count.inlined += inline_bytes(tensor);
  }
  return count;
}

}  // namespace

Status check_external_data(const ModelProto& model, const Path& model_folder) {
  return visit_tensors(
      model, [&](const TensorProto& tensor) { return check_tensor(tensor, model_folder); });
}

Result<BaseModel> read_model(const Path& source, const std::string& file, const Path& scratch,
                             Bytes memory) {
  const Path path = source / file;
  ModelProto model;
  {
    const FileView view = TRY(FileView::open(path));
    TRY(check_is_onnx(file, view.bytes().first(std::min<std::size_t>(view.bytes().size(), 4096)),
                      view.bytes().size()));
    TRY(check_size(file, view.bytes().size(), memory));
    TRY(parse(file, view.bytes(), model));
  }
  BaseModel base;
  base.weights_folder = path.parent_path();
  TRY(check_external_data(model, base.weights_folder));
  base.notes = replace_zipmaps(model);
  TRY(check_graph(model));
  base.graph = TRY(read_signature(model));
  base.session_after_fork = has_unseeded_random(model);
  const WeightCount weights = count_weights(model);
  base.weight_bytes = weights.all;
  if (weights.inlined > kMaxInlineWeights.count) {
    TRY(move_weights(model, base.weights_folder, scratch));
    base.weights_folder = scratch;
  }
  if (!model.SerializeToString(&base.bytes)) {
    return invalid_model(fmt::format("{} is too large to rewrite in memory", file));
  }
  return base;
}

}  // namespace mayfly
