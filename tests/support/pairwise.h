// Pairwise covers: a few of many combinations, such that any two values that meet in one of the
// many meet in one of the few. Most faults need no more than two values. All combinations are for
// suites whose name begins with Soak.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace tessera::testing {

// The value of each parameter, in the same order in every combination.
using Combination = std::vector<int64_t>;

// Two values that meet, as (parameter, value, parameter, value).
using ValuePair = std::tuple<size_t, int64_t, size_t, int64_t>;

inline std::set<ValuePair> pairs_of(const Combination& values) {
  std::set<ValuePair> pairs;
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = i + 1; j < values.size(); ++j) pairs.insert({i, values[i], j, values[j]});
  }
  return pairs;
}

// Every combination of values from 0 to below num_values[i] of parameter i, but refused ones.
inline std::vector<Combination> all_combinations(
    const std::vector<int64_t>& num_values,
    const std::function<bool(const Combination&)>& is_refused = {}) {
  std::vector<Combination> all = {{}};
  for (const int64_t count : num_values) {
    std::vector<Combination> longer;
    for (const Combination& prefix : all) {
      for (int64_t value = 0; value < count; ++value) {
        longer.push_back(prefix);
        longer.back().push_back(value);
      }
    }
    all = std::move(longer);
  }
  if (is_refused) std::erase_if(all, is_refused);
  return all;
}

// The indices of a cover, ascending. It takes, again and again, the combination with the most new
// pairs, and the first of several such.
inline std::vector<size_t> pairwise_cover(const std::vector<Combination>& all) {
  std::set<ValuePair> missing;
  for (const Combination& values : all) missing.merge(pairs_of(values));
  std::set<size_t> picked;
  while (!missing.empty()) {
    size_t best = 0, most = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      size_t num_new = 0;
      for (const ValuePair& pair : pairs_of(all[i])) num_new += missing.count(pair);
      if (num_new > most) {
        most = num_new;
        best = i;
      }
    }
    picked.insert(best);
    for (const ValuePair& pair : pairs_of(all[best])) missing.erase(pair);
  }
  return {picked.begin(), picked.end()};
}

// A cover of any list, given the values of each element; every name that an element has is the name
// of at least one in the cover.
template <typename T, typename ValuesOf, typename NameOf>
std::vector<T> pairwise(const std::vector<T>& all, const ValuesOf& values_of,
                        const NameOf& name_of) {
  std::vector<Combination> combinations;
  for (const T& one : all) combinations.push_back(values_of(one));
  std::vector<T> few;
  std::set<std::string> names;
  const auto pick = [&](const T& one) {
    few.push_back(one);
    names.insert(name_of(one));
  };
  for (const size_t i : pairwise_cover(combinations)) pick(all[i]);
  for (const T& one : all) {
    if (!names.contains(name_of(one))) pick(one);
  }
  return few;
}

}  // namespace tessera::testing
