// gRPC, Abseil and OpenSSL, which gRPC uses under its locks, are Debian's binaries, which
// ThreadSanitizer has not instrumented: it does not see their locks, and takes what they order for
// races. Reports with none of their frames stay.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)

extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier)

extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "race:libgrpc\n"
         "race:libgpr.so\n"
         "race:libabsl\n"
         "race:libcrypto\n"
         "race:libssl\n"
         "race:absl::\n";
}

#endif
#endif
