// The choice of attention backends as text, as `[model] attention` of a configuration holds it.
//
//   choices := choice (',' choice)*
//   choice  := [kind '='] name ['(' [arg (',' arg)*] ')']
//   arg     := name '=' (true | false | integer | number | word)
//
//   flex                                   flex for every kind of layer of the model
//   flex, sliding=band(width=64)           band for the kind "sliding", flex for the others
//
// A kind of layer goes by the name of its mask ("global", "sliding", ...).
#pragma once

#include <string>
#include <vector>

#include "attention/op/attention_args.h"

namespace tessera {

struct AttentionChoice {
  std::string kind{};  // empty: every kind of layer that no other choice names
  std::string name;    // the name or an alias of a backend
  AttentionArgs args{};
};

// The choices in the order of the text. Throws c10::Error with the column, what was found there and
// what was expected, or with the kind that is chosen for twice. Names and arguments are not checked
// here but by the AttentionRegistry, which knows them.
std::vector<AttentionChoice> parse_attention_choices(const std::string& text);

}  // namespace tessera
