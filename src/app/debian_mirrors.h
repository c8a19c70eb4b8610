// Which hosts apt is configured to fetch from: the only ones that whoever installs packages of
// Debian is connected with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace mayfly {

// "host:port" of each http and https URI in a file of apt's: sources in either format, the line
// kind ("deb [options] URI suite …") and the stanza kind ("URIs: …"), or a proxy of its
// configuration. What is commented out counts for nothing; sources that are switched off do count.
std::vector<std::string> hosts_in_apt_file(std::string_view text);

// Of all files that apt reads in `folder`; sorted, each once. Empty: apt is not there.
std::vector<std::string> debian_mirrors(const Path& folder = "/etc/apt");

}  // namespace mayfly
