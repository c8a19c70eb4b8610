// Keeps garbage collection away from bytes that a deploy or an upload under way will need, though
// no version names them yet. Everything is named by digest: of a blob, or of the artifact whose
// compiled form is meant.
//
// A pin that was held at any moment of a sweep protects until the sweep ends: a deploy that records
// its version and lets go between the collector's mark and its removal loses nothing.
// Any thread. Pins and sweeps must not outlive the object they came from.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/digest.h"

namespace mayfly {

class Pins;

// Digests held until I go.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&& other) noexcept
      : pins_(std::exchange(other.pins_, nullptr)), digests_(std::move(other.digests_)) {}
  Pin& operator=(Pin&& other) noexcept;
  ~Pin() { release(); }
  void add(const Digest& digest);

 private:
  friend class Pins;
  explicit Pin(Pins& pins) : pins_(&pins) {}
  void release();
  Pins* pins_ = nullptr;
  std::vector<Digest> digests_;
};

// A collection under way; there is one at a time.
class Sweep {
 public:
  Sweep(Sweep&& other) noexcept : pins_(std::exchange(other.pins_, nullptr)) {}
  Sweep& operator=(Sweep&&) = delete;
  ~Sweep();
  bool is_pinned(const Digest& digest) const;
  // Runs `remove`, which is quick, while nobody can take a pin. false: pinned, nothing done.
  Result<bool> remove_unless_pinned(const Digest& digest, const std::function<Status()>& remove);

 private:
  friend class Pins;
  explicit Sweep(Pins& pins) : pins_(&pins) {}
  Pins* pins_;
};

// While it lives no sweep begins: for backups.
class SweepPause {
 public:
  SweepPause(SweepPause&& other) noexcept : pins_(std::exchange(other.pins_, nullptr)) {}
  SweepPause& operator=(SweepPause&&) = delete;
  ~SweepPause();

 private:
  friend class Pins;
  explicit SweepPause(Pins& pins) : pins_(&pins) {}
  Pins* pins_;
};

class Pins {
 public:
  explicit Pins(const Clock& clock) : clock_(clock) {}  // outlives me

  // Take the pin first, then look whether the blob is there.
  Pin hold(const std::vector<Digest>& digests);
  // For a client that asks what is missing and uploads it in later requests. Only for what is
  // there: leases that ended are forgotten when the next sweep begins.
  void lease(const Digest& digest, Duration duration);

  bool is_pinned(const Digest& digest);  // right now
  Result<Sweep> begin_sweep();           // conflict: another sweep, or a pause
  Result<SweepPause> pause_sweeps();     // conflict: a sweep is under way

 private:
  friend class Pin;
  friend class Sweep;
  friend class SweepPause;
  void add(const Digest& digest);
  void drop(const std::vector<Digest>& digests);

  const Clock& clock_;
  std::mutex mutex_;
  std::map<Digest, int> held_;
  std::map<Digest, TimePoint> leases_;        // until when
  std::optional<std::set<Digest>> sweeping_;  // during a sweep: all that was pinned in it
  int pauses_ = 0;
};

}  // namespace mayfly
