#include "runner/python/interpreter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "core/python_version.h"

namespace mayfly {
namespace {

constexpr std::array<const wchar_t*, 4> kPaths = {L"/runtime", L"/python", L"/python/lib-dynload",
                                                  L"/environment"};
// Of an environment with packages of Debian, whose usr/ is mounted at /usr.
constexpr const char* kDebianPart = "/environment/usr";
constexpr const wchar_t* kDebianPackages = L"/usr/lib/python3/dist-packages";
constexpr const char* kChildrensPath = "/source/function:/environment";

void set_environment(const InterpreterOptions& options) {
  ::clearenv();
  const std::string threads = std::to_string(options.threads);
  // Pools of threads do not survive a fork, and waiting ones must not burn the processor.
  for (const char* pool : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                           "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"}) {
    ::setenv(pool, threads.c_str(), 1);
  }
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::setenv("HOME", "/tmp", 1);
  ::setenv("TMPDIR", "/tmp", 1);
  ::setenv("LANG", "C.UTF-8", 1);
  if (options.has_children) {
    ::setenv("PATH", "/bin", 1);
    ::setenv("PYTHONPATH", kChildrensPath, 1);
    ::setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
  }
  for (const auto& [name, value] : options.env) ::setenv(name.c_str(), value.c_str(), 1);
}

class Config {
 public:
  Config() { PyConfig_InitIsolatedConfig(&config_); }
  ~Config() { PyConfig_Clear(&config_); }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;
  PyConfig& operator*() { return config_; }
  PyConfig* operator->() { return &config_; }

 private:
  PyConfig config_{};
};

Status check(PyStatus status) {
  if (PyStatus_Exception(status) == 0) return {};
  return fail(Code::Internal, fmt::format("Python cannot start: {}",
                                          status.err_msg == nullptr ? "no words" : status.err_msg));
}

Status preconfigure() {
  PyPreConfig pre;
  PyPreConfig_InitIsolatedConfig(&pre);
  pre.utf8_mode = 1;
  return check(Py_PreInitialize(&pre));
}

Status set_text(PyConfig& config, wchar_t** field, const wchar_t* value) {
  return check(PyConfig_SetString(&config, field, value));
}

}  // namespace

Status start_interpreter(const InterpreterOptions& options) {
  set_environment(options);
  TRY(preconfigure());
  Config config;
  config->site_import = 0;
  config->write_bytecode = 0;
  config->install_signal_handlers = 0;
  config->module_search_paths_set = 1;
  for (const wchar_t* path : kPaths)
    TRY(check(PyWideStringList_Append(&config->module_search_paths, path)));
  if (::access(kDebianPart, F_OK) == 0)
    TRY(check(PyWideStringList_Append(&config->module_search_paths, kDebianPackages)));
  // Where things are is said above; without these it would look for itself, and wonder.
  for (wchar_t** prefix :
       {&config->prefix, &config->exec_prefix, &config->base_prefix, &config->base_exec_prefix}) {
    TRY(set_text(*config, prefix, L"/"));
  }
  TRY(set_text(*config, &config->program_name, L"python3"));
  const std::string python =
      options.has_children ? fmt::format("/node/bin/python{}", kPythonVersion) : "/usr/bin/python3";
  const std::wstring executable(python.begin(), python.end());
  TRY(set_text(*config, &config->executable, executable.c_str()));
  TRY(set_text(*config, &config->base_executable, executable.c_str()));
  return check(Py_InitializeFromConfig(&*config));
}

std::string take_exception() {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  const PyRef owned_type(type);
  const PyRef owned_value(value);
  const PyRef owned_trace(trace);
  const PyRef text(PyObject_Str(value != nullptr ? value : type));
  const char* words = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
  std::string said = words == nullptr ? "an exception without words" : words;
  PyErr_Clear();
  return said;
}

}  // namespace mayfly
