#include "runner/train/vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

namespace mayfly {
namespace {

constexpr std::array<std::int64_t, 1> kTexts = {-1};
constexpr std::array<std::int64_t, 2> kWords = {-1, -1};
constexpr std::size_t kMostCounted = 1'000'000;  // different words, and pairs
constexpr std::size_t kLongestWord = 100;

std::vector<std::pair<std::string, std::uint64_t>> most_frequent(
    const std::unordered_map<std::string, std::uint64_t>& counts, std::size_t most) {
  std::vector<std::pair<std::string, std::uint64_t>> found;
  for (const auto& [gram, count] : counts)
    if (count >= 2) found.emplace_back(gram, count);
  const auto before = [](const auto& a, const auto& b) {
    return std::tie(b.second, a.first) < std::tie(a.second, b.first);
  };
  const std::size_t kept = std::min(most, found.size());
  std::ranges::partial_sort(found, found.begin() + static_cast<std::ptrdiff_t>(kept), before);
  found.resize(kept);
  return found;
}

}  // namespace

Result<Tokenizer> Tokenizer::open(const OnnxRuntime& runtime) {
  OnnxGraph graph("words");
  graph.add_input("text", onnx::TensorProto::STRING, kTexts);
  const std::string words = add_words(graph, "text");
  graph.add("Identity", {words}, "", "words");
  graph.add_output("words", onnx::TensorProto::STRING, kWords);
  const std::string model = TRY(graph.serialize());
  GraphSession session = TRY(GraphSession::open(runtime, model, 1));
  return Tokenizer(std::move(session));
}

Result<std::vector<std::vector<std::string>>> Tokenizer::split(
    std::span<const std::string_view> texts) const {
  static const std::array<std::string, 1> kOutputs = {"words"};
  RowBatch batch{.rows = texts.size(),
                 .columns = {{"text", std::vector<std::string>(texts.begin(), texts.end())}}};
  const auto outputs = TRY(session_.run(batch, kOutputs));
  const auto* words = std::get_if<std::vector<std::string>>(&outputs.front().values);
  if (words == nullptr || outputs.front().shape.size() != 2 ||
      outputs.front().shape[0] != std::ssize(texts))
    return fail(Code::Internal, "the texts did not split into words");
  const auto width = static_cast<std::size_t>(outputs.front().shape[1]);
  std::vector<std::vector<std::string>> rows(texts.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < width && !(*words)[i * width + j].empty(); ++j)
      rows[i].push_back((*words)[i * width + j]);
  }
  return rows;
}

void Vocabulary::add(const std::vector<std::string>& words) {
  ++rows_;
  std::set<std::string> seen;
  std::set<std::string> seen_pairs;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].size() > kLongestWord) continue;
    seen.insert(words[i]);
    if (most_pairs_ > 0 && i + 1 < words.size() && words[i + 1].size() <= kLongestWord)
      seen_pairs.insert(words[i] + ' ' + words[i + 1]);
  }
  for (const std::string& word : seen) ++words_[word];
  for (const std::string& pair : seen_pairs) ++pairs_[pair];
  prune(words_);
  prune(pairs_);
}

// Whatever is rare goes when there is too much (lossy counting, Manku & Motwani 2002): what is
// frequent is counted a little too low.
void Vocabulary::prune(Counts& counts) {
  for (std::uint64_t rare = 1; counts.size() > kMostCounted; rare *= 2)
    std::erase_if(counts, [rare](const auto& entry) { return entry.second <= rare; });
}

TextFeature Vocabulary::feature() const {
  TextFeature text;
  const auto weigh = [&](std::uint64_t count) {
    text.weights.push_back(static_cast<float>(
        std::log((1.0 + static_cast<double>(rows_)) / (1.0 + static_cast<double>(count))) + 1));
  };
  for (auto& [word, count] : most_frequent(words_, most_words_)) {
    text.words.push_back(word);
    weigh(count);
  }
  for (auto& [pair, count] : most_frequent(pairs_, most_pairs_)) {
    const std::size_t space = pair.find(' ');
    text.pairs.emplace_back(pair.substr(0, space), pair.substr(space + 1));
    weigh(count);
  }
  return text;
}

}  // namespace mayfly
