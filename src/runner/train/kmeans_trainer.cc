// Clusters by Lloyd's algorithm, of Faiss. A step is one iteration; after as many as there are to
// be, the next start begins from other rows. The start whose clusters are the tightest counts.
#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissException.h>
#include <faiss/utils/distances.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/reason.h"
#include "runner/train/linear_model.h"
#include "runner/train/trainer.h"

// Of the OpenMP runtime that Faiss is linked with (OpenMP 5.1, 3.2.1); its header is the
// compiler's.
extern "C" void omp_set_num_threads(int threads);

namespace mayfly {
namespace {

struct KmeansState {
  std::uint32_t rounds = 0;
  float best_loss = std::numeric_limits<float>::infinity();  // the sum of squared distances
  std::vector<float> centroids;                              // of the start at work
  std::vector<float> best;                                   // of the start that counts
};

class KmeansTrainer final : public Trainer {
 public:
  KmeansTrainer(const TrainerSetup& setup, const LearnRows& train, const LearnRows& valid)
      : setup_(setup),
        train_(train),
        valid_(valid),
        clusters_(setup.params.integer("clusters")),
        iterations_(setup.params.integer("iterations")) {
    ::omp_set_num_threads(static_cast<int>(setup.threads));
    // Each distance by itself: BLAS would sum them in another order with other numbers of rows.
    faiss::distance_compute_blas_threshold = std::numeric_limits<int>::max();
  }

  std::uint32_t rounds() const override { return state_.rounds; }
  std::uint32_t most_rounds() const override {
    return iterations_ * setup_.params.integer("starts");
  }

  // The centroids after a step are the means of the rows that were nearest to those before it.
  Status step() override {
    faiss::ClusteringParameters how;
    how.niter = 1;
    how.min_points_per_centroid = 1;
    how.max_points_per_centroid = std::numeric_limits<int>::max() / static_cast<int>(clusters_);
    how.seed = static_cast<int>((setup_.seed + 7919 * (state_.rounds / iterations_)) & 0x7fff'ffff);
    try {
      faiss::Clustering clustering(static_cast<int>(width()), static_cast<int>(clusters_), how);
      if (state_.rounds % iterations_ != 0) clustering.centroids = state_.centroids;
      faiss::IndexFlatL2 index(static_cast<faiss::Index::idx_t>(width()));
      clustering.train(static_cast<faiss::Index::idx_t>(train_.matrix.rows()),
                       train_.matrix.all().data(), index);
      state_.centroids = std::move(clustering.centroids);
    } catch (const faiss::FaissException& problem) {
      return fail(Code::Internal, fmt::format("Faiss: {}", problem.what()));
    }
    ++state_.rounds;
    if (state_.rounds % iterations_ == 0) {
      consider();
    } else if (std::isinf(state_.best_loss)) {
      state_.best = state_.centroids;  // there is nothing better yet
    }
    return {};
  }

  Result<Scores> score_valid() override { return score(valid_.matrix.all()); }
  Status keep_rounds(std::uint32_t) override { return {}; }

  // To each cluster: from the differences themselves, so that what is near loses no digits.
  Result<Scores> score(std::span<const float> rows) override {
    Scores scores{.width = clusters_, .values = {}};
    const std::size_t count = rows.size() / width();
    scores.values.resize(count * clusters_);
    for (std::size_t i = 0; i < count; ++i) {
      float* to = scores.values.data() + i * clusters_;
      faiss::fvec_L2sqr_ny(to, rows.data() + i * width(), state_.best.data(), width(), clusters_);
      for (std::size_t cluster = 0; cluster < clusters_; ++cluster)
        to[cluster] = std::sqrt(to[cluster]);
    }
    return scores;
  }

  // Rounds, the best loss, then both lists of centroids.
  Result<std::string> save() override {
    std::string saved;
    const auto append = [&saved](const void* bytes, std::size_t count) {
      saved.append(static_cast<const char*>(bytes), count);
    };
    append(&state_.rounds, sizeof state_.rounds);
    append(&state_.best_loss, sizeof state_.best_loss);
    append(state_.centroids.data(), state_.centroids.size() * sizeof(float));
    append(state_.best.data(), state_.best.size() * sizeof(float));
    return saved;
  }

  Status restore(std::string_view saved) override {
    const std::size_t each = clusters_ * width();
    constexpr std::size_t kHead = sizeof state_.rounds + sizeof state_.best_loss;
    if (saved.size() != kHead + 2 * each * sizeof(float))
      return fail(Code::DataLoss, "the checkpoint is of other rows");
    std::memcpy(&state_.rounds, saved.data(), sizeof state_.rounds);
    std::memcpy(&state_.best_loss, saved.data() + sizeof state_.rounds, sizeof state_.best_loss);
    state_.centroids.resize(each);
    state_.best.resize(each);
    std::memcpy(state_.centroids.data(), saved.data() + kHead, each * sizeof(float));
    std::memcpy(state_.best.data(), saved.data() + kHead + each * sizeof(float),
                each * sizeof(float));
    return {};
  }

  Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) override {
    ClusterOutputs outputs = TRY(add_centroids(
        graph, {.features = static_cast<std::int64_t>(width()), .values = state_.best}, features));
    return ModelNodes{.probabilities = {},
                      .value = {},
                      .cluster = std::move(outputs.cluster),
                      .distance = std::move(outputs.distance)};
  }

  Result<std::vector<double>> importance() override { return std::vector<double>(); }

 private:
  std::size_t width() const { return train_.matrix.width(); }

  // The start that has ended is the best so far, or is forgotten.
  void consider() {
    double loss = 0;
    std::vector<float> distances(clusters_);
    for (std::size_t row = 0; row < train_.matrix.rows(); ++row) {
      faiss::fvec_L2sqr_ny(distances.data(), train_.matrix.rows(row, 1).data(),
                           state_.centroids.data(), width(), clusters_);
      loss += static_cast<double>(*std::ranges::min_element(distances));
    }
    if (static_cast<float>(loss) >= state_.best_loss) return;
    state_.best = state_.centroids;
    state_.best_loss = static_cast<float>(loss);
  }

  const TrainerSetup setup_;
  const LearnRows train_;
  const LearnRows valid_;
  const std::size_t clusters_;
  const std::uint32_t iterations_;
  KmeansState state_;
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_kmeans(const TrainerSetup& setup, const LearnRows& train,
                                             const LearnRows& valid) {
  const std::uint32_t clusters = setup.params.integer("clusters");
  if (train.matrix.rows() < clusters) {
    return refuse(reason::kInvalidInput, fmt::format("{} clusters of {} training rows: there are "
                                                     "fewer rows than clusters",
                                                     clusters, train.matrix.rows()));
  }
  return std::make_unique<KmeansTrainer>(setup, train, valid);
}

}  // namespace mayfly
