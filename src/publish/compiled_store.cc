#include "publish/compiled_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxCompiled = 8 * kMaxReport;
constexpr const char* kSources = "function";

std::unexpected<Error> suspicious(std::string_view path, std::string_view why) {
  return refuse(reason::kPublishFailed, fmt::format("seal: the compiled file '{}' {}", path, why));
}

// A file the jail wrote becomes the server's: nobody else can write it any more.
Status take_over(const Fd& file, const CompiledFile& listed) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno("fstat");
  if (!S_ISREG(status.st_mode) || status.st_nlink != 1) {
    return suspicious(listed.path, "is not a plain file of its own");
  }
  if (static_cast<std::uint64_t>(status.st_size) != listed.size) {
    return suspicious(listed.path,
                      fmt::format("has {} bytes instead of {}", status.st_size, listed.size));
  }
  TRY(own_file(file.get(), 0444));
  if (::fsync(file.get()) != 0) return fail_errno("fsync");
  return {};
}

Json files_json(const std::vector<ArtifactFile>& files) {
  Json list = Json::array();
  for (const ArtifactFile& file : files) {
    list.push_back({{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}});
  }
  return list;
}

Result<std::vector<ArtifactFile>> read_files(const Json* json) {
  if (json == nullptr || !json->is_array()) {
    return fail(Code::DataLoss, "compiled.json: 'files' must be a list");
  }
  std::vector<ArtifactFile> files;
  for (const Json& item : *json) {
    ArtifactFile file;
    JsonReader reader(item, "compiled.json", reason::kInvalidManifest);
    reader.text("path", file.path)
        .text("sha256", file.sha256)
        .integer("size", file.size, 0, INT64_MAX);
    TRY(reader.finish());
    TRY(check_artifact_path(file.path));
    files.push_back(std::move(file));
  }
  return files;
}

// Asked first: one that appears meanwhile is whole.
bool is_absent(const Path& folder) {
  return ::access(folder.c_str(), F_OK) != 0 && errno == ENOENT;
}

}  // namespace

std::string to_json(const Compiled& compiled) {
  return Json{{"format", 1},
              {"runtime", compiled.target.runtime},
              {"cpu", compiled.target.cpu},
              {"files", files_json(compiled.files)},
              {"report", Json::parse(to_json(PublishOutcome(compiled.report)))}}
      .dump();
}

Result<Compiled> parse_compiled(std::string_view text) {
  const Json json = TRY(parse_json(text, "compiled.json"));
  Compiled compiled;
  std::uint32_t format = 0;
  JsonReader reader(json, "compiled.json", reason::kInvalidManifest);
  reader.integer("format", format, 1U, 1U)
      .text("runtime", compiled.target.runtime)
      .text("cpu", compiled.target.cpu);
  const Json* files = reader.value("files");
  const Json* report = reader.value("report");
  TRY(reader.finish());
  if (format != 1 || report == nullptr) return fail(Code::DataLoss, "compiled.json is not whole");
  compiled.files = TRY(read_files(files));
  PublishOutcome outcome = TRY(parse_outcome(report->dump()));
  if (!std::holds_alternative<Report>(outcome)) {
    return fail(Code::DataLoss, "compiled.json holds no report");
  }
  compiled.report = std::get<Report>(std::move(outcome));
  return compiled;
}

Status CompiledStore::intact(const std::string& key) {
  return FormSeals::check(TRY(seals_.read(key, folder(key))), folder(key));
}

// A running template keeps what it has mapped.
Status CompiledStore::discard(const std::string& key, const Error& why) {
  LOG(error, "compiled artifact is damaged", {"key", key}, {"error", why.message});
  const TempDir grave = TRY(TempDir::create(tmp_));
  if (::rename(folder(key).c_str(), (grave.path() / "damaged").c_str()) == 0 || errno == ENOENT)
    return {};
  return fail_errno(fmt::format("move {}", folder(key).native()));
}

Result<bool> CompiledStore::has(const std::string& key) {
  if (is_absent(folder(key))) return false;
  const Status whole = intact(key);
  if (whole) return true;
  TRY(discard(key, whole.error()));
  return false;
}

Result<std::optional<Compiled>> CompiledStore::find(const std::string& key) {
  if (!TRY(has(key))) return std::nullopt;
  auto text = read_file(folder(key) / "compiled.json", kMaxCompiled);
  if (!text) return std::unexpected(std::move(text).error());
  auto compiled = parse_compiled(*text);
  if (compiled) return std::optional(*std::move(compiled));
  TRY(discard(key, compiled.error()));
  return std::nullopt;
}

Status CompiledStore::verify(const std::string& key, const Pace& pace) {
  const Path path = folder(key);
  if (is_absent(path)) return {};
  const FormSeal seal = TRY(seals_.read(key, path));
  for (const SealedEntry& entry : seal.entries) {
    if (entry.sha256.empty()) continue;
    const Fd opened = TRY(open_file(path / entry.path, O_RDONLY | O_NOFOLLOW));
    if (TRY(hash_file(opened.get(), pace)) != entry.sha256) {
      return fail(
          Code::DataLoss,
          fmt::format("{} does not have the bytes that were sealed", (path / entry.path).native()),
          reason::kDigestMismatch);
    }
  }
  return FormSeals::check(seal, path);
}

Result<std::vector<ArtifactFile>> CompiledStore::take_files(const Report& report, const Path& out,
                                                            const Path& folder) {
  const Fd from = TRY(open_file(out, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  std::vector<ArtifactFile> files;
  for (const CompiledFile& listed : report.files) {
    if (listed.path == "compiled.json" || listed.path == "seal.json")
      return suspicious(listed.path, "has a reserved name");
    const Fd file(
        ::openat(from.get(), listed.path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!file) return suspicious(listed.path, "cannot be opened");
    TRY(take_over(file, listed));
    const std::string digest = TRY(hash_file(file.get()));
    const Path target = folder / listed.path;
    if (::renameat(from.get(), listed.path.c_str(), AT_FDCWD, target.c_str()) != 0) {
      return fail_errno(fmt::format("move {}", listed.path));
    }
    files.push_back({listed.path, digest, listed.size});
  }
  return files;
}

Result<Compiled> CompiledStore::install(const std::string& key, Parts parts) {
  const TempDir staging = TRY(TempDir::create(tmp_));
  const Path folder_in_tmp = staging.path() / "compiled";
  TRY(make_directories(folder_in_tmp));
  Compiled compiled{
      .target = std::move(parts.target), .report = std::move(parts.report), .files = {}};
  compiled.files = TRY(take_files(compiled.report, parts.out, folder_in_tmp));
  if (!parts.sources.empty()) TRY(lay_out(parts.sources, folder_in_tmp / kSources));
  for (const SourceFile& source : parts.sources) {
    compiled.files.push_back(source.file);
    compiled.files.back().path = fmt::format("{}/{}", kSources, source.file.path);
  }
  const std::string about = to_json(compiled);
  TRY(write_file_durably(folder_in_tmp / "compiled.json", about));
  std::vector<ArtifactFile> sealed = compiled.files;
  sealed.push_back({.path = "compiled.json", .sha256 = sha256_hex(about), .size = about.size()});
  TRY(seals_.write(key, folder_in_tmp, sealed));
  if (::chmod(folder_in_tmp.c_str(), 0755) != 0) return fail_errno("chmod");
  TRY(sync_directory(folder_in_tmp));
  if (::rename(folder_in_tmp.c_str(), folder(key).c_str()) != 0) {
    // The same artifact was published twice at once: the first one stays.
    if (errno != ENOTEMPTY && errno != EEXIST) return fail_errno(fmt::format("move to {}", key));
    auto first = TRY(find(key));
    if (!first) return fail(Code::Aborted, "the compiled artifact vanished", reason::kConflict);
    return *std::move(first);
  }
  TRY(sync_directory(root_));
  return compiled;
}

}  // namespace mayfly
