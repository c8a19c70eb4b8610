#include "runner/table_jobs.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::unexpected<Error> no_tables(std::string_view what) {
  const char* why = ::dlerror();
  return refuse(reason::kStartFailed, fmt::format("{}: {}", what, why == nullptr ? "?" : why));
}

}  // namespace

bool is_table_job(std::string_view request_json) {
  const auto json = parse_json(request_json, "job");
  return json && json->is_object() &&
         (json->contains("batch") || json->contains("merge") || json->contains("ingest"));
}

Status run_table_job(int control_fd, std::string_view request_json) {
  // Arrow's allocators of its own keep threads and reserve memory; malloc is what the jail expects.
  ::setenv("ARROW_DEFAULT_MEMORY_POOL", "system", 1);
  void* library = ::dlopen(kTableLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return no_tables(kTableLibrary);
  const auto entry = reinterpret_cast<TableJobEntry>(::dlsym(library, kTableJobEntry));
  if (entry == nullptr) return no_tables(kTableJobEntry);
  std::string complaint;
  if (!entry(control_fd, std::string(request_json), &complaint))
    return fail(Code::Internal, std::move(complaint));
  return {};
}

}  // namespace mayfly
