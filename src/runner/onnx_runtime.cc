#include "runner/onnx_runtime.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <locale.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr int kOldestMinor = 30;  // of 1.x
constexpr const char* kLibrary = "libonnxruntime.so.1";

// ONNX Runtime takes the locale that a graph names for its words, and a jail has no file of any.
// What is loaded once is found without its file, and in every fork.
void keep_locale() {
  static const locale_t kept = ::newlocale(LC_ALL_MASK, "C.UTF-8", nullptr);
  std::ignore = kept;
}

Result<void*> open_library(const Path& beside) {
  const Path own = beside / ".." / "lib" / "mayfly" / kLibrary;
  std::string complaint;
  for (const char* name : {own.c_str(), kLibrary}) {
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    complaint = ::dlerror();
  }
  return fail(
      Code::FailedPrecondition,
      fmt::format(
          "ONNX Runtime is missing: neither {} nor a system-wide {} can be loaded ({}); run "
          "scripts/setup.sh or install libonnxruntime 1.{} or later",
          own.native(), kLibrary, complaint, kOldestMinor));
}

bool is_recent(std::string_view version) {
  int major = 0;
  int minor = 0;
  const char* end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec != std::errc() || first.ptr == end) return false;
  if (std::from_chars(first.ptr + 1, end, minor).ec != std::errc()) return false;
  return major > 1 || (major == 1 && minor >= kOldestMinor);
}

bool is_path_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
         c == '.' || c == '_' || c == '-' || c == '+';
}

struct FoundPath {
  std::size_t length = 0;
  std::string_view name;  // what stays of it
};

// "/artifact/model.onnx" keeps its file name. "/onnxruntime_src/core/x.cc:42", a place in the
// source, keeps nothing.
FoundPath measure_path(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size() && is_path_char(text[end])) ++end;
  const std::string_view path = text.substr(0, end);
  std::size_t digits = end + 1;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (end < text.size() && text[end] == ':' && digits > end + 1)
    return {.length = digits, .name = {}};
  return {.length = end, .name = path.substr(path.rfind('/') + 1)};
}

bool begins_path(std::string_view text, std::size_t at) {
  if (text[at] != '/' || (at > 0 && is_path_char(text[at - 1]))) return false;
  const FoundPath path = measure_path(text.substr(at));
  return text.substr(at + 1, path.length - 1).find('/') != std::string_view::npos;
}

}  // namespace

Result<OnnxRuntime> OnnxRuntime::open(const Path& beside) {
  // The official builds read it when the environment is created, and by then it is too late to ask
  // them to stop.
  if (::setenv("ORT_DISABLE_TELEMETRY", "1", 1) != 0) return fail_errno("setenv");
  keep_locale();
  void* library = TRY(open_library(beside));
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetApiBase>(::dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) {
    return fail(Code::FailedPrecondition,
                fmt::format("{} is not ONNX Runtime: it has no OrtGetApiBase", kLibrary));
  }
  std::string version = get_base()->GetVersionString();
  const OrtApi* api = is_recent(version) ? get_base()->GetApi(ORT_API_VERSION) : nullptr;
  if (api == nullptr) {
    return fail(
        Code::FailedPrecondition,
        fmt::format("ONNX Runtime {} is too old; 1.{} or later is needed: run scripts/setup.sh",
                    version, kOldestMinor));
  }
  OnnxRuntime runtime(api, nullptr, std::move(version));
  TRY(runtime.check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "mayfly", &runtime.env_)));
  return runtime;
}

Status OnnxRuntime::check(OrtStatus* status) const {
  if (status == nullptr) [[likely]]
    return {};
  std::string text = clean_ort_message(api_->GetErrorMessage(status));
  const OrtErrorCode code = api_->GetErrorCode(status);
  api_->ReleaseStatus(status);
  if (code == ORT_NOT_IMPLEMENTED)
    return fail(Code::Unimplemented, std::move(text), reason::kModelError);
  return refuse(reason::kModelError, std::move(text));
}

std::string clean_ort_message(std::string_view text) {
  std::string clean;
  for (std::size_t at = 0; at < text.size();) {
    if (begins_path(text, at)) {
      const FoundPath path = measure_path(text.substr(at));
      clean += path.name;
      at += path.length;
      if (path.name.empty()) at = std::min(text.find_first_not_of(' ', at), text.size());
    } else {
      clean.push_back(text[at++]);
    }
  }
  return clean;
}

}  // namespace mayfly
