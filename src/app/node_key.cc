#include "app/node_key.h"

#include <fmt/format.h>

#include "identity/key_file.h"

namespace mayfly {

Result<PrivateKey> open_node_key(const Path& path, Rng& rng) {
  std::optional<KeyBytes> bytes = TRY(read_key_file(
      path, {.danger = "whoever read it can make the node run other code: remove it",
             .loss = "remove it; the node makes another, and its compiled artifacts again"}));
  if (!bytes) bytes = TRY(create_key_file(path, rng));
  auto key = PrivateKey::create(*bytes);
  if (key) return *std::move(key);
  return fail(Code::DataLoss, fmt::format("{} is no key; remove it: the node makes another, and "
                                          "its compiled artifacts again",
                                          path.native()));
}

}  // namespace mayfly
