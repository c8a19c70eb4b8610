// A model card (Mitchell et al. 2019, "Model Cards for Model Reporting"): what a version is for,
// what it learned from, how good it is and how sure that is, its limits, who vouches for it. As
// JSON, and as a page that needs nothing but itself. Pure functions.
#pragma once

#include <string>

#include "core/json_reader.h"

namespace mayfly {

struct CardParts {
  Json lineage;     // Lineage::of_version
  Json record;      // of the training; null: it was not trained here
  Json provenance;  // who vouches for it
  Json inputs, outputs;
  Json rollout;   // of its function, as it stands
  Json measured;  // by publishing
};
// {"format": 1, "function", "version", "purpose", "limits", "inputs", "outputs", "provenance",
//  "serves", "rollout", "measured", "data", "training"}
Json model_card(CardParts parts);

// Of such a card, any of whose words may be hostile.
std::string card_page(const Json& card);

}  // namespace mayfly
