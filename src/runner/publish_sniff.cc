#include "runner/publish_sniff.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/manifest.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using namespace std::string_view_literals;

struct Format {
  std::string_view magic;
  std::string_view what;
  std::string_view mend;
};

constexpr auto kTorch =
    "export it where it was trained: torch.onnx.export(model, example, 'model.onnx')"sv;
constexpr auto kSklearn =
    "convert it where it was trained: skl2onnx.to_onnx(model, X[:1]) and save SerializeToString()"sv;
constexpr auto kKeras =
    "convert it: python -m tf2onnx.convert --keras model.h5 --output model.onnx"sv;
constexpr auto kSavedModel =
    "convert it: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"sv;
constexpr auto kTflite =
    "convert it: python -m tf2onnx.convert --tflite model.tflite --output model.onnx"sv;
constexpr auto kBoosted =
    "convert it where it was trained: onnxmltools.convert_lightgbm or onnxmltools.convert_xgboost"sv;
constexpr auto kUnpack = "unpack it and deploy the model file or its folder"sv;
constexpr auto kOnnx = "deploy an ONNX file"sv;

constexpr std::array kByMagic = {
    Format{"PK\x03\x04"sv, "a zip archive, as torch.save writes (PyTorch), or Keras", kTorch},
    Format{"\x89HDF\r\n\x1a\n"sv, "an HDF5 file, as Keras writes", kKeras},
    Format{"\x80\x02"sv, "a Python pickle, as PyTorch, joblib or scikit-learn write", kSklearn},
    Format{"\x80\x03"sv, "a Python pickle, as joblib or scikit-learn write", kSklearn},
    Format{"\x80\x04"sv, "a Python pickle, as joblib or scikit-learn write", kSklearn},
    Format{"\x80\x05"sv, "a Python pickle, as joblib or scikit-learn write", kSklearn},
    Format{"tree\n"sv, "a LightGBM model in text form", kBoosted},
    Format{"tree\r\n"sv, "a LightGBM model in text form", kBoosted},
    Format{"binf"sv, "an XGBoost model", kBoosted},
    Format{"{L\x00\x00"sv, "an XGBoost model (UBJSON)", kBoosted},
    Format{"\x1f\x8b"sv, "a gzip archive", kUnpack},
    Format{"GGUF"sv, "a GGUF model (llama.cpp)", kOnnx},
    Format{"\x93NUMPY"sv, "a NumPy array", kOnnx},
    Format{"\x7f"
           "ELF"sv,
           "a program", kOnnx},
    Format{"%PDF"sv, "a PDF document", kOnnx},
    Format{"\x89PNG"sv, "an image", kOnnx},
};

// At offset 4, after the root table's offset (FlatBuffers file identifiers).
constexpr std::array kByIdentifier = {
    Format{"ORTM"sv, "a model in ONNX Runtime's .ort format, which fits one version and CPU",
           "deploy the ONNX file it was made from; Mayfly makes the .ort form itself"sv},
    Format{"TFL3"sv, "a TensorFlow Lite model", kTflite},
};

constexpr std::array kByExtension = {
    Format{".pt"sv, "a PyTorch file", kTorch},
    Format{".pth"sv, "a PyTorch file", kTorch},
    Format{".ckpt"sv, "a checkpoint", kTorch},
    Format{".safetensors"sv, "weights without a graph", kTorch},
    Format{".pkl"sv, "a Python pickle", kSklearn},
    Format{".pickle"sv, "a Python pickle", kSklearn},
    Format{".joblib"sv, "a joblib file", kSklearn},
    Format{".h5"sv, "a Keras model", kKeras},
    Format{".keras"sv, "a Keras model", kKeras},
    Format{".pb"sv, "a TensorFlow graph", kSavedModel},
    Format{".tflite"sv, "a TensorFlow Lite model", kTflite},
    Format{".ort"sv, "a model in ONNX Runtime's .ort format",
           "deploy the ONNX file it was made from"sv},
    Format{".ubj"sv, "an XGBoost model", kBoosted},
    Format{".bst"sv, "a boosted-trees model", kBoosted},
    Format{".xgb"sv, "an XGBoost model", kBoosted},
    Format{".lgb"sv, "a LightGBM model", kBoosted},
};

std::unexpected<Error> is_other(std::string_view name, const Format& format) {
  return refuse(reason::kInvalidModel,
                fmt::format("{} is {}, not an ONNX model; {}", name, format.what, format.mend));
}

const Format* by_extension(std::string_view name) {
  const auto* found = std::ranges::find_if(
      kByExtension, [&](const Format& format) { return name.ends_with(format.magic); });
  return found == kByExtension.end() ? nullptr : found;
}

// JSON and other text never begins an ONNX file: its first byte is a protobuf tag.
std::optional<Format> as_text(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \t\r\n\xef\xbb\xbf"sv);
  if (start == std::string_view::npos) return Format{"", "blank text", kOnnx};
  const std::string_view rest = text.substr(start);
  if (rest.front() == '{' && rest.find("\"learner\"") != std::string_view::npos) {
    return Format{"", "an XGBoost model in JSON form", kBoosted};
  }
  if (rest.front() == '{' || rest.front() == '[') return Format{"", "a JSON text", kOnnx};
  if (rest.starts_with("<")) return Format{"", "an XML or HTML text", kOnnx};
  return std::nullopt;
}

// Every regular file beneath `source`, as paths inside it; links are not followed.
Result<std::vector<std::string>> list_files(const Path& source) {
  constexpr std::size_t kMaxListed = 10'000;
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(source, error), end; !error && it != end;
       it.increment(error)) {
    if (it->symlink_status(error).type() != std::filesystem::file_type::regular) continue;
    files.push_back(it->path().lexically_relative(source).native());
    if (files.size() > kMaxListed) break;
  }
  if (error) return std::unexpected(errno_error("list the artifact's files", error.value()));
  std::ranges::sort(files);
  return files;
}

Status refuse_without_onnx(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    if (file.ends_with("saved_model.pb")) {
      return is_other(file, {"", "part of a TensorFlow SavedModel", kSavedModel});
    }
    if (const Format* format = by_extension(file)) return is_other(file, *format);
  }
  return refuse(reason::kInvalidModel,
                "there is no *.onnx file in this folder; deploy an ONNX model, or name "
                "the file in mayfly.toml: model = \"FILE\"");
}

}  // namespace

Status check_is_onnx(std::string_view name, std::span<const std::byte> head, std::uint64_t size) {
  if (size == 0) return refuse(reason::kInvalidModel, fmt::format("{} is empty", name));
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  for (const Format& format : kByMagic) {
    if (!text.starts_with(format.magic)) continue;
    // A zip or a pickle may be of several tools; the extension knows better which.
    const Format* named = by_extension(name);
    return is_other(name, {"", format.what, named == nullptr ? format.mend : named->mend});
  }
  for (const Format& format : kByIdentifier) {
    if (text.size() >= 8 && text.substr(4, 4) == format.magic) return is_other(name, format);
  }
  if (const auto format = as_text(text)) return is_other(name, *format);
  // Field numbers of a ModelProto are 1 to 25; a tag of field 0 or of a group begins no ONNX file.
  const auto tag = static_cast<unsigned char>(text.front());
  const unsigned wire_type = tag & 7U;
  if (tag >> 3U == 0 || wire_type == 3 || wire_type == 4 || wire_type > 5) {
    if (const Format* format = by_extension(name)) return is_other(name, *format);
    return refuse(reason::kInvalidModel,
                  fmt::format("{} is not an ONNX model: its bytes are of no known kind", name));
  }
  return {};
}

Result<std::string> find_model(const Path& source, std::string_view wanted) {
  const std::vector<std::string> files = TRY(list_files(source));
  if (!wanted.empty()) {
    TRY(check_artifact_path(wanted));
    if (std::ranges::find(files, wanted) != files.end()) return std::string(wanted);
    return refuse(reason::kInvalidModel,
                  fmt::format("model = \"{}\": no such file in this folder", wanted));
  }
  std::vector<std::string> models;
  std::ranges::copy_if(files, std::back_inserter(models),
                       [](const std::string& file) { return file.ends_with(".onnx"); });
  if (models.size() == 1) return models.front();
  if (models.size() > 1) {
    models.resize(std::min<std::size_t>(models.size(), 8));
    return refuse(
        reason::kInvalidModel,
        fmt::format("several *.onnx files ({}); choose one in mayfly.toml: model = \"{}\"",
                    fmt::join(models, ", "), models.front()));
  }
  // A single file of any name may be a model without the extension.
  if (files.size() == 1 && by_extension(files.front()) == nullptr) return files.front();
  TRY(refuse_without_onnx(files));
  return std::string();
}

}  // namespace mayfly
