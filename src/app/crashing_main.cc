// mayfly-crashing: `mayfly serve` that dies where MAYFLY_CRASH_AT says (app/testing/
// crashing_stores.h). For tests; it is not installed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "app/testing/crashing_stores.h"
#include "app/verbs.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
  const char* at = std::getenv("MAYFLY_CRASH_AT");
  auto crash = mayfly::CrashPoint::parse(at == nullptr ? "" : at);
  if (!crash) {
    fmt::print(stderr, "mayfly-crashing: {}\n", crash.error().message);
    return 2;
  }
  CLI::App app("mayfly serve, which dies where it is told to");
  mayfly::CliContext context;
  mayfly::add_serve_verb(app, context, [&](mayfly::EventStores stores) {
    return mayfly::crashing_stores(std::move(stores), *crash);
  });
  CLI11_PARSE(app, argc, argv);
  if (context.outcome) return 0;
  fmt::print(stderr, "mayfly-crashing: {}\n", context.outcome.error().message);
  return 1;
}
