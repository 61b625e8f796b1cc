// Which attention runs where, from text: what `[model] attention` holds.
//
//   choices := choice (',' choice)*        choice := [kind '='] name ['(' [arg (',' arg)*] ')']
//   arg     := name '=' (true | false | integer | number | word)
//
//   flex                                   every kind of layer of the model
//   flex, sliding=band(width=64)           the kind "sliding" apart from the rest
//
// A kind of layer goes by the name of its mask ("global", "sliding", ...).
#pragma once

#include <string>
#include <vector>

#include "attention/op/attention_args.h"

namespace tessera {

struct AttentionChoice {
  std::string kind{};  // empty: every kind of layer that no other choice names
  std::string name;    // of a backend, or an alias
  AttentionArgs args{};
};

// Throws c10::Error with the column, what was found there and what was expected, or the kind that
// is chosen for twice. Names and arguments are checked by the registry, which knows them.
std::vector<AttentionChoice> parse_attention_choices(const std::string& text);

}  // namespace tessera
