// What the copies of requests that shadows want hold together, and the copies of each project. None
// may hold more than is left (the dynamic thresholds of Choudhury and Hahne, 1998): one project
// alone holds half at most, two hold a third each, and whoever comes next always finds some. Loop
// thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"

namespace mayfly {

class CopyMemory {
  using Projects = std::map<std::string, Bytes, std::less<>>;  // none holds nothing

 public:
  explicit CopyMemory(Bytes most) : left_(most) {}

  // A part of it, given back when it is destroyed. Dies before me.
  class Hold {
   public:
    Hold(Hold&& other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)),
          project_(other.project_),
          bytes_(other.bytes_) {}
    Hold& operator=(Hold&& other) noexcept {
      std::swap(memory_, other.memory_);
      std::swap(project_, other.project_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Hold() {
      if (memory_ != nullptr) memory_->give_back(project_, bytes_);
    }

   private:
    friend class CopyMemory;
    Hold(CopyMemory& memory, Projects::iterator project, Bytes bytes)
        : memory_(&memory), project_(project), bytes_(bytes) {}
    CopyMemory* memory_;
    Projects::iterator project_;
    Bytes bytes_;
  };

  // nullopt: the project would hold more than is left. `bytes`: more than none.
  std::optional<Hold> take(std::string_view project, Bytes bytes) {
    const auto known = projects_.find(project);
    const Bytes has = known == projects_.end() ? Bytes{} : known->second;
    if (left_ < has + bytes) return std::nullopt;
    const auto holder = known == projects_.end() ? projects_.emplace(project, has).first : known;
    holder->second = has + bytes;
    left_ = left_ - bytes;
    return Hold(*this, holder, bytes);
  }

 private:
  void give_back(Projects::iterator project, Bytes bytes) {
    left_ = left_ + bytes;
    project->second = project->second - bytes;
    if (project->second == Bytes{}) projects_.erase(project);
  }

  Projects projects_;
  Bytes left_;
};

}  // namespace mayfly
