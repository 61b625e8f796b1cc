// The check that all ranks of a run were given the same configuration: a rank with another batch
// size or learning rate would train something else, or hang in a collective that the others do not
// call.
//
//   const World world = World::connect(...);
//   check_same_config(config, world);   // before anything is built
#pragma once

#include <string>

#include "configs/job_config.h"
#include "parallel/comm/world.h"

namespace tessera {

// What differs between two texts of to_toml (configs/load_config.h), key by key, such as
// "training.steps is 5 (rank 0: 10)", joined by commas; "" when nothing differs. Names four keys
// and counts the rest. `others_name` stands where "rank 0" does in the example.
std::string config_differences(const std::string& toml, const std::string& others_toml,
                               const std::string& others_name);

// Collective over the world. Throws the same ConfigError on every rank when a rank's resolved
// configuration differs from rank 0's, naming the ranks and their keys; CommError when a rank does
// not answer within the world's timeout.
void check_same_config(const JobConfig& config, const World& world);

}  // namespace tessera
