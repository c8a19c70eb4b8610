// mayfly init NAME: a folder with a Python function that works, to start from.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <memory>
#include <span>

#include "base/file.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

struct Template {
  const char* name;
  const char* text;
};

constexpr const char* kSettings =
    R"(# What this version is. Every key: docs/functions.md and docs/configuration.md.
runtime = "python"
memory = "256MiB"
timeout = "10s"

[parameters]
threshold = 0.5
)";

constexpr const char* kWeights = R"({"bias": -1.2, "amount": 0.004, "foreign": 1.5, "night": 0.8}
)";

constexpr std::array<Template, 4> kDocuments = {{
    {"function.py",
     R"("""JSON in, JSON out: how likely a payment is fraud, by a small logistic model."""

import json
import math


def load(ctx):
    """Once, before the first request. Every instance starts with what it returns."""
    with open(ctx.path("weights.json"), encoding="utf-8") as file:
        return json.load(file)


def predict(inputs, state, ctx):
    """For each request: the body's JSON in, anything that JSON can say out."""
    score = state["bias"]
    for name in ("amount", "foreign", "night"):
        if name not in inputs:
            raise ValueError(f"'{name}' is missing")
        score += state[name] * inputs[name]
    probability = 1 / (1 + math.exp(-score))
    ctx.logger.info("scored %.3f", probability)
    return {"fraud": probability > ctx.parameters["threshold"], "probability": round(probability, 4)}
)"},
    {"weights.json", kWeights},
    {"example.json", R"({"amount": 250, "foreign": 1, "night": 0}
)"},
    {"mayfly.toml", kSettings},
}};

constexpr std::array<Template, 5> kArrays = {{
    {"function.py",
     R"("""Arrays in, arrays out: many rows at once, through any protocol that Mayfly speaks."""

import json

import numpy as np


def load(ctx):
    """Once, before the first request. Every instance starts with what it returns."""
    with open(ctx.path("weights.json"), encoding="utf-8") as file:
        weights = json.load(file)
    bias = weights.pop("bias")
    return np.array(list(weights.values()), dtype=np.float32), bias


# The annotations are the function's signature: names, datatypes, shapes; -1 is any number of rows.
def predict(inputs: {"x": "FP32[-1,3]"}, state, ctx) -> {"probability": "FP32[-1]"}:
    weights, bias = state
    return {"probability": 1 / (1 + np.exp(-(inputs["x"] @ weights + bias)))}
)"},
    {"weights.json", kWeights},
    {"requirements.txt", "numpy\n"},
    {"example.json", R"({"x": [[250, 1, 0], [12, 0, 0]]}
)"},
    {"mayfly.toml", kSettings},
}};

Status write_new(const Path& folder, const Template& file) {
  const Path path = folder / file.name;
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
    return refuse(reason::kConflict,
                  fmt::format("{} is there already; nothing was written", path.native()));
  }
  const Fd out = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  return write_all(out.get(), file.text);
}

Status init(const std::string& name, bool arrays) {
  TRY(FunctionName::parse(Path(name).filename().native()));
  const Path folder = name;
  std::error_code error;
  if (std::filesystem::exists(folder, error) && !std::filesystem::is_empty(folder, error)) {
    return refuse(reason::kConflict,
                  fmt::format("{} is there already, and not empty", folder.native()));
  }
  TRY(make_directories(folder));
  const std::span<const Template> files =
      arrays ? std::span<const Template>(kArrays) : std::span<const Template>(kDocuments);
  for (const Template& file : files) TRY(write_new(folder, file));
  const std::string function = folder.filename().native();
  fmt::print(
      "{0}/ holds a function that works. Deploy it, then call it:\n"
      "  mayfly deploy {1} {0}\n"
      "  mayfly invoke {1} --data @{0}/example.json\n",
      folder.native(), function);
  return {};
}

}  // namespace

void add_init_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("init", "Write a Python function to start from");
  auto name = std::make_shared<std::string>();
  auto arrays = std::make_shared<bool>(false);
  verb->add_option("NAME", *name, "the function, and the folder that is made for it")->required();
  verb->add_flag("--arrays", *arrays, "take and give NumPy arrays instead of JSON");
  verb->callback([name, arrays, &context] { context.outcome = init(*name, *arrays); });
}

}  // namespace mayfly
