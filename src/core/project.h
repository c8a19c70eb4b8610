// Projects, as they stand in the names of functions.
//
// Inside the node the functions of every project but the default one carry it: "team/fraud". The
// front doors put it before the names that a caller of `team` writes, none of which holds a '/',
// and take it off what the caller reads.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

// The project that functions without another belong to.
inline constexpr std::string_view kDefaultProject = "default";

std::string qualified_name(std::string_view project, std::string_view name);
std::string_view project_of(std::string_view qualified);
std::string_view local_name(std::string_view qualified);  // "team/fraud@3" → "fraud@3"
// "function 'team/fraud' …", for somebody of `team`, who knows it as 'fraud'.
std::string without_project(std::string_view project, std::string text);
// Spelled like a function's name.
Status check_project(std::string_view name);

}  // namespace mayfly
