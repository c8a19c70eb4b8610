// For whom a client's verified certificate stands. Pure.
//
//   {"certificates": [{
//     "subject": "URI:spiffe://example/edge-1",    or "DNS:edge-1.example", "email:…", "IP:…" of
//                                                  its alternative names, or "CN:edge-1"
//     "project": "team",
//     "scopes": "invoke:*",
//     "name": "edge-1"                             in records; default: the subject
//   }]}
//
// Subjects match to the letter: there are no patterns. The first one that the certificate has
// counts.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "identity/principal.h"

namespace mayfly {

class CertificateMap {
 public:
  // invalid_setting, naming what is wrong.
  static Result<CertificateMap> parse(std::string_view json);

  // `names` as "DNS:…", "URI:…", … . Null: nobody that is known.
  PrincipalRef find(std::string_view common_name, std::span<const std::string> names) const;
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::string subject;
    PrincipalRef who;
  };
  std::vector<Entry> entries_;
};

}  // namespace mayfly
