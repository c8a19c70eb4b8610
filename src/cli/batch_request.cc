#include "cli/batch_request.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/local_file.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::vector<std::string> split_names(std::string_view text) {
  std::vector<std::string> names;
  while (true) {
    const std::size_t comma = text.find(',');
    names.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return names;
    text.remove_prefix(comma + 1);
  }
}

// By the end of its name.
Result<std::string> format_of(const std::string& flag, const std::string& file) {
  if (!flag.empty()) return flag;
  for (const char* known : {"csv", "jsonl", "parquet"}) {
    if (file.ends_with(fmt::format(".{}", known))) return known;
  }
  if (file.ends_with(".ndjson")) return "jsonl";
  return refuse(reason::kBadRequest,
                fmt::format("{}: what it is cannot be told by its name; say --format csv, jsonl or "
                            "parquet (for the output --output-format)",
                            file));
}

Result<CliJson> wanted_batch(const BatchOptions& options, const std::string& output) {
  CliJson wanted{{"kind", "batch"}};
  wanted["format"] = TRY(format_of(options.format, options.input));
  wanted["output_format"] =
      TRY(format_of(options.output_format, output.empty() ? options.input : output));
  if (options.chunk_rows) wanted["chunk_rows"] = *options.chunk_rows;
  if (options.max_errors) wanted["max_errors"] = *options.max_errors;
  if (options.keep == "*") wanted["keep"] = "*";
  if (!options.keep.empty() && options.keep != "*") wanted["keep"] = split_names(options.keep);
  for (const std::string& mapping : options.columns) {
    const std::size_t equals = mapping.find('=');
    if (equals == std::string::npos) {
      return refuse(reason::kBadRequest,
                    fmt::format("'{}': write --columns INPUT=column,column", mapping));
    }
    wanted["columns"][mapping.substr(0, equals)] = split_names(mapping.substr(equals + 1));
  }
  return wanted;
}

}  // namespace

CLI::Option* add_batch_options(CLI::App& verb, BatchOptions& options) {
  verb.add_option("--format", options.format, "of the input, where its name does not say");
  verb.add_option("--output-format", options.output_format, "of the output, likewise");
  verb.add_option("--columns", options.columns,
                  "INPUT=column,column: which columns make an input, where names do not say so");
  verb.add_option("--keep", options.keep, "columns of the input to copy to the output; '*': all");
  verb.add_option("--chunk-rows", options.chunk_rows, "rows of one request, at most; 8192");
  verb.add_option("--max-errors", options.max_errors,
                  "failed rows that are put up with; 100. One more fails the job");
  return verb.add_option("--input", options.input, "a .csv, .jsonl or .parquet file");
}

Result<CliJson> batch_request(NodeClient& node, const BatchOptions& options,
                              const std::string& output) {
  CliJson wanted = TRY(wanted_batch(options, output));
  ProgressLine progress;
  LocalFile input = TRY(local_file(options.input, Path(options.input).filename().native()));
  input.sha256 = TRY(digest_of(input, progress));
  TRY(upload_blob(node, input, progress));
  wanted["input"] = {{"sha256", input.sha256}};
  return wanted;
}

}  // namespace mayfly
