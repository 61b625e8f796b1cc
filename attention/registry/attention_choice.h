// Which attention runs where, from text: what `[model] attention` holds.
//
//   choices := choice (',' choice)*        choice := [part '='] name ['(' [arg (',' arg)*] ')']
//   arg     := name '=' (true | false | integer | number | word)
//
//   flex                                   every part of the model
//   flex, sliding=band(width=64)           the part "sliding" apart from the rest
//
// A part is a kind of layer, by the name of its mask ("global", "sliding", ...).
#pragma once

#include <string>
#include <vector>

#include "attention/op/attention_args.h"

namespace tessera {

struct AttentionChoice {
  std::string part{};  // empty: every part that no other choice names
  std::string name;    // of a backend, or an alias
  AttentionArgs args{};
};

// Throws c10::Error with the column, what was found there and what was expected, or the part that
// is chosen for twice. Names and arguments are checked by the registry, which knows them.
std::vector<AttentionChoice> parse_attention_choices(const std::string& text);

}  // namespace tessera
