#include "cli/mlmodel.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml.h>

#include <algorithm>
#include <vector>

#include "core/manifest.h"
#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kDeepest = 32;
constexpr std::size_t kMostFlavours = 64;
constexpr std::size_t kShownWord = 64;

std::unexpected<Error> bad_mlmodel(std::string_view why) {
  return refuse(reason::kInvalidManifest, fmt::format("MLmodel: {}", why));
}

class YamlParser {
 public:
  explicit YamlParser(std::string_view text) {
    ready_ = yaml_parser_initialize(&parser_) == 1;
    if (!ready_) return;
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~YamlParser() {
    if (ready_) yaml_parser_delete(&parser_);
  }
  YamlParser(const YamlParser&) = delete;
  YamlParser& operator=(const YamlParser&) = delete;

  struct Event {
    yaml_event_type_t type = YAML_NO_EVENT;
    std::string text;  // of a scalar
  };
  Result<Event> next() {
    yaml_event_t event;
    if (!ready_ || yaml_parser_parse(&parser_, &event) != 1) {
      return bad_mlmodel(fmt::format("line {}: {}", parser_.problem_mark.line + 1,
                                     parser_.problem == nullptr ? "no YAML" : parser_.problem));
    }
    Event taken{.type = event.type, .text = {}};
    if (event.type == YAML_SCALAR_EVENT) {
      taken.text.assign(reinterpret_cast<const char*>(event.data.scalar.value),
                        event.data.scalar.length);
    }
    yaml_event_delete(&event);
    return taken;
  }

 private:
  yaml_parser_t parser_{};
  bool ready_ = false;
};

// Where in the document an event stands, by the keys above it.
class MlmodelReader {
 public:
  Status take(const YamlParser::Event& event) {
    switch (event.type) {
      case YAML_ALIAS_EVENT:
        return bad_mlmodel("aliases are not taken");
      case YAML_MAPPING_START_EVENT:
      case YAML_SEQUENCE_START_EVENT:
        if (levels_.size() == kDeepest) return bad_mlmodel("it is nested too deep");
        levels_.push_back({.mapping = event.type == YAML_MAPPING_START_EVENT});
        return {};
      case YAML_MAPPING_END_EVENT:
      case YAML_SEQUENCE_END_EVENT:
        levels_.pop_back();
        end_value();
        return {};
      case YAML_SCALAR_EVENT:
        return take_scalar(event.text);
      default:
        return {};
    }
  }

  Result<std::string> model() const {
    if (!model_.empty()) {
      TRY(check_artifact_path(model_));
      return model_;
    }
    if (flavours_.empty()) return bad_mlmodel("it lists no flavors");
    return bad_mlmodel(
        fmt::format("it has no ONNX flavour with its data, only {}; mlflow.onnx "
                    "saves one",
                    fmt::join(flavours_, ", ")));
  }

 private:
  struct Level {
    bool mapping = false;
    bool has_key = false;  // of a mapping: the next event is its value
    std::string key = {};
  };

  Status take_scalar(const std::string& text) {
    if (levels_.empty()) return bad_mlmodel("it is no mapping");
    Level& level = levels_.back();
    if (!level.mapping || level.has_key) {
      if (at({"flavors", "onnx", "data"})) model_ = text;
      end_value();
      return {};
    }
    level.key = text;
    level.has_key = true;
    if (levels_.size() != 2 || levels_.front().key != "flavors") return {};
    if (flavours_.size() == kMostFlavours) return bad_mlmodel("it lists too many flavors");
    flavours_.push_back(printable(text, kShownWord));
    return {};
  }

  bool at(const std::vector<std::string_view>& keys) const {
    return levels_.size() == keys.size() &&
           std::ranges::equal(levels_, keys, {}, [](const Level& level) -> std::string_view {
             return level.mapping ? std::string_view(level.key) : std::string_view();
           });
  }
  void end_value() {
    if (!levels_.empty()) levels_.back().has_key = false;
  }

  std::vector<Level> levels_;
  std::vector<std::string> flavours_;
  std::string model_;
};

}  // namespace

Result<std::string> onnx_model_in(std::string_view yaml) {
  if (yaml.size() > kMaxMlmodel) return bad_mlmodel("it is too long");
  YamlParser parser(yaml);
  MlmodelReader reader;
  while (true) {
    const YamlParser::Event event = TRY(parser.next());
    if (event.type == YAML_STREAM_END_EVENT || event.type == YAML_DOCUMENT_END_EVENT) break;
    TRY(reader.take(event));
  }
  return reader.model();
}

}  // namespace mayfly
