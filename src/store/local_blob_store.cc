#include "store/local_blob_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "core/reason.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

constexpr std::size_t kParkedHashes = 64;
constexpr std::size_t kReadChunk = std::size_t{256} * 1024;

WallTime modified_at(const struct stat& status) {
  return WallTime(std::chrono::seconds(status.st_mtim.tv_sec) +
                  std::chrono::nanoseconds(status.st_mtim.tv_nsec));
}

Result<std::optional<BlobInfo>> inspect(const Path& path, const Digest& digest) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::nullopt;
    return fail_errno(path.native());
  }
  return BlobInfo{.digest = digest,
                  .size = static_cast<std::uint64_t>(status.st_size),
                  .modified = modified_at(status)};
}

Status unlink_if_there(const Path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail_errno(fmt::format("remove {}", path.native()));
}

Status visit_folder(const Path& folder, const std::function<Status(const BlobInfo&)>& visit) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto digest = parse_digest(entry.path().filename().native());
    if (!digest) continue;
    const auto info = TRY(inspect(entry.path(), *digest));
    if (info) TRY(visit(*info));
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  return {};
}

// Feeds the file from its beginning to the hash; returns how many bytes there were.
Result<std::uint64_t> hash_file(int fd, Sha256& hash) {
  std::vector<std::byte> chunk(kReadChunk);
  std::uint64_t offset = 0;
  while (true) {
    const ssize_t got = ::pread(fd, chunk.data(), chunk.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read the beginning of an upload");
    if (got == 0) return offset;
    hash.update(std::span(chunk).first(static_cast<std::size_t>(got)));
    offset += static_cast<std::uint64_t>(got);
  }
}

}  // namespace

class LocalBlobWriter final : public BlobWriter {
 public:
  struct Start {
    Path path;
    Fd file;
    std::uint64_t offset = 0;
    Sha256 hash;
    std::optional<Digest> expected;  // what it must become, where that is known
    std::optional<Digest> slot;      // where it is kept, of one that may be resumed
    BeforeNaming before;             // null: nothing is to be done
  };

  LocalBlobWriter(LocalBlobStore& store, Start start) : store_(store), at_(std::move(start)) {}
  ~LocalBlobWriter() override { abandon(); }

  std::uint64_t offset() const override { return at_.offset; }

  Status append(std::span<const std::byte> bytes) override {
    CHECK(!committed_);
    if (failed_) return fail(Code::FailedPrecondition, "the upload has failed before");
    if (auto written = write_all(at_.file.get(), bytes); !written) {
      failed_ = true;
      // What was half written is cut off, so that a resumed upload continues at a known byte.
      if (::ftruncate(at_.file.get(), static_cast<off_t>(at_.offset)) != 0) {
        LOG(warn, "an upload's tail stays", {"file", at_.path.native()});
      }
      return as_storage(std::move(written));
    }
    at_.hash.update(bytes);
    at_.offset += bytes.size();
    return {};
  }

  Result<BlobInfo> commit() override {
    CHECK(!committed_);
    if (failed_) return fail(Code::FailedPrecondition, "the upload has failed before");
    const Digest digest = at_.hash.digest();
    if (at_.expected && *at_.expected != digest) return mismatch(digest);
    if (::fchmod(at_.file.get(), 0444) != 0 || ::fsync(at_.file.get()) != 0) {
      failed_ = true;
      auto error = fail_storage("sync a blob");
      // The kernel has given these bytes up and tells only once: a later fsync would succeed
      // without them on the disk. So nobody may resume from here.
      ::unlink(at_.path.c_str());
      return error;
    }
    if (at_.before) TRY(at_.before(digest, at_.file.get(), at_.offset));
    auto info = store_.publish(at_.path, digest, at_.offset);
    if (info) finish();
    return info;
  }

 private:
  std::unexpected<Error> mismatch(const Digest& digest) {
    const auto removed = unlink_if_there(at_.path);
    if (!removed) LOG(warn, "a refused upload stays", {"error", removed.error().message});
    std::string message = fmt::format("the {} bytes received hash to {}, not to {}", at_.offset,
                                      to_string(digest), to_string(*at_.expected));
    finish();
    return refuse(reason::kDigestMismatch, std::move(message));
  }

  void finish() {
    committed_ = true;
    if (at_.slot) store_.release(*at_.slot);
  }

  void abandon() {
    if (committed_) return;
    if (!at_.slot) {
      ::unlink(at_.path.c_str());
      return;
    }
    // After a failed write the file's length is not certain: the next try hashes what is there.
    if (!failed_) store_.park({*at_.slot, at_.offset, std::move(at_.hash)});
    store_.release(*at_.slot);
  }

  LocalBlobStore& store_;
  Start at_;
  bool failed_ = false;
  bool committed_ = false;
};

Result<std::unique_ptr<LocalBlobStore>> LocalBlobStore::open(const Path& root, const Path& tmp) {
  for (const Path& folder : {root / "sha256", root / "partial", tmp}) {
    TRY(as_storage(make_directories(folder)));
  }
  TRY(sync_directory(root));
  return std::unique_ptr<LocalBlobStore>(new LocalBlobStore(root, tmp));
}

Path LocalBlobStore::path_of(const Digest& digest) const {
  const std::string name = to_string(digest);
  return root_ / "sha256" / name.substr(0, 2) / name;
}

Path LocalBlobStore::partial_path(const Digest& slot) const {
  return root_ / "partial" / to_string(slot);
}

Result<BlobInfo> LocalBlobStore::adopt(const Digest& digest, const BlobStore& from,
                                       const BeforeNaming& before) {
  if (const auto known = TRY(find(digest))) return *known;
  const BlobFile source = TRY(from.file(digest));
  static std::atomic<std::uint64_t> next = 0;
  const Path link = tmp_ / fmt::format("adopted-{}-{}", to_string(digest), next++);
  if (::link(source.path.c_str(), link.c_str()) != 0) {
    if (errno != ENOENT) return copy_blob(digest, from, *TRY(create(before)));
    return fail(Code::NotFound, fmt::format("there is no blob {}", to_string(digest)));
  }
  auto adopted = publish_link(link, digest, before);
  // Two links to one file: its rename does nothing.
  ::unlink(link.c_str());
  return adopted;
}

Result<BlobInfo> LocalBlobStore::publish_link(const Path& link, const Digest& digest,
                                              const BeforeNaming& before) {
  const std::uint64_t size = TRY(mayfly::file_size(link));
  if (before) {
    const Fd file = TRY(open_file(link, O_RDONLY));
    TRY(before(digest, file.get(), size));
  }
  return publish(link, digest, size);
}

Result<std::unique_ptr<BlobWriter>> LocalBlobStore::create(BeforeNaming before) {
  std::string path = tmp_ / "blob-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC | O_APPEND);
  if (fd < 0) return fail_storage(fmt::format("create {}", path));
  return std::make_unique<LocalBlobWriter>(*this,
                                           LocalBlobWriter::Start{.path = path,
                                                                  .file = Fd(fd),
                                                                  .hash = {},
                                                                  .expected = {},
                                                                  .slot = {},
                                                                  .before = std::move(before)});
}

Result<std::unique_ptr<BlobWriter>> LocalBlobStore::resume(const std::optional<Digest>& expected,
                                                           const Digest& slot,
                                                           BeforeNaming before) {
  TRY(claim(slot));
  LocalBlobWriter::Start start{.path = partial_path(slot),
                               .file = {},
                               .hash = {},
                               .expected = expected,
                               .slot = slot,
                               .before = std::move(before)};
  const auto prepare = [&]() -> Status {
    // A commit that was cut off before its rename left the file read-only.
    if (::chmod(start.path.c_str(), 0600) != 0 && errno != ENOENT) {
      return fail_storage(start.path.native());
    }
    // O_APPEND | O_RDWR: appended to, and read once when its hash is not known.
    start.file = TRY(open_file(start.path, O_RDWR | O_CREAT | O_APPEND, 0600));
    const std::uint64_t size = TRY(mayfly::file_size(start.path));
    if (auto parked = unpark(slot); parked && parked->offset == size) {
      start.hash = std::move(parked->hash);
      start.offset = size;
      return {};
    }
    start.offset = TRY(hash_file(start.file.get(), start.hash));
    return {};
  };
  if (auto ready = prepare(); !ready) {
    release(slot);
    return std::unexpected(std::move(as_storage(std::move(ready))).error());
  }
  return std::make_unique<LocalBlobWriter>(*this, std::move(start));
}

Result<std::uint64_t> LocalBlobStore::partial_size(const Digest& slot) const {
  const auto info = TRY(inspect(partial_path(slot), slot));
  return info ? info->size : 0;
}

Status LocalBlobStore::drop_partial(const Digest& slot) {
  TRY(claim(slot));
  unpark(slot);
  auto removed = unlink_if_there(partial_path(slot));
  release(slot);
  return removed;
}

Status LocalBlobStore::for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const {
  return visit_folder(root_ / "partial", visit);
}

Result<Fd> LocalBlobStore::open(const Digest& digest) const {
  return open_file(path_of(digest), O_RDONLY);
}

Result<BlobFile> LocalBlobStore::file(const Digest& digest) const {
  if (TRY(find(digest))) return BlobFile{.path = path_of(digest), .hold = nullptr};
  return fail(Code::NotFound, fmt::format("there is no blob {}", to_string(digest)));
}

Result<std::optional<BlobInfo>> LocalBlobStore::find(const Digest& digest) const {
  return inspect(path_of(digest), digest);
}

Status LocalBlobStore::remove(const Digest& digest) { return unlink_if_there(path_of(digest)); }

Status LocalBlobStore::for_each(const std::function<Status(const BlobInfo&)>& visit) const {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root_ / "sha256", error)) {
    TRY(visit_folder(entry.path(), visit));
  }
  if (error) return std::unexpected(errno_error(root_.native(), error.value()));
  return {};
}

Result<BlobInfo> LocalBlobStore::publish(const Path& from, const Digest& digest,
                                         std::uint64_t size) {
  const Path to = path_of(digest);
  if (::mkdir(to.parent_path().c_str(), 0700) == 0) {
    TRY(as_storage(sync_directory(to.parent_path().parent_path())));
  } else if (errno != EEXIST) {
    return fail_storage(fmt::format("create {}", to.parent_path().native()));
  }
  // An equal blob that is there already is replaced by equal bytes.
  if (::rename(from.c_str(), to.c_str()) != 0) {
    return fail_storage(fmt::format("rename to {}", to.native()));
  }
  TRY(as_storage(sync_directory(to.parent_path())));
  auto info = TRY(inspect(to, digest));
  if (!info || info->size != size) {
    return fail(Code::DataLoss, fmt::format("{} changed while it was published", to.native()));
  }
  return *info;
}

Status LocalBlobStore::claim(const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  if (uploading_.insert(slot).second) return {};
  return refuse(reason::kConflict, "the blob is being uploaded by somebody else");
}

void LocalBlobStore::release(const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  uploading_.erase(slot);
}

void LocalBlobStore::park(Parked parked) {
  const std::scoped_lock lock(mutex_);
  if (parked_.size() == kParkedHashes) parked_.pop_front();
  parked_.push_back(std::move(parked));
}

std::optional<LocalBlobStore::Parked> LocalBlobStore::unpark(const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  const auto found = std::ranges::find(parked_, slot, &Parked::slot);
  if (found == parked_.end()) return std::nullopt;
  Parked parked = std::move(*found);
  parked_.erase(found);
  return parked;
}

}  // namespace mayfly
