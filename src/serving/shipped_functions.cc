#include "serving/shipped_functions.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <span>
#include <utility>

#include "async/sleep.h"
#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "serving/measured.h"

namespace mayfly {
namespace {

constexpr Duration kLookAgain = std::chrono::milliseconds(200);
constexpr const char* kOptions = "options.json";
constexpr std::array kShippedFiles = {"function.py", kOptions};

// While somebody publishes a function nobody else does.
class UnderWay {
 public:
  UnderWay(std::set<std::string>& all, std::string function)
      : all_(all), function_(std::move(function)) {
    all_.insert(function_);
  }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() { all_.erase(function_); }

 private:
  std::set<std::string>& all_;
  std::string function_;
};

}  // namespace

std::string ShippedFunctions::name_of(std::string_view shipped) {
  return fmt::format("mayfly.{}", shipped);
}

Result<ShippedFunctions::Source> ShippedFunctions::read(std::string_view shipped) const {
  Source source;
  std::vector<ArtifactFile> listed;
  for (const char* name : kShippedFiles) {
    const Path path = parts_.folder / shipped / name;
    auto bytes = read_file(path);
    if (!bytes)
      return fail(Code::FailedPrecondition,
                  fmt::format("{} cannot be read ({}): it belongs to Mayfly, in lib/mayfly beside "
                              "bin; install it again",
                              path.native(), bytes.error().message));
    listed.push_back({.path = name, .sha256 = sha256_hex(*bytes), .size = bytes->size()});
    source.files.push_back({.file = listed.back(), .bytes = *std::move(bytes)});
  }
  source.options = TRY(parse_version_options(source.files.back().bytes));
  std::ranges::sort(listed, {}, &ArtifactFile::path);
  source.artifact = parse_digest(artifact_digest(listed)).value();
  return source;
}

// The newest of its versions with these files. Null: none.
Task<Result<ServingRef>> ShippedFunctions::look(std::string function, Digest artifact) {
  const FunctionTable::Entry known = parts_.catalog.table()->find(function);
  if (!known) co_return ServingRef();
  const VersionEntry* found = nullptr;
  for (const VersionEntry& version : known->versions)
    if (version.content->artifact == artifact) found = &version;
  if (found == nullptr) co_return ServingRef();
  co_return co_await parts_.catalog.find(ResolvedVersion{.function = known, .version = found});
}

Task<Result<ServingRef>> ShippedFunctions::find(std::string project, std::string shipped) {
  CO_TRY(const Source source, co_await parts_.pool.run([&] { return read(shipped); }));
  co_return co_await look(qualified_name(project, name_of(shipped)), source.artifact);
}

Task<Result<ServingRef>> ShippedFunctions::provide(Ask ask) {
  CO_TRY(Source source, co_await parts_.pool.run([&] { return read(ask.shipped); }));
  const std::string function = qualified_name(ask.project, name_of(ask.shipped));
  while (true) {
    CO_TRY(ServingRef found, co_await look(function, source.artifact));
    if (found) co_return found;
    if (!under_way_.contains(function)) {
      const UnderWay mine(under_way_, function);
      co_return co_await publish(std::move(ask), std::move(source), function);
    }
    ask.told("somebody else's training publishes it");
    if (!co_await sleep_for(parts_.loop, kLookAgain, ask.cancel))
      co_return refuse(reason::kDraining, "nobody waits for it any more");
  }
}

// Blocking.
Result<std::vector<SourceFile>> ShippedFunctions::keep(const Source& source,
                                                       std::string_view project) const {
  std::vector<SourceFile> kept;
  for (const Source::File& one : source.files) {
    const auto writer = TRY(parts_.blobs.create());
    TRY(writer->append(std::as_bytes(std::span(one.bytes))));
    const BlobInfo blob = TRY(writer->commit());
    TRY(parts_.owners.add(project, blob, BlobOwners::slot(project, blob.digest)));
    kept.push_back({.file = one.file, .blobs = &parts_.blobs});
  }
  return kept;
}

Task<Result<ServingRef>> ShippedFunctions::publish(Ask ask, Source source, std::string function) {
  CO_TRY(const FunctionName name, FunctionName::parse(function));
  std::vector<Digest> digests = {source.artifact};
  for (const Source::File& one : source.files)
    digests.push_back(parse_digest(one.file.sha256).value());
  const Pin pin = parts_.pins.hold(digests);
  CO_TRY(std::vector<SourceFile> files,
         co_await parts_.pool.run([&] { return keep(source, ask.project); }));
  PublishRequest request{.label = function,
                         .files = std::move(files),
                         .options = source.options,
                         .cancel = ask.cancel};
  const auto told = [&ask](std::string_view step, std::string_view detail) {
    ask.told(detail.empty() ? step : detail);
  };
  CO_TRY(const Published published, co_await parts_.publisher.publish(std::move(request), told));
  Deployment deployment{.function = name,
                        .manifest = published.manifest,
                        .report = measured_json(published),
                        .traffic = {.percent = 0, .first = DeployTraffic::First::Waits}};
  const Author author{.who = ask.who,
                      .why = fmt::format("{}, which Mayfly brings along", ask.shipped)};
  CO_TRY(const TrafficSwitch::Introduced made,
         co_await parts_.traffic.introduce(std::move(deployment), author));
  LOG(info, "version deployed", {"function", function}, {"version", made.number.value},
      {"why", author.why});
  CO_TRY(const ResolvedVersion resolved,
         parts_.catalog.resolve(fmt::format("{}@{}", function, made.number.value), ""));
  co_return co_await parts_.catalog.find(resolved);
}

}  // namespace mayfly
