#include "runner/train/xgboost_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {

using Count = std::uint64_t;

struct XgboostCalls {
  const char* (*last_error)();
  int (*proxy_create)(void**);
  int (*proxy_set_dense)(void*, const char*);
  int (*quantile_matrix)(void*, void*, void*, void (*)(void*), int (*)(void*), const char*, void**);
  int (*disk_matrix)(void*, void*, void*, void (*)(void*), int (*)(void*), const char*, void**);
  int (*dense_matrix)(const char*, const char*, void**);
  int (*matrix_free)(void*);
  int (*set_info)(void*, const char*, const char*);
  int (*create)(void* const*, Count, void**);
  int (*free)(void*);
  int (*set_param)(void*, const char*, const char*);
  int (*set_attr)(void*, const char*, const char*);
  int (*update)(void*, int, void*);
  int (*predict_matrix)(void*, void*, const char*, const Count**, Count*, const float**);
  int (*predict_dense)(void*, const char*, const char*, void*, const Count**, Count*,
                       const float**);
  int (*serialize)(void*, Count*, const char**);
  int (*unserialize)(void*, const void*, Count);
  int (*save_model)(void*, const char*, Count*, const char**);
  int (*feature_score)(void*, const char*, Count*, const char***, Count*, const Count**,
                       const float**);
  int (*tracker_create)(const char*, void**);
  int (*tracker_run)(void*, const char*);
  int (*tracker_args)(void*, const char**);
  int (*tracker_free)(void*);
  int (*communicator_init)(const char*);
  int (*communicator_finalize)();
};

namespace {

std::unexpected<Error> no_library(std::string_view what) {
  const char* why = ::dlerror();
  return refuse(reason::kStartFailed,
                fmt::format("XGBoost cannot be opened: {} ({}); run scripts/setup.sh", what,
                            why == nullptr ? "?" : why));
}

template <typename Call>
Status find_call(void* library, const char* name, Call*& call) {
  call = reinterpret_cast<Call*>(::dlsym(library, name));
  if (call == nullptr) return no_library(name);
  return {};
}

Result<XgboostCalls> find_calls(void* library) {
  XgboostCalls calls{};
  TRY(find_call(library, "XGBGetLastError", calls.last_error));
  TRY(find_call(library, "XGProxyDMatrixCreate", calls.proxy_create));
  TRY(find_call(library, "XGProxyDMatrixSetDataDense", calls.proxy_set_dense));
  TRY(find_call(library, "XGQuantileDMatrixCreateFromCallback", calls.quantile_matrix));
  TRY(find_call(library, "XGExtMemQuantileDMatrixCreateFromCallback", calls.disk_matrix));
  TRY(find_call(library, "XGDMatrixCreateFromDense", calls.dense_matrix));
  TRY(find_call(library, "XGDMatrixFree", calls.matrix_free));
  TRY(find_call(library, "XGDMatrixSetInfoFromInterface", calls.set_info));
  TRY(find_call(library, "XGBoosterCreate", calls.create));
  TRY(find_call(library, "XGBoosterFree", calls.free));
  TRY(find_call(library, "XGBoosterSetParam", calls.set_param));
  TRY(find_call(library, "XGBoosterSetAttr", calls.set_attr));
  TRY(find_call(library, "XGBoosterUpdateOneIter", calls.update));
  TRY(find_call(library, "XGBoosterPredictFromDMatrix", calls.predict_matrix));
  TRY(find_call(library, "XGBoosterPredictFromDense", calls.predict_dense));
  TRY(find_call(library, "XGBoosterSerializeToBuffer", calls.serialize));
  TRY(find_call(library, "XGBoosterUnserializeFromBuffer", calls.unserialize));
  TRY(find_call(library, "XGBoosterSaveModelToBuffer", calls.save_model));
  TRY(find_call(library, "XGBoosterFeatureScore", calls.feature_score));
  TRY(find_call(library, "XGTrackerCreate", calls.tracker_create));
  TRY(find_call(library, "XGTrackerRun", calls.tracker_run));
  TRY(find_call(library, "XGTrackerWorkerArgs", calls.tracker_args));
  TRY(find_call(library, "XGTrackerFree", calls.tracker_free));
  TRY(find_call(library, "XGCommunicatorInit", calls.communicator_init));
  TRY(find_call(library, "XGCommunicatorFinalize", calls.communicator_finalize));
  return calls;
}

// NumPy's array interface, version 3.
std::string interface_of(const void* data, std::string_view type, std::size_t rows,
                         std::size_t width) {
  const std::string shape =
      width == 0 ? fmt::format("{}", rows) : fmt::format("{}, {}", rows, width);
  return fmt::format(
      R"({{"data": [{}, true], "shape": [{}], "strides": null, "typestr": "{}", "version": 3}})",
      reinterpret_cast<std::uintptr_t>(data), shape, type);
}

std::string interface_of(FloatRows rows) {
  return interface_of(rows.values.data(), "<f4", rows.rows(), rows.width);
}

// What the library reads a matrix from, piece by piece, as often as it likes.
struct RowSource {
  const XgboostCalls& calls;
  FloatRows rows;
  std::size_t piece;
  void* proxy = nullptr;
  std::size_t at = 0;

  static void reset(void* self) { static_cast<RowSource*>(self)->at = 0; }
  static int next(void* self) {
    auto& source = *static_cast<RowSource*>(self);
    if (source.at >= source.rows.rows()) return 0;
    const std::size_t count = std::min(source.piece, source.rows.rows() - source.at);
    const std::string array = interface_of(source.rows.rows(source.at, count));
    source.at += count;
    return source.calls.proxy_set_dense(source.proxy, array.c_str()) == 0 ? 1 : 0;
  }
};

std::string prediction_config(std::uint32_t rounds) {
  return fmt::format(R"({{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": {},
      "missing": NaN, "strict_shape": true, "cache_id": 0}})",
                     rounds);
}

std::vector<float> predictions_of(const Count* shape, Count dimensions, const float* values) {
  std::size_t count = 1;
  for (Count i = 0; i < dimensions; ++i) count *= shape[i];
  return {values, values + count};
}

}  // namespace

XgboostLibrary::XgboostLibrary(std::unique_ptr<const XgboostCalls> calls)
    : calls_(std::move(calls)) {}

Result<const XgboostLibrary*> XgboostLibrary::open(const Path& runtime) {
  // Once in a process: it is never closed.
  static std::unique_ptr<const XgboostLibrary> opened;
  if (opened) return opened.get();
  const Path path = runtime / "xgboost" / "lib" / "libxgboost.so";
  void* library = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return no_library(path.native());
  const XgboostCalls calls = TRY(find_calls(library));
  opened.reset(new XgboostLibrary(std::make_unique<const XgboostCalls>(calls)));
  return opened.get();
}

Status XgboostLibrary::check(int code) const {
  if (code == 0) return {};
  std::string_view said = calls_->last_error();
  // "[time] place in its source: what", then the stack.
  said = said.substr(0, said.find("\nStack trace"));
  if (said.starts_with('[')) said.remove_prefix(std::min(said.find("] ") + 2, said.size()));
  return fail(Code::Internal, fmt::format("XGBoost: {}", said.substr(0, 1000)));
}

Result<XgboostMatrix> XgboostMatrix::quantiles(const XgboostLibrary& library, FloatRows rows,
                                               const Options& options) {
  const XgboostCalls& calls = library.calls();
  RowSource source{.calls = calls, .rows = rows, .piece = options.piece};
  TRY(library.check(calls.proxy_create(&source.proxy)));
  const Handle proxy(source.proxy, calls.matrix_free);
  void* made = nullptr;
  if (options.cache.empty()) {
    const std::string config = fmt::format(R"({{"missing": NaN, "nthread": {}, "max_bin": {}}})",
                                           options.threads, options.max_bin);
    TRY(library.check(calls.quantile_matrix(&source, source.proxy, nullptr, RowSource::reset,
                                            RowSource::next, config.c_str(), &made)));
  } else {
    const std::string config = fmt::format(
        R"({{"missing": NaN, "nthread": {}, "max_bin": {}, "cache_prefix": "{}", "on_host": false}})",
        options.threads, options.max_bin, options.cache);
    TRY(library.check(calls.disk_matrix(&source, source.proxy, nullptr, RowSource::reset,
                                        RowSource::next, config.c_str(), &made)));
  }
  return XgboostMatrix(library, {made, calls.matrix_free});
}

Result<XgboostMatrix> XgboostMatrix::values(const XgboostLibrary& library, FloatRows rows,
                                            std::uint32_t threads) {
  void* made = nullptr;
  const std::string config = fmt::format(R"({{"missing": NaN, "nthread": {}}})", threads);
  TRY(library.check(
      library.calls().dense_matrix(interface_of(rows).c_str(), config.c_str(), &made)));
  return XgboostMatrix(library, {made, library.calls().matrix_free});
}

Status XgboostMatrix::set_labels(std::span<const float> labels) {
  const std::string array = interface_of(labels.data(), "<f4", labels.size(), 0);
  return library_->check(library_->calls().set_info(handle(), "label", array.c_str()));
}

Status XgboostMatrix::set_groups(std::span<const std::uint32_t> sizes) {
  const std::string array = interface_of(sizes.data(), "<u4", sizes.size(), 0);
  return library_->check(library_->calls().set_info(handle(), "group", array.c_str()));
}

Result<XgboostBooster> XgboostBooster::create(const XgboostLibrary& library,
                                              std::span<void* const> matrices) {
  void* made = nullptr;
  TRY(library.check(library.calls().create(matrices.data(), matrices.size(), &made)));
  return XgboostBooster(library, {made, library.calls().free});
}

Status XgboostBooster::set(const std::string& name, const std::string& value) {
  return library_->check(library_->calls().set_param(handle_.get(), name.c_str(), value.c_str()));
}

Status XgboostBooster::set_attribute(const std::string& name, const std::string& value) {
  return library_->check(library_->calls().set_attr(handle_.get(), name.c_str(), value.c_str()));
}

Status XgboostBooster::update(std::uint32_t round, const XgboostMatrix& matrix) {
  return library_->check(
      library_->calls().update(handle_.get(), static_cast<int>(round), matrix.handle()));
}

Result<std::vector<float>> XgboostBooster::predict(const XgboostMatrix& matrix,
                                                   std::uint32_t rounds) const {
  const Count* shape = nullptr;
  Count dimensions = 0;
  const float* values = nullptr;
  TRY(library_->check(library_->calls().predict_matrix(handle_.get(), matrix.handle(),
                                                       prediction_config(rounds).c_str(), &shape,
                                                       &dimensions, &values)));
  return predictions_of(shape, dimensions, values);
}

Result<std::vector<float>> XgboostBooster::predict(FloatRows rows, std::uint32_t rounds) const {
  const Count* shape = nullptr;
  Count dimensions = 0;
  const float* values = nullptr;
  TRY(library_->check(library_->calls().predict_dense(handle_.get(), interface_of(rows).c_str(),
                                                      prediction_config(rounds).c_str(), nullptr,
                                                      &shape, &dimensions, &values)));
  return predictions_of(shape, dimensions, values);
}

Result<std::string> XgboostBooster::serialize() const {
  Count length = 0;
  const char* bytes = nullptr;
  TRY(library_->check(library_->calls().serialize(handle_.get(), &length, &bytes)));
  return std::string(bytes, length);
}

Status XgboostBooster::unserialize(std::string_view bytes) {
  return library_->check(library_->calls().unserialize(handle_.get(), bytes.data(), bytes.size()));
}

Result<std::string> XgboostBooster::model_json() const {
  Count length = 0;
  const char* bytes = nullptr;
  TRY(library_->check(
      library_->calls().save_model(handle_.get(), R"({"format": "json"})", &length, &bytes)));
  return std::string(bytes, length);
}

Result<std::vector<double>> XgboostBooster::gains(std::size_t features) const {
  Count found = 0;
  const char** names = nullptr;
  Count dimensions = 0;
  const Count* shape = nullptr;
  const float* scores = nullptr;
  TRY(library_->check(
      library_->calls().feature_score(handle_.get(), R"({"importance_type": "total_gain"})", &found,
                                      &names, &dimensions, &shape, &scores)));
  std::vector<double> gains(features, 0);
  if (dimensions != 1) return gains;
  // Without names of features they are "f0", "f1" …
  for (Count i = 0; i < found; ++i) {
    const std::string_view name(names[i]);
    std::size_t place = features;
    if (name.starts_with('f')) std::from_chars(name.data() + 1, name.data() + name.size(), place);
    if (place < features) gains[place] = static_cast<double>(scores[i]);
  }
  return gains;
}

Result<XgboostTracker> XgboostTracker::start(const XgboostLibrary& library, std::uint32_t workers) {
  void* made = nullptr;
  const std::string config = fmt::format(
      R"({{"dmlc_communicator": "rabit", "n_workers": {}, "host": "127.0.0.1", "port": 0, "sortby": 1}})",
      workers);
  TRY(library.check(library.calls().tracker_create(config.c_str(), &made)));
  XgboostTracker tracker({made, library.calls().tracker_free});
  TRY(library.check(library.calls().tracker_run(made, "{}")));
  const char* arguments = nullptr;
  TRY(library.check(library.calls().tracker_args(made, &arguments)));
  tracker.arguments_ = arguments;
  return tracker;
}

Result<XgboostMembership> XgboostMembership::join(const XgboostLibrary& library,
                                                  std::string_view tracker, std::uint32_t rank) {
  Json arguments = TRY(parse_json(tracker, "the tracker's arguments"));
  arguments["dmlc_communicator"] = "rabit";
  arguments["dmlc_task_id"] = fmt::format("{:04}", rank);
  TRY(library.check(library.calls().communicator_init(arguments.dump().c_str())));
  return XgboostMembership(library);
}

XgboostMembership::~XgboostMembership() {
  if (library_ != nullptr) library_->calls().communicator_finalize();
}

}  // namespace mayfly
