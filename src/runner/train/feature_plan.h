// How the columns of a table are encoded, fitted on training rows and nothing else: what fills
// missing values, scales, categories and vocabularies. The plan is carried out by the graph that
// features.h makes of it, here and in serving.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/train/features.h"
#include "runner/train/graph_session.h"
#include "runner/train/table.h"

namespace mayfly {

struct PlanOptions {
  bool scaled = false;         // missing values are filled; numbers and parts of dates standardised
  std::uint32_t one_hot = 32;  // categories that become a feature each …
  bool ranks = true;           // … and of columns with more: one feature, the rank by frequency; or
                               // the most frequent categories only
  std::uint32_t text_words = 500;
  std::uint32_t text_pairs = 250;
};

struct LeftOut {
  std::string column;
  std::string why;
};

struct FeaturePlan {
  std::vector<Feature> features;
  std::vector<LeftOut> left_out;  // columns that say nothing: without values, or always the same
};

// `columns` of the table that are no images, on `rows`. InvalidArgument: nothing is left to learn
// from; a file that is not what it should be.
Result<FeaturePlan> fit_plan(const OnnxRuntime& runtime, const TrainTable& table,
                             std::span<const std::size_t> columns,
                             std::span<const std::uint32_t> rows, const PlanOptions& options);

// The table's rows as the plan's graph takes them.
Result<RowBatch> read_rows(const TrainTable& table, const std::vector<Feature>& features,
                           std::span<const std::uint32_t> rows);

// The graph that makes the matrix, and nothing else.
class FeatureGraph {
 public:
  static Result<FeatureGraph> open(const OnnxRuntime& runtime, std::vector<Feature> features,
                                   std::uint32_t threads);
  const std::vector<Feature>& features() const { return features_; }
  const std::vector<std::string>& names() const { return names_; }  // of the matrix's columns
  std::size_t width() const { return names_.size(); }
  // [batch.rows, width()]
  Result<std::vector<float>> run(const RowBatch& batch) const;

 private:
  FeatureGraph(std::vector<Feature> features, std::vector<std::string> names, GraphSession session)
      : features_(std::move(features)), names_(std::move(names)), session_(std::move(session)) {}
  std::vector<Feature> features_;
  std::vector<std::string> names_;
  GraphSession session_;
};

// Rows of floats in a file, mapped.
class Matrix {
 public:
  // Runs the graph over the table's rows, a piece at a time, into a file that must not be there.
  static Result<Matrix> make(const FeatureGraph& graph, const TrainTable& table,
                             std::span<const std::uint32_t> rows, const Path& path);
  std::size_t rows() const { return column_.rows(); }
  std::size_t width() const { return width_; }
  std::span<const float> all() const { return column_.as<float>(); }
  std::span<const float> rows(std::size_t first, std::size_t count) const {
    return all().subspan(first * width_, count * width_);
  }

 private:
  Matrix(NpyColumn column, std::size_t width) : column_(std::move(column)), width_(width) {}
  NpyColumn column_;
  std::size_t width_;
};

}  // namespace mayfly
