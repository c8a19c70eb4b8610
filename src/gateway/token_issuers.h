// The issuers whose tokens the node takes, each with the keys that it publishes now. Checking a
// token touches no file and no network: keys are fetched beside it, on a thread of their own.
//
//   fetched   when the node starts; an https address every 10 minutes, a file every 10 s; and when
//             a token names a key that is not known, at most once in 30 s
//   failed    what was fetched last goes on to hold, and the log says why
//
// Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/event.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "identity/json_web_key.h"
#include "identity/principal.h"
#include "identity/token_cache.h"
#include "identity/token_issuer.h"

namespace mayfly {

class TokenIssuers {
 public:
  // The text at an issuer's "jwks". Blocks; any thread.
  using Fetch = std::function<Result<std::string>(const TokenIssuer&)>;

  // `loop` outlives me.
  TokenIssuers(Loop& loop, std::vector<TokenIssuer> issuers, Fetch fetch);
  ~TokenIssuers();  // after close(), or without start()

  void start();  // to fetch; once

  // unauthenticated, saying what is wrong with the token.
  Result<PrincipalRef> check(std::string_view token);
  // Whether a token that check() refused may be good once learn() has ended: it names a key that
  // its issuer may have begun to use meanwhile.
  bool may_learn(std::string_view token) const;
  // Ends when the keys of the token's issuer have been fetched once more, or could not be.
  Task<void> learn(std::string token);

  // Waits for what is being fetched, some seconds at most.
  Task<void> close();

 private:
  struct Live;
  Live* find(std::string_view issuer) const;
  Task<void> refresh(Live& issuer);
  void take(Live& issuer, const std::string& text, Result<KeySet> keys);

  Loop& loop_;
  Fetch fetch_;
  Pool pool_;  // of its own: an issuer that hangs holds up nothing else
  std::vector<std::unique_ptr<Live>> issuers_;
  TokenCache cache_;
  Gate inside_;
};

// From the file or the https address.
Result<std::string> fetch_keys(const TokenIssuer& issuer);

}  // namespace mayfly
