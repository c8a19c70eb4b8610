// The XGBoost library, opened at run time, and its C API as far as it is used here (3.4,
// https://xgboost.readthedocs.io/en/stable/dev/c__api_8h.html): handles as owners, codes as
// Results. Its configurations and descriptions of arrays are JSON.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

struct XgboostCalls;

class XgboostLibrary {
 public:
  // `runtime`/xgboost/lib/libxgboost.so. GOMP_SPINCOUNT must be set before.
  static Result<const XgboostLibrary*> open(const Path& runtime);
  const XgboostCalls& calls() const { return *calls_; }
  Status check(int code) const;

 private:
  explicit XgboostLibrary(std::unique_ptr<const XgboostCalls> calls);
  std::unique_ptr<const XgboostCalls> calls_;
};

// Rows of floats, C order.
struct FloatRows {
  std::span<const float> values;
  std::size_t width = 1;
  std::size_t rows() const { return values.size() / width; }
  FloatRows rows(std::size_t first, std::size_t count) const {
    return {values.subspan(first * width, count * width), width};
  }
};

class XgboostMatrix {
 public:
  struct Options {
    std::uint32_t threads = 1;
    std::uint32_t max_bin = 256;
    std::size_t piece = 65'536;  // rows that are read at once
    // Not empty: the histogram's pages stay on the disk, in files that begin so.
    std::string cache = {};
  };
  // Of histograms, to be learned from.
  static Result<XgboostMatrix> quantiles(const XgboostLibrary& library, FloatRows rows,
                                         const Options& options);
  // Of values, to be predicted.
  static Result<XgboostMatrix> values(const XgboostLibrary& library, FloatRows rows,
                                      std::uint32_t threads);
  Status set_labels(std::span<const float> labels);
  Status set_groups(std::span<const std::uint32_t> sizes);
  void* handle() const { return handle_.get(); }

 private:
  using Handle = std::unique_ptr<void, int (*)(void*)>;
  XgboostMatrix(const XgboostLibrary& library, Handle handle)
      : library_(&library), handle_(std::move(handle)) {}
  const XgboostLibrary* library_;
  Handle handle_;
};

// Where the workers of one training find each other (XGBoost's tracker), on the loopback; a thread
// of this process.
class XgboostTracker {
 public:
  static Result<XgboostTracker> start(const XgboostLibrary& library, std::uint32_t workers);
  // What a worker joins with, JSON.
  const std::string& arguments() const { return arguments_; }
  // Its end would wait for workers that are no more: it is left to the end of the process.
  void abandon() { (void)handle_.release(); }

 private:
  using Handle = std::unique_ptr<void, int (*)(void*)>;
  explicit XgboostTracker(Handle handle) : handle_(std::move(handle)) {}
  Handle handle_;
  std::string arguments_;
};

// As long as it lives, what this thread does with the library's matrices to learn from, and with
// boosters that learn from them, it does together with the other workers: all call alike, in the
// same order (allreduce of histograms, Chen et al., Rabit 2015).
class XgboostMembership {
 public:
  // Waits for all workers. `rank` from 0 on, each once.
  static Result<XgboostMembership> join(const XgboostLibrary& library, std::string_view tracker,
                                        std::uint32_t rank);
  XgboostMembership(XgboostMembership&& other) noexcept
      : library_(std::exchange(other.library_, nullptr)) {}
  XgboostMembership& operator=(XgboostMembership&&) = delete;
  ~XgboostMembership();                   // leaves, as all others must
  void abandon() { library_ = nullptr; }  // the others are no more

 private:
  explicit XgboostMembership(const XgboostLibrary& library) : library_(&library) {}
  const XgboostLibrary* library_;
};

class XgboostBooster {
 public:
  // The matrices are those whose predictions it keeps from round to round.
  static Result<XgboostBooster> create(const XgboostLibrary& library,
                                       std::span<void* const> matrices);
  Status set(const std::string& name, const std::string& value);
  Status set_attribute(const std::string& name, const std::string& value);
  Status update(std::uint32_t round, const XgboostMatrix& matrix);
  // [rows, outputs] of the first `rounds`; 0: of all.
  Result<std::vector<float>> predict(const XgboostMatrix& matrix, std::uint32_t rounds) const;
  Result<std::vector<float>> predict(FloatRows rows, std::uint32_t rounds) const;
  // Model and configuration, with the state of its random numbers.
  Result<std::string> serialize() const;
  Status unserialize(std::string_view bytes);
  Result<std::string> model_json() const;
  // By feature: the gain of all splits.
  Result<std::vector<double>> gains(std::size_t features) const;

 private:
  using Handle = std::unique_ptr<void, int (*)(void*)>;
  XgboostBooster(const XgboostLibrary& library, Handle handle)
      : library_(&library), handle_(std::move(handle)) {}
  const XgboostLibrary* library_;
  Handle handle_;
};

}  // namespace mayfly
