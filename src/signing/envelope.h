// A signed text: DSSE v1 (github.com/secure-systems-lab/dsse), one signature.
//
//   {"payload": BASE64, "payloadType": TYPE, "signatures": [{"keyid": "", "sig": BASE64 of DER}]}
//
// What is signed is "DSSEv1 LENGTH TYPE LENGTH PAYLOAD". Values; nothing of a payload is given to
// anybody before the signature was verified.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "core/json_reader.h"
#include "signing/signing_key.h"

namespace mayfly {

class Envelope {
 public:
  static Envelope seal(std::string_view type, std::string_view payload, const PrivateKey& key);
  // invalid_signature: none, or more than one signature; keys that are not known are passed over.
  static Result<Envelope> parse(const Json& json);

  Json json() const;
  // The payload, if it is of this type and `key` signed it; invalid_signature.
  Result<std::string_view> open(std::string_view type, const PublicKey& key) const;
  // The same of one whose bytes the caller has opened before.
  Result<std::string_view> known(std::string_view type) const;

 private:
  std::string type_;
  std::string payload_;
  std::string signature_;
};

}  // namespace mayfly
