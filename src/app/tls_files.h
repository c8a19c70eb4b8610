// The node's certificate: read at the start, and again when its files change or SIGHUP asks for it.
// A pair that cannot be used leaves the one in use where it is, and says so in the log, once a
// change. Loop thread; files are read on a pool.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "app/config.h"
#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/result.h"
#include "net/tls.h"

namespace mayfly {

// Nothing when TLS is not configured. InvalidArgument: a certificate without its key or the like.
Result<std::optional<TlsServerFiles>> tls_files_of(const Config& config);

class TlsReload {
 public:
  using Use = std::function<void(TlsContext)>;

  // Reads the files, which blocks, and gives what they make to `use`. Collaborators outlive me.
  static Result<std::unique_ptr<TlsReload>> create(Loop& loop, Pool& pool, Gate& background,
                                                   TlsServerFiles files, Use use);

  // Reads the files again, whether they have changed or not.
  void reload();

 private:
  // What tells one state of a file from another.
  using Fingerprint = std::string;
  enum class When : std::uint8_t { Changed, Asked };

  TlsReload(Loop& loop, Pool& pool, Gate& background, TlsServerFiles files, Use use);
  static Fingerprint fingerprint(const TlsServerFiles& files);
  static Task<void> look(TlsReload& self, When when);
  void take(const Result<TlsContext>& context);

  Loop& loop_;
  Pool& pool_;
  Gate& background_;
  const TlsServerFiles files_;
  Use use_;
  Fingerprint seen_;
  Timer timer_;
};

}  // namespace mayfly
