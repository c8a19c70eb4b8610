// Who asks: the project whose functions a request means, and what it may do with them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "identity/scope.h"

namespace mayfly {

struct Principal {
  enum class Means : std::uint8_t {
    Nobody,  // the node has no keys yet: whoever reaches it over loopback
    Socket,  // the admin socket of the data folder
    Key,
    Token,        // of an issuer that the node was told to trust
    Certificate,  // of a client, verified by TLS
  };

  Means means = Means::Nobody;
  std::string project;
  std::string name;  // as records and histories show it; empty for Nobody
  Scopes scopes;
};

using PrincipalRef = std::shared_ptr<const Principal>;

}  // namespace mayfly
