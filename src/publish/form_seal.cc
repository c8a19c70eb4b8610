#include "publish/form_seal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <set>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"
#include "signing/envelope.h"

namespace mayfly {
namespace {

constexpr std::string_view kSealType = "application/vnd.mayfly.form-seal+json";
constexpr const char* kSealFile = "seal.json";
constexpr std::size_t kMaxSeal = std::size_t{64} << 20;

std::unexpected<Error> broken_seal(std::string_view why) {
  return fail(Code::DataLoss, fmt::format("seal.json {}", why));
}

Result<FileIdentity> identity_of(const Path& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return fail_errno(path.native());
  const bool folder = S_ISDIR(status.st_mode);
  if (!folder && !S_ISREG(status.st_mode))
    return fail(Code::DataLoss, fmt::format("{} is no plain file", path.native()));
  return FileIdentity{
      .size = folder ? 0 : static_cast<std::uint64_t>(status.st_size),
      .inode = status.st_ino,
      .modified = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

Json entry_json(const SealedEntry& entry) {
  Json json{
      {"path", entry.path}, {"inode", entry.identity.inode}, {"modified", entry.identity.modified}};
  if (entry.sha256.empty()) return json;
  json["size"] = entry.identity.size;
  json["sha256"] = entry.sha256;
  return json;
}

Result<SealedEntry> read_entry(const Json& json, bool is_folder) {
  SealedEntry entry;
  std::uint64_t modified = 0;
  JsonReader reader(json, "seal.json", reason::kInvalidManifest);
  reader.text("path", entry.path)
      .integer("inode", entry.identity.inode, 0, UINT64_MAX)
      .integer("modified", modified, 0, INT64_MAX);
  if (!is_folder) {
    reader.integer("size", entry.identity.size, 0, INT64_MAX).text("sha256", entry.sha256);
  }
  TRY(reader.finish());
  TRY(check_artifact_path(entry.path));
  if (!is_folder && !parse_digest(entry.sha256)) return broken_seal("has a file without a digest");
  entry.identity.modified = static_cast<std::int64_t>(modified);
  return entry;
}

Status read_entries(const Json* list, bool are_folders, std::vector<SealedEntry>& entries) {
  if (list == nullptr || !list->is_array()) return broken_seal("is not whole");
  for (const Json& one : *list) entries.push_back(TRY(read_entry(one, are_folders)));
  return {};
}

// "function/a/b.py" → "function", "function/a"
void add_parents(const std::string& path, std::set<std::string>& folders) {
  for (std::size_t slash = path.find('/'); slash != std::string::npos;
       slash = path.find('/', slash + 1))
    folders.insert(path.substr(0, slash));
}

}  // namespace

std::string to_json(const FormSeal& seal) {
  Json files = Json::array();
  Json folders = Json::array();
  for (const SealedEntry& entry : seal.entries)
    (entry.sha256.empty() ? folders : files).push_back(entry_json(entry));
  return Json{{"format", 1},
              {"form", seal.form},
              {"files", std::move(files)},
              {"folders", std::move(folders)}}
      .dump();
}

Result<FormSeal> parse_form_seal(std::string_view text) {
  const Json json = TRY(parse_json(text, "seal.json"));
  FormSeal seal;
  std::uint32_t format = 0;
  JsonReader reader(json, "seal.json", reason::kInvalidManifest);
  reader.integer("format", format, 1U, 1U).text("form", seal.form);
  const Json* files = reader.value("files");
  const Json* folders = reader.value("folders");
  TRY(reader.finish());
  if (format != 1) return broken_seal("is not whole");
  TRY(read_entries(files, false, seal.entries));
  TRY(read_entries(folders, true, seal.entries));
  return seal;
}

Status FormSeals::write(const std::string& form, const Path& folder,
                        const std::vector<ArtifactFile>& files) const {
  FormSeal seal{.form = form, .entries = {}};
  std::set<std::string> folders;
  for (const ArtifactFile& file : files) {
    const FileIdentity identity = TRY(identity_of(folder / file.path));
    seal.entries.push_back({.path = file.path, .sha256 = file.sha256, .identity = identity});
    add_parents(file.path, folders);
  }
  for (const std::string& path : folders) {
    const FileIdentity identity = TRY(identity_of(folder / path));
    seal.entries.push_back({.path = path, .sha256 = {}, .identity = identity});
  }
  return write_file_durably(folder / kSealFile,
                            Envelope::seal(kSealType, to_json(seal), key_).json().dump());
}

bool FormSeals::knows(const std::string& form, const Digest& text) {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(form);
  return found != known_.end() && found->second == text;
}

void FormSeals::remember(const std::string& form, const Digest& text) {
  const std::lock_guard lock(mutex_);
  known_[form] = text;
}

Result<FormSeal> FormSeals::read(const std::string& form, const Path& folder) {
  const std::string text = TRY(read_file(folder / kSealFile, kMaxSeal));
  const Digest digest = sha256(text);
  const Json json = TRY(parse_json(text, "seal.json"));
  const Envelope envelope = TRY(Envelope::parse(json));
  const bool verified = knows(form, digest);
  auto payload = verified ? envelope.known(kSealType) : envelope.open(kSealType, key_.public_key());
  if (!payload) return broken_seal("is not what this node wrote");
  FormSeal seal = TRY(parse_form_seal(*payload));
  if (seal.form != form) return broken_seal("is of another form");
  if (!verified) remember(form, digest);
  return seal;
}

Status FormSeals::check(const FormSeal& seal, const Path& folder) {
  for (const SealedEntry& entry : seal.entries) {
    const Path path = folder / entry.path;
    const FileIdentity now = TRY(identity_of(path));
    if (now == entry.identity) continue;
    return fail(Code::DataLoss,
                fmt::format("{} is not the {} that was sealed", path.native(),
                            entry.sha256.empty() ? "folder" : "file"),
                reason::kDigestMismatch);
  }
  return {};
}

}  // namespace mayfly
