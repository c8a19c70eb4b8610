// Which words and pairs of words of a text column count: those that most rows have. Words are what
// the graph splits a text into, and nobody else.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/train/features.h"
#include "runner/train/graph_session.h"

namespace mayfly {

class Tokenizer {
 public:
  static Result<Tokenizer> open(const OnnxRuntime& runtime);
  // The words of each text, in their order.
  Result<std::vector<std::vector<std::string>>> split(
      std::span<const std::string_view> texts) const;

 private:
  explicit Tokenizer(GraphSession session) : session_(std::move(session)) {}
  GraphSession session_;
};

class Vocabulary {
 public:
  Vocabulary(std::size_t words, std::size_t pairs) : most_words_(words), most_pairs_(pairs) {}

  void add(const std::vector<std::string>& words);  // of one row
  // Of those in two rows at least, the most frequent; of equals, the first by alphabet. Weights are
  // ln((1 + rows) / (1 + rows that have it)) + 1. Without a column's name.
  TextFeature feature() const;

 private:
  using Counts = std::unordered_map<std::string, std::uint64_t>;
  static void prune(Counts& counts);

  std::size_t most_words_;
  std::size_t most_pairs_;
  std::uint64_t rows_ = 0;
  Counts words_;
  Counts pairs_;  // "not good"
};

}  // namespace mayfly
