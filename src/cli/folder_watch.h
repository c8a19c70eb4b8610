// A folder and all below it: who waits is told when something in it was written, made, moved or
// removed, once things are quiet again. inotify(7).
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace mayfly {

// Folders that tools leave beside code, and nobody means to deploy.
bool is_litter(std::string_view folder);

class FolderWatch {
 public:
  static Result<FolderWatch> open(Path folder);
  enum class Event : std::uint8_t { Changed, Interrupted };
  // Interrupted: `also` became readable.
  Result<Event> wait(int also);

 private:
  FolderWatch(Path folder, Fd inotify) : folder_(std::move(folder)), inotify_(std::move(inotify)) {}
  Status watch_all();
  bool drain();  // whether anything of it was worth it

  Path folder_;
  Fd inotify_;
};

}  // namespace mayfly
