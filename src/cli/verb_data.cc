// mayfly data: datasets, put, appended to, listed, described, erased.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/data_view.h"
#include "cli/job_watch.h"
#include "cli/local_file.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cli/zip_writer.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxSchemaFile = 1 << 20;

struct DataFlags {
  std::string name;
  std::vector<std::string> sources;
  std::string format;
  std::string schema;
  std::vector<std::string> columns;
  std::vector<std::string> drop;
  std::vector<std::string> missing;
  std::string delimiter;
  std::string target;
  std::string id, group, time;
  std::string split;
  std::string image;
  std::int64_t max_bad_rows = -1;
  std::string reason;
  std::string credentials;  // the name of a secret
  std::string s3_endpoint, s3_region;
  std::vector<std::string> rows;
  bool move_boundary = false;
  bool detach = false;
};

bool is_elsewhere(std::string_view source) {
  return source.starts_with("https://") || source.starts_with("http://") ||
         source.starts_with("s3://");
}

std::string dataset_path(std::string_view name) {
  return fmt::format("/api/v1/datasets/{}", path_segment(name));
}

struct SnapshotRef {
  std::string name;
  std::string number;  // empty: none is named
};

SnapshotRef parse_snapshot_ref(const std::string& text) {
  const std::size_t at = text.find('@');
  if (at == std::string::npos) return {.name = text, .number = ""};
  return {.name = text.substr(0, at), .number = text.substr(at + 1)};
}

// By the end of its name.
Result<std::string> source_format(const std::string& format, const std::string& source) {
  if (!format.empty()) return format;
  const bool elsewhere = is_elsewhere(source);
  const std::string first = elsewhere ? source.substr(0, source.find('?')) : source;
  for (const char* known : {"csv", "tsv", "jsonl", "parquet", "arff", "npz"}) {
    if (first.ends_with(fmt::format(".{}", known))) return known;
  }
  std::error_code ignored;
  if (first.ends_with(".zip") || (!elsewhere && std::filesystem::is_directory(first, ignored)))
    return "images";
  if (first.ends_with(".ndjson")) return "jsonl";
  if (first.ends_with(".pq")) return "parquet";
  return refuse(reason::kBadRequest,
                fmt::format("{}: what it is cannot be told by its name; say --format csv, tsv, "
                            "jsonl, parquet, arff, npz or images",
                            first));
}

Status add_column_types(const std::vector<std::string>& flags, CliJson& wish) {
  for (const std::string& flag : flags) {
    const std::size_t equals = flag.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      return refuse(reason::kBadRequest,
                    fmt::format("'{}': write --column NAME=TYPE, a type being number, integer, "
                                "date, category or text",
                                flag));
    }
    wish["columns"][flag.substr(0, equals)] = flag.substr(equals + 1);
  }
  return {};
}

// "valid=0.1,test=0.2,seed=7"
Status add_shares(const std::string& text, CliJson& split) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const std::size_t equals = std::min(part.find('='), part.size());
    const std::string key = part.substr(0, equals);
    double share = 0;
    std::uint64_t seed = 0;
    const char* last = part.data() + part.size();
    const char* first = std::min(part.data() + equals + 1, last);
    const auto [stop, error] =
        key == "seed" ? std::from_chars(first, last, seed) : std::from_chars(first, last, share);
    if ((key != "valid" && key != "test" && key != "seed") || error != std::errc() ||
        stop != last) {
      return refuse(reason::kBadRequest,
                    fmt::format("'{}': write --split valid=0.1,test=0.2,seed=7", text));
    }
    if (key == "seed") {
      split[key] = seed;
    } else {
      split[key] = share;
    }
    begin = end + 1;
  }
  return {};
}

// "28x28x1", or "28x28": of three channels.
Status add_image(const std::string& text, CliJson& wish) {
  if (text.empty()) return {};
  std::vector<std::uint32_t> sides;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('x', begin), text.size());
    std::uint32_t side = 0;
    const char* last = text.data() + end;
    const auto [stop, error] = std::from_chars(text.data() + begin, last, side);
    if (error != std::errc() || stop != last) {
      return refuse(reason::kBadRequest,
                    fmt::format("'{}': write --image HEIGHTxWIDTHxCHANNELS, as in 28x28x1", text));
    }
    sides.push_back(side);
    begin = end + 1;
  }
  if (sides.size() == 2) sides.push_back(3);
  wish["image"] = sides;
  return {};
}

Status add_split(const DataFlags& flags, CliJson& wish) {
  CliJson split = wish.value("split", CliJson::object());
  int named = 0;
  const auto by = [&](const char* how, const std::string& column) {
    if (column.empty()) return;
    ++named;
    split["by"] = how;
    split["column"] = column;
  };
  by("id", flags.id);
  by("group", flags.group);
  by("time", flags.time);
  if (named > 1)
    return refuse(reason::kBadRequest, "rows are split by one of --id, --group and --time");
  TRY(add_shares(flags.split, split));
  if (!split.empty()) wish["split"] = std::move(split);
  return {};
}

// What the schema's file says, and over it what the flags say.
Result<CliJson> wish_of(const DataFlags& flags, bool append) {
  CliJson wish = CliJson::object();
  if (!flags.schema.empty()) {
    wish = CliJson::parse(TRY(read_file(flags.schema, kMaxSchemaFile)), nullptr, false);
    if (!wish.is_object()) {
      return refuse(
          reason::kBadRequest,
          fmt::format("{}: a schema is a JSON object, as docs/data.md has it", flags.schema));
    }
  }
  wish["format"] = TRY(source_format(flags.format, flags.sources.front()));
  if (append) wish["append"] = true;
  if (flags.move_boundary) wish["move_boundary"] = true;
  TRY(add_column_types(flags.columns, wish));
  if (!flags.drop.empty()) wish["drop"] = flags.drop;
  if (!flags.missing.empty()) wish["missing"] = flags.missing;
  if (!flags.delimiter.empty())
    wish["delimiter"] = flags.delimiter == "\\t" ? "\t" : flags.delimiter;
  if (!flags.target.empty()) wish["target"] = flags.target;
  if (flags.max_bad_rows >= 0) wish["max_bad_rows"] = flags.max_bad_rows;
  TRY(add_image(flags.image, wish));
  TRY(add_split(flags, wish));
  return wish;
}

// All of it, in a file of its own: it is hashed before it is sent.
Status copy_stdin(const Path& into) {
  std::ofstream file(into, std::ios::binary);
  std::string piece(std::size_t{1} << 20U, '\0');
  while (true) {
    const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("standard input");
    if (got == 0) break;
    file.write(piece.data(), got);
  }
  file.close();
  if (!file) return fail_errno(into.native());
  return {};
}

Result<CliJson> upload_source(NodeClient& node, const std::string& source) {
  ProgressLine progress;
  std::optional<TempDir> spool;
  Path path = source;
  std::string name = path.filename().native();
  std::error_code ignored;
  const bool folder = source != "-" && std::filesystem::is_directory(path, ignored);
  if (folder || source == "-") spool.emplace(TRY(TempDir::create()));
  if (folder) {
    path = spool->path() / "folder.zip";
    TRY(zip_folder(source, path));
    name = Path(source).lexically_normal().filename().native();
  } else if (source == "-") {
    path = spool->path() / "stdin";
    name = "stdin";
    TRY(copy_stdin(path));
  }
  LocalFile file = TRY(local_file(path, name));
  file.sha256 = TRY(digest_of(file, progress));
  TRY(upload_blob(node, file, progress));
  return CliJson{{"name", name}, {"sha256", file.sha256}};
}

// What the node is to fetch itself.
CliJson remote_source(const DataFlags& flags, const std::string& url) {
  CliJson source{{"url", url}};
  if (!url.starts_with("s3://")) return source;
  if (!flags.credentials.empty()) source["credentials"] = flags.credentials;
  if (!flags.s3_endpoint.empty()) source["endpoint"] = flags.s3_endpoint;
  if (!flags.s3_region.empty()) source["region"] = flags.s3_region;
  return source;
}

Result<CliJson> give_sources(NodeClient& node, const DataFlags& flags,
                             const std::vector<std::string>& sources) {
  const bool in_store =
      std::ranges::any_of(sources, [](const auto& source) { return source.starts_with("s3://"); });
  if (!in_store && !(flags.credentials + flags.s3_endpoint + flags.s3_region).empty()) {
    return refuse(reason::kBadRequest,
                  "--credentials, --s3-endpoint and --s3-region are of s3:// sources alone");
  }
  CliJson given = CliJson::array();
  for (const std::string& source : sources) {
    given.push_back(is_elsewhere(source) ? remote_source(flags, source)
                                         : TRY(upload_source(node, source)));
  }
  return given;
}

// The snapshot, where it is there already, or the job that makes it.
Result<CliJson> send_wish(NodeClient& node, const DataFlags& flags, bool append) {
  CliJson wish = TRY(wish_of(flags, append));
  wish["sources"] = TRY(give_sources(node, flags, flags.sources));
  return node.send("POST", dataset_path(flags.name) + "/snapshots", wish);
}

// To its end, where it is waited for.
Status await_ingest(NodeClient& node, const CliJson& accepted, const DataFlags& flags,
                    const CliContext& context) {
  const std::string id = accepted.value("id", "");
  if (flags.detach) {
    context.json ? print_json(accepted)
                 : fmt::print("{0}\nmayfly jobs show {0} says how far it is\n", id);
    return {};
  }
  const CliJson done = TRY(follow_job(node, id));
  context.json ? print_json(done) : fmt::print("{}", ingest_text(done["result"]));
  return {};
}

Status put(const DataFlags& flags, bool append, const CliContext& context) {
  NodeClient node = context.node();
  const CliJson accepted = TRY(send_wish(node, flags, append));
  if (accepted.contains("snapshot")) {
    context.json ? print_json(accepted) : fmt::print("{}", ingest_text(accepted));
    return {};
  }
  return await_ingest(node, accepted, flags, context);
}

Status list_datasets(const CliContext& context) {
  NodeClient node = context.node();
  const CliJson listed = TRY(node.get("/api/v1/datasets"));
  if (context.json) {
    print_json(listed);
    return {};
  }
  if (listed["datasets"].empty()) {
    fmt::print("no datasets; mayfly data put makes one\n");
    return {};
  }
  Table table({"DATASET", "NEWEST", "ROWS", "SIZE", "CREATED"});
  for (const CliJson& dataset : listed["datasets"]) {
    const CliJson snapshot = dataset.value("snapshot", CliJson::object());
    const CliJson rows = snapshot.value("rows", CliJson::object());
    std::uint64_t all = 0;
    for (const auto& [split, count] : rows.items()) all += count.get<std::uint64_t>();
    table.add({dataset.value("name", ""),
               snapshot.empty() ? "none" : std::to_string(snapshot.value("number", 0U)),
               human_count(all), human_bytes(snapshot.value("bytes", std::uint64_t{0})),
               snapshot.value("created", dataset.value("created", ""))});
  }
  fmt::print("{}", table.str());
  return {};
}

Status describe_data(const std::string& name, const CliContext& context) {
  NodeClient node = context.node();
  const SnapshotRef ref = parse_snapshot_ref(name);
  const std::string path = dataset_path(ref.name);
  auto found = node.get(fmt::format("{}/snapshots/{}", path,
                                    ref.number.empty() ? "latest" : path_segment(ref.number)));
  if (!found && ref.number.empty() && !context.json) {
    // None is left; but there were some.
    const CliJson dataset = TRY(node.get(path));
    if (!dataset["snapshots"].empty()) {
      fmt::print("{}", dataset_text(dataset));
      return {};
    }
  }
  const CliJson snapshot = TRY(std::move(found));
  if (context.json) {
    print_json(snapshot);
    return {};
  }
  fmt::print("{}", snapshot_text(snapshot));
  if (ref.number.empty()) fmt::print("\n{}", dataset_text(TRY(node.get(path))));
  return {};
}

// The next snapshot is without the rows that the files name; then this one is erased.
Status erase_rows(NodeClient& node, const std::string& path, const DataFlags& flags,
                  const CliContext& context) {
  CliJson rows{{"format", TRY(source_format(flags.format, flags.rows.front()))}};
  if (!flags.missing.empty()) rows["missing"] = flags.missing;
  if (!flags.delimiter.empty())
    rows["delimiter"] = flags.delimiter == "\\t" ? "\t" : flags.delimiter;
  rows["sources"] = TRY(give_sources(node, flags, flags.rows));
  const CliJson accepted =
      TRY(node.send("DELETE", path, {{"reason", flags.reason}, {"rows", std::move(rows)}}));
  return await_ingest(node, accepted, flags, context);
}

Status erase(const DataFlags& flags, const CliContext& context) {
  const SnapshotRef ref = parse_snapshot_ref(flags.name);
  if (ref.number.empty()) {
    return refuse(reason::kBadRequest,
                  fmt::format("name the snapshot that is to be erased: {}@3", ref.name));
  }
  NodeClient node = context.node();
  const std::string path =
      fmt::format("{}/snapshots/{}", dataset_path(ref.name), path_segment(ref.number));
  if (!flags.rows.empty()) return erase_rows(node, path, flags, context);
  const CliJson erased = TRY(node.send("DELETE", path, {{"reason", flags.reason}}));
  if (context.json) {
    print_json(erased);
    return {};
  }
  fmt::print("{}@{} is erased; its schema and digest stay\n", ref.name, ref.number);
  fmt::print("{}", shared_text(ref.name, erased));
  return {};
}

void add_format_options(CLI::App& verb, DataFlags& flags) {
  verb.add_option("--format", flags.format,
                  "csv, tsv, jsonl, parquet, arff, npz or images, where the name does not say");
  verb.add_option("--delimiter", flags.delimiter, "of csv; otherwise found in its header");
  verb.add_option("--missing", flags.missing, "a text that stands for no value, as in '?'")
      ->allow_extra_args(false);
  verb.add_option("--credentials", flags.credentials,
                  "of s3://: the secret of the project that holds them (mayfly secret set)");
  verb.add_option("--s3-endpoint", flags.s3_endpoint, "of s3://: whose store it is; Amazon's");
  verb.add_option("--s3-region", flags.s3_region, "of s3://; us-east-1");
  verb.add_flag("--detach", flags.detach, "do not wait; mayfly jobs says how far it is");
}

void add_reading_options(CLI::App& verb, DataFlags& flags) {
  verb.add_option("NAME", flags.name, "the dataset")->required();
  verb.add_option("SOURCE", flags.sources,
                  "files of one format; -: standard input; https:// or s3://: the node fetches it; "
                  "of images, a folder or zip with a folder a class")
      ->required();
  add_format_options(verb, flags);
  verb.add_option("--max-bad-rows", flags.max_bad_rows,
                  "rows that cannot be read and are put up with; 100");
}

void add_put(CLI::App& verb, CliContext& context) {
  CLI::App* put_verb = verb.add_subcommand("put", "Make a snapshot of files");
  auto flags = std::make_shared<DataFlags>();
  add_reading_options(*put_verb, *flags);
  put_verb->add_option("--schema", flags->schema,
                       "a JSON file: types, target, split (docs/data.md)");
  put_verb->add_option("--column", flags->columns, "NAME=TYPE, where what is found is not wanted")
      ->allow_extra_args(false);
  put_verb->add_option("--drop", flags->drop, "a column that is not kept")->allow_extra_args(false);
  put_verb->add_option("--target", flags->target, "the column that is to be predicted");
  put_verb->add_option("--id", flags->id, "rows with the same value here share a split");
  put_verb->add_option("--group", flags->group, "likewise: a customer, a patient, a place");
  put_verb->add_option("--time", flags->time, "the last rows by this column are the test");
  put_verb->add_option("--image", flags->image,
                       "HEIGHTxWIDTHxCHANNELS that images are resized to; those of the first one");
  put_verb->add_option(
      "--split", flags->split,
      "valid=0.1,test=0.2: the shares of the rows; seed=7: the same split everywhere");
  put_verb->callback([flags, &context] { context.outcome = put(*flags, false, context); });
}

}  // namespace

Result<std::string> put_dataset(const std::string& name, const std::string& source,
                                const std::string& target, NodeClient& node) {
  DataFlags flags;
  flags.name = name;
  flags.sources = {source};
  flags.target = target;
  const CliJson accepted = TRY(send_wish(node, flags, false));
  const auto reference = [&](const CliJson& made) {
    return fmt::format("{}@{}", name, made.value("snapshot", std::uint64_t{0}));
  };
  if (accepted.contains("snapshot")) return reference(accepted);
  const CliJson done = TRY(follow_job(node, accepted.value("id", "")));
  return reference(done["result"]);
}

void add_data_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("data", "Datasets: put, append, list, describe, delete");
  verb->require_subcommand(1);
  add_put(*verb, context);
  CLI::App* append =
      verb->add_subcommand("append", "Make the next snapshot of the newest and files");
  auto more = std::make_shared<DataFlags>();
  add_reading_options(*append, *more);
  append->add_flag("--move-boundary", more->move_boundary,
                   "of a split by time: what is the test begins anew, by the times of all rows");
  append->callback([more, &context] { context.outcome = put(*more, true, context); });
  CLI::App* list = verb->add_subcommand("list", "List datasets");
  list->callback([&context] { context.outcome = list_datasets(context); });
  CLI::App* describe = verb->add_subcommand("describe", "Show a snapshot's columns");
  auto named = std::make_shared<DataFlags>();
  describe->add_option("NAME", named->name, "the dataset, or a snapshot: NAME@3")->required();
  describe->callback([named, &context] { context.outcome = describe_data(named->name, context); });
  CLI::App* remove = verb->add_subcommand("delete", "Erase a snapshot's bytes");
  auto erased = std::make_shared<DataFlags>();
  remove->add_option("NAME", erased->name, "the snapshot: NAME@3")->required();
  remove->add_option("--reason", erased->reason, "why; it is kept")->required();
  remove
      ->add_option("--rows", erased->rows,
                   "files that name rows by the columns that they have: the next snapshot is made "
                   "without these, and then this one erased")
      ->allow_extra_args(false);
  add_format_options(*remove, *erased);
  remove->callback([erased, &context] { context.outcome = erase(*erased, context); });
}

}  // namespace mayfly
