// Holds projects to their quotas: of predictions before they are decoded; of memory through
// dispatch, of uploads through identity/blob_owners.h and of jobs through jobs/job_store.h, which
// learn their limits here. A refusal is quota_exceeded and names the quota. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "dispatch/version_runtime.h"
#include "identity/project_store.h"
#include "identity/token_bucket.h"
#include "meter/usage.h"

namespace mayfly {

class QuotaGate {
 public:
  // What a project used of a month so far, in GB-seconds; blocks, so that it runs on the pool.
  using Used = std::map<std::string, double, std::less<>>;
  // Of usage since the month began: what callers asked for, without the copies for shadows.
  static Used use_of(const UsageTable& usage);
  using MonthUsage = std::function<Result<Used>()>;
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    MonthUsage usage;
  };

 private:
  struct Project {
    Quotas quotas;
    TokenBucket bucket;
    std::uint32_t inside = 0;
    double gb_seconds = 0;  // of this month, as of the last look
  };

 public:
  // A prediction's place among those of its project.
  class [[nodiscard]] Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept : project_(std::move(other.project_)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(project_, other.project_);
      return *this;
    }
    ~Place() {
      if (project_) --project_->inside;
    }

   private:
    friend class QuotaGate;
    explicit Place(std::shared_ptr<Project> project) : project_(std::move(project)) {
      ++project_->inside;
    }
    std::shared_ptr<Project> project_;  // null: the project has no quotas
  };

  explicit QuotaGate(Parts parts);

  Result<Place> enter(std::string_view project);

  // What the processes of a project's functions count towards.
  std::shared_ptr<MemoryShare> memory_of(std::string_view project);
  Bytes stored_limit(std::string_view project) const;  // 0: none
  Bytes job_limit(std::string_view project) const;     // likewise
  Bytes data_limit(std::string_view project) const;    // likewise

  // Quotas that changed hold from now on.
  void publish(const QuotaTable& table);
  // Looks at what was used of the month now; otherwise that is some seconds old.
  Task<void> refresh();
  Task<void> close() { co_await inside_.close(); }

 private:
  void look_at_usage();
  Quotas quotas_of(std::string_view project) const;

  Parts parts_;
  std::map<std::string, std::shared_ptr<Project>, std::less<>> projects_;    // those with quotas
  std::map<std::string, std::shared_ptr<MemoryShare>, std::less<>> memory_;  // once asked for
  TimePoint next_look_{};
  bool looking_ = false;
  Gate inside_;
};

}  // namespace mayfly
