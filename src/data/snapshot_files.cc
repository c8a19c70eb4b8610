#include "data/snapshot_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/reason.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

Result<SnapshotRecord> SnapshotFiles::find(std::string_view project, const DataRef& data) const {
  const DatasetRecord dataset = TRY(datasets_.find(project, data.dataset));
  SnapshotRecord snapshot = TRY(datasets_.snapshot(dataset, data.snapshot));
  if (!snapshot.erased) return snapshot;
  return refuse(reason::kNotFound, fmt::format("{} was erased by {}: {}", to_string(data),
                                               snapshot.erased_by, snapshot.reason));
}

Result<std::vector<SourceFile>> SnapshotFiles::files(const SnapshotRecord& snapshot,
                                                     const Wanted& wanted) const {
  std::vector<SourceFile> sources;
  const auto add = [&](std::string path, const DatasetFile& file) {
    sources.push_back(
        {.file = {.path = std::move(path), .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &blobs_});
  };
  const std::vector<DatasetFile> whole = TRY(datasets_.files(snapshot));
  for (const DatasetFile& file : whole)
    if (file.path == kSchemaFile) add(file.path, file);
  const auto parts = TRY(datasets_.parts(snapshot));
  for (std::size_t number = 0; number < parts.size(); ++number) {
    for (const DatasetFile& file : parts[number])
      if (wanted(file.path)) add(fmt::format("parts/{}/{}", number, file.path), file);
  }
  return sources;
}

Result<std::vector<SourceFile>> SnapshotFiles::to_learn_from(const SnapshotRecord& snapshot) const {
  return files(snapshot, [](std::string_view path) {
    return path.starts_with("train/") || path.starts_with("valid/");
  });
}

Result<std::vector<SourceFile>> SnapshotFiles::to_score(const SnapshotRecord& snapshot,
                                                        const ScoreAsk& ask) const {
  const bool answers = ask.shows == Shows::Answers;
  if (ask.split == Split::Test && answers) (void)TRY(count_look(snapshot, ask.looker, ask.now));
  const DatasetSchema columns = TRY(schema(snapshot));
  const auto is_file_of = [&](std::string_view file, std::span<const std::string> names) {
    return std::ranges::any_of(names, [&](const std::string& name) {
      const auto column = std::ranges::find(columns.columns, name, &SchemaColumn::name);
      return column != columns.columns.end() &&
             file.starts_with(fmt::format("c{}.", column - columns.columns.begin()));
    });
  };
  const std::string scored = fmt::format("{}/", to_string(ask.split));
  constexpr std::string_view kTrain = "train/";
  return files(snapshot, [&](std::string_view path) {
    if (path.starts_with(scored))
      return answers || !is_file_of(path.substr(scored.size()), std::span(&ask.target, 1));
    return answers && path.starts_with(kTrain) &&
           (path == "train/row.npy" || is_file_of(path.substr(kTrain.size()), ask.columns));
  });
}

Result<std::set<std::uint32_t>> SnapshotFiles::with_other_rows(
    const SnapshotRecord& snapshot) const {
  std::set<std::uint32_t> others;
  for (const TestLook& look : TRY(datasets_.looks(snapshot.dataset)))
    if (look.snapshot != snapshot.number) others.insert(look.snapshot);
  if (others.empty()) return others;
  const SplitRule split = TRY(schema(snapshot)).split;
  if (split.by != SplitBy::Time) return std::set<std::uint32_t>();
  for (auto number = others.begin(); number != others.end();) {
    SnapshotRecord other;
    other.dataset = snapshot.dataset;
    other.number = *number;
    const DatasetSchema known = TRY(schema(other));
    number = known.split.test_from == split.test_from ? others.erase(number) : std::next(number);
  }
  return others;
}

Result<std::uint32_t> SnapshotFiles::count_look(const SnapshotRecord& snapshot,
                                                std::string_view looker, WallTime now) const {
  return datasets_.count_look(snapshot, looker, now, TRY(with_other_rows(snapshot)));
}

Result<std::vector<TestLook>> SnapshotFiles::looks(const SnapshotRecord& snapshot) const {
  const std::set<std::uint32_t> others = TRY(with_other_rows(snapshot));
  std::vector<TestLook> found = TRY(datasets_.looks(snapshot.dataset));
  std::erase_if(found, [&](const TestLook& look) { return others.contains(look.snapshot); });
  return found;
}

Result<std::string> SnapshotFiles::read(const SnapshotRecord& snapshot, std::string_view path,
                                        std::size_t most) const {
  const std::vector<DatasetFile> whole = TRY(datasets_.files(snapshot));
  const auto found = std::ranges::find(whole, path, &DatasetFile::path);
  if (found == whole.end())
    return fail(Code::DataLoss, fmt::format("the snapshot has no {}", path));
  const Fd blob = TRY(blobs_.open(found->digest));
  return read_all_fd(blob.get(), most);
}

Result<DatasetSchema> SnapshotFiles::schema(const SnapshotRecord& snapshot) const {
  const std::string text = TRY(read(snapshot, kSchemaFile, kMaxSchemaJson));
  return parse_dataset_schema(text);
}

Result<Json> SnapshotFiles::statistics(const SnapshotRecord& snapshot) const {
  const std::string text = TRY(read(snapshot, kStatisticsFile, kMaxStatisticsJson));
  return parse_json(text, "statistics.json");
}

}  // namespace mayfly
