// The commands of the `tessera` program, a file each; main.cpp lists them.
//
// Internal to trainer/cli/.
#pragma once

#include "trainer/cli/command.h"

namespace tessera {

Command train_command();      // trains a job on this rank
Command launch_command();     // starts the ranks of this machine and waits for them
Command config_command();     // prints a configuration, or every key there is
Command estimate_command();   // prints what a job needs of each rank
Command mask_command();       // shows a mask as a picture, JSON or an SVG file
Command attention_command();  // lists attention backends, mask forms and mask rules
Command schedule_command();   // checks, simulates and draws a pipeline schedule

}  // namespace tessera
