#include "store/data_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/log.h"
#include "base/remove_tree.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

constexpr std::string_view kFormatPrefix = "mayfly-data ";
constexpr std::size_t kLockLimit = 64;

Status create_private(const Path& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  if (errno != ENOENT) return fail_storage(fmt::format("create {}", path.native()));
  TRY(as_storage(make_directories(path.parent_path())));
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_storage(fmt::format("create {}", path.native()));
}

// The descriptor is close-on-exec: no runner may keep the folder locked after the server died.
Result<Fd> take_lock(const Path& root) {
  Fd lock = TRY(open_file(root / "lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(fmt::format("lock {}", root.native()));
    const auto holder = read_all_fd(lock.get(), kLockLimit);
    return fail(Code::FailedPrecondition,
                fmt::format("{} is in use by another server (pid {}); stop it or choose another "
                            "data folder",
                            root.native(), holder && !holder->empty() ? *holder : "unknown"));
  }
  if (::ftruncate(lock.get(), 0) != 0) return fail_errno(fmt::format("lock {}", root.native()));
  TRY(as_storage(write_all(lock.get(), std::to_string(::getpid()))));
  return lock;
}

// A first start that was cut off leaves the lock and perhaps the unfinished format file.
bool is_fresh(const Path& root) {
  std::error_code ignored;
  return std::ranges::all_of(std::filesystem::directory_iterator(root, ignored),
                             [](const std::filesystem::directory_entry& entry) {
                               const std::string name = entry.path().filename();
                               return name == "lock" || name.starts_with("format.");
                             });
}

Result<std::uint32_t> stored_format(const Path& root, std::uint32_t fresh) {
  auto text = read_file(root / "format", kLockLimit);
  if (!text && text.error().code != Code::NotFound) {
    return std::unexpected(std::move(text).error());
  }
  if (text) {
    auto version = parse_data_format(*text);
    if (!version) return std::unexpected(std::move(version).error().in(root.native()));
    return version;
  }
  if (is_fresh(root)) {
    TRY(as_storage(write_file_durably(root / "format", data_format_text(fresh))));
    return fresh;
  }
  return fail(Code::FailedPrecondition,
              fmt::format("{} is not empty and not a data folder of Mayfly: its file 'format' is "
                          "missing",
                          root.native()));
}

Status migrate(const Path& root, std::uint32_t stored, const DataFormat& format) {
  if (stored > format.version) {
    return fail(Code::FailedPrecondition,
                fmt::format("{} has data format {}, newer than the {} this build knows; use the "
                            "newer build",
                            root.native(), stored, format.version));
  }
  for (; stored < format.version; ++stored) {
    const auto step = std::ranges::find(format.migrations, stored, &Migration::from);
    if (step == format.migrations.end()) {
      return fail(Code::FailedPrecondition,
                  fmt::format("{} has data format {}, too old for this build; open it with an "
                              "earlier one first",
                              root.native(), stored));
    }
    LOG(info, "migrating the data folder", {"from", stored}, {"to", stored + 1},
        {"purpose", step->purpose});
    if (auto done = step->run(root); !done) {
      return std::unexpected(std::move(done).error().in(
          fmt::format("migrate {} from format {}", root.native(), stored)));
    }
    TRY(as_storage(write_file_durably(root / "format", data_format_text(stored + 1))));
  }
  return {};
}

// What cannot be removed stays: names in these folders are used once, so it is in nobody's way, and
// a node that starts is worth more.
Status empty_folder(const Path& folder) {
  std::error_code error;
  std::vector<Path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    entries.push_back(entry.path());
  }
  if (error) {
    return std::unexpected(errno_error(fmt::format("empty {}", folder.native()), error.value()));
  }
  for (const Path& entry : entries) {
    if (const Status gone = remove_tree(entry); !gone)
      LOG(warn, "leftover not removed", {"error", gone.error().message});
  }
  return {};
}

}  // namespace

std::string data_format_text(std::uint32_t version) {
  return fmt::format("{}{}\n", kFormatPrefix, version);
}

Result<std::uint32_t> parse_data_format(std::string_view text) {
  std::uint32_t version = 0;
  const bool prefixed = text.starts_with(kFormatPrefix);
  if (prefixed) text.remove_prefix(kFormatPrefix.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (!prefixed || error != std::errc{} || rest != "\n" || version == 0) {
    return fail(Code::DataLoss, "the file 'format' does not name a data format");
  }
  return version;
}

DataFormat current_data_format() {
  // 2: the registry has traffic and aliases, which a build of format 1 would not obey. The table
  // itself is made when the registry is opened. 3: there may be keys and projects, and a build of
  // format 2 would answer everybody. 4: there may be events that wait, which a build of format 3
  // would leave waiting, and records in the ledger that it cannot read.
  static constexpr std::array kMigrations = {
      Migration{.from = 1,
                .purpose = "traffic and aliases",
                .run = [](const Path&) -> Status { return {}; }},
      Migration{.from = 2,
                .purpose = "keys and projects",
                .run = [](const Path&) -> Status { return {}; }},
      Migration{.from = 3, .purpose = "events", .run = [](const Path&) -> Status { return {}; }}};
  return {.version = kDataFormat, .migrations = kMigrations};
}

Result<DataDir> DataDir::open(const Path& root, const DataFormat& format) {
  TRY(create_private(root));
  Fd lock = TRY(take_lock(root));
  const std::uint32_t stored = TRY(stored_format(root, format.version));
  TRY(migrate(root, stored, format));
  DataDir data(root, std::move(lock));
  for (const Path& folder : {data.blobs(), data.compiled(), data.environments(), data.events(),
                             data.ledger(), data.tmp(), data.run()}) {
    TRY(create_private(folder));
  }
  TRY(empty_folder(data.tmp()));
  TRY(empty_folder(data.run()));
  TRY(sync_directory(root));
  return data;
}

}  // namespace mayfly
