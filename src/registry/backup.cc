#include "registry/backup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <set>
#include <system_error>

#include "core/manifest.h"
#include "store/sqlite.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

constexpr std::string_view kHead = "mayfly-backup 1";
constexpr std::size_t kCopyChunk = std::size_t{1024} * 1024;
constexpr int kLedgerTries = 10;

struct Copied {
  std::uint64_t size = 0;
  Digest digest;
};

// At most `limit` bytes: an append-only file is copied as long as it was when the copy began.
Result<Copied> copy_bytes(int from, int to, std::uint64_t limit) {
  std::vector<std::byte> chunk(kCopyChunk);
  Sha256 hash;
  Copied copied;
  while (copied.size < limit) {
    const std::size_t wanted = std::min<std::uint64_t>(chunk.size(), limit - copied.size);
    const ssize_t got = ::read(from, chunk.data(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read");
    if (got == 0) break;
    const auto bytes = std::span(chunk).first(static_cast<std::size_t>(got));
    hash.update(bytes);
    if (auto written = as_storage(write_all(to, bytes)); !written) {
      return std::unexpected(std::move(written).error());
    }
    copied.size += bytes.size();
  }
  copied.digest = hash.digest();
  return copied;
}

Result<Copied> copy_file(const Path& from, const Path& to, mode_t mode) {
  const Fd source = TRY(open_file(from, O_RDONLY));
  struct stat status{};
  if (::fstat(source.get(), &status) != 0) return fail_errno(from.native());
  TRY(as_storage(make_directories(to.parent_path())));
  const Fd target = TRY(open_file(to, O_WRONLY | O_CREAT | O_EXCL, mode));
  auto copied = copy_bytes(source.get(), target.get(), static_cast<std::uint64_t>(status.st_size));
  if (copied && ::fsync(target.get()) != 0) copied = fail_storage("fsync");
  if (!copied) return std::unexpected(std::move(copied).error().in(to.native()));
  return copied;
}

Result<Copied> digest_file(const Path& path) {
  const Fd null = TRY(open_file("/dev/null", O_WRONLY));
  const Fd file = TRY(open_file(path, O_RDONLY));
  return copy_bytes(file.get(), null.get(), UINT64_MAX);
}

// The folder and everything in it that is a folder: after this the names are durable too.
Status sync_folders(const Path& root) {
  std::vector<Path> folders{root};
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root, error)) {
    if (entry.is_directory(error)) folders.push_back(entry.path());
  }
  if (error) return std::unexpected(errno_error(root.native(), error.value()));
  for (const Path& folder : folders) TRY(sync_directory(folder));
  return {};
}

Status claim_empty_folder(const Path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder, error)) {
    if (std::filesystem::is_empty(folder, error) && !error) return {};
    return fail(Code::FailedPrecondition,
                fmt::format("{} is not an empty folder", folder.native()));
  }
  TRY(as_storage(make_directories(folder)));
  if (::chmod(folder.c_str(), 0700) != 0) return fail_errno(folder.native());
  return {};
}

class Backup {
 public:
  Backup(const BackupSource& source, const Path& to) : source_(source), to_(to) {}

  Result<BackupManifest> run() {
    TRY(copy_registry());
    TRY(copy_blobs());
    for (const BackupPart& part : source_.parts) TRY(copy_part(part));
    TRY(copy_ledger());
    TRY(sync_folders(to_));
    std::ranges::sort(manifest_.files, {}, &BackupFile::path);
    TRY(as_storage(write_file_durably(to_ / "MANIFEST", to_text(manifest_))));
    return std::move(manifest_);
  }

 private:
  void add(std::string path, const Copied& copied) {
    manifest_.files.push_back({std::move(path), copied.size, copied.digest});
  }

  Status copy_registry() {
    TRY(source_.registry.copy_to(to_ / "registry.db"));
    add("registry.db", TRY(digest_file(to_ / "registry.db")));
    return {};
  }

  Status copy_blobs() {
    Database copy = TRY(Database::open(to_ / "registry.db", OpenMode::ReadOnly));
    for (const Digest& digest : TRY(blobs_named_in(copy)))
      TRY(copy_blob(digest, source_.blobs, "blobs"));
    return {};
  }

  Status copy_part(const BackupPart& part) {
    const BackupPart::Copied copied = TRY(part.copy(to_ / part.database));
    add(part.database, TRY(digest_file(to_ / part.database)));
    for (const Digest& digest : copied.named) TRY(copy_blob(digest, part.blobs, part.folder));
    return {};
  }

  Status copy_blob(const Digest& digest, const BlobStore& blobs, std::string_view folder) {
    const BlobFile from = TRY(blobs.file(digest));
    const std::string name = to_string(digest);
    const std::string path = fmt::format("{}/sha256/{}/{}", folder, name.substr(0, 2), name);
    add(path, TRY(link_or_copy(from.path, to_ / path, digest)));
    return {};
  }

  static Result<Copied> link_or_copy(const Path& from, const Path& to, const Digest& digest) {
    TRY(as_storage(make_directories(to.parent_path())));
    if (::link(from.c_str(), to.c_str()) == 0) {
      return Copied{.size = TRY(mayfly::file_size(to)), .digest = digest};
    }
    // Another file system, or one without links.
    const Copied copied = TRY(copy_file(from, to, 0444));
    if (copied.digest != digest) {
      return fail(Code::DataLoss, fmt::format("blob {} is damaged", to_string(digest)));
    }
    return copied;
  }

  // The ledger goes on meanwhile. A segment may be sealed and pruned between the listing and the
  // copying; then its totals exist, and a new listing finds them.
  Status copy_ledger() {
    std::set<std::string> done;
    for (int tries = 0; tries < kLedgerTries; ++tries) {
      const bool complete = TRY(copy_ledger_files(done));
      if (complete) return {};
    }
    return fail(Code::Unavailable, "the ledger changes faster than it can be copied");
  }

  Result<bool> copy_ledger_files(std::set<std::string>& done) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(source_.data.ledger(), error)) {
      if (entry.path().extension() != ".tmp") names.push_back(entry.path().filename());
    }
    if (error) return std::unexpected(errno_error(source_.data.ledger().native(), error.value()));
    std::ranges::sort(names);
    bool complete = true;
    for (const std::string& name : names) {
      if (done.contains(name)) continue;
      const std::string path = "ledger/" + name;
      const auto copied = copy_file(source_.data.ledger() / name, to_ / path, 0600);
      if (!copied && copied.error().code == Code::NotFound) {
        complete = false;
        continue;
      }
      if (!copied) return std::unexpected(copied.error());
      done.insert(name);
      add(path, *copied);
    }
    return complete;
  }

  const BackupSource& source_;
  const Path& to_;
  BackupManifest manifest_;
};

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::string_view take_word(std::string_view& line) {
  const std::size_t end = line.find(' ');
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return word;
}

std::optional<std::uint64_t> parse_count(std::string_view digits) {
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return count;
}

Result<BackupFile> parse_file(std::string_view line) {
  const auto digest = parse_digest(take_word(line));
  const auto size = parse_count(take_word(line));
  if (!digest || !size || !check_artifact_path(line)) {
    return fail(Code::DataLoss, "the backup's MANIFEST has a malformed line");
  }
  return BackupFile{.path = std::string(line), .size = *size, .digest = *digest};
}

Status restore_file(const Path& from, const Path& to, const BackupFile& file) {
  const bool blob = file.path.find("/sha256/") != std::string::npos;
  const auto copied = copy_file(from / file.path, to / file.path, blob ? 0444 : 0600);
  if (!copied) return std::unexpected(copied.error().in("restore"));
  if (copied->size != file.size || copied->digest != file.digest) {
    return fail(Code::DataLoss, fmt::format("{} is damaged in the backup", file.path));
  }
  return {};
}

}  // namespace

Bytes BackupManifest::size() const {
  Bytes sum;
  for (const BackupFile& file : files) sum.count += file.size;
  return sum;
}

std::string to_text(const BackupManifest& manifest) {
  std::string text = fmt::format("{}\n{}", kHead, data_format_text(manifest.data_format));
  for (const BackupFile& file : manifest.files) {
    text += fmt::format("{} {} {}\n", to_string(file.digest), file.size, file.path);
  }
  return text + fmt::format("end {}\n", manifest.files.size());
}

Result<BackupManifest> parse_backup_manifest(std::string_view text) {
  if (take_line(text) != kHead) return fail(Code::DataLoss, "this is not a backup of Mayfly");
  BackupManifest manifest;
  manifest.data_format = TRY(parse_data_format(fmt::format("{}\n", take_line(text))));
  while (true) {
    std::string_view line = take_line(text);
    if (line == fmt::format("end {}", manifest.files.size()) && text.empty()) return manifest;
    if (line.empty()) return fail(Code::DataLoss, "the backup's MANIFEST is cut off");
    manifest.files.push_back(TRY(parse_file(line)));
  }
}

Result<BackupManifest> back_up(const BackupSource& source, const Path& to) {
  const SweepPause pause = TRY(source.pins.pause_sweeps());
  TRY(claim_empty_folder(to));
  return Backup(source, to).run();
}

Result<BackupManifest> restore_backup(const Path& from, const Path& to) {
  constexpr std::size_t kManifestLimit = std::size_t{1} << 30;
  auto text = read_file(from / "MANIFEST", kManifestLimit);
  if (!text) return std::unexpected(std::move(text).error().in("this backup is not complete"));
  BackupManifest manifest = TRY(parse_backup_manifest(*text));
  if (manifest.data_format > kDataFormat) {
    return fail(Code::FailedPrecondition,
                fmt::format("the backup has data format {}, newer than the {} this build knows",
                            manifest.data_format, kDataFormat));
  }
  TRY(claim_empty_folder(to));
  // Also one that was there: a data folder is its owner's.
  if (::chmod(to.c_str(), 0700) != 0) return fail_errno(to.native());
  for (const BackupFile& file : manifest.files) TRY(restore_file(from, to, file));
  if (std::ranges::find(manifest.files, "registry.db", &BackupFile::path) == manifest.files.end())
    return fail(Code::DataLoss, "the backup has no registry.db");
  for (const BackupFile& file : manifest.files) {
    if (!file.path.ends_with(".db")) continue;
    Database database = TRY(Database::open(to / file.path, OpenMode::ReadOnly));
    TRY(database.check_integrity());
  }
  TRY(sync_folders(to));
  // Without this file a data folder is refused: a restore that was cut off is never served.
  TRY(as_storage(write_file_durably(to / "format", data_format_text(manifest.data_format))));
  return manifest;
}

}  // namespace mayfly
