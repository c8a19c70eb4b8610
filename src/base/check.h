// CHECK(condition) is for what only a programmer's error can break: it logs and aborts, and a
// supervisor restarts the process. Anything that input, a peer or the system can cause is a Result.
#pragma once

namespace mayfly {
[[noreturn]] void check_failed(const char* expression, const char* file, int line);
}  // namespace mayfly

// doctest defines CHECK too; in a test file the assertion is the one that is meant.
#ifndef DOCTEST_LIBRARY_INCLUDED
#undef CHECK
#define CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::mayfly::check_failed(#condition, __FILE__, __LINE__))
#endif
