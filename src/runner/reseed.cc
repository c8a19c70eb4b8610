#include <sys/random.h>

#include <cstdlib>

#include "runner/instance.h"

namespace mayfly {

void reseed() {
  unsigned seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) == sizeof seed) ::srandom(seed);
}

}  // namespace mayfly
